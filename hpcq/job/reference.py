"""Every key of the job file as text: type, range, default, meaning; it follows from the models.

The text is that of the models of the sections and in schedules.py, so it cannot be out of date.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hpcq.errors import JobError
from hpcq.job.schema import job_schema
from hpcq.job.toml_io import toml

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "table",
    "null": "nothing",
}
REQUIRED = "required"


@dataclass(frozen=True)
class Key:
    """One key of the job file."""

    name: str
    """as ``--set`` takes it"""
    type: str
    """with its range"""
    default: str
    """as TOML; `REQUIRED`, or "" where the key may be left out"""
    meaning: str


@dataclass(frozen=True)
class Part:
    """A section of the job file, or one form of a schedule."""

    title: str
    meaning: str
    keys: list[Key]


def parts() -> list[Part]:
    """Return all sections in the order of the models, then the forms of the schedules."""
    schema = job_schema()
    definitions = schema["$defs"]
    found = [Part("", "Of the file as a whole.", [])]
    schedules: dict[str, Part] = {}
    _walk(definitions["Job"], "", definitions, found, schedules)
    return [part for part in (*found, *schedules.values()) if part.keys]


def _walk(
    section: dict[str, Any],
    prefix: str,
    definitions: dict[str, Any],
    found: list[Part],
    schedules: dict[str, Part],
) -> None:
    """Add the keys of a section to the newest part, and a part for every section inside."""
    here = found[-1]
    for name, field in section["properties"].items():
        options = _options(field, definitions)
        inner = [option for option in options if "properties" in option]
        forms = [option for option in inner if "schedule" in option["properties"]]
        listed = [_resolve(option["items"], definitions) for option in options if "items" in option]
        listed = [option for option in listed if "properties" in option]
        full = prefix + name
        for option in forms:
            kind = option["properties"]["schedule"]["const"]
            if kind not in schedules:
                schedules[kind] = Part(f"{{ schedule = '{kind}' }}", _text(option), [])
                inside = {k: v for k, v in option["properties"].items() if k != "schedule"}
                holder = [schedules[kind]]
                _walk({**option, "properties": inside}, "", definitions, holder, {})
        if (inner and not forms) or listed:
            option = (inner or listed)[0]
            title = f"[[{full}]]" if listed else f"[{full}]"
            found.append(Part(title, _text(field) or _text(option), []))
            _walk(option, f"{full}.", definitions, found, schedules)
            continue
        required = name in section.get("required", ())
        default = field.get("default")
        here.keys.append(
            Key(
                full,
                _type(options),
                REQUIRED
                if required
                else ""
                if default is None
                else toml(_plain(default), grouped=True),
                _text(field),
            )
        )


def _resolve(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else field


def _options(field: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of which a value fits one; none for null, which TOML cannot write."""
    field = _resolve(field, definitions)
    several = field.get("anyOf") or field.get("oneOf")
    if several is None:
        return [] if field.get("type") == "null" else [field]
    return [option for each in several for option in _options(each, definitions)]


def _plain(default: Any) -> Any:
    """Return a default as users write it: a constant schedule is a number."""
    return default["value"] if isinstance(default, dict) and "value" in default else default


def _type(options: list[dict[str, Any]]) -> str:
    """Return what a value may be, as text."""
    kinds = [_one_type(option) for option in options if "properties" not in option]
    if len(kinds) < len(options):
        kinds.append("schedule")
    return ", or ".join(dict.fromkeys(kinds))


def _one_type(option: dict[str, Any]) -> str:
    if "enum" in option:
        return " or ".join(toml(value) for value in option["enum"])
    if "const" in option:
        return toml(option["const"])
    if "items" in option:
        return f"list of {_plural(_one_type(option['items']))}"
    return _TYPES.get(option.get("type", ""), "any value") + _range(option)


def _plural(type_: str) -> str:
    word, comma, rest = type_.partition(",")
    if word.startswith("list "):
        return word.replace("list ", "lists ", 1) + comma + rest
    return f"{word if word == 'text' else word + 's'}{comma}{rest}"


def _range(option: dict[str, Any]) -> str:
    low, high = option.get("minimum"), option.get("maximum")
    above, below = option.get("exclusiveMinimum"), option.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {_number(low)} ... {_number(high)}"
    bounds = [
        f"{word} {_number(bound)}"
        for word, bound in (
            ("at least", low),
            ("above", above),
            ("at most", high),
            ("below", below),
        )
        if bound is not None
    ]
    return f", {' and '.join(bounds)}" if bounds else ""


def _number(value: float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    power = value.bit_length() - 1
    return f"2^{power}" if power > 20 and value == 1 << power else f"{value:,}"


def _text(field: dict[str, Any]) -> str:
    return " ".join(field.get("description", "").split())


def _searched(part: Part, key: Key) -> str:
    return f"{part.title} {key.name} {key.meaning}".lower()


def _chosen(words: list[str]) -> Iterator[Part]:
    """Yield the parts, with only those keys whose name or meaning holds all of the words."""
    for part in parts():
        keys = [key for key in part.keys if all(word in _searched(part, key) for word in words)]
        if keys:
            yield Part(part.title, part.meaning, keys)


def reference_text(words: tuple[str, ...] = ()) -> str:
    """Return the reference for a terminal; `words`: only of keys whose name or meaning holds them.

    Raises
    ------
    JobError
        if there is no such key.
    """
    blocks = []
    for part in _chosen([word.lower() for word in words]):
        lines = [f"{part.title}  {part.meaning}".strip()]
        for key in part.keys:
            default = "" if key.default in ("", REQUIRED) else f"; default {key.default}"
            needed = " (required)" if key.default == REQUIRED else ""
            lines += [f"  {key.name}{needed}: {key.type}{default}", f"      {key.meaning}"]
        blocks.append("\n".join(line.rstrip() for line in lines if line.strip()))
    if not blocks:
        names = [name for part in parts() for key in part.keys for name in key.name.split(".")]
        near = [
            match for word in words for match in difflib.get_close_matches(word.lower(), names, 1)
        ]
        hint = f"did you mean {' '.join(near)!r}? " if near else ""
        raise JobError(f"no key with {' '.join(words)!r}; {hint}`hpcq reference` shows all")
    return "\n\n".join(blocks)


def reference_markdown() -> str:
    """Return the reference as tables in Markdown, as jobs/README.md has it."""
    blocks = []
    for part in parts():
        heading = f"**`{part.title}`** " if part.title else ""
        lines = [f"{heading}{part.meaning}", "", "| key | value | default | meaning |"]
        lines.append("|---|---|---|---|")
        for key in part.keys:
            default = key.default if key.default in ("", REQUIRED) else f"`{key.default}`"
            cells = (f"`{key.name}`", key.type, default, key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
