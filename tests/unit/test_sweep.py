import json
import math
import statistics

import make_job
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpcq.cluster.collect import Result, Row, collect, half_width, tabulate
from hpcq.cluster.sweep import load
from hpcq.errors import JobError, RunDirectoryError
from hpcq.job.job import Job
from hpcq.view import sweeps
from hpcq.view.sweeps import draw

JOB = make_job.make(make_job.GARNET)
SWEEP = """
[sweep]
learning.learning_rate = [0.1, 0.2]
environment.kwargs.seed = [5]
run.seed = [1, 2, 3]
[environment]
id = "hpcq/Garnet-v0"
[learning]
gamma = 0.9
[run]
steps = 1000
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lake.toml"
    path.write_text(SWEEP)
    return path


def test_every_combination_is_a_job(file):
    sweep = load(file, ["run.steps=7"])
    assert [
        (m.job.learning.learning_rate.value, m.job.run.seed, m.job.environment.kwargs)
        for m in sweep.members
    ] == [(rate, seed, {"seed": 5}) for rate in (0.1, 0.2) for seed in (1, 2, 3)]
    assert {m.job.run.steps for m in sweep.members} == {7}
    assert str(sweep.member(4).directory) == "runs/lake/004"
    assert str(sweep.directory) == "runs/lake"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sweep]", "sweep: expected keys of a job with lists of values"),
        ("[sweep]\nrun.seed = 3", "sweep.run.seed = 3: expected a list of values"),
        ("[sweep]\nrun.seed = []", r"sweep.run.seed = \[\]: expected a list"),
        ("[sweep]\nrun.sed = [1]", "member 0: unknown key run.sed; did you mean 'seed'"),
        ("[sweep]\nlearning.learning_rate = [1]\nrun.seed = [1, -1]", "member 1: run.seed = -1"),
        ("[sweep]\nname.x = [1]", "sweep.name.x: name is a value, not a section"),
        ("", r"no section \[sweep\]"),
        (
            f"[sweep]\nrun.seed = {list(range(400))}\nrun.steps = {list(range(1, 400))}",
            "a sweep of 159,600 members",
        ),
    ],
)
def test_mistakes_are_named(file, text, words):
    file.write_text(text + SWEEP[SWEEP.index("\n[env") :])
    with pytest.raises(JobError, match=words):
        load(file)


def test_a_sweep_is_not_one_job(file):
    with pytest.raises(JobError, match="this is a sweep"):
        Job.load(file)
    with pytest.raises(JobError, match=r"no member 6; it has 0 \.\.\. 5"):
        load(file).member(6)
    with pytest.raises(JobError, match="sweeps over run.seed"):
        load(file, ["run.seed=1"])


def test_student_s_interval_by_hand():
    # s = 1, n = 3: 4.303 / sqrt(3)
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(2.4843, abs=1e-4)
    assert math.isnan(half_width([1.0]))
    # n = 61: t = 2.000 (tables)
    values = [0.0, 1.0] * 30 + [0.5]
    expected = 2.000 * statistics.stdev(values) / math.sqrt(61)
    assert half_width(values) == pytest.approx(expected, rel=1e-3)


def finish(member, greedy, lines=()):
    member.job.directory.mkdir(parents=True)
    (member.job.directory / "job.json").write_text("{}")
    (member.job.directory / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    if greedy != "running":
        summary = {"greedy_return": greedy, "steps": 1000}
        (member.job.directory / "summary.json").write_text(json.dumps(summary))


def test_the_table_and_the_best_job(file):
    sweep = load(file)
    with pytest.raises(RunDirectoryError, match="none of 6 runs is done"):
        collect(sweep)
    for member, value in zip(sweep.members, [1.0, 2.0, 3.0, 5.0, 6.0], strict=False):
        finish(member, value)
    (sweep.members[4].job.directory / "summary.json").unlink()
    found = collect(sweep)
    text = found.text
    assert "4 of 6 runs done" in text
    assert "member 4: not done: at step 0 of 1,000" in text
    assert "member 5: not started" in text
    lines = (sweep.directory / "sweep.csv").read_text().splitlines()
    assert lines[0] == (
        "learning.learning_rate,environment.kwargs.seed,runs,greedy_return,low,high"
    )
    assert lines[1] == "0.2,5,1,5.0,nan,nan"
    rate, _, runs, mean, low, high = lines[2].split(",")
    assert (rate, runs, float(mean)) == ("0.1", "3", 2.0)
    assert float(high) - 2.0 == pytest.approx(2.0 - float(low)) == pytest.approx(2.4843, abs=1e-4)
    best = Job.load(sweep.directory / "best.toml")
    assert best.learning.learning_rate.value == 0.2
    assert best.name == "lake"
    assert str(best.directory) == "runs/lake/best"
    assert best.differences(sweep.members[3].job) == {}
    assert "sweep.png" in draw(found, sweep.directory)
    assert (sweep.directory / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_a_point_for_each_mean_and_its_interval():
    def row(*values):
        return Row({"learning.learning_rate": values[0]}, list(values), JOB)

    rows = [row(1.0, 2.0, 3.0), row(0.5), row(float("inf"), 1.0), row(1e300, 1.0)]
    (axes,) = sweeps.figure("greedy_return", rows).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"learning_rate = {text}" for text in ("1.0", "0.5", "inf", "1e+300")]
    first, single = axes.containers
    ends = first.lines[2][0].get_segments()[0][:, 0]
    assert list(ends) == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-4)
    ends = single.lines[2][0].get_segments()[0][:, 0]
    assert list(ends) == [0.5, 0.5]


def test_without_exact_returns_training_decides(file):
    sweep = load(file)
    late = [
        {"step": 500, "episodes": 9, "mean_return": 99.0},
        {"step": 950, "episodes": 1, "mean_return": 1.0},
        {"step": 990, "episodes": 0, "mean_return": None},
        {"step": 1000, "episodes": 3, "mean_return": 5.0},
    ]
    finish(sweep.members[0], None, late)
    finish(sweep.members[1], None)
    assert "training_return" in collect(sweep).text
    # (1 * 1 + 3 * 5) / 4; the second run had no late episodes
    assert (sweep.directory / "sweep.csv").read_text().splitlines()[1] == "0.1,5,1,4.0,nan,nan"
    name, rows = tabulate([Result(sweep.members[0], "done", None, 1.0)])
    assert (name, rows[0].mean) == ("training_return", 1.0)


json_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\x7f", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
)  # fmt: skip


@given(st.dictionaries(st.text('abc-_ ."', min_size=1), json_values))
@example({"a": "\0"})
def test_a_job_survives_its_own_file(tmp_path_factory, kwargs):
    job = make_job.make({**make_job.GARNET, "kwargs": kwargs})
    file = tmp_path_factory.getbasetemp() / "own.toml"
    file.write_text(job.toml())
    assert Job.load(file).model_dump() == job.model_dump()


@pytest.mark.parametrize("content", ["", "[]", "{}", "\0" * 100])
def test_a_summary_that_a_crash_left_is_not_done(file, content):
    sweep = load(file)
    for member in sweep.members[:2]:
        finish(member, 1.0)
    (sweep.members[1].job.directory / "summary.json").write_text(content)
    text = collect(sweep).text
    assert "1 of 6 runs done" in text
    assert f"member 1: not done: {sweep.members[1].job.directory / 'summary.json'}: " in text
