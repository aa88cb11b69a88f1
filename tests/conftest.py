import gc
import importlib
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

SUPPORT = str(Path(__file__).parent / "support")
sys.path.insert(0, SUPPORT)
# For the commands that tests start.
os.environ["PYTHONPATH"] = os.pathsep.join([SUPPORT, *filter(None, [os.environ.get("PYTHONPATH")])])
if "OMPI_COMM_WORLD_SIZE" not in os.environ:
    # Open MPI 4 has one folder for all jobs of a user, which one that ends may remove while another
    # starts: one folder for each pytest of several at once.
    folder = f"{tempfile.gettempdir()}/ompi.tests.{os.getpid()}"
    os.environ["OMPI_MCA_orte_top_session_dir"] = folder

importlib.import_module("newer_ids").register()

# Kernels of hundreds of jobs pile up in a process: looking through them for garbage takes long.
gc.set_threshold(50_000, 20, 100)

# Speed is a matter for benchmarks; the first call of a kernel compiles it.
settings.register_profile("default", deadline=None)
settings.load_profile("default")

# Minutes, each: they begin first, lest one worker is left with them at the end.
LONGEST = (
    "test_stress.py",
    "test_failures.py",
    "test_bundled.py",
    "test_bench.py",
    "test_own_environments.py",
    "test_stops.py",
    "test_saving.py",
    "test_methods.py",
    "test_fixed_points.py",
)


def pytest_collection_modifyitems(items):
    """Put the tests of the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def pytest_sessionfinish(session, exitstatus):
    """In CI a test that is skipped has not been run: fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
