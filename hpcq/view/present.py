"""Summaries, differences and evaluations as text."""

from typing import Any

from hpcq.printable import printable
from hpcq.run.formatting import ranks_text
from hpcq.spaces.spaces import named


def row_text(row: dict[str, Any]) -> str:
    """Return one state's row: observation, Q-values, greedy actions, visits."""
    values = " ".join("-" if value is None else f"{value:.4g}" for value in row["q"])
    text = f"{printable(row['observation']):>12}  q [{values}]  greedy {row['greedy']}"
    if "visits" in row:
        text += f"  visits {row['visits']}"
    if "mean" in row:
        text += f"  mean [{_averages_text(row)}]"
    if "note" in row:
        text += f"  ({row['note']})"
    return text


def _averages_text(row: dict[str, Any]) -> str:
    """Return averages with half the widths of their 95 % intervals."""
    return " ".join(
        "-" if mean is None else f"{mean:.4g}" + ("" if width is None else f"±{width:.2g}")
        for mean, width in zip(row["mean"], row["half_width"], strict=True)
    )


def _size_text(summary: dict[str, Any]) -> str:
    """Return the number of states; a digest has none."""
    digest = summary["observation"]["kind"] == "Digest"
    return "" if digest else f", {summary['state_space']:,} states"


def _origin(summary: dict[str, Any]) -> tuple[str, str]:
    """Return where the values come from: learning, or `hpcq solve`."""
    if summary["solution"]:
        return "solved", solution_text(summary["solution"])
    return "trained", f"{summary['steps']:,} steps, {summary['episodes']:,} episodes"


def summary_text(summary: dict[str, Any]) -> str:
    """Return the text of `inspect.inspect`."""
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    learning = summary["job"]["learning"]
    rows, looked_at = summary["states"], summary["looked_at"]
    lines = [
        ("file", summary["file"]),
        ("job", f"{summary['job']['name']}: {learning['rule']}, gamma {learning['gamma']:g}"),
        ("environment", f"{summary['environment']}, {summary['environments']} at once"),
        ("observations", f"{named(summary['observation'])}{_size_text(summary)}"),
        ("actions", str(summary["actions"])),
        _origin(summary),
        ("table", f"{rows:,} states seen, {summary['dtype']}{_tables_text(summary)}"),
    ]
    if cuts := summary.get("cut_at"):
        shown = ", ".join(f"{step:,}" for step in cuts[-3:][::-1])
        what = f"{len(cuts)} times, newest first at step {shown}: other cuts give another table"
        lines.append(("stops cut it", what))
    if "reward_rate" in summary:
        what = f"{summary['reward_rate']:.6g}, subtracted from rewards"
        if shift := summary["shift"]:
            what += f"; {shift:.6g} is added to the values in the file"
        lines.append(("mean reward", what))
    if "updates" in summary:
        about = "" if looked_at == rows else "about "
        lines.append(("updates", f"{about}{summary['updates']:,} counted"))
    lines += [
        ("digest", summary["digest"]),
        ("written by", f"{ranks_text(summary['written_by_ranks'])}; {versions}"),
    ]
    text = [f"{name:<13} {printable(value)}" for name, value in lines]
    if looked_at < rows:
        text += ["", f"of {looked_at:,} states, a random sample (all: --whole):"]
    if "not_finite" in summary:
        text.append(f"greedy values that are not finite: {summary['not_finite']:,}")
    for name, title in (
        ("values", "greedy values"),
        ("half_widths", "± of their averages (95 % intervals)"),
        ("visits", "updates of a state"),
    ):
        if name in summary:
            found = "  ".join(f"{q} {value:.4g}" for q, value in summary[name].items())
            text.append(f"{title}, quantiles: {found}")
    for name, title in (
        ("largest", "largest greedy values"),
        ("smallest", "smallest greedy values"),
        ("most_visited", "most often updated"),
    ):
        if summary.get(name):
            text.append(f"{title} (observation, q, greedy actions)")
            text += [row_text(row) for row in summary[name]]
    return "\n".join(text)


def _tables_text(summary: dict[str, Any]) -> str:
    if summary["tables"] == 1:
        return ""
    return f", {summary['tables']} tables; their {summary['combine']} is what q shows"


def solution_text(solution: dict[str, Any]) -> str:
    """Return what a table of `hpcq solve` says of itself."""
    sweeps = f"{int(solution['sweeps']):,} sweeps"
    if not solution["done"]:
        return f"{sweeps}, not at the end: `hpcq solve JOB --resume` goes on"
    if "rate" in solution:
        return (
            f"{sweeps}; average reward of a step {solution['rate']:.10g} within "
            f"{solution['rate_bound']:.2g} (proven), values relative to start states"
        )
    if solution["bound"] is None:
        return f"{sweeps}; no bound is proven"
    return f"{sweeps}; every value within {solution['bound']:.2g} of the optimum (proven)"


def _file_text(described: dict[str, Any]) -> str:
    if described["solution"]:
        return f"{printable(described['file'])}, solved: {solution_text(described['solution'])}"
    return f"{printable(described['file'])}, step {described['steps']:,}"


def difference_text(found: dict[str, Any]) -> str:
    """Return the text of `difference.difference`."""
    only, common = found["only"], found["common"]
    lines = [
        *(f"{name.upper()}: {_file_text(found[name])}" for name in "ab"),
        *map(printable, found["jobs"]),
        f"{common:,} states in both, {only[0]:,} only in A, {only[1]:,} only in B",
    ]
    if found["same"]:
        return "\n".join([*lines, "the tables hold the same Q-values"])
    if found["moved"] is not None:
        lines.append(
            f"average reward of a step: {found['a']['reward_rate']:.10g} and "
            f"{found['b']['reward_rate']:.10g}; values are relative: {found['moved']:.6g} is added "
            "to those of B"
        )
    if common:
        share = 100 * found["policy_changes"] / common
        lines += [
            f"{found['equal']:,} of these have the same Q-values",
            f"difference of a Q-value: mean {found['mean']:.4g}, largest {found['largest']:.4g}",
            f"another greedy action in {found['policy_changes']:,} states ({share:.2g} %)",
        ]
    if found["largest_loss"] is not None:
        lines.append(
            "a greedy action loses, by the optimal values, at most "
            f"{found['largest_loss']:.4g} in one step" + (":" if found["loss_row"] else "")
        )
        lines += [row_text(row) for row in found["loss_row"] or []]
    for side, name in enumerate("AB"):
        if found["only_rows"][side]:
            lines.append(f"only in {name} (some):")
            lines += [row_text(row) for row in found["only_rows"][side]]
    for title, key in (("largest differences", "largest_rows"), ("policy changes", "policy_rows")):
        if found[key]:
            lines.append(f"{title} (A, then B{', some' if key == 'policy_rows' else ''}):")
            lines += [row_text(row) for pair in found[key] for row in pair]
    return "\n".join(lines)


def evaluation_text(found: dict[str, Any]) -> str:
    """Return the text of `evaluate.evaluate`."""
    width = found["half_width"]
    interval = "" if width is None else f" ± {width:.4g} (95 % confidence)"
    lines = [
        f"{printable(found['file'])}: greedy policy in {printable(found['environment'])}, "
        f"seed {found['seed']}",
        f"mean return   {found['mean_return']:.6g}{interval}, {found['episodes']:,} episodes",
        f"returns       {found['smallest_return']:.6g} ... {found['largest_return']:.6g}",
        f"mean length   {found['mean_length']:.6g} steps",
    ]
    for name, value in found.items():
        if name.startswith("info_") and value is not None:
            lines.append(f"{printable(name[5:]):<13} {value:.6g}")
    if found["truncated"]:
        lines.append(f"truncated     {found['truncated']:,} episodes, at their time limit")
    if found["unseen"]:
        lines.append(f"unseen        {100 * found['unseen']:.2g} % of the steps, in unknown states")
    return "\n".join(lines)
