"""The README's path for a site with modules: nothing is on PATH until it is loaded."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import make_job
import pytest
from launch import summary
from work import ROOT, TRAIN

from hpcq.native.cache import wanted

INIT = Path("/usr/share/modules/init/bash")
README = (ROOT / "README.md").read_text()
MPI = ("mpi", "orte", "orted", "prte", "ompi")


def links(folder, names, sources):
    """Fill a folder with links to the programs, of these folders, that `names` chooses."""
    folder.mkdir(parents=True)
    for source in sources:
        for program in Path(source).iterdir():
            if names(program.name) and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def site(cluster, tmp_path):
    """Return a function that runs bash as on the login node of a site with modules."""
    assert INIT.exists(), "environment-modules is missing: run tests/slurm/install"
    system = ("/usr/bin", "/usr/sbin")
    bare = links(tmp_path / "bare", lambda name: not name.startswith(MPI), system)
    mpi = links(tmp_path / "openmpi" / "bin", lambda name: name.startswith(MPI), system)
    hdf5 = links(tmp_path / "hdf5" / "bin", lambda name: name == "h5pcc", system)
    python = tmp_path / "python" / "bin"
    python.mkdir(parents=True)
    (python / "python3").symlink_to(sys.executable)
    files = tmp_path / "modulefiles"
    files.mkdir()
    for name, folder in (("python", python), ("openmpi", mpi), ("hdf5", hdf5)):
        (files / name).write_text(f"#%Module\nprepend-path PATH {folder}\n")
    # `pip install` of the README's lines takes minutes: the environment is the tests' own.
    home = tmp_path / "home"
    (home / "hpcq-venv" / "bin").mkdir(parents=True)
    (home / "hpcq-venv" / "bin" / "activate").write_text(
        f"PATH={Path(sys.executable).parent}:$PATH\n"
    )
    variables = {
        **cluster.environment,
        "PATH": str(bare),
        "HOME": str(home),
        "HPCQ_CACHE_DIR": str(wanted()),
    }
    variables.pop("VIRTUAL_ENV", None)

    def run(script, code=0):
        prelude = f"set -eu\n. {INIT}\nmodule use {files}\ncd {tmp_path}\n"
        done = subprocess.run(
            [shutil.which("bash"), "-c", prelude + script],
            env=variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    make_job.write(tmp_path / "job.toml", make_job.make(make_job.GARNET, run={"steps": 3000}))
    return run


def readme(words):
    """Return a line of the README's commands."""
    return next(line for line in README.splitlines() if line.startswith(words))


def test_from_the_login_node_to_an_inspected_run(cluster, site, tmp_path):
    assert "hpcq" not in site("command -v hpcq mpirun || true")
    load, activate = readme("module load python"), ". ~/hpcq-venv/bin/activate"
    assert activate in README
    folder = re.search(r'HDF5_DIR=("\$\(.*\)")', README).group(1)
    said = site(
        f"{load}\n{activate}\necho {folder}\n"
        "srun -n 1 hpcq doctor\n"
        "hpcq submit job.toml --ntasks 2 --time 5:00"
    )
    assert f"{tmp_path / 'hdf5'}\n" in said
    assert "problem: " not in said
    number = said.split("submitted as ")[1].partition(";")[0]
    assert cluster.finish(number) == "COMPLETED", (tmp_path / f"hpcq-{number}.log").read_text()
    assert summary(tmp_path / "runs" / "job")["ranks"] == 2
    assert "3,000 steps" in site(f"{activate}\nhpcq inspect runs/job/ckpt-*.h5").replace("_", ",")


def test_with_the_lines_for_the_site_in_the_script(cluster, site, tmp_path):
    """Nothing is loaded where sbatch is called."""
    text, count = re.subn(r"^# (module load|\. \"\$HOME)", r"\1", TRAIN.read_text(), flags=re.M)
    assert count == 2
    (tmp_path / "train.sbatch").write_text(text)
    number = site("sbatch --parsable --ntasks=2 --time=5 train.sbatch job.toml").strip()
    assert cluster.finish(number) == "COMPLETED", (tmp_path / f"hpcq-{number}.log").read_text()
    assert summary(tmp_path / "runs" / "job")["ranks"] == 2


def test_without_modules_the_script_says_what_is_missing(cluster, site, tmp_path):
    number = site(f"sbatch --parsable --ntasks=2 --time=5 {TRAIN} job.toml").strip()
    assert cluster.finish(number) == "FAILED"
    assert cluster.job(number)["ExitCode"] == "69:0"
    assert "hpcq: no hpcq on PATH" in (tmp_path / f"hpcq-{number}.log").read_text()
