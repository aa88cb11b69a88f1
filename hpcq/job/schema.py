"""The JSON schema of a job file, for editors and other programs; it follows from the models."""

from typing import Any

from hpcq.job.job import Job


def job_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a job file."""
    schema = Job.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.pop("$defs")
    # The file gives its name to the job.
    del schema["properties"]["name"]["default"]
    definitions["Job"] = schema
    # A sweep may leave out of its sections what it varies.
    sweep = {"type": "object", "required": ["sweep"], "properties": {"sweep": {"type": "object"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Job file of hpcq",
        "anyOf": [{"$ref": "#/$defs/Job"}, sweep],
        "$defs": definitions,
    }
