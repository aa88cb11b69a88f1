"""The JSON schema of a job file, for editors and other programs; it follows from the models."""

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from hpcq.job.job import Job


def job_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a job file."""
    schema = Job.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.pop("$defs")
    # The file gives its name to the job.
    del schema["properties"]["name"]["default"]
    definitions["Job"] = schema
    for model in _models(BaseModel):
        properties = definitions.get(model.__name__, {}).get("properties", {})
        for key, text in _meanings(model).items():
            if key in properties:
                properties[key].setdefault("description", text)
    # A sweep may leave out of its sections what it varies.
    sweep = {"type": "object", "required": ["sweep"], "properties": {"sweep": {"type": "object"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Job file of hpcq",
        "anyOf": [{"$ref": "#/$defs/Job"}, sweep],
        "$defs": definitions,
    }


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the models of this package."""
    for model in base.__subclasses__():
        if model.__module__.startswith("hpcq."):
            yield model
            yield from _models(model)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the texts under the keys of a model, and of what it inherits from.

    pydantic can find them while the models are made: a tenth of the time in which a rank starts.
    """
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each.__module__.startswith("hpcq."):
            found |= _texts(each.__module__).get(each.__name__, {})
    return found


@functools.cache
def _texts(module: str) -> dict[str, dict[str, str]]:
    """Return what stands under the annotated names of every class of a module."""
    source = inspect.getsource(sys.modules[module])
    return {
        node.name: {
            name.target.id: inspect.cleandoc(str(text.value.value))
            for name, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(name, ast.AnnAssign)
            and isinstance(name.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }
