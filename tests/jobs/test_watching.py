"""A run is shown live where its output ends on a terminal, and as lines anywhere else."""

import make_job
import pytest
from launch import command, hpcq
from on_terminal import on_a_terminal

JOB = make_job.make({"id": "FrozenLake-v1", "count": 20}, run={"steps": 100_000})
TITLE = "job: FrozenLake-v1 (compiled), 20 environments on"


@pytest.mark.parametrize("ranks", [None, 2])
def test_on_a_terminal_it_is_live(ranks, tmp_path):
    file = make_job.write(tmp_path / "job.toml", JOB)
    place = f"--set=run.directory='{tmp_path / 'run'}'"
    text = on_a_terminal(command(ranks, "run", file, place))
    view = text.split(f"\x1b[1m{TITLE}")[-1]
    assert "100.0 %" in view
    assert f"\x1b[1m{TITLE} {ranks or 1} rank" in text
    assert "digest" in view
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    plain = on_a_terminal(command(ranks, "run", file, place, "--overwrite", "--no-live"))
    assert "\x1b[" not in plain
    assert "100.0 %  step 100,000" in plain


def test_in_a_file_it_is_lines_unless_asked_for(tmp_path):
    file = make_job.write(tmp_path / "job.toml", JOB)
    place = f"--set=run.directory='{tmp_path / 'run'}'"
    done = hpcq(2, "run", file, place)
    assert "\x1b" not in done.stdout
    assert "100.0 %  step 100,000" in done.stdout
    done = hpcq(2, "run", file, place, "--overwrite", env={"HPCQ_LIVE": "1"})
    assert f"\x1b[1m{TITLE} 2 ranks" in done.stdout
