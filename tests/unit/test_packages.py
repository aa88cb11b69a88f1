"""Recipes of other package managers ask for what setup.cfg asks for."""

import configparser
import re
from pathlib import Path

from hpcq._version import __version__

ROOT = Path(__file__).parents[2]
CONDA = (ROOT / ".github/packages/conda/recipe.yaml").read_text()
SPACK = (ROOT / ".github/packages/spack/py_hpcq/package.py").read_text()
APPTAINER = (ROOT / "slurm/hpcq.def").read_text()


def required():
    """Return {name: lower bound} of setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["options"]["install_requires"].strip().splitlines()
    words = [line for line in lines if line and not line.startswith("#")]
    return dict(line.split(">=") for line in words)


def test_bounds_are_those_of_setup_cfg():
    wanted = required()
    assert len(wanted) > 5
    run = CONDA.partition("  run:\n")[2].partition("\ntests:")[0]
    conda = dict(re.findall(r"- ([\w-]+) >=([\d.]+)", run))
    assert conda == wanted
    spack = dict(
        re.findall(r'depends_on\("py-([\w-]+)@([\d.]+):", type=\("build", "run"\)\)', SPACK)
    )
    assert spack == wanted
    assert f'python_min: "{minimum()}"' in CONDA
    assert f'"python@{minimum()}:"' in SPACK


def minimum():
    """Return the oldest Python."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["options"]["python_requires"].removeprefix(">=")


def test_versions_are_this_one():
    assert f'version: "{__version__}"' in CONDA
    assert f'version("{__version__}")' in SPACK
    assert f"hpcq-{__version__}.tar.gz" in SPACK
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_image_holds_what_a_wheel_is_made_of():
    for name, there in re.findall(r"^    (\S+) (/opt/source/\S+)$", APPTAINER, re.MULTILINE):
        assert (ROOT / name).exists()
        assert Path(there).name == name
    for name in ("hpcq", "jobs", "slurm", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        assert f"    {name} /opt/source/{name}\n" in APPTAINER
