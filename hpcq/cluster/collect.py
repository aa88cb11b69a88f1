"""The results of a sweep: a table of settings, with means over seeds and confidence intervals."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcq import disk
from hpcq.cluster.sweep import SEED, Member, Sweep
from hpcq.confidence import half_width
from hpcq.errors import HpcqError, RunDirectoryError
from hpcq.job.job import Job
from hpcq.job.toml_io import toml
from hpcq.run import metrics_files, run_directory, stored_job

TABLE, BEST = "sweep.csv", "best.toml"


@dataclass(frozen=True)
class Result:
    """The result of one member."""

    member: Member
    status: str
    """"done", or how far it is"""
    greedy_return: float | None = None
    """exact return of the greedy policy, where the model is known"""
    training_return: float | None = None
    """mean return of the episodes in the last tenth of the steps, exploration included"""


@dataclass(frozen=True)
class Row:
    """One setting: members that differ in nothing but their seed."""

    setting: dict[str, Any]
    values: list[float]
    job: Job
    """of the first of them"""

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def half_width(self) -> float:
        """Half of the mean's 95 % confidence interval (Student); nan for one seed."""
        return half_width(self.values)


def result_of(member: Member) -> Result:
    """Return a member's result, from its run directory."""
    directory = member.job.directory
    if not (directory / run_directory.JOB).exists():
        return Result(member, "not started")
    lines = metrics_files.read(directory)
    if not (directory / run_directory.SUMMARY).exists():
        step = lines[-1]["step"] if lines else 0
        return Result(member, f"not done: at step {step:,} of {member.job.run.steps:,}")
    try:
        summary = stored_job.parse_object(
            directory / run_directory.SUMMARY, "steps", "greedy_return"
        )
    except HpcqError as error:
        return Result(member, f"not done: {error}")
    late = [
        line
        for line in lines
        if line["step"] > 0.9 * summary["steps"] and line.get("episodes") and "mean_return" in line
    ]
    episodes = sum(line["episodes"] for line in late)
    total = sum(line["episodes"] * line["mean_return"] for line in late)
    return Result(member, "done", summary["greedy_return"], total / episodes if episodes else None)


def tabulate(results: Sequence[Result]) -> tuple[str, list[Row]]:
    """Return the name of the value compared, and a row per setting, best first.

    It is the greedy return if all finished runs have one, else the training return.
    """
    done = [result for result in results if result.status == "done"]
    exact = all(result.greedy_return is not None for result in done)
    name = "greedy_return" if exact else "training_return"
    rows: dict[str, Row] = {}
    for result in done:
        value = getattr(result, name)
        if value is not None:
            setting = result.member.setting
            row = Row(setting, [], result.member.job)
            rows.setdefault(toml(setting), row).values.append(value)
    return name, sorted(rows.values(), key=lambda row: -row.mean)


@dataclass(frozen=True)
class Collected:
    """The table of a sweep."""

    name: str
    """of the value compared"""
    rows: list[Row]
    """best first"""
    text: str


def collect(sweep: Sweep) -> Collected:
    """Write the table and the best job file into the sweep's folder; return the table.

    Raises
    ------
    RunDirectoryError
        if no member is done.
    """
    results = [result_of(member) for member in sweep.members]
    name, rows = tabulate(results)
    if not rows:
        raise RunDirectoryError(
            f"{sweep.directory}: none of {len(results)} runs is done; train them with "
            f"`hpcq sweep run {sweep.source}`, or on Slurm with `hpcq submit {sweep.source}`"
        )
    best = rows[0].job
    section = best.run.model_copy(update={"directory": str(sweep.directory / "best")})
    best = best.model_copy(update={"run": section})
    disk.write_text(sweep.directory / BEST, best.toml())
    _write_csv(sweep.directory / TABLE, name, rows)
    return Collected(name, rows, _text(sweep, results, name, rows))


def _write_csv(path: Path, name: str, rows: Sequence[Row]) -> None:
    keys = list(rows[0].setting)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*keys, "runs", name, "low", "high"])
    for row in rows:
        values = [_plain(row.setting[key]) for key in keys]
        low, high = row.mean - row.half_width, row.mean + row.half_width
        writer.writerow([*values, len(row.values), row.mean, low, high])
    disk.write_text(path, text.getvalue())


def setting_text(setting: dict[str, Any]) -> str:
    """Return a setting on one line, its keys without their sections."""
    each = [f"{key.rpartition('.')[2]} = {_plain(value)}" for key, value in setting.items()]
    return ", ".join(each) or "all runs"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else toml(value)


def _text(sweep: Sweep, results: Sequence[Result], name: str, rows: Sequence[Row]) -> str:
    keys = list(rows[0].setting)
    lines = [[*(key.rpartition(".")[2] for key in keys), "runs", name, "+- (95 %)"]]
    for row in rows:
        spread = "-" if math.isnan(row.half_width) else f"{row.half_width:.3g}"
        values = [_plain(row.setting[key]) for key in keys]
        lines.append([*values, str(len(row.values)), f"{row.mean:.6g}", spread])
    done = [result.status == "done" for result in results]
    text = [f"{sweep.source}: {sum(done)} of {len(done)} runs done", ""]
    text += columns(lines)
    text += ["", f"best: {sweep.directory / BEST}, table: {sweep.directory / TABLE}"]
    text += [
        f"member {result.member.index}: {result.status}"
        for result in results
        if result.status != "done"
    ]
    return "\n".join(text)


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table of texts to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in lines
    ]


def list_text(sweep: Sweep) -> str:
    """Return a line for each member: index, values, status."""
    keys = list(sweep.members[0].values)
    names = [key if key == SEED else key.rpartition(".")[2] for key in keys]
    lines = [["member", *names, "status"]]
    for member in sweep.members:
        values = [_plain(member.values[key]) for key in keys]
        lines.append([str(member.index), *values, result_of(member).status])
    return "\n".join(columns(lines))
