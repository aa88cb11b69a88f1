"""The job files that come with hpcq, also where it was installed without its repository."""

import difflib
import re
import textwrap
from pathlib import Path

from hpcq import disk
from hpcq.errors import JobError, StorageError

# A link to the repository's folder jobs/; in an installed hpcq, a copy.
FOLDER = Path(__file__).parents[1] / "jobs"


def names() -> list[str]:
    """Return the names of the job files, such as taxi or sweeps/frozenlake."""
    files = [*sorted(FOLDER.glob("*.toml")), *sorted(FOLDER.glob("*/*.toml"))]
    return [file.relative_to(FOLDER).with_suffix("").as_posix() for file in files]


def list_text() -> str:
    """Return a line for each job file: its name, and its first sentence."""
    width = max(map(len, names()))
    return "\n".join(f"{name:{width}}  {_first_sentence(name)}" for name in names())


def _first_sentence(name: str) -> str:
    comment = []
    for line in (FOLDER / f"{name}.toml").read_text().splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    sentence = re.split(r"(?<=[.?]) ", " ".join(comment))[0]
    return textwrap.shorten(sentence, 96, placeholder=" ...").removesuffix(".")


def copy(name: str, folder: Path) -> Path:
    """Copy a job file to a folder, which is made if need be, and return its path.

    Raises
    ------
    JobError
        if there is no such job file, or it is there already, or must not be written there.
    StorageError
        if writing fails.
    """
    name = name.removesuffix(".toml")
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise JobError(f"hpcq brings no job {name!r}; {hint}`hpcq jobs` lists them")
    target = folder / Path(f"{name}.toml").name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        disk.create_text(target, (FOLDER / f"{name}.toml").read_text())
    except FileExistsError:
        raise JobError(f"{target} exists already; remove it, or give another DIR") from None
    except OSError as error:
        kind = StorageError if disk.failed(error) else JobError
        raise kind(f"{target}: cannot write: {error.strerror}") from None
    return target
