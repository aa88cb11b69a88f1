"""Which libraries are installed, compared with the lower bounds that hpcq declares."""

import re
from importlib import metadata

from hpcq.errors import DependencyError

# Older ones have another Env and another VectorEnv; what newer ones add is used where it is there.
LEAST_GYMNASIUM = "1.0"


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 1.2.0a1 is (1, 2, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def gymnasium_version() -> str:
    """Return the version of Gymnasium; an empty text where there is none."""
    try:
        return metadata.version("gymnasium")
    except metadata.PackageNotFoundError:
        return ""


def check_gymnasium() -> None:
    """Refuse a Gymnasium that is too old.

    Raises
    ------
    DependencyError
        saying what is installed, and what to do.
    """
    found = gymnasium_version()
    if numbers(found) < numbers(LEAST_GYMNASIUM):
        installed = f"Gymnasium {found} is installed" if found else "Gymnasium is not installed"
        raise DependencyError(
            f"{installed}, hpcq needs {LEAST_GYMNASIUM} or newer: pip install "
            f"'gymnasium>={LEAST_GYMNASIUM}'; if a package of yours asks for an older one, give it "
            "an environment of its own, or ask its authors for a newer bound"
        )


def below_bounds(package: str = "hpcq") -> dict[str, tuple[str, str]]:
    """Return the requirements of a package that are not met: (installed, least), by name."""
    found = {}
    try:
        requirements = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return {}
    for requirement in requirements:
        bound = re.match(r"([A-Za-z0-9_.-]+)>=([\d.]+)$", requirement)
        if bound is None:
            continue
        try:
            installed = metadata.version(bound[1])
        except metadata.PackageNotFoundError:
            installed = "missing"
        if numbers(installed) < numbers(bound[2]):
            found[bound[1]] = (installed, bound[2])
    return found
