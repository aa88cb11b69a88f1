"""metrics.jsonl and metrics.csv: a line per report, also of a run that was stopped and resumed."""

import contextlib
import csv
import json
import os
import re
import socket

import make_job
import pytest
from mpi4py import MPI
from readme import table

from hpcq.errors import ExitCode
from hpcq.run import metrics_files
from hpcq.run.start_or_resume import resume_run, to_end, train


def job(directory, **run):
    return make_job.make(
        {"id": "Taxi-v4", "count": 16},
        checkpoint={"every": 100},
        run={"steps": 40_000, "directory": str(directory), "report_every": 1e-4, **run},
    )


class Stop(list):
    """The list of stop signals: one that comes after so many reports."""

    def __init__(self, reports):
        super().__init__()
        self._left = reports

    def say(self, text):
        self._left -= " steps/s " in text
        if self._left == 0:
            self.append(10)


def rows(directory):
    """Return what both files hold, as numbers and None."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    with (directory / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [list(line) for line in lines] == [list(line) for line in table]
    for line, row in zip(lines, table, strict=True):
        assert {k: None if v == "" else float(v) for k, v in row.items()} == line
    return lines


def check_order(lines):
    for key in ("step", "tick"):
        values = [line[key] for line in lines]
        assert values == sorted(set(values))
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_a_run_writes_lines_of_growing_steps(tmp_path):
    assert to_end(train(job(tmp_path), MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    lines = rows(tmp_path)
    assert len(lines) > 10
    check_order(lines)
    last = lines[-1]
    assert last["step"] == last["checkpoint_step"] == 40_000
    assert last["tick"] == 2500
    # Taxi has 400 states that can be met before an end; one rank has all of them.
    assert 350 < last["states"] <= 400
    assert last["rows_min"] == last["rows_mean"] == last["rows_max"] == last["states"]
    assert last["messages_max"] >= 16
    assert 0 < last["load"] < 0.6
    assert last["memory_bytes"] > last["table_bytes"] > 400 * 6 * 8
    assert (last["epsilon"], last["learning_rate"]) == (0.2, 0.5)
    timed = [line for line in lines if line["ns_step"] is not None]
    assert timed
    for line in timed:
        parts = [v for k, v in line.items() if k.startswith("ns_") and k != "ns_exchange"]
        assert sum(parts) == pytest.approx(line["busy_ns_mean"], abs=0.01)


def test_episodes_and_returns_are_those_of_the_time_since_the_last_line(tmp_path):
    # Every step is an episode that ends with 2.
    environment = {
        "id": "problems:Scripted-v0",
        "kwargs": {"script": [[1, 2.0, True, False]]},
        "count": 3,
        "reset_every": 10,
    }
    run = {"steps": 300, "directory": str(tmp_path), "report_every": 1e-6}
    to_end(train(make_job.make(environment, run=run), MPI.COMM_SELF, lambda text: None, []))
    lines = rows(tmp_path)
    assert sum(line["episodes"] for line in lines) == 300
    assert all((line["mean_return"], line["mean_length"]) == (2.0, 1.0) for line in lines)


def test_a_stopped_and_resumed_run_has_each_step_once(tmp_path):
    stop = Stop(20)
    assert to_end(train(job(tmp_path), MPI.COMM_SELF, stop.say, stop)) == ExitCode.STOPPED
    before = rows(tmp_path)
    # What a killed run wrote after its checkpoint, and a line that it did not finish.
    late = {**before[-1], "step": 39_000}
    metrics_files.append(tmp_path, late)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 39')
    assert to_end(resume_run(tmp_path, (), MPI.COMM_SELF, lambda text: None, [])) == ExitCode.DONE
    lines = rows(tmp_path)
    assert lines[: len(before)] == before
    assert late not in lines
    check_order(lines)


def test_cutting_keeps_what_was_before(tmp_path):
    assert metrics_files.cut(tmp_path, 5) is None
    for step in (1, 2, 3):
        metrics_files.append(tmp_path, {"step": step, "value": step / 2})
    assert metrics_files.cut(tmp_path, 2) == {"step": 2, "value": 1.0}
    assert [line["step"] for line in rows(tmp_path)] == [1, 2]


def test_the_page_lists_every_key(tmp_path):
    to_end(train(job(tmp_path, steps=1600), MPI.COMM_SELF, lambda text: None, []))
    cells = table("hpcq/run/README.md", "Metrics")
    keys = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert keys == list(rows(tmp_path)[-1])


WRONG = {
    "not UTF-8": b'{"step": 3, "name": "\xff\xfe"}',
    "no JSON": b'{"step": 3',
    "no object": b"[3]",
    "no step": b'{"tick": 3}',
    "text": b'{"step": 3, "seconds": "long"}',
    "a list": b'{"step": 3, "load": [1]}',
    "a huge integer": b'{"step": 3, "load": 1' + b"0" * 400 + b"}",
    "deep": b"[" * 50_000,
    "long": b'{"step": 3, "load": ' + b" " * (3 << 20) + b"1}",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", WRONG)
def test_a_wrong_line_is_told_and_left_out(tmp_path, content):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + WRONG[content] + b'\n{"step": 2, "load": 1.5}\n')
    told = []
    assert metrics_files.read(tmp_path, told.append) == [{"step": 1}, {"step": 2, "load": 1.5}]
    (text,) = told
    assert text.startswith(f"{path}, line 2 is left out: ")
    # A resumed run goes on with the others.
    assert metrics_files.cut(tmp_path, 1, told.append) == {"step": 1}
    assert told == [text, text]
    assert path.read_text() == '{"step": 1}\n'


def test_many_wrong_lines_are_told_in_few(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"what\n" * 1000)
    told = []
    assert metrics_files.read(tmp_path, told.append) == []
    assert len(told) == 4
    assert "997 more lines" in told[-1]


def test_numbers_that_json_has_not_are_null(tmp_path):
    line = {"step": 1, "steps_per_second": float("inf"), "mean_return": float("nan")}
    metrics_files.append(tmp_path, line)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {**line, **dict.fromkeys(list(line)[1:])}


def obstacle(path, kind):
    """Put something in the place of a file; return what a training must not touch."""
    path.unlink(missing_ok=True)
    other = path.with_name("other")
    other.write_text("precious")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        # Its name must be short.
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    else:
        path.symlink_to({"link to a file": other}.get(kind, "/dev/full"))
    return other


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "link to /dev/full"])
def test_metrics_never_stop_training(tmp_path, name, kind):
    """A run is stopped; what it finds in the place of its metrics is no file."""
    stop = Stop(5)
    to_end(train(job(tmp_path), MPI.COMM_SELF, stop.say, stop))
    obstacle(tmp_path / name, kind)
    lines = []
    assert to_end(resume_run(tmp_path, (), MPI.COMM_SELF, lines.append, [])) == ExitCode.DONE
    told = [line for line in lines if line.startswith("warning")]
    assert len(told) <= 2
    # A link is replaced where the whole file is written anew.
    assert told or kind.startswith("link") or name.endswith("csv")


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "link to /dev/full"])
def test_a_report_does_not_wait_for_what_is_no_file(tmp_path, kind):
    obstacle(tmp_path / "metrics.jsonl", kind)
    told = []
    assert metrics_files.read(tmp_path, told.append) == []
    assert len(told) == 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_metrics_are_not_written_through_a_link(tmp_path, name):
    other = obstacle(tmp_path / name, "link to a file")
    with pytest.raises(OSError, match="symbolic link"):
        metrics_files.append(tmp_path, {"step": 1})
    assert other.read_text() == "precious"
