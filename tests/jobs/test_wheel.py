"""hpcq installed from a wheel has what it needs."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_slurm_scripts(tmp_path):
    """They live in the repository's slurm/; the package has a link to it."""
    for name in ("hpcq", "slurm", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=tmp_path, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("hpcq-*.whl"))) as wheel:
        for script in (ROOT / "slurm").glob("*.sbatch"):
            assert wheel.read(f"hpcq/slurm/{script.name}") == script.read_bytes()
