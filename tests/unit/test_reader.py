"""What is not a whole checkpoint is refused, and the message says what is wrong with it."""

import shutil

import h5py
import make_job
import numpy as np
import pytest
from mpi4py import MPI

from hpcq.checkpoint import save
from hpcq.envs import resolve
from hpcq.errors import CheckpointError
from hpcq.learner import Learner
from hpcq.reader import verify
from hpcq.schema import extent

VISITS = {"learning_rate": {"schedule": "visits", "exponent": 0.8}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job.make(make_job.GARNET, learning=VISITS)
    learner = Learner(job, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    for _ in range(40):
        learner.advance()
    return save(learner, tmp_path_factory.mktemp("run"), "funnel", keep=1)[0]


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copy(whole, tmp_path / whole.name)


def change(path, name, values):
    """Write other values, with the right checksum."""
    with h5py.File(path, "r+") as file:
        file[name][:] = values
        extents = file["integrity/extents"][:]
        for record in extents:
            if record["dataset"] == name.encode():
                rows = file[name][record["start"] : record["start"] + record["count"]]
                record["crc32"] = extent(name, 0, rows)[3]
        file["integrity/extents"][:] = extents


def test_a_whole_file_passes(copy):
    header, digest = verify(copy)
    assert header.tick == 40
    assert digest.rows == header.rows > 0


@pytest.mark.parametrize(
    "name",
    ["table/key", "table/q", "table/visits", "environments/episode_return", "pending/target"],
)
def test_one_flipped_bit_is_found_and_named(copy, name):
    with h5py.File(copy, "r") as file:
        place = file[name].id.get_offset() + 11
    data = bytearray(copy.read_bytes())
    data[place] ^= 4
    copy.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}, rows 0 ... .*wrong checksum"):
        verify(copy)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("environments/action", 10**9, "environments/action has a value outside 0 ... 2"),
        ("environments/action", -1, "environments/action has a value outside"),
        ("pending/action", 3, "pending/action has a value outside"),
        ("environments/key", 50, "environments/key has a value outside 0 ... 49"),
        ("pending/key", 2**64 - 1, "pending/key has a value outside"),
        ("table/q", 0.5, "digest"),
        ("table/key", 7, "order of its hashes"),
    ],
)
def test_values_that_cannot_be_are_found_though_their_checksum_is_right(copy, name, value, message):
    change(copy, name, value)
    with pytest.raises(CheckpointError, match=message):
        verify(copy)


def edit(function):
    """Return a change of an open file."""

    def apply(path):
        with h5py.File(path, "r+") as file:
            function(file)

    return apply


def replace(file, name, **options):
    values = file[name][:]
    del file[name]
    file.create_dataset(name, data=values, **options)


def link(file, name, to):
    del file[name]
    file[name] = to


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not a readable HDF5 file"),
        (lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
        (lambda path: path.unlink(), "no such file"),
        (edit(lambda f: f.attrs.__delitem__("complete")), "not a complete hpcq checkpoint"),
        (edit(lambda f: f.attrs.__setitem__("format", 99)), "format 99, this hpcq reads 1"),
        (edit(lambda f: f.attrs.__setitem__("tick", 41)), "checksum of the attributes"),
        (edit(lambda f: f.attrs.__setitem__("tick", "x")), "tick is not int"),
        (edit(lambda f: f.attrs.__setitem__("rows", 10**15)), "checksum of the attributes"),
        (edit(lambda f: f.__delitem__("table/q")), "table/q is missing"),
        (
            edit(lambda f: link(f, "table/q", h5py.ExternalLink("other.h5", "/q"))),
            "table/q is missing, or is a link",
        ),
        (edit(lambda f: link(f, "table/q", h5py.SoftLink("/table/key"))), "is a link"),
        (edit(lambda f: replace(f, "table/q", chunks=(5, 3))), "contiguous"),
        (edit(lambda f: replace(f, "table/q", dtype="f4")), "table/q is float32"),
        (edit(lambda f: link(f, "table/q", np.zeros((3, 3)))), r"table/q is float64 \(3, 3\)"),
        (edit(lambda f: f.__delitem__("integrity/extents")), "integrity/extents is missing"),
    ],
)
def test_other_damage_is_named(copy, damage, message):
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        verify(copy)


def test_an_uncovered_dataset_is_found(copy):
    with h5py.File(copy, "r+") as file:
        extents = file["integrity/extents"][:-1]
        del file["integrity/extents"]
        file["integrity/extents"] = extents
    with pytest.raises(CheckpointError, match="does not cover"):
        verify(copy)
