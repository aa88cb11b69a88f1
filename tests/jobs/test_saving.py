"""When a run is saved, what stays, what may change on resume, and what memory it may take."""

import json
import os

import h5py
import make_job
import pytest
from launch import AT_ONCE, hpcq, summary

from hpcq.run.run_directory import list_checkpoints

TAXI = make_job.make({"id": "Taxi-v4", "count": 64})
GARNET = make_job.make(
    {"id": "hpcq/Garnet-v0", "kwargs": {"states": 30_000, "actions": 8}, "count": 64},
    run={"steps": 64_000},
)


def run(ranks, tmp_path, job, *changes, name="run", code=0, command="run"):
    directory = tmp_path / name
    file = make_job.write(tmp_path / "job.toml", job)
    what = ("resume", directory) if command == "resume" else ("run", file)
    place = [] if command == "resume" else [f"--set=run.directory='{directory}'"]
    done = hpcq(ranks, *what, *place, *(f"--set={change}" for change in changes), code=code)
    return directory, done


def test_minutes_between_checkpoints_change_nothing_that_is_learned(tmp_path):
    """So few minutes that each tick is saved; the clock decides, and the answer is the same."""
    changes = ("run.steps=6400", "checkpoint.keep=1000")
    alone, _ = run(2, tmp_path, TAXI, *changes, name="alone")
    often, _ = run(3, tmp_path, TAXI, *changes, "checkpoint.minutes=1e-12", name="often")
    assert len(list_checkpoints(alone)) == 1
    assert len(list_checkpoints(often)) == 100
    assert summary(often)["digest"] == summary(alone)["digest"]


@pytest.mark.parametrize("kind", ["compiled", "python"])
def test_milestones_stay(tmp_path, kind):
    """Each is the first tick at which the run can be saved, from the wanted step on."""
    job = TAXI if kind == "compiled" else make_job.make(make_job.CORRIDOR)
    changes = ["checkpoint.milestones=[1, 650]", "checkpoint.keep=1"]
    changes += ["checkpoint.every=3", "run.steps=1000"]
    directory, _ = run(2, tmp_path, job, *changes)
    steps = [int(path.stem.split("-")[1]) for path in reversed(list_checkpoints(directory))]
    # 64 environments and every tick; 5 environments and every 40th tick.
    assert steps == ([64, 704, 1024] if kind == "compiled" else [200, 800, 1000])


def test_a_resumed_run_may_learn_in_another_way_only_if_asked(tmp_path):
    directory, _ = run(2, tmp_path, TAXI, "run.steps=64_000")
    more = ("run.steps=128_000", "learning.gamma=0.5")
    _, done = run(2, tmp_path, TAXI, *more, command="resume", code=64)
    assert "--override" in done.stderr
    done = hpcq(2, "resume", directory, "--override", *(f"--set={change}" for change in more))
    assert "overridden: learning.gamma is 0.5 here and 0.9 there" in done.stdout
    assert json.loads((directory / "job.json").read_text())["learning"]["gamma"] == 0.5
    # The file written since then knows.
    run(3, tmp_path, TAXI, "run.steps=192_000", command="resume")
    done = hpcq(2, "resume", directory, "--override", "--set=learning.dtype=float32", code=64)
    assert "a resumed run keeps its job" in done.stderr


def test_a_changed_environment_is_refused_readably(tmp_path):
    directory, _ = run(1, tmp_path, TAXI, "run.steps=64_000")
    text = (directory / "job.json").read_text()
    changed = text.replace('"max_episode_steps": null', '"max_episode_steps": 7')
    (directory / "job.json").write_text(changed)
    _, done = run(2, tmp_path, TAXI, command="resume", code=65)
    assert "environment.max_episode_steps is 7 here and None there" in done.stderr
    assert "to go on in spite of this, add --override" in done.stderr
    hpcq(2, "resume", directory, "--override", "--set=run.steps=128_000")
    (directory / "job.json").write_text(changed.replace("Taxi-v4", "CliffWalking-v1"))
    done = hpcq(2, "resume", directory, "--override", code=65)
    assert "environment.id is CliffWalking-v1 here and Taxi-v4 there" in done.stderr


def test_a_file_of_an_older_format_is_refused_and_left_alone(tmp_path):
    directory, _ = run(1, tmp_path, TAXI)
    path = list_checkpoints(directory)[0]
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 0
    _, done = run(2, tmp_path, TAXI, command="resume", code=65)
    assert "checkpoint format 0, this hpcq reads 2 to 6; use the version of hpcq" in done.stderr
    assert list_checkpoints(directory) == [path]
    assert "format 0" in hpcq(None, "inspect", path, code=65).stderr


def test_a_table_that_reaches_its_limit_is_saved(tmp_path):
    alone, _ = run(2, tmp_path, GARNET, name="alone")
    directory, done = run(2, tmp_path, GARNET, "run.table_gib=0.0005", code=75)
    assert "the table reaches run.table_gib: saving" in done.stdout
    assert "GiB to go on, more than run.table_gib = 0.0005; resume on more ranks" in done.stdout
    _, done = run(2, tmp_path, GARNET, command="resume", code=64)
    assert "GiB to go on, more than run.table_gib = 0.0005" in done.stderr
    run(3, tmp_path, GARNET, "run.table_gib=1.0", command="resume")
    assert summary(directory)["digest"] == summary(alone)["digest"]


def test_one_owner_has_all_the_states(tmp_path):
    environment = {
        "id": "hpcq/Garnet-v0",
        "kwargs": {"states": 1, "actions": 2, "branching": 1},
        "count": 7,
    }
    job = make_job.make(environment, checkpoint={"every": 50})
    directory, _ = run(4, tmp_path, job)
    run(5, tmp_path, job, "run.steps=2000", command="resume")
    alone, _ = run(1, tmp_path, job, "run.steps=2000", name="alone")
    assert summary(directory)["digest"] == summary(alone)["digest"]


def test_a_module_that_cannot_be_imported_on_one_rank(tmp_path):
    module = (
        'import os\nif os.environ["OMPI_COMM_WORLD_RANK"] == "1": raise ImportError("no wheel")'
    )
    (tmp_path / "lonely.py").write_text(f"{module}\nfrom problems import *\n")
    job = make_job.make({**make_job.CORRIDOR, "id": "lonely:Corridor-v0"})
    file = make_job.write(tmp_path / "job.toml", job)
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    place = f"--set=run.directory='{tmp_path / 'run'}'"
    done = hpcq(3, "run", file, place, code=70, env={"PYTHONPATH": path}, timeout=AT_ONCE)
    assert "hpcq: rank 1: " in done.stderr
    assert "no wheel" in done.stderr


def test_an_estimate_is_what_the_run_takes(tmp_path):
    directory, _ = run(2, tmp_path, GARNET)
    states = summary(directory)["states"]
    file = tmp_path / "job.toml"
    found = json.loads(
        hpcq(None, "estimate", file, f"--states={states}", "--ranks=2", "--json").stdout
    )
    # The rest of the file is its attributes and HDF5's own records.
    on_disk = list_checkpoints(directory)[0].stat().st_size
    assert found["checkpoint_bytes"] < on_disk < found["checkpoint_bytes"] + 30_000
    said = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert said[-1]["table_bytes"] == 2 * found["table_bytes"]
    assert found["growing_bytes"] <= 1.6 * found["table_bytes"]
    text = hpcq(None, "estimate", file, f"--states={states}", "--ranks=2").stdout
    assert f"{states:,} states on 2 ranks" in text
