"""Jobs for tests, as `Job` or as TOML text."""

import json

from hpcq.job.job import Job


def make(
    environment,
    *,
    learning=None,
    exploration=None,
    mode=None,
    evaluation=None,
    stop=None,
    run=None,
    checkpoint=None,
    name="test",
):
    return Job.check(
        {
            "name": name,
            "environment": environment,
            "learning": {"gamma": 0.9, "learning_rate": 0.5, **(learning or {})},
            "exploration": exploration or {"epsilon": 0.2},
            "mode": mode or {},
            "evaluation": evaluation or {},
            "stop": stop or {},
            "checkpoint": checkpoint or {},
            "run": {"steps": 1000, "seed": 3, **(run or {})},
        },
        "test",
    )


def write(path, job):
    """Write a job as TOML (JSON values are TOML values but for null and tables)."""

    def value(v):
        if isinstance(v, dict):
            return (
                "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items() if x is not None) + " }"
            )
        if isinstance(v, list):
            return "[" + ", ".join(value(x) for x in v) + "]"
        return json.dumps(v)

    lines = []
    for section, keys in job.model_dump(mode="json").items():
        if section == "name":
            continue
        lines.append(f"[{section}]")
        lines += [f"{key} = {value(v)}" for key, v in keys.items() if v is not None]
    path.write_text("\n".join(lines) + "\n")
    return path


GARNET = {"id": "hpcq/Garnet-v0", "kwargs": {"states": 50, "actions": 3, "seed": 2}, "count": 12}
CORRIDOR = {"id": "problems:Corridor-v0", "count": 5, "reset_every": 40}
VECTOR = {
    "id": "problems:ScriptedVector",
    "kwargs": {"mode": "NEXT_STEP"},
    "count": 6,
    "vector": 2,
    "reset_every": 40,
}
