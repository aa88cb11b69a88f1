"""A fresh Python environment, made at once and without a package index: for trying to install."""

import os
import sysconfig
import venv
from pathlib import Path


def variables(folder):
    """Return environment variables by which pip finds the tests' packages, but hpcq; and no index.

    Links to the packages are made in `folder`.
    """
    folder.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(("hpcq", "__editable__")):
            (folder / package.name).symlink_to(package)
    return {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INDEX": "1",
        # pip reads this one the other way round: no isolation.
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def environment(folder):
    """Make a virtual environment; return the variables of a shell in which it is active."""
    folder.mkdir()
    venv.create(folder / "venv")
    bin_ = folder / "venv" / "bin"
    (bin_ / "pip").write_text(f'#!/bin/sh\nexec {bin_}/python -m pip "$@"\n')
    (bin_ / "pip").chmod(0o755)
    path = f"{bin_}:{os.environ['PATH']}"
    return {**os.environ, **variables(folder / "packages"), "PATH": path}
