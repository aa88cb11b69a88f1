import functools
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def other_packages(tmp_path_factory):
    """Return a function that installs one package into a folder of its own, once."""

    @functools.cache
    def install(name):
        folder = tmp_path_factory.mktemp(name)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        options = ["--no-deps", "--ignore-installed", f"--prefix={folder}"]
        subprocess.run([*pip, *options, name], check=True)
        return folder / "lib"

    return install
