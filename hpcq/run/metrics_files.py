"""The metrics of a run on the disk: metrics.jsonl, and the same as metrics.csv.

Both have one line per report and the same keys in the same order; run/README.md lists them. A
resumed run removes the lines after its checkpoint, so that no step is there twice.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcq.run import run_directory


def read(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, oldest first; none where there is no such file.

    A line that a killed run left unfinished is not among them.
    """
    try:
        text = (directory / run_directory.METRICS).read_text()
    except FileNotFoundError:
        return []
    lines = []
    for row in text.splitlines():
        try:
            line = json.loads(row)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def cut(directory: Path, step: int) -> dict[str, Any] | None:
    """Remove the lines after a step from both files; return the last one that stays.

    Raises
    ------
    OSError
        if they cannot be read or written.
    """
    lines = [line for line in read(directory) if line["step"] <= step]
    jsonl = "".join(json.dumps(line) + "\n" for line in lines)
    run_directory.write_text(directory / run_directory.METRICS, jsonl)
    run_directory.write_text(directory / run_directory.METRICS_CSV, "")
    for line in lines:
        _append_csv(directory, line, list(lines[0]))
    return lines[-1] if lines else None


def append(directory: Path, line: dict[str, Any]) -> None:
    """Add a line to both files.

    Raises
    ------
    OSError
        if they cannot be written.
    """
    with open(directory / run_directory.METRICS, "a") as file:
        file.write(json.dumps(line) + "\n")
    _append_csv(directory, line, list(line))


def _append_csv(directory: Path, line: dict[str, Any], columns: Sequence[str]) -> None:
    with open(directory / run_directory.METRICS_CSV, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(columns)
        writer.writerow([line.get(column) for column in columns])
