"""Headers: how many tables, how they combine, and what is refused before a run begins."""

import dataclasses

import make_job
import numpy as np
import pytest
from mpi4py import MPI

from hpcq.checkpoint.header import Header, extent, layout
from hpcq.checkpoint.reader import opened, read_header, table_pieces
from hpcq.checkpoint.restore import check_compatible
from hpcq.checkpoint.saving import save
from hpcq.checkpoint.snapshot import check_header
from hpcq.checkpoint.staging import StagingFile
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, ExitCode, JobError, StorageError
from hpcq.hashing import hashes_of
from hpcq.learning.lockstep import LockstepLearner
from hpcq.learning.saved_state import FIELDS
from hpcq.table.digest import Digest, digest_rows


def made():
    job = make_job.make(make_job.GARNET)
    return LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    learner = made()
    learner.begin()
    return read_header(save(learner, tmp_path_factory.mktemp("run"), "gather", keep=1)[0])


def write(path, header, q):
    """Write a file of this header with the action values `q`, and 0 for all else."""
    keys = np.arange(len(q), dtype=np.uint64)
    keys = keys[np.argsort(hashes_of(keys))]
    rows = {"table/key": keys, "table/q": q}
    columns = {d.name: rows.get(d.name, np.zeros(d.shape, d.dtype)) for d in layout(header)}
    file = StagingFile(path, header, len(columns))
    file.offsets = file.create()
    with file.raw() as raw:
        for name, column in columns.items():
            file.write(raw, name, 0, column)
    digest = Digest().plus(digest_rows(hashes_of(keys), q, np.zeros((len(q), 0), np.uint32)))
    file.finish(digest, [extent(name, 0, column) for name, column in columns.items()])
    return path


@pytest.mark.parametrize(("combine", "format_"), [("mean", 2), ("min", 3)])
@pytest.mark.parametrize("tables", [1, 2, 3, 8])
def test_a_file_of_any_number_of_tables(header, tables, combine, format_, tmp_path):
    q = np.random.default_rng(1).normal(size=(4, tables, header.actions))
    q = q[:, 0] if tables == 1 else q
    header = dataclasses.replace(header, rows=4, tables=tables, combine=combine, extra={})
    path = write(tmp_path / "x.h5", header, q)
    found, digest = verify(path)
    assert (found, digest.rows) == (header, 4)
    assert (found.tables, found.combine, found.format) == (tables, combine, format_)
    with opened(path) as (file, _):
        ((_, acting, _),) = table_pieces(file, found, 0, 4)
    together = {"mean": np.mean, "min": np.min}[combine]
    assert np.array_equal(acting, q if tables == 1 else together(q, axis=1))


def test_only_what_is_new_has_the_new_format(header):
    assert "combine" not in header.attributes()
    newer = dataclasses.replace(header, combine="min").attributes()
    assert (newer["format"], newer["combine"]) == (3, "min")
    with pytest.raises(ValueError, match="checksum"):
        Header.from_attributes({**newer, "format": 2})


@pytest.mark.parametrize("tables", [0, 257])
def test_a_run_that_no_checkpoint_can_hold_is_refused_before_it_begins(tables):
    learner = made()
    check_header(learner)
    rule = dataclasses.replace(learner.algorithm.rule, tables=tables)
    learner.algorithm = dataclasses.replace(learner.algorithm, rule=rule)
    with pytest.raises(JobError, match=f"no checkpoint can hold .*tables is {tables}, expected 1 "):
        check_header(learner)
    assert JobError.exit_code == ExitCode.USAGE
    learner.close()


def test_a_table_is_not_taken_for_one_that_combines_otherwise(header, tmp_path):
    learner = made()
    check_compatible(learner, header, "x.h5")
    other = dataclasses.replace(header, combine="min")
    with pytest.raises(CheckpointError, match="combination of tables min, but the job has mean"):
        check_compatible(learner, other, "x.h5")
    learner.close()


@pytest.mark.parametrize("shape", [[4], [3, 3, 4], [4, 3, 5]])
def test_intervals_of_another_shape_are_refused(header, shape):
    right = {"table/intervals": [4, header.actions, 4]}
    found = dataclasses.replace(header, rows=4, extra=right)
    assert Header.from_attributes(found.attributes()) == found
    wrong = dataclasses.replace(found, extra={"table/intervals": shape})
    with pytest.raises(ValueError, match="intervals of shape"):
        Header.from_attributes(wrong.attributes())


def test_every_field_is_declared_once():
    assert len({(field.dataset, field.attribute) for field in FIELDS.values()}) == len(FIELDS)
    assert all(field.dataset == name for name, field in FIELDS.items())


def test_a_folder_that_goes_while_hdf5_has_the_file_is_the_reason(header, tmp_path):
    """HDF5 names it by something of its own, without the system's number."""
    file = StagingFile(tmp_path / "gone" / "ckpt-000000000000000.h5.partial", header, 1)
    with pytest.raises(StorageError, match="No such file or directory; the checkpoint needs"):
        with file.failures():
            raise OSError("Unable to create file (can't retrieve stat info for file)")
