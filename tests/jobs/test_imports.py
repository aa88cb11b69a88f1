"""What hpcq loads: on a big machine, files are what ranks that start wait for."""

import subprocess
import sys

import make_job
import pytest
from launch import hpcq

MODULES = """\
import sys
from hpcq.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
"""


def loaded(*arguments):
    """Run a command and return the modules that are loaded at its end."""
    program = MODULES + "print('\\nmodules', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_and_version_need_neither_mpi_nor_numba(arguments):
    assert not loaded(*arguments) & {"mpi4py.MPI", "numba", "h5py", "gymnasium", "numpy"}


@pytest.mark.parametrize("environment", [make_job.GARNET, make_job.CORRIDOR])
def test_a_rank_loads_only_what_it_trains_with(environment, tmp_path):
    file = make_job.write(tmp_path / "job.toml", make_job.make(environment))
    run = ("run", file, f"--set=run.directory='{tmp_path / 'run'}'", "--overwrite")
    loaded(*run)  # Compiles what no test has compiled before: that takes numba as a whole.
    found = loaded(*run)
    # The view, the files and pictures of other commands; numba's functions for compiled code.
    assert not found & {"rich", "matplotlib", "jsonschema", "tensorboardX", "numba.np.arraymath"}
    assert not found & {"hpcq.view", "hpcq.doctor", "hpcq.scaffold", "hpcq.cluster.submit"}
    assert ("gymnasium" in found) == (environment is make_job.CORRIDOR)


def test_importing_and_reading_start_no_mpi(tmp_path):
    job = make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET))
    hpcq(1, "run", job, f"--set=run.directory='{tmp_path / 'run'}'")
    file = next((tmp_path / "run").glob("*.h5"))
    check = (
        "if 'mpi4py.MPI' in sys.modules:\n    assert not sys.modules['mpi4py.MPI'].Is_initialized()"
    )
    for command in ("inspect", "verify"):
        subprocess.run([sys.executable, "-c", MODULES + check, command, file], check=True)
    subprocess.run(
        [sys.executable, "-c", "import hpcq, sys; assert 'mpi4py' not in sys.modules"], check=True
    )
