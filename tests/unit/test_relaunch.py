"""What is started again, how often, and how; whole jobs are in tests/jobs/test_retries.py."""

import os
import signal
import subprocess

import pytest

from hpcq.cluster import relaunch
from hpcq.cluster.deaths import Deaths
from hpcq.cluster.relaunch import Retries, delay, resuming
from hpcq.run import metrics_files


class Ranks:
    """Ranks that save at some step, then end with some code; start after start."""

    def __init__(self, directory, *lives):
        self.directory, self.lives = directory, list(lives)
        self.words, self.said, self.signals = [], [], []

    def __call__(self, words, ended):
        assert (ended > 0) == bool(self.words)
        self.words.append(list(words))
        step, code = self.lives.pop(0)
        if step:
            (self.directory / f"ckpt-{step:015d}.h5").touch()
        return code

    def end(self, most, arguments=("run", "-n", "2", "job.toml"), overwrites=False):
        retries = Retries(most, self.directory, overwrites)
        code = retries.run(self, arguments, self.signals, self.said.append)
        assert not self.lives
        return code


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(relaunch, "MOST_DELAY", 0.0)


@pytest.mark.parametrize("code", [0, 64, 65, 69, 70, 73, 74, 75, 127, 130, 131, 143])
def test_what_is_done_or_wrong_or_asked_for_is_not_started_again(code, tmp_path):
    assert Ranks(tmp_path, (10, code)).end(3) == code


@pytest.mark.parametrize("code", [1, 76, 134, 137, 139, 205])
def test_what_was_killed_or_stalled_goes_on(code, tmp_path):
    ranks = Ranks(tmp_path, (10, code), (20, 0))
    assert ranks.end(3) == 0
    assert ranks.words == [
        ["run", "-n", "2", "job.toml"],
        ["run", "-n", "2", "job.toml", "--resume"],
    ]
    assert "retry 1 of 3: from step 10; " in ranks.said[0]


def test_what_never_gets_further_ends_with_its_code(tmp_path):
    ranks = Ranks(tmp_path, (None, 139), (None, 139), (None, 139))
    assert ranks.end(2) == 139
    assert "retry 2 of 2: from the beginning; " in ranks.said[1]
    assert ranks.said[2] == "failed 3 times with nothing saved between: giving up"


def test_a_newer_checkpoint_begins_the_count_anew(tmp_path):
    lives = [(None, 137), (None, 137), (10, 137), (None, 137), (20, 137), (None, 76), (None, 137)]
    assert Ranks(tmp_path, *lives).end(2) == 137


def test_a_request_to_stop_is_the_end(tmp_path):
    ranks = Ranks(tmp_path, (10, 137))
    ranks.signals.append(signal.SIGTERM)
    assert ranks.end(3) == 137


def test_a_request_to_stop_while_it_waits(tmp_path, monkeypatch):
    ranks = Ranks(tmp_path, (10, 137))
    ranks.said = ranks.signals
    assert ranks.end(3) == 75


def test_a_run_is_replaced_once(tmp_path):
    """Whether the first ranks came to that, job.json tells."""
    job = tmp_path / "job.json"
    job.write_text("old")
    ranks = Ranks(tmp_path, (None, 137), (None, 137), (None, 0))

    def start(words, ended):
        if len(ranks.words) == 1:
            (tmp_path / "new").write_text("new")
            (tmp_path / "new").replace(job)
        return ranks(words, ended)

    words = ["run", "-n", "2", "job.toml", "--overwrite", "--retries", "3"]
    assert Retries(3, tmp_path, overwrites=True).run(start, words, [], ranks.said.append) == 0
    assert ranks.words == [words, words, [*words[:4], *words[5:], "--resume"]]


def test_resuming_keeps_what_it_was_told():
    words = ["resume", "-n", "2", "runs/taxi", "--set", "run.steps=9"]
    assert resuming(words) == words
    words = ["run", "-n", "2", "job.toml", "--resume"]
    assert resuming(words) == words


def test_delays_grow_to_a_limit(monkeypatch):
    monkeypatch.setattr(relaunch, "MOST_DELAY", 5.0)
    assert [delay(tries) for tries in (1, 2, 3, 4, 5, 6)] == [0, 1, 2, 4, 5, 5]


def test_the_last_step_that_was_reported(tmp_path):
    assert metrics_files.newest(tmp_path) is None
    lines = "".join(f'{{"step": {n}}}\n' for n in range(20_000))
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 30')
    assert metrics_files.newest(tmp_path)["step"] == 19_999


def test_the_first_death_is_seen():
    with subprocess.Popen(["sleep", "60"]) as other, subprocess.Popen(["sleep", "60"]) as launcher:
        deaths = Deaths()
        for pid, name in ((launcher.pid, "mpirun"), (other.pid, "rank 1"), (other.pid, "again")):
            deaths.watch(pid, name)
        deaths.wait(launcher, 0.01)
        assert deaths.first == ""
        for pid in (other.pid, launcher.pid):
            os.kill(pid, signal.SIGKILL)
            deaths.wait(launcher, 10)
        assert deaths.first == "rank 1"
        deaths.close()
