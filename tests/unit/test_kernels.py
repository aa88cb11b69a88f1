"""Compiled code is never older than its sources, and never somebody else's."""

import itertools
import os
import shutil
import stat
import subprocess
import sys

import numba
import numpy as np

from hpcq.exchange.records import record_types
from hpcq.jit import compiler

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import template
from users import step
from hpcq.jit.compiler import bind
print(bind(template.run, step=step, TIMES=int(sys.argv[2]))(1))
"""
TEMPLATE = """
def run(x):
    for _ in range(TIMES):
        x = step(x)
    return x
"""
STEP = "from hpcq.jit.compiler import kernel\n@kernel\ndef step(x):\n    return x + {}\n"


def run(folder, times, program=PROGRAM):
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(times)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "HPCQ_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return int(done.stdout)


def test_a_change_in_a_bound_function_or_constant_is_always_noticed(tmp_path):
    (tmp_path / "template.py").write_text(TEMPLATE)
    users = tmp_path / "users.py"
    users.write_text(STEP.format(1))
    times = users.stat()
    assert run(tmp_path, 3) == 4
    assert run(tmp_path, 5) == 6
    # Same size, same time: only the text differs.
    users.write_text(STEP.format(2))
    os.utime(users, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(tmp_path, 3) == 7


NESTED = """
import sys
sys.path.insert(0, sys.argv[1])
import template
from hpcq.jit.compiler import bind
inner = bind(template.inner, ADDED=int(sys.argv[2]))
print(bind(template.outer, inner=inner)(1))
"""
TEMPLATES = """
def inner(x):
    return x + ADDED
def outer(x):
    return inner(x)
"""


def test_what_a_bound_kernel_was_bound_to_counts_in_those_that_use_it(tmp_path):
    (tmp_path / "template.py").write_text(TEMPLATES)
    assert run(tmp_path, 1, NESTED) == 2
    assert run(tmp_path, 5, NESTED) == 6


def test_every_file_that_shapes_a_kernel_names_the_cache(tmp_path, monkeypatch):
    package = shutil.copytree(compiler._PACKAGE, tmp_path / "hpcq")
    monkeypatch.setattr(compiler, "_PACKAGE", package)
    seen = {compiler._sources_digest()}
    for name in (
        "jit/memory.py",
        "hashing.py",
        "learning/owner.py",
        "collectors/base.py",
        "envs/table.py",
    ):
        with open(package / name, "a") as file:
            file.write("# changed\n")
        seen.add(compiler._sources_digest())
    assert len(seen) == 6


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
sys.path.insert(0, sys.argv[1])
save = Index._save_index
Index._save_index = lambda *arguments: (time.sleep(0.5), save(*arguments))
from hpcq.jit.compiler import bind
import template
twice = bind(template.twice)
print(int(twice(int(sys.argv[2]) if sys.argv[3] == "int" else float(sys.argv[2]))))
"""


def test_two_processes_that_compile_at_once_both_enter_what_they_made(tmp_path):
    (tmp_path / "template.py").write_text("def twice(x):\n    return x + x\n")
    environment = {**os.environ, "HPCQ_CACHE_DIR": str(tmp_path / "cache")}
    for number in (1, 20):
        both = [
            subprocess.Popen(
                [sys.executable, "-c", SAVE_SLOWLY, str(tmp_path), str(number), kind],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for kind in ("int", "float")
        ]
        assert [int(one.communicate()[0]) for one in both] == [2 * number] * 2
        assert len(list((tmp_path / "cache").rglob("*twice*.nbc"))) == 2


def test_no_record_that_travels_is_taken_for_another():
    """A kernel compiled for one of them would read the other one by the wrong places."""
    kinds = [
        numba.from_dtype(record_types(np.dtype(real), masked, weighted)[0])
        for real in ("f4", "f8")
        for masked in (False, True)
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
