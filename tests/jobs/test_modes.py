"""Runs in other modes than lockstep, as a user has them: stopped, resumed, reported, verified."""

import signal

import make_job
import pytest
from launch import end, hpcq, start, summary, wait_for

from hpcq.run.run_directory import list_checkpoints

MODES = {
    "periodic": {"kind": "periodic", "merge_every": 8},
    "asynchronous": {"kind": "asynchronous"},
}


@pytest.mark.parametrize("kind", MODES)
def test_stopped_and_resumed(kind, tmp_path):
    job = make_job.make({"id": "Taxi-v4", "count": 64}, run={"steps": 200_000_000})
    job = job.model_copy(update={"mode": type(job.mode)(**MODES[kind])})
    file, run = make_job.write(tmp_path / "job.toml", job), tmp_path / "run"
    process = start(2, "run", file, f"--set=run.directory='{run}'", "--set=run.report_every=0.2")
    try:
        wait_for(lambda: (run / "metrics.jsonl").exists() or process.poll() is not None)
        process.send_signal(signal.SIGUSR1)
        text, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 75, text
    assert "stopped at step" in text
    path = list_checkpoints(run)[0]
    assert "whole" in hpcq(None, "verify", path).stdout
    steps = int(path.stem.split("-")[1])
    hpcq(3, "resume", run, f"--set=run.steps={steps + 50_000}")
    assert summary(run)["steps"] >= steps + 50_000
    assert summary(run)["states"] > 300
