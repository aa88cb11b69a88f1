"""The metrics of a run on the disk: metrics.jsonl, and the same as metrics.csv.

Both have one line per report and the same keys in the same order; run/README.md lists them. A
resumed run removes the lines after its checkpoint, so that no step is there twice.

Reading takes what there is: a crash, or somebody else, may have left anything.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hpcq import disk
from hpcq.run import run_directory
from hpcq.run.formatting import json_text

Line = dict[str, Any]
Tell = Callable[[str], object]

# A report has about a thousand bytes; a year of them, one every ten seconds, is 4 GiB.
MOST_BYTES = 4 << 30
MOST_LINE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
# Of wrong lines so many are named.
_MOST_TOLD = 3


def read(directory: Path, tell: Tell = lambda text: None) -> list[Line]:
    """Return the lines of a run's metrics.jsonl, oldest first; none where there is no such file.

    A line that a killed run left unfinished is not among them, nor is one that is wrong.

    Parameters
    ----------
    tell
        is told what is wrong.
    """
    path = directory / run_directory.METRICS
    try:
        return list(_lines(path, tell))
    except FileNotFoundError:
        return []
    except OSError as error:
        tell(f"{path}: cannot be read: {error.strerror}")
        return []


def newest(directory: Path) -> Line | None:
    """Return the last right line of a run's metrics.jsonl; None if the end of the file has none."""
    try:
        with disk.open_file(directory / run_directory.METRICS) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * MOST_LINE_BYTES))
            rows = file.read(2 * MOST_LINE_BYTES).splitlines()
    except OSError:
        return None
    for row in reversed(rows):
        with contextlib.suppress(ValueError, RecursionError):
            return _parsed(row)
    return None


def _lines(path: Path, tell: Tell) -> Iterator[Line]:
    """Yield the right lines of a file; tell of the others.

    Raises
    ------
    OSError
        if it cannot be read.
    """
    wrong = 0
    with disk.open_file(path) as file:
        number = 0
        while file.tell() < MOST_BYTES and (row := file.readline(MOST_LINE_BYTES)):
            number += 1
            ended = row.endswith(b"\n")
            while not ended and (rest := file.readline(_PIECE_BYTES)) and file.tell() < MOST_BYTES:
                row, ended = b"", rest.endswith(b"\n")
            try:
                yield _parsed(row)
            except (ValueError, RecursionError) as error:
                # The last line may have been cut by a kill.
                wrong += ended
                if ended and wrong <= _MOST_TOLD:
                    tell(f"{path}, line {number} is left out: {error}")
        if file.tell() >= MOST_BYTES:
            tell(f"{path}: only its first {MOST_BYTES:,} bytes are read")
    if wrong > _MOST_TOLD:
        tell(f"{path}: {wrong - _MOST_TOLD:,} more lines are left out")


def _parsed(row: bytes) -> Line:
    """Return a line of the metrics.

    Raises
    ------
    ValueError, RecursionError
        if it is none: an object of numbers, with a step.
    """
    try:
        line = json.loads(row)
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON, or longer than {MOST_LINE_BYTES:,} bytes") from None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        raise ValueError("it has no step")
    for key, value in line.items():
        if not _is_number(value):
            raise ValueError(f"{key!r} is no number")
    return line


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that a plot can take, or missing."""
    if value is None or isinstance(value, float):
        return True
    return isinstance(value, int) and abs(value) < 1 << 64


def cut(directory: Path, step: int, tell: Tell = lambda text: None) -> Line | None:
    """Remove the lines after a step from both files; return the last one that stays.

    Parameters
    ----------
    tell
        is told which lines are wrong; these go, too.

    Raises
    ------
    OSError
        if they cannot be read or written.
    """
    path, last = directory / run_directory.METRICS, None
    with (
        disk.writing(path) as jsonl,
        disk.writing(directory / run_directory.METRICS_CSV) as table,
        contextlib.suppress(FileNotFoundError),
    ):
        columns: list[str] = []
        for line in _lines(path, tell):
            if line["step"] <= step:
                if not columns:
                    columns = list(line)
                    table.write(_csv(columns))
                jsonl.write(_json(line))
                table.write(_csv([line.get(column) for column in columns]))
                last = line
    return last


def append(directory: Path, line: Line) -> None:
    """Add a line to both files.

    Raises
    ------
    OSError
        if they cannot be written.
    """
    with disk.append(directory / run_directory.METRICS) as file:
        file.write(_json(line))
    table = directory / run_directory.METRICS_CSV
    columns = _columns(table)
    if not set(line) <= set(columns):
        # A resumed run may report more than before. Nothing is written through a link.
        with disk.append(table):
            pass
        columns += [key for key in line if key not in columns]
        _write_table(directory, columns)
        return
    with disk.append(table) as file:
        file.write(_csv([line.get(column) for column in columns]))


def _columns(table: Path) -> list[str]:
    """Return the columns of a metrics.csv; none where there is none yet."""
    try:
        with disk.open_file(table) as file:
            header = file.readline(MOST_LINE_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return []
    return next(csv.reader([header]), [])


def _write_table(directory: Path, columns: list[str]) -> None:
    """Write metrics.csv anew, with these columns, from metrics.jsonl."""
    with disk.writing(directory / run_directory.METRICS_CSV) as table:
        table.write(_csv(columns))
        for line in _lines(directory / run_directory.METRICS, lambda text: None):
            table.write(_csv([line.get(column) for column in columns]))


def _json(line: Line) -> bytes:
    return json_text(line).encode() + b"\n"


def _csv(cells: Sequence[Any]) -> bytes:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(cells)
    return row.getvalue().encode()
