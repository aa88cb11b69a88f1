"""Numbers in infos: metrics, evaluations and reports against what the environment tells."""

import csv
import json

import gymnasium
import make_job
import pytest
from mpi4py import MPI

from hpcq.envs.resolve import resolve
from hpcq.errors import EnvironmentFault, ExitCode, JobError
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run.start_or_resume import to_end, train
from hpcq.view.evaluate import evaluate
from hpcq.view.report import page_of
from hpcq.view.rundata import load_run

INFO = ["success", "cost", "deep.at"]
# Of episodes of 1, 2 and 3 steps that cost 0.5 each, the longest alone a success.
TRUTH = {
    "info_success": 1 / 3,
    "info_success_sum": 1 / 3,
    "info_cost": 0.5,
    "info_cost_sum": 1.0,
    "info_deep.at": 2.0,
    "info_deep.at_sum": (1 + 3 + 6) / 3,
}


def job(directory="", info=INFO, steps=24 * 6, **environment):
    return make_job.make(
        {
            "id": "problems:Telling",
            "count": 6,
            "reset_every": 24,
            "info": info,
            **environment,
        },
        evaluation={"every": 24 * 6, "episodes": 3},
        run={"steps": steps, "directory": str(directory), "report_every": 1e9},
    )


def ended(job, log=lambda text: None, **options):
    return to_end(train(job, MPI.COMM_SELF, log, [], **options))


def test_metrics_summary_and_report_hold_the_means_over_episodes(tmp_path):
    texts = []
    assert ended(job(tmp_path), texts.append) == ExitCode.DONE
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {key: line[key] for key in TRUTH} == pytest.approx(TRUTH)
    # Each episode of an evaluation is the first one of its environment: a step.
    assert line["evaluation_info_cost_sum"] == 0.5
    assert line["evaluation_info_success"] == 0.0
    assert any("success 0.3333" in text for text in texts)
    infos = json.loads((tmp_path / "summary.json").read_text())["infos"]
    assert {key: infos[key] for key in TRUTH} == pytest.approx(TRUTH)
    page = page_of(load_run(tmp_path))
    assert "success in training, last of an episode" in page
    found = evaluate(tmp_path, episodes=6 * 64)
    assert {key: found[key] for key in TRUTH} == pytest.approx(TRUTH)


# Gymnasium 1.0 knows the first alone.
AUTORESET = ["NEXT_STEP", "SAME_STEP"][: 1 + hasattr(gymnasium.vector, "AutoresetMode")]


@pytest.mark.parametrize("mode", AUTORESET)
def test_vector_environments_tell_as_single_ones_do(mode):
    kwargs = {"mode": mode}
    vector = job(id="problems:telling_vector", kwargs=kwargs, vector=3, info=INFO[:2])
    learner = LockstepLearner(vector, resolve(vector.environment), MPI.COMM_SELF)
    learner.begin()
    # Lengths 1, 2, 3, and in NEXT_STEP a tick for each reset.
    for _ in range(2 * (9 if mode == "NEXT_STEP" else 6)):
        learner.advance()
    stats = learner.collector.take_info_stats()
    assert stats.tolist() == [[36, 12, 12], [36, 18, 36]]
    learner.close()


def test_what_is_no_number_is_named():
    wrong = job(id="problems:Mistelling", info=["cost"])
    learner = LockstepLearner(wrong, resolve(wrong.environment), MPI.COMM_SELF)
    learner.begin()
    with pytest.raises(EnvironmentFault, match=r"environment 0 .*'cost'.*'dear'.*environment.info"):
        learner.advance()


def test_compiled_environments_have_none():
    with pytest.raises(JobError, match=r"environment.info is for Python environments"):
        resolve(make_job.make({"id": "hpcq/TicTacToe-v0", "info": ["cost"]}).environment)


def test_a_resumed_run_may_ask_for_more(tmp_path):
    run = {"directory": str(tmp_path)}
    assert ended(job(info=[], **run)) == ExitCode.DONE
    more = job(info=["cost"], steps=48 * 6, **run)
    assert ended(more, resume=True) == ExitCode.DONE
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["info_cost_sum"] for row in rows] == ["", "1.0"]
    assert len({row["step"] for row in rows}) == 2
