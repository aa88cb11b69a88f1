"""hpcq installed without its repository, by the README's commands, has what it needs."""

import shutil
import subprocess
from pathlib import Path

import fresh
import pytest
from readme import installs

ROOT = Path(__file__).parents[2]
INSTALL = installs()


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return a function that runs commands where `pip install .` was run in a copy, now gone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("hpcq", "slurm", "jobs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    variables = fresh.environment(folder / "fresh")

    def run(command, cwd, **others):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=cwd, env={**variables, **others}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    assert "pip install ." in INSTALL
    run("pip install .", source)
    # Each extra is one, and what it names can be had.
    for command in INSTALL:
        said = run(command, source, PIP_DRY_RUN="1", PIP_PROGRESS_BAR="off")
        assert "does not provide the extra" not in said
    shutil.rmtree(source)
    return run


def test_the_installed_package_holds_scripts_and_jobs(shell, tmp_path):
    """They live in the repository's slurm/ and jobs/; the package has links to them."""
    where = shell("python -c 'import hpcq; print(hpcq.__file__)'", tmp_path)
    package = Path(where.strip()).parent
    assert ROOT not in package.parents
    for file in (*ROOT.glob("slurm/*.sbatch"), *ROOT.glob("jobs/**/*.toml")):
        assert (package / file.relative_to(ROOT)).read_bytes() == file.read_bytes()


def test_a_bundled_job_is_copied_and_trained_beside_a_folder_hpcq(shell, tmp_path):
    (tmp_path / "hpcq").mkdir()
    assert "taxi" in shell("hpcq jobs", tmp_path)
    shell("hpcq jobs copy taxi", tmp_path)
    assert "2 ranks" in shell("hpcq run -n 2 taxi.toml --set run.steps=1000", tmp_path)
    assert "Taxi-v4" in shell("hpcq inspect runs/taxi", tmp_path)
    assert "sbatch" in shell("hpcq submit taxi.toml --dry-run", tmp_path)
