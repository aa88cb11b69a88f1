import json
import tomllib
from pathlib import Path

import make_job
import problems
import pytest

from hpcq.errors import ExitCode, JobError
from hpcq.job.job import Job
from hpcq.job.toml_io import toml

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.toml"))

GOOD = """
[environment]
id = "Taxi-v4"
[learning]
gamma = 0.9
learning_rate = 0.1
[run]
steps = 1000
"""


def load(tmp_path, text=GOOD, *overrides):
    path = tmp_path / "job.toml"
    path.write_text(text)
    return Job.load(path, overrides)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_the_projects_own_jobs_are_valid(path):
    assert Job.load(path).name == path.stem


def test_defaults_and_overrides(tmp_path):
    job = load(tmp_path)
    assert (job.name, str(job.directory)) == ("job", "runs/job")
    assert job.exploration.epsilon.at(5) == 0.1
    job = load(
        tmp_path,
        GOOD,
        "run.directory=/some/where",
        "run.steps=2_000",
        "learning.learning_rate={schedule = 'visits', exponent = 0.7}",
    )
    assert str(job.directory) == "/some/where"
    assert job.run.steps == 2000
    assert job.learning.learning_rate.exponent == 0.7


@pytest.mark.parametrize("change", ["name='job'", "environment.kwargs.x=[-inf, inf, 1e300]"])
def test_the_effective_job_is_a_job(tmp_path, change):
    job = load(tmp_path, GOOD, change)
    again = Job.check(json.loads(job.text()), "again")
    assert again.model_dump() == job.model_dump()
    assert again.text() == job.text()
    assert again.differences(job) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning.gama=1", "unknown key learning.gama; did you mean 'gamma'"),
        ("gamma=1", "unknown key gamma; did you mean 'learning.gamma'"),
        ("lerning.gamma=1", "unknown key lerning; did you mean 'learning'"),
        ("learning.gamma=2", r"learning.gamma = 2.*less than or equal to 1"),
        ("learning.gamma=nan", r"learning.gamma = nan"),
        ("learning.learning_rate=hello", "learning.learning_rate = 'hello'.*number.*schedule"),
        ("learning.learning_rate=true", "learning.learning_rate = True.*number.*schedule"),
        ("learning.learning_rate=7", "learning.learning_rate = 7.*less than or equal to 1"),
        (
            "learning.learning_rate={schedule='linear',start=1}",
            "learning.learning_rate.end is missing; `hpcq reference schedule linear` explains it",
        ),
        (
            "learning.learning_rate={schedule='linear',start=1,end=0,steps=5,foo=1}",
            "unknown key learning.learning_rate.foo",
        ),
        (
            "learning.learning_rate={schedule='lin'}",
            "'lin'.*'constant', 'linear', 'exponential', 'polynomial', 'visits'",
        ),
        ("exploration.epsilon={schedule='visits',exponent=0.7}", "'constant', 'linear', 'exp"),
        ("learning.learning_rate={start=1}", "learning.learning_rate = .*number.*schedule"),
        ("learning.gamma='0.9'", "learning.gamma = '0.9'.*number"),
        ("learning.gamma=true", "learning.gamma = True.*number"),
        ("environment.count='3'", "environment.count = '3'.*integer"),
        ("environment.count=" + "[" * 3000, "environment.count = "),
        ("environment.count=0", "environment.count = 0.*greater than or equal to 1"),
        ("environment.backend=fortran", "environment.backend = 'fortran'.*'compiled'"),
        ("run.steps=many", "run.steps = 'many'.*integer"),
        ("run.steps=1.5", "run.steps = 1.5: expected an integer, such as .* 1_000_000"),
        ("run=3", "run = 3.*section"),
        ("run.steps.more=3", "--set run.steps.more=3: steps is a value"),
        ("run.steps", "--set run.steps: expected SECTION.KEY=VALUE"),
        ("name=a/b", "name = 'a/b'"),
        ("environment.kwargs.x=nan", "environment.kwargs = {'x': nan}: expected numbers .not nan"),
        ("environment.kwargs.x=[1, -nan]", "environment.kwargs = .*nan.*: expected numbers"),
        ("environment.kwargs={day = 2020-01-01}", "environment.kwargs = .*: expected numbers"),
    ],
)
def test_a_mistake_is_explained(tmp_path, change, message):
    with pytest.raises(JobError, match=message) as pending_signals:
        load(tmp_path, GOOD, change)
    assert pending_signals.value.exit_code == ExitCode.USAGE
    if not change.startswith("run.steps."):
        assert "job.toml" in str(pending_signals.value) or "--set" in str(pending_signals.value)


def test_every_mistake_is_listed(tmp_path):
    with pytest.raises(JobError) as pending_signals:
        load(tmp_path, "[environment]\nid = 3\n[learning]\ngamma = 2\n")
    text = str(pending_signals.value)
    for part in (
        "environment.id",
        "learning.gamma",
        "learning.learning_rate is missing",
        "section [run] is missing; `hpcq reference run`",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = = 3", r"job.toml: not valid TOML.*line 1"),
        ("[run]\nsteps = 1\nsteps = 2", "not valid TOML"),
        ("", r"section \[environment\] is missing"),
    ],
)
def test_broken_files_are_explained(tmp_path, text, message):
    with pytest.raises(JobError, match=message):
        load(tmp_path, text)


def test_missing_and_binary_files_are_explained(tmp_path):
    with pytest.raises(JobError, match="none.toml: cannot read the job file: No such file"):
        Job.load(tmp_path / "none.toml")
    with pytest.raises(JobError, match="Is a directory; .*`hpcq init ENV_ID` writes one"):
        Job.load(tmp_path)
    with pytest.raises(JobError, match="Is a directory"):
        Job.load(".")
    with pytest.raises(JobError, match="`hpcq jobs copy taxi`"):
        Job.load(tmp_path / "taxi.toml")
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(JobError, match="did you mean .*/mine.toml?"):
        Job.load(tmp_path / "mine")
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00\x80")
    with pytest.raises(JobError, match="not a text file"):
        Job.load(tmp_path / "binary.toml")


def test_a_mark_of_the_encoding_is_no_text(tmp_path):
    path = tmp_path / "job.toml"
    text = "\r\n".join(["[environment]", "id = 'Taxi-v4'", "[learning]", "gamma = 0.9"])
    more = "\r\nlearning_rate = 0.1\r\n[exploration]\r\nepsilon = 0.1\r\n[run]\r\nsteps = 1"
    path.write_bytes(b"\xef\xbb\xbf" + (text + more).encode())
    assert Job.load(path).environment.id == "Taxi-v4"


@pytest.mark.parametrize("key", ["run.directory", "environment.id", "name"])
def test_a_null_character_is_one_message(key):
    with pytest.raises(JobError, match=f"{key} holds a null character"):
        Job.load("jobs/taxi.toml", [f'{key}="a\\u0000b"'])


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000])
def test_a_number_of_too_many_digits_is_one_message(tmp_path, number):
    path = tmp_path / "job.toml"
    path.write_text(f"[environment]\nid = 'Taxi-v4'\ncount = {number}\n")
    with pytest.raises(JobError) as found:
        Job.load(path)
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["mode.kind=periodic"], "mode.batches = 9 and mode.kind = 'periodic'.* leave one out"),
        (["environment.count=8"], "mode.batches = 9, but there are 8 environments"),
        (["environment.count=16", "environment.vector=2"], "there are 8 VectorEnvs"),
    ],
)
def test_batches_go_with_lockstep_and_have_environments(tmp_path, changes, message):
    with pytest.raises(JobError, match=f"job.toml: .*{message}"):
        load(tmp_path, GOOD, "mode.batches=9", *changes)


def test_data_as_toml_is_read_back():
    data = {
        "a b": {"c-d": [True, 1.5, 'x"y\n\x7f', -3]},
        "many": 1_234_567,
        "small": 1e-30,
        "none": {},
    }
    for grouped in (False, True):
        assert tomllib.loads(f"x = {toml(data, grouped)}") == {"x": data}
    assert toml({"n": 1_234_567}, grouped=True) == "{ n = 1_234_567 }"


def test_what_differs_from_the_defaults_on_one_line(tmp_path):
    job = load(tmp_path, GOOD, "exploration.epsilon=0.1", "run.seed=7", "run.table_gib=2")
    assert job.brief() == (
        'environment.id="Taxi-v4" learning.gamma=0.9 learning.learning_rate=0.1 '
        "run.steps=1000 run.seed=7 run.table_gib=2.0"
    )
    rate = "{ schedule = 'visits', exponent = 0.7 }"
    assert "visits" in load(tmp_path, GOOD, f"learning.learning_rate={rate}").brief()


def test_whole_numbers_may_be_written_in_powers_of_ten(tmp_path):
    (tmp_path / "job.toml").write_text(GOOD.replace("steps = ", "steps = 1e6 # "))
    job = Job.load(
        tmp_path / "job.toml", ["stop.every=2e4", "stop.patience=3.0", "evaluation.every=1e3"]
    )
    assert (job.run.steps, job.stop.every, job.stop.patience) == (1_000_000, 20_000, 3)
    for wrong in ("run.steps=1.5", "run.steps=1e300", "run.steps=inf"):
        with pytest.raises(JobError, match="expected an integer"):
            Job.load(tmp_path / "job.toml", [wrong])


def test_a_key_can_be_taken_away_on_the_command_line(tmp_path):
    (tmp_path / "job.toml").write_text(GOOD + "\n[exploration]\nepsilon = 0.3\n")
    other = ["exploration.policy=boltzmann", "exploration.temperature=1.0"]
    with pytest.raises(JobError, match="--set exploration.epsilon=` takes it away"):
        Job.load(tmp_path / "job.toml", other)
    job = Job.load(tmp_path / "job.toml", [*other, "exploration.epsilon="])
    assert job.exploration.policy == "boltzmann"


def test_python_can_give_a_class_as_the_environment():
    job = make_job.make({"id": problems.Corridor, "reset_every": 40})
    assert job.environment.id == "problems:Corridor"


def test_a_file_that_never_ends_is_no_job():
    with pytest.raises(JobError, match=r"/dev/zero: more than 16,777,216 bytes; expected a job"):
        Job.load("/dev/zero")
