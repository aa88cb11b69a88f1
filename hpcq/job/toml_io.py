"""Job files as nested dicts: read, changed from the command line, written."""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpcq.errors import JobError
from hpcq.job import library, renamed

# Nobody writes a longer job; a device never ends.
MOST_BYTES = 16 << 20


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a TOML file as nested dicts, name and overrides filled in, and nothing checked."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise JobError(f"{path}: more than {MOST_BYTES:,} bytes; expected a job file")
        # Windows editors begin a file with a mark of its encoding.
        data = tomllib.loads(text.decode("utf-8-sig"))
    except OSError as error:
        raise JobError(
            f"{path}: cannot read the job file: {error.strerror}; {_where_from(path)}"
        ) from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: not a text file; expected TOML in UTF-8") from None
    except (ValueError, RecursionError) as error:
        # Beside syntax errors: a number of more digits than Python reads.
        raise JobError(f"{path}: not valid TOML: {error}") from None
    # What comes through a pipe has no folder. A link stands for the file, unless its own folder
    # has the environment, too.
    beside(data, *((path.parent, path.resolve().parent) if path.is_file() else (Path(),)))
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]", "-", path.stem))
    override(data, overrides)
    beside(data, Path())
    return data


def _where_from(path: Path) -> str:
    """Return how to come by a job file that is not there."""
    name = path.name.removesuffix(".toml")
    if Path(f"{path}.toml").is_file():
        return f"did you mean {path}.toml?"
    if name in library.names():
        return f"hpcq brings one of that name: `hpcq jobs copy {name}`"
    return "`hpcq jobs` lists those that hpcq brings, `hpcq init ENV_ID` writes one"


def override(data: dict[str, Any], assignments: Iterable[str]) -> None:
    """Apply assignments like ``run.steps=1000`` in place; values are TOML, or else text.

    No value at all takes the key away.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise JobError(f"--set {assignment}: expected SECTION.KEY=VALUE")
        if not text.strip():
            _remove(data, key.strip(), f"--set {assignment}")
            continue
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        override_key(data, key.strip(), value, f"--set {assignment}")


def _remove(data: dict[str, Any], key: str, source: str) -> None:
    """Take one ``section.key`` away, so that its default holds."""
    *sections, name = key.split(".")
    place: Any = data
    for part in sections:
        place = place.get(part, {}) if isinstance(place, dict) else {}
    if not sections or not name:
        raise JobError(f"{source}: expected SECTION.KEY=VALUE, or SECTION.KEY= for its default")
    if isinstance(place, dict):
        place.pop(name, None)


def override_key(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set one ``section.key`` in place; `source` names the wish in messages."""
    parts = key.split(".")
    if not all(parts):
        raise JobError(f"{source}: expected SECTION.KEY=VALUE")
    if moved := renamed.key_message(key):
        raise JobError(f"{source}: {moved}")
    place = data
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise JobError(f"{source}: {part} is a value, not a section")
    place[parts[-1]] = value


# Of environments that are given as arrays, see envs/arrays.py.
DATA_FILES = (".npz", ".h5", ".hdf5")
# Before the name of a user's file.
_FOLDER = re.compile(r"^.*/(?=[^/]+(\.py:|\.npz$|\.h5$|\.hdf5$))")


def beside(data: dict[str, Any], *folders: Path) -> None:
    """Make paths of the user's Python files absolute.

    They are relative to the first of `folders` that has them, or else to the first.
    """
    section = data.get("environment")
    if not isinstance(section, dict):
        return
    wrappers = section.get("wrappers")
    parts = [(section, "id")] + [
        (wrapper, "entry")
        for wrapper in (wrappers if isinstance(wrappers, list) else [])
        if isinstance(wrapper, dict)
    ]
    for part, key in parts:
        place, _, name = str(part.get(key)).rpartition(":")
        if place.endswith(".py"):
            part[key] = f"{_placed(place, folders)}:{name}"
        elif str(part.get(key)).endswith(DATA_FILES):
            part[key] = str(_placed(str(part[key]), folders))


def _placed(place: str, folders: Sequence[Path]) -> Path:
    found = [folder for folder in folders if (folder / place).is_file()]
    return ((found or list(folders))[0] / place).resolve()


def placeless(value: Any) -> Any:
    """Return plain data with the names of the user's Python files alone, without their folders."""
    if isinstance(value, dict):
        return {key: placeless(part) for key, part in value.items()}
    if isinstance(value, list):
        return [placeless(part) for part in value]
    return (
        re.sub(r"^.*/(?=[^/]+(\.py:|\.npz$|\.h5$|\.hdf5$))", "", value)
        if isinstance(value, str)
        else value
    )


def toml(value: Any, grouped: bool = False) -> str:
    """Return plain data as a TOML value on one line; `grouped`: 1_000_000 for 1000000."""
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(k)} = {toml(v, grouped)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(part, grouped) for part in value) + "]"
    if isinstance(value, float):
        return repr(value)
    if grouped and isinstance(value, int) and abs(value) >= 100_000:
        return f"{value:_}"
    return _json(value)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _json(text)


def _json(value: Any) -> str:
    # Of what JSON allows in a text, only DEL is not TOML.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
