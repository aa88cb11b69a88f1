"""What the README shows of results and of Python is run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import make_job
import trained
from click.testing import CliRunner

from hpcq.cli import hpcq as cli

README = Path(__file__).parents[2] / "README.md"


def blocks(title, kind):
    """Return the blocks of code in a section."""
    section = re.search(rf"^## {title}\n(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{kind}\n(.*?)^```$", section.group(1), re.DOTALL | re.MULTILINE)


def test_every_command_that_looks_at_results_runs(tmp_path, monkeypatch):
    taxi = make_job.make({"id": "Taxi-v4", "count": 512}, name="taxi")
    lake = make_job.make({"id": "FrozenLake-v1", "count": 64}, name="lake")
    for job, ticks in ((taxi, 800), (lake, 400)):
        directory = tmp_path / "runs" / job.name
        path = trained.checkpoint(job, directory, ticks)
        (directory / "job.json").write_text(job.text())
        if job is taxi:
            path.with_name("ckpt-000000010000384.h5").hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    commands = [
        line for block in blocks("Looking at results", "bash") for line in block.splitlines()
    ]
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words.pop(0) == "hpcq"
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        assert done.exception is None, f"{command}: {done.exception}"
        assert done.return_value == 0
        assert done.output
    for made in ("taxi.csv", "lake.gif", "pictures/maps.png", "runs/taxi/report.html"):
        assert (tmp_path / made).stat().st_size > 1000


def test_what_is_shown_from_python_runs(tmp_path):
    program = "\n".join(blocks("From Python", "python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *reports, values, mean, row, total = done.stdout.splitlines()
    assert int(reports[-1].split()[0]) == 2_000_000
    assert values.startswith("[")
    assert 0.5 < float(mean) <= 1
    assert row.startswith("11 True [")
    assert 0 < float(total) < 1
    assert (tmp_path / "runs" / "lake" / "metrics.jsonl").exists()
