"""The live view and TensorBoard's files: what people see of a run."""

import io
import json
import struct
import sys

import make_job
import pytest
from mpi4py import MPI

from hpcq.errors import DependencyError, ExitCode
from hpcq.run import live, tensorboard, terminal
from hpcq.run.formatting import number_text, time_text
from hpcq.run.start_or_resume import to_end, train


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (12_345, "12.3 k"), (999_499, "999 k"),
     (20_000_256, "20.0 M"), (3 * 10**12, "3000 G")],
)  # fmt: skip
def test_counts_for_people(value, text):
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0 s"), (59.6, "1:00 min"), (61, "1:01 min"), (3600, "1:00:00 h"), (2e5, "2.3 days")],
)
def test_times_for_people(value, text):
    assert time_text(value) == text


def shown(monkeypatch, tmp_path, **sections):
    """Run a job with a live view of 100 columns; return what was written to the terminal."""
    monkeypatch.setattr(terminal, "width", lambda: 100)
    out = io.StringIO()
    view = live.LiveView(live.Terminal(file=out, width=100, height=50))
    job = make_job.make(
        {"id": "FrozenLake-v1", "count": 20},
        run={"steps": 20_000, "directory": str(tmp_path), "report_every": 0.02},
        **sections,
    )
    assert to_end(train(job, MPI.COMM_SELF, view, [])) == ExitCode.DONE
    return out.getvalue()


def test_the_view_says_how_it_goes(monkeypatch, tmp_path):
    text = shown(monkeypatch, tmp_path, evaluation={"every": 10_000})
    last = text.split("\x1b[1mtest: FrozenLake-v1 (compiled), 20 environments on 1 rank")[-1]
    for part in ("100.0 %", "20.0 k of 20.0 k steps", "done", "at step 20.0 k", "epsilon", "0.2"):
        assert part in last
    for name in ("episodes", "evaluation", "learning", "table", "ranks", "time", "saved"):
        assert name in last
    # The cursor stays, and the summary stands below the view.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "digest" in last.split("saved")[-1]
    assert "step 20,000" not in text.split("FrozenLake")[0]


def test_a_view_that_nobody_sees_any_more_does_no_harm(monkeypatch, tmp_path):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    view = live.LiveView(live.Terminal(file=Gone()))
    view("a line")


def test_only_what_ends_on_a_terminal_is_one(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.delenv("OMPI_COMM_WORLD_RANK", raising=False)
        assert not terminal.is_terminal()
        assert terminal.width() == 80


def events(directory):
    """Return (tag, step, value) of all event files, from their records and protocol buffers."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += size + 16
    return found


def test_tensorboard_gets_the_metrics(tmp_path):
    job = make_job.make(
        {"id": "FrozenLake-v1", "count": 20},
        evaluation={"every": 10_000},
        run={"steps": 20_000, "directory": str(tmp_path), "tensorboard": True},
    )
    to_end(train(job, MPI.COMM_SELF, lambda text: None, []))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = events(tmp_path / "tensorboard")
    for tag, key in (
        ("training/mean_return", "mean_return"),
        ("evaluation/evaluation_return", "evaluation_return"),
        ("phases/ns_step", "ns_step"),
        ("run/states", "states"),
        ("learning/epsilon", "epsilon"),
    ):
        expected = [(line["step"], line[key]) for line in lines if line[key] is not None]
        assert expected
        values = [(step, value) for name, step, value in found if name == tag]
        assert values == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def test_tensorboard_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(DependencyError, match=r"needs tensorboardX; install it"):
        tensorboard.check()
