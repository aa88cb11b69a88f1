"""hpcq installed from a wheel, without its repository, has what it needs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUIET = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the wheel was unpacked, as pip would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("hpcq", "slurm", "jobs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *QUIET, "."], cwd=source, check=True)
    (wheel,) = source.glob("hpcq-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    shutil.rmtree(source)
    return folder / "site"


def test_the_wheel_holds_scripts_and_jobs(installed):
    """They live in the repository's slurm/ and jobs/; the package has links to them."""
    for file in (*ROOT.glob("slurm/*.sbatch"), *ROOT.glob("jobs/**/*.toml")):
        inside = installed / "hpcq" / file.relative_to(ROOT)
        assert inside.read_bytes() == file.read_bytes()


def test_a_bundled_job_is_copied_and_trained(installed, tmp_path):
    def hpcq(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "hpcq", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "taxi" in hpcq("jobs")
    hpcq("jobs", "copy", "taxi")
    assert "2 ranks" in hpcq("run", "-n", "2", "taxi.toml", "--set", "run.steps=1000")
    assert "Taxi-v4" in hpcq("inspect", str(next(tmp_path.glob("runs/taxi/ckpt-*.h5"))))
    assert "sbatch" in hpcq("submit", "taxi.toml", "--dry-run")
