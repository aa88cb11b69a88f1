"""Errors in the words of Python; a warning where a rate by visits meets uncounted tables."""

from types import SimpleNamespace

import make_job
import pytest

from hpcq.errors import RunDirectoryError, for_python
from hpcq.run import run_directory
from hpcq.run.resumable import uncounted


def test_a_run_that_is_there_is_said_without_options(tmp_path):
    (tmp_path / "job.json").touch()
    with pytest.raises(RunDirectoryError) as error:
        run_directory.check(tmp_path, overwrite=False)
    assert "--overwrite" in str(error.value)
    said = for_python(error.value)
    assert isinstance(said, RunDirectoryError)
    assert "--" not in str(said)
    for text in ("overwrite=True", "resume=True", "run.directory = "):
        assert text in str(said)


VISITS = {"schedule": "visits", "exponent": 0.8}


@pytest.mark.parametrize(
    ("rate", "counted", "rows", "warns"),
    [(VISITS, False, 5, True), (VISITS, True, 5, False), (0.1, False, 5, False)],
)
def test_a_rate_by_visits_on_a_table_without_any_is_warned_of(rate, counted, rows, warns):
    job = make_job.make(make_job.GARNET, learning={"learning_rate": rate})
    header = SimpleNamespace(visits=counted, rows=rows)
    assert bool(uncounted(header, job)) == warns
