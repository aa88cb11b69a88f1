import json

import make_job
import pytest

from hpcq.cluster.scaling import measure, plan, plan_text, report
from hpcq.errors import JobError, RunDirectoryError

JOB = make_job.make(make_job.GARNET, run={"directory": "runs/x", "steps": 1000})


def test_strong_keeps_the_job_and_weak_the_share_of_a_rank():
    runs = [(r.kind, r.ranks, r.environments, r.steps) for r in plan(JOB, 6, 1)]
    assert runs == [
        *(("strong", ranks, 12, 1000) for ranks in (1, 2, 4, 6)),
        *(("weak", ranks, 12 * ranks, 1000 * ranks) for ranks in (1, 2, 4, 6)),
    ]
    assert len(list(plan(JOB, 1, 3))) == 6
    first = plan_text(JOB, 2, 1).splitlines()[3]
    assert first.startswith("2 runs/x-scaling/weak-0002-0 --set=environment.count=24 --set=run.st")
    with pytest.raises(JobError, match="expected no white space"):
        plan_text(make_job.make(make_job.GARNET, run={"directory": "a b"}), 2, 1)


def run(folder, rate, digest="d"):
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"steps_per_second": rate, "digest": digest}))


def test_speed_up_and_efficiency_by_hand(tmp_path):
    for repetition, rate in enumerate([90.0, 100.0, 400.0]):
        run(tmp_path / f"strong-0001-{repetition}", rate)
    run(tmp_path / "strong-0004-0", 300.0)
    run(tmp_path / "weak-0001-0", 10.0, "other")
    run(tmp_path / "weak-0002-0", 15.0, "another")
    points, agree = measure(tmp_path)
    assert agree
    assert [(p.kind, p.ranks, p.speedup, p.efficiency) for p in points] == [
        ("strong", 1, 1.0, 1.0),
        ("strong", 4, 3.0, 0.75),
        ("weak", 1, 1.0, 1.0),
        ("weak", 2, 1.5, 0.75),
    ]
    text = report(tmp_path)
    assert text.splitlines()[2].split() == ["strong", "4", "300", "3.00", "0.75"]
    assert "all strong runs end in one digest" in text
    assert (tmp_path / "scaling.csv").read_text().splitlines()[2] == "strong,4,300.0,3.0,0.75"
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    run(tmp_path / "strong-0002-0", 150.0, "wrong")
    assert "STRONG RUNS DIFFER" in report(tmp_path)


def test_nothing_to_report(tmp_path):
    with pytest.raises(RunDirectoryError, match="no runs here"):
        measure(tmp_path)
    run(tmp_path / "weak-0002-0", 1.0)
    with pytest.raises(RunDirectoryError, match="no weak run on one rank"):
        measure(tmp_path)
