"""Compiled code is never older than its sources, and never somebody else's."""

import itertools
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from hpcq.exchange.records import record_types
from hpcq.jit import compiler
from hpcq.jit.fingerprint import PACKAGE, fingerprint

FACTORY = """
from hpcq.jit.compiler import inlined, kernel

def make_run(step, times, scale):
    @inlined
    def scaled(x):
        return x * scale

    @kernel
    def run(x):
        for _ in range(times):
            x = step(scaled(x))
        return x

    return run

def make_table(scale):
    @kernel
    def fill(rows, size):
        # Long, and called twice, so that it stays a function of its own.
        for i in range(1, size):
            for k in range(1, size):
                rows[i, k] += rows[i - 1, k] * scale + k % 7
                rows[k, i] += rows[i, k] // (k + scale) if i > 3 else rows[k, k] % (i + scale)
                rows[k, k] ^= rows[k, i] - rows[i, k] if k > scale else rows[i, i] + rows[k, i]
                rows[i, i] += rows[k, k] * rows[k, i] if rows[i, k] > scale else rows[i, k] * k
                rows[0, k] += rows[k, 0] + rows[i, i] * scale if rows[k, i] > i else rows[i, 0]
        return rows[size - 1, 1] & 0xFFFF

    @kernel
    def table(rows, size):
        return fill(rows, size) + fill(rows, size - 1)

    return table
"""
PROGRAM = """
import sys
from hpcq.jit import factory
from users import step
run = factory.make_run(step, int(sys.argv[1]), int(sys.argv[2]))
print(int(run(1)), len(run.stats.cache_hits))
"""
STEP = "from hpcq.jit.compiler import kernel\n@kernel\ndef step(x):\n    return x + {}\n"


@pytest.fixture
def package(tmp_path):
    """Return a copy of the package with one more source file, FACTORY."""
    skipped = shutil.ignore_patterns("__pycache__", "jobs", "slurm")
    copied = shutil.copytree(PACKAGE, tmp_path / "hpcq", ignore=skipped)
    (copied / "jit" / "factory.py").write_text(FACTORY)
    (tmp_path / "users.py").write_text(STEP.format(1))
    return copied


def run(package, program, *arguments):
    """Return what a program prints that uses the copy of the package, and a cache of its own."""
    folder = package.parent
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "HPCQ_CACHE_DIR": str(folder / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    return tuple(map(int, done.stdout.split()))


def test_a_kernel_of_a_factory_is_found_again_by_what_it_closes_over(package):
    assert run(package, PROGRAM, 3, 1) == (4, 0)
    assert run(package, PROGRAM, 3, 1) == (4, 1)
    # Constants: of the kernel itself, and of an inner kernel.
    assert run(package, PROGRAM, 5, 1) == (6, 0)
    assert run(package, PROGRAM, 3, 2) == (15, 0)
    assert run(package, PROGRAM, 5, 1) == (6, 1)


def test_a_change_in_a_users_function_is_always_noticed(package):
    users = package.parent / "users.py"
    times = users.stat()
    assert run(package, PROGRAM, 3, 1) == (4, 0)
    # Same size, same time: only the text differs.
    users.write_text(STEP.format(2))
    os.utime(users, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(package, PROGRAM, 3, 1) == (7, 0)


TABLES = """
import sys
import numpy as np
from hpcq.jit import factory
for scale in map(int, sys.argv[1:]):
    print(int(factory.make_table(scale)(np.ones((9, 9), np.int64), 9)))
"""


def test_kernels_that_several_processes_have_compiled_do_not_mix(package):
    """Each process counts its functions from 1: those of two could have the same symbol."""
    found = [run(package, TABLES, scale)[0] for scale in (2, 3, 5)]
    assert len(set(found)) == 3
    assert run(package, TABLES, 2, 3, 5) == tuple(found)
    assert run(package, TABLES, 5, 3, 2) == tuple(reversed(found))


RECORDED = """
import numpy as np
from hpcq.collectors import gymnasium_base
from hpcq.collectors.batch import make_batch
keys, flags = np.zeros(1, np.uint64), np.zeros(1, np.bool_)
arrays = keys, keys, np.full(1, 1e10), flags, flags, flags, np.zeros(2, np.int64), np.zeros(3)
print(gymnasium_base._record(make_batch(1), *arrays))
"""


def test_a_change_in_any_file_of_the_package_is_always_noticed(package):
    """A constant that another file's kernel takes from it, say."""
    limits = package / "envs" / "protocol.py"
    text, times = limits.read_text(), limits.stat()
    assert text.count("MAX_REWARD = 1e30") == 1
    assert run(package, RECORDED) == (0,)
    limits.write_text(text.replace("MAX_REWARD = 1e30", "MAX_REWARD = 1e03"))
    os.utime(limits, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(package, RECORDED) == (-1,)


MODEL = """
import sys
import numpy as np
from hpcq.envs.protocol import all_legal
model = (1,)
if sys.argv[1] == "own":
    from users import Model
    model = Model(1)
print(int(all_legal(model, np.uint64(1)) == 2**64 - 1), 0)
"""


def test_a_model_that_only_its_author_can_import_is_in_nobodys_way(package):
    users = package.parent / "users.py"
    users.write_text("from typing import NamedTuple\nclass Model(NamedTuple):\n    a: int\n")
    assert run(package, MODEL, "own")[0] == 1
    users.unlink()
    assert run(package, MODEL, "other")[0] == 1
    users.write_text("from typing import NamedTuple\nclass Model(NamedTuple):\n    a: int\n")
    assert run(package, MODEL, "own")[0] == 1


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\0" * 99])
def test_a_damaged_cache_is_made_again(kind, damage, package):
    assert run(package, PROGRAM, 2, 3) == (13, 0)
    (file,) = (package.parent / "cache").glob(f"**/factory.make_run*run-*.{kind}")
    file.write_bytes(damage(file.read_bytes()))
    assert run(package, PROGRAM, 2, 3)[0] == 13
    assert run(package, PROGRAM, 2, 3) == (13, 1)


def test_a_kernel_of_the_package_closes_over_nothing_without_a_digest():
    table = {}

    def lookup(x):
        return table[x]

    lookup.__code__ = lookup.__code__.replace(co_filename=str(PACKAGE / "lookup.py"))
    with pytest.raises(TypeError, match=r"lookup closes over table = \{\}"):
        fingerprint(lookup)


def test_a_cache_that_cannot_be_written_is_replaced_by_a_private_one(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPCQ_CACHE_DIR", str(tmp_path / "file" / "cache"))
    found = compiler.cache_root()
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert found != compiler.cache_root()
    monkeypatch.setenv("HPCQ_CACHE_DIR", str(tmp_path / "cache"))
    assert compiler.cache_root() == tmp_path / "cache"


SAVE_SLOWLY = """
import sys, time
from numba.core.caching import IndexDataCacheFile as Index
save = Index._save_index
Index._save_index = lambda *arguments: (time.sleep(0.5), save(*arguments))
from hpcq.jit import factory
from users import step
run = factory.make_run(step, 1, 1)
print(int(run(int(sys.argv[1]) if sys.argv[2] == "int" else float(sys.argv[1]))))
"""


def test_two_processes_that_compile_at_once_both_enter_what_they_made(package):
    kinds = ("int", "float")
    for number in (1, 20):
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(run, package, SAVE_SLOWLY, number, kind) for kind in kinds]
            assert [one.result() for one in both] == [(number + 1,)] * 2
        assert len(list((package.parent / "cache").rglob("*make_run.locals.run-*.nbc"))) == 2


THREADS = """
import time
from concurrent.futures import ThreadPoolExecutor
from numba.core.caching import FunctionCache
begin = FunctionCache.__init__
FunctionCache.__init__ = lambda *arguments: (time.sleep(0.01), begin(*arguments))[1]
from hpcq.jit import factory
from users import step
runs = [factory.make_run(step, times, 1) for times in range(1, 9)]
with ThreadPoolExecutor(len(runs)) as pool:
    print(*pool.map(lambda run: int(run(1)), runs))
"""


def test_threads_that_compile_at_once_all_use_the_cache(package):
    before = set(package.parent.iterdir())
    assert run(package, THREADS) == tuple(range(2, 10))
    assert set(package.parent.iterdir()) - before == {package.parent / "cache"}
    assert len(list((package.parent / "cache").rglob("*make_run.locals.run-*.nbc"))) == 8


def test_no_record_that_travels_is_taken_for_another():
    """A kernel compiled for one of them would read the other one by the wrong places."""
    kinds = [
        numba.from_dtype(record_types(np.dtype(real), words, weighted)[0])
        for real in ("f4", "f8")
        for words in (0, 1, 2, 3)
        for weighted in (False, True)
    ]
    for one, other in itertools.permutations(kinds, 2):
        assert one.can_convert_to(None, other) is None


@compiler.kernel
def add(pair, by):
    for i in range(pair[0].size):
        pair[0][i] += pair[1][i] * by
    return pair[0].size


def test_a_kernel_called_directly():
    direct = compiler.PrecompiledCall(add)
    for size in (3, 0, 5):
        pair = np.zeros(size), np.arange(size)
        assert direct(pair, 2.0) == size
        assert pair[0].tolist() == [2.0 * i for i in range(size)]
