"""What is told of the job file's keys: it follows from the models, and editors can use it."""

import json
import tomllib

import jsonschema
import pytest
import readme

from hpcq.errors import JobError
from hpcq.job import library, reference
from hpcq.job.job import Job
from hpcq.job.schema import job_schema

JOBS = sorted(library.FOLDER.glob("**/*.toml"))
VALIDATOR = jsonschema.Draft202012Validator(job_schema())
GOOD = {
    "environment": {"id": "Taxi-v4"},
    "learning": {"gamma": 0.9, "learning_rate": 0.1},
    "run": {"steps": 1000},
}


def leaves(model, prefix=""):
    """Every key of the models, by another way than the reference takes."""
    for name, field in model.model_fields.items():
        text = str(field.annotation)
        inner = [c for c in _models(field.annotation) if "schedule" not in c.model_fields]
        if inner and "Schedule" not in text:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def _models(annotation):
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models(part)]


def test_every_key_is_there_with_its_meaning():
    keys = [key for part in reference.parts() for key in part.keys]
    names = [key.name for key in keys]
    assert [name for name in leaves(Job) if name not in names] == []
    assert [key.name for key in keys if not key.meaning] == []
    assert [key.name for key in keys if not key.type] == []


def test_a_key_is_told_in_full():
    (count,) = [k for p in reference.parts() for k in p.keys if k.name == "environment.count"]
    assert (count.type, count.default) == ("whole number, 1 ... 2^24", "256")
    (rate,) = [k for p in reference.parts() for k in p.keys if k.name == "learning.learning_rate"]
    assert (rate.type, rate.default) == ("number, 0 ... 1, or schedule", reference.REQUIRED)
    text = reference.reference_text(("reset_every",))
    assert "environment.reset_every: whole number, at least 1; default 1000" in text
    assert "learning.gamma" not in text
    with pytest.raises(JobError, match="no key with 'nonsense'"):
        reference.reference_text(("nonsense",))
    with pytest.raises(JobError, match="no key with 'Epsilom'; did you mean 'epsilon'"):
        reference.reference_text(("Epsilom",))


@pytest.mark.parametrize("name", readme.pages())
def test_the_generated_parts_of_a_page_are_as_they_are(name):
    text = readme.pages()[name]
    assert text == readme.renewed(text), "run: python tests/support/readme.py"


def test_every_section_and_key_of_the_pages_job_files_exists():
    """The examples between ```toml fences are job files, or parts of one."""
    for block in readme.blocks(kind="toml"):
        job = {**GOOD, **tomllib.loads(block.text)}
        sweep = job.pop("sweep", None)
        assert sweep is not None or list(VALIDATOR.iter_errors(job)) == []


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_the_projects_jobs_fit_the_schema(path):
    assert list(VALIDATOR.iter_errors(tomllib.loads(path.read_text()))) == []


def test_the_schema_is_one_and_explains():
    schema = job_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == json.loads(json.dumps(schema))
    text = schema["$defs"]["LearningSection"]["properties"]["gamma"]["description"]
    assert text == "discount per step"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"exploration": {"epsilon": 0.5}},
        {"exploration": {"epsilon": {"schedule": "linear", "start": 1, "end": 0, "steps": 5}}},
        {"exploration": {"epsilon": {"schedule": "linear", "start": 1, "end": 0}}},
        {"exploration": {"epsilon": {"schedule": "polynomial", "start": 1, "steps": 5}}},
        {
            "exploration": {
                "epsilon": {"schedule": "polynomial", "start": 1, "steps": 5, "exponent": 1}
            }
        },
        {"exploration": {"epsilon": {"schedule": "visits", "exponent": 0.7}}},
        {"exploration": {"epsilon": "much"}},
        {"learning": {"gamma": 2, "learning_rate": 0.1}},
        {"learning": {"gamma": 0.9}},
        {"learning": {"gamma": 0.9, "learning_rate": {"schedule": "visits", "exponent": 0.7}}},
        {"learning": {"gama": 0.9, "learning_rate": 0.1}},
        {"environment": {"id": "x", "wrappers": [{"entry": "y"}]}},
        {"environment": {"id": "x", "wrappers": [{"enter": "y"}]}},
        {"environment": {"id": 3}},
        {"run": {"steps": 0}},
        {"run": {"steps": 1.5}},
        {"checkpoint": {"writer": "pen"}},
        {"checkpoint": {"milestones": [1, 2]}},
        {"unknown": 3},
    ],
)
def test_schema_and_models_agree(change):
    data = {**GOOD, **change}
    try:
        Job.check({"name": "x", **data}, "test")
        good = True
    except JobError:
        good = False
    assert VALIDATOR.is_valid(data) == good
