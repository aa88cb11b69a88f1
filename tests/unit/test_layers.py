"""Imports point down the list of rooms, and modules import each other in no cycle.

Imports within functions and under TYPE_CHECKING count, too.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hpcq

PACKAGE = Path(hpcq.__file__).parent

# A room is a folder or a module of the package. It imports from itself and from lines below its
# own; `__init__` stands for `hpcq` itself.
LAYERS = """
    __main__
    cli
    __init__
    api
    scaffold
    doctor view bench
    cluster
    run
    checkpoint
    solver
    learning
    collectors
    envs
    exchange
    table
    spaces
    job
    rng
    hashing
    jit
    mpi confidence fields disk output
    errors printable _version
"""
LEVEL = {room: level for level, line in enumerate(LAYERS.split("\n")) for room in line.split()}


def modules():
    """Yield (name, syntax tree) of every module; that of a package is its folder's name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
        yield ".".join(parts), ast.parse(path.read_text())


TREES = dict(modules())


def imported(tree):
    """Yield the modules of hpcq that a module imports from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("hpcq."):
            module = node.module.removeprefix("hpcq").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield inner if inner in TREES else module or "__init__"


IMPORTS = {name: sorted(set(imported(tree))) for name, tree in TREES.items()}


def room(module):
    return module.partition(".")[0]


def test_every_room_has_a_line():
    assert {room(name) for name in TREES} <= set(LEVEL)


def test_imports_name_modules():
    """So that they can be found: no ``import hpcq``, nothing relative."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert "hpcq" not in {alias.name.partition(".")[0] for alias in node.names}, name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, name


def test_imports_point_down():
    assert [
        f"{name} imports {module}"
        for name, found in IMPORTS.items()
        for module in found
        if room(name) != room(module) and LEVEL[room(name)] >= LEVEL[room(module)]
    ] == []


def test_no_cycles():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
