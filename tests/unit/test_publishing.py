"""What trackers are given, with stand-ins for their packages, which the tests do not install."""

import json
import sys
from types import ModuleType, SimpleNamespace

import make_job
import pytest
from click.testing import CliRunner

from hpcq.cli import hpcq
from hpcq.errors import CheckpointError, DependencyError, StorageError
from hpcq.view.publishing import publish, published

LINES = [
    {"step": 12, "tick": 1, "time": 100.0, "mean_return": None, "states": 5},
    {"step": 24, "tick": 2, "time": 101.5, "mean_return": 0.5, "states": 7},
]
SUMMARY = {"steps": 36, "greedy_return": 2.5, "optimal_return": None, "digest": "1-ab"}


def write(directory, lines=LINES, summary=SUMMARY, **run):
    directory.mkdir(parents=True, exist_ok=True)
    job = make_job.make(make_job.GARNET, run={"directory": str(directory), **run})
    (directory / "job.json").write_text(job.text())
    (directory / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (directory / "summary.json").unlink(missing_ok=True)
    if summary:
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def stand_in(monkeypatch, name, **content):
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


class MlflowClient:
    """Keeps runs in memory, as a tracking server does: what is sent twice is there twice."""

    def __init__(self, runs):
        self.runs = runs

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="7") if self.runs else None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment, tags):
        data = SimpleNamespace(tags=dict(tags), metrics={}, params={})
        run = SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(self.runs)}"), data=data)
        run.points, run.files, run.status = [], {}, ""
        self.runs.append(run)
        return run

    def search_runs(self, experiments, text, max_results):
        return [run for run in self.runs if f"'{run.data.tags['hpcq.id']}'" in text]

    def log_batch(self, identity, metrics=(), params=(), tags=()):
        (run,) = (run for run in self.runs if run.info.run_id == identity)
        assert len(metrics) <= 1000
        assert len(params) + len(tags) <= 100
        run.points += metrics
        run.data.metrics |= {metric[0]: metric[1] for metric in metrics}
        assert not run.data.params.keys() & dict(params).keys()
        run.data.params |= dict(params)
        run.data.tags |= dict(tags)

    def log_text(self, identity, text, name):
        (run,) = (run for run in self.runs if run.info.run_id == identity)
        run.files[name] = text

    def set_terminated(self, identity, status, end_time):
        (run,) = (run for run in self.runs if run.info.run_id == identity)
        run.status = status


@pytest.fixture
def mlflow(monkeypatch):
    runs = []
    entities = SimpleNamespace(
        Metric=lambda *metric: metric, Param=lambda *pair: pair, RunTag=lambda *pair: pair
    )
    stand_in(monkeypatch, "mlflow", MlflowClient=lambda: MlflowClient(runs), entities=entities)
    return runs


def test_mlflow_is_given_a_run_once_however_often_it_is_published(mlflow, tmp_path):
    directory = write(tmp_path / "lake", LINES[:1], None)
    (line,) = publish(directory, "mlflow", "mine")
    assert "experiment mine, run r0" in line
    (run,) = mlflow
    assert run.status == "KILLED"
    assert run.points == [("states", 5.0, 100_000, 12)]
    write(directory, steps=2000)
    for _ in range(2):
        publish(directory, "mlflow", "mine")
    (run,) = mlflow
    assert run.status == "FINISHED"
    assert run.points[1:] == [
        ("mean_return", 0.5, 101_500, 24),
        ("states", 7.0, 101_500, 24),
        ("summary.steps", 36.0, 101_500, 24),
        ("summary.greedy_return", 2.5, 101_500, 24),
    ]
    assert run.data.params["learning.learning_rate"] == "0.5"
    assert run.data.params["environment.count"] == "12"
    assert run.data.tags["run.steps"] == "2000"
    assert run.data.tags["digest"] == "1-ab"
    assert 'id = "hpcq/Garnet-v0"' in run.files["job.toml"]


def test_a_sweep_s_folder_publishes_each_member(mlflow, tmp_path):
    for name in ("000", "001"):
        write(tmp_path / "lake" / name)
    assert len(publish(tmp_path / "lake", "mlflow", "mine")) == 2
    assert [run.data.tags["mlflow.runName"] for run in mlflow] == ["test-000", "test-001"]


def test_w_and_b_is_given_only_steps_that_it_does_not_have(monkeypatch, tmp_path):
    calls = []

    def init(**options):
        calls.append(options)
        return SimpleNamespace(
            step=13,
            offline=True,
            dir="there",
            summary=options.setdefault("summary", {}),
            log=lambda values, step: options.update({step: values}),
            finish=lambda: None,
        )

    stand_in(monkeypatch, "wandb", init=init, Settings=dict)
    directory = write(tmp_path / "lake")
    publish(directory, "wandb", "mine")
    (call,) = calls
    assert call["id"] == published(directory).id
    assert call["config"]["run.steps"] == 1000
    assert 12 not in call
    assert call[24] == {"mean_return": 0.5, "states": 7.0}
    assert call["summary"]["greedy_return"] == 2.5


def test_aim_goes_on_with_the_run_that_has_the_description(monkeypatch, tmp_path):
    runs = []

    class Run(dict):
        def __init__(self, run_hash, **options):
            self.hash, self.points = run_hash or f"h{len(runs)}", {}
            runs.append(self)

        def track(self, value, name, step):
            self.points[name, step] = value

        def close(self):
            pass

    repo = SimpleNamespace(structured_db=SimpleNamespace(runs=lambda: runs))
    stand_in(monkeypatch, "aim", Run=Run, Repo=SimpleNamespace(default_repo=lambda init: repo))
    directory = write(tmp_path / "lake")
    publish(directory, "aim", "mine")
    (line,) = publish(directory, "aim", "mine")
    assert line.endswith("run h0, updated")
    assert runs[1].hash == "h0"
    assert runs[1].points == {
        ("states", 12): 5.0,
        ("mean_return", 24): 0.5,
        ("states", 24): 7.0,
    }
    assert runs[1]["job"]["learning.gamma"] == 0.9
    assert runs[1]["summary"]["digest"] == "1-ab"


def test_the_identity_is_that_of_the_job_and_its_directory(tmp_path):
    first = published(write(tmp_path / "a")).id
    assert published(write(tmp_path / "a", steps=5000, report_every=9.0)).id == first
    assert published(write(tmp_path / "a", seed=8)).id != first
    assert published(write(tmp_path / "b")).id != first


def test_what_is_missing_is_one_message(monkeypatch, tmp_path):
    directory = write(tmp_path / "lake")
    for name in ("mlflow", "wandb", "aim"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DependencyError, match=rf"pip install 'hpcq\[{name}\]'"):
            publish(directory, name, "mine")
    with pytest.raises(CheckpointError, match="holds no run"):
        publish(tmp_path / "nowhere", "mlflow", "mine")
    stand_in(monkeypatch, "wandb", init=lambda **options: 1 / 0, Settings=dict)
    with pytest.raises(StorageError, match="wandb says: division by zero"):
        publish(directory, "wandb", "mine")
    assert CliRunner().invoke(hpcq, ["publish", str(directory), "--to", "x"]).exit_code == 2
