"""What is not a whole checkpoint is refused, and the message says what is wrong with it."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from unittest import mock

import h5py
import make_job
import numpy as np
import pytest
from launch import end, wait_for
from mpi4py import MPI

from hpcq.checkpoint import sandbox
from hpcq.checkpoint.checksum import crc32
from hpcq.checkpoint.header import Header, extent
from hpcq.checkpoint.reader import opened
from hpcq.checkpoint.saving import save
from hpcq.checkpoint.verification import verify
from hpcq.envs.resolve import resolve
from hpcq.errors import CheckpointError, DependencyError, UnreadableError
from hpcq.learning.lockstep import LockstepLearner
from hpcq.run import processes
from hpcq.spaces.actions import numbered

VISITS = {"learning_rate": {"schedule": "visits", "exponent": 0.8}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    job = make_job.make(make_job.GARNET, learning=VISITS)
    learner = LockstepLearner(job, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    for _ in range(40):
        learner.advance()
    return save(learner, tmp_path_factory.mktemp("run"), "gather", keep=1)[0]


@pytest.fixture
def whole(saved):
    """A file that no test before has looked into, as far as can be seen."""
    os.utime(saved)
    return saved


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
        (edit(lambda f: f.attrs.__setitem__("format", 99)), "format 99, this hpcq reads 2 to"),
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


def cycle(file):
    """Let a group contain the root, and so itself."""
    del file["environments"]
    file["environments"] = file["/"]


def external_storage(file):
    shape, dtype = file["table/q"].shape, file["table/q"].dtype
    del file["table/q"]
    file.create_dataset("table/q", shape, dtype, external=[("/etc/passwd", 0, 8 * 10**6)])


def virtual(file):
    values = file["table/q"]
    source = h5py.VirtualSource("/etc/passwd", "x", shape=values.shape, dtype=values.dtype)
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = source
    del file["table/q"]
    file.create_virtual_dataset("table/q", layout)


def enormous(file):
    """A shape of many exabytes, of which nothing is allocated."""
    rows = file["table/q"].shape[1]
    del file["table/q"]
    file.create_dataset("table/q", (1 << 50, rows), "f8", chunks=(1, rows))


def header(**changes):
    """Change the header, with the right checksum."""

    def apply(file):
        values = Header.from_attributes(dict(file.attrs))
        for name, value in dataclasses.replace(values, **changes).attributes().items():
            file.attrs[name] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cycle, "environments/key is missing"),
        (external_storage, "table/q does not hold its own, contiguous data"),
        (virtual, "table/q does not hold its own, contiguous data"),
        (enormous, "table/q is float64"),
        (header(rows=1 << 50), r"table/key is uint64 \(\d+,\), expected uint64 \(1125"),
        (header(rows=1 << 62, actions=1 << 62), "table/key is uint64"),
        (header(rows=-1), "rows is -1, expected at least 0"),
        (header(dtype="object"), "dtype 'object', expected float32 or float64"),
        (lambda f: f.attrs.__setitem__("format", 0), "format 0, this hpcq reads 2 to"),
        (lambda f: f.attrs.__setitem__("format", 3), "combine is missing"),
        (lambda f: f.attrs.__setitem__("combine", "min"), "combine is missing, or does not belong"),
        (header(combine="mode"), "combine is 'mode', expected mean or min"),
        (header(tables=0), "tables is 0, expected 1 ... 256"),
        (header(extra={"replay/more": [1]}), "extra has 'replay/more'"),
        (header(extra={"pending/key": [1]}), "extra has 'pending/key'"),
        (header(observation={"kind": "nonsense"}), "not an hpcq checkpoint"),
        (header(observation={}), "not an hpcq checkpoint"),
        (header(action={}), "not an hpcq checkpoint"),
        (header(action={"tuple": [{"tuple": 1}]}), "not an hpcq checkpoint"),
        (header(action=numbered(10**30)), "not an hpcq checkpoint"),
        (header(action=numbered(7)), "3 actions, but their description has others"),
        (header(job="[]"), "the job is not a JSON object"),
        (header(job="[" * 50_000), "not an hpcq checkpoint"),
        (lambda f: f.attrs.__setitem__("job", np.zeros(3)), "job is not a number or a text"),
        (lambda f: f.attrs.__setitem__("job", 7), "damaged, or not an hpcq checkpoint"),
        (lambda f: f.attrs.__setitem__("rows", np.float64(3)), "rows is not a number"),
        (lambda f: f.attrs.__setitem__("rows", np.bytes_(b"3")), "rows is a bytes_"),
        (lambda f: f.attrs.__setitem__(b"\xff\xfe", 1), "damaged, or not an hpcq checkpoint"),
        (
            lambda f: f.attrs.create("job", b"\xff", dtype=h5py.string_dtype()),
            "damaged, or not an hpcq checkpoint",
        ),
        (lambda f: f.attrs.__setitem__("more", 1), "more is missing, or does not belong"),
        (lambda f: f.attrs.__setitem__("complete", False), "its writing was interrupted"),
        (lambda f: f.create_group("more"), "group / holds more than"),
        (lambda f: f.__setitem__("table/more", [1]), "group table holds more than"),
        (lambda f: link(f, "table", h5py.ExternalLink("x.h5", "/")), "is a link to elsewhere"),
        (lambda f: link(f, "table", h5py.SoftLink("/table")), "is a link to elsewhere"),
        (lambda f: link(f, "table", [1, 2]), "table/key is missing"),
    ],
)
def test_a_hostile_file_is_refused(copy, damage, message):
    edit(damage)(copy)
    with pytest.raises(CheckpointError, match=message):
        verify(copy)


def test_a_shape_beyond_the_end_of_the_file_is_refused(copy):
    """As left by a copy that stopped: HDF5 itself may open such a file."""
    with h5py.File(copy, "r+", libver=("earliest", "v110")) as file:
        end = file["integrity/digest"].id.get_offset()
    with open(copy, "r+b") as raw:
        raw.truncate(end)
    with pytest.raises(CheckpointError, match="beyond the end|truncated|not a readable"):
        verify(copy)


@pytest.fixture
def in_the_child(monkeypatch):
    """Return a function that has the child which looks into files run a program instead."""

    def replace(program, where="describe"):
        monkeypatch.setattr(sandbox, "CHILD", CHILD.format(program=program, where=where))

    return replace


# `describe` is after the child has begun with a file, `start` before.
CHILD = """
import os, signal, sys
sys.path.append(sys.argv[1])
from hpcq.checkpoint import layout_check, sandbox
describe = layout_check.describe
def replaced(path):
    {program}
if {where!r} == "start":
    replaced("")
layout_check.describe = replaced
sandbox.main()
"""
ENDED = "os.kill(os.getpid(), signal.{})"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        *((ENDED.format(name), f"HDF5 ended with {name}") for name in ("SIGSEGV", "SIGABRT")),
        ("while True: pass", "HDF5 ended with SIGXCPU"),
        ("x = bytearray(1 << 40)", "it asks for more memory"),
        ("raise RuntimeError('no')", "damaged, or not an hpcq checkpoint: no"),
        ("raise OSError('truncated file')", "not a readable HDF5 file: truncated"),
        ("raise OSError(22, 'Invalid argument')", "not a readable HDF5 file"),
    ],
)
def test_what_happens_while_a_file_is_read_is_its_damage(whole, in_the_child, program, message):
    in_the_child(program)
    with pytest.raises(CheckpointError, match=message):
        verify(whole)


@pytest.mark.parametrize(
    ("program", "where", "message"),
    [
        (ENDED.format("SIGKILL"), "describe", "the process that does so was ended by SIGKILL"),
        (ENDED.format("SIGSEGV"), "start", "the process that does so was ended by SIGSEGV"),
        ("import time; time.sleep(60)", "describe", "not read within 2 s"),
        ("raise SystemExit('gone')", "describe", "cannot be looked into: gone"),
        ("raise OSError(13, 'Permission denied')", "describe", "cannot be read: Permission denied"),
        ("raise OSError(524, 'unable to lock')", "describe", "cannot be read: unable to lock"),
        ("raise OSError(5, 'Input/output error')", "describe", "cannot be read: Input/output"),
        ("raise MemoryError('all of it')", "start", "cannot be looked into: MemoryError"),
        ("raise ImportError('x.so: failed to map')", "start", "looked into: ImportError: x.so"),
    ],
)
def test_what_cannot_be_looked_into_is_not_damaged(
    whole, in_the_child, program, where, message, monkeypatch
):
    in_the_child(program, where)
    if "sleep" in program:
        monkeypatch.setattr(sandbox, "WAIT_SECONDS", 2)
    with pytest.raises(UnreadableError, match=message) as error:
        verify(whole)
    assert error.value.exit_code == 74


SLOWLY = """
import sys
from hpcq.checkpoint import sandbox
sandbox.WAIT_SECONDS = 5
sandbox.CHILD = "import time; time.sleep(2)" + sandbox.CHILD
sandbox.describe(sys.argv[1])
"""


# 10 s, of which it sleeps 8.
@pytest.mark.soak
def test_a_job_that_is_suspended_while_it_looks_goes_on(whole):
    looks = subprocess.Popen([sys.executable, "-c", SLOWLY, str(whole)], start_new_session=True)
    try:
        wait_for(lambda: processes.children(looks.pid))
        os.killpg(looks.pid, signal.SIGSTOP)
        time.sleep(6)
        os.killpg(looks.pid, signal.SIGCONT)
        assert looks.wait(60) == 0
    finally:
        end(looks)


def test_a_library_that_vanished_is_missing(whole, in_the_child):
    in_the_child("import no_such_library", "start")
    with pytest.raises(DependencyError, match="No module named 'no_such_library'"):
        verify(whole)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_for_the_run_does_not_end_the_child(whole, in_the_child, number):
    """Slurm signals every process of a job that it preempts; mpirun the groups of its ranks."""
    in_the_child(f"os.kill(os.getpid(), {int(number)}); return describe(path)")
    assert verify(whole)[0].tick == 40


# Shells whose children get too little of something; what is left is enough for the shell.
STARVED = {
    "memory, at the start": "ulimit -v 200000",
    "memory, for HDF5": "ulimit -v 700000",
    "file handles": "ulimit -n 4",
    "processor time": "ulimit -t 1",
}


@pytest.mark.parametrize("limit", STARVED)
def test_what_starves_is_not_damaged(whole, limit, tmp_path):
    """A limit of the shell holds for the child; it is given here to the child alone."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\n{STARVED[limit]}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    with mock.patch.object(sandbox.sys, "executable", str(script)):
        (found,) = sandbox.describe_each([whole])
    assert isinstance(found, dict | UnreadableError), found


def test_a_file_is_looked_into_again_when_it_changes(copy):
    first = sandbox.describe(copy)
    assert sandbox.describe(copy) == first
    with open(copy, "r+b") as file:
        file.write(b"damaged!")
    with pytest.raises(CheckpointError, match="it does not begin as one"):
        sandbox.describe(copy)
    copy.write_bytes(b"")
    with pytest.raises(CheckpointError):
        sandbox.describe(copy)


def test_no_process_for_looking_is_not_damage(whole, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(sandbox.subprocess, "Popen", refuse)
    with pytest.raises(UnreadableError, match="no process for it: Resource temporarily"):
        verify(whole)


def test_of_several_files_one_that_crashes_hdf5_spoils_no_other(copy, in_the_child):
    others = [copy.with_name(f"{i}.h5") for i in range(4)]
    for other in others:
        shutil.copy(copy, other)
    others[3].write_bytes(b"garbage")
    crash = ENDED.format("SIGSEGV")
    in_the_child(f"return {crash} if path.endswith('1.h5') else describe(path)")
    found = sandbox.describe_each([*others, "nothing.h5"])
    kinds = [type(one) for one in found]
    assert kinds == [dict, CheckpointError, dict, CheckpointError, CheckpointError]
    assert "SIGSEGV" in str(found[1])
    assert "it does not begin as one" in str(found[3])


def test_a_file_that_shrinks_while_it_is_read_is_damaged(copy):
    with opened(copy) as (file, header):
        os.truncate(copy, 100)
        with pytest.raises(CheckpointError, match="it ends in table/key"):
            file["table/key"][0 : header.rows]


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "ckpt.h5"
    {"directory": os.mkdir, "fifo": os.mkfifo}[kind](path)
    with pytest.raises(CheckpointError, match="no such file"):
        verify(path)


def test_a_link_to_what_is_not_there_may_be_whole(tmp_path):
    """Its disk may come back."""
    (tmp_path / "ckpt.h5").symlink_to("elsewhere.h5")
    with pytest.raises(UnreadableError, match=r"link to elsewhere\.h5, which is missing"):
        verify(tmp_path / "ckpt.h5")


def test_an_uncovered_dataset_is_found(copy):
    with h5py.File(copy, "r+") as file:
        extents = file["integrity/extents"][:-1]
        del file["integrity/extents"]
        file["integrity/extents"] = extents
    with pytest.raises(CheckpointError, match="does not cover"):
        verify(copy)


def test_a_job_of_any_size_is_kept(tmp_path):
    """A message of HDF5 holds 64 KB; a text may have more."""
    bins = {"bins": [3] * 4, "low": [-1.0] * 4, "high": [1.0] * 4}
    job = make_job.make({"id": "CartPole-v1", "count": 2, "discretise": bins})
    long = job.model_copy(update={"name": "x" * 1_000_000})
    assert len(long.text()) > 1_000_000
    learner = LockstepLearner(long, resolve(job.environment), MPI.COMM_SELF)
    learner.begin()
    path, _ = save(learner, tmp_path, "direct", keep=1)
    assert verify(path)[0].job == long.text()


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 1000])
def test_the_checksum_is_that_of_zlib(data):
    assert crc32(data) == zlib.crc32(data)
    assert crc32(data, 12345) == zlib.crc32(data, 12345)
