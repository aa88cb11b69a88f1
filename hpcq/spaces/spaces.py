"""Gymnasium's spaces as plain JSON, so that a checkpoint's keys can be read without Gymnasium."""

import math
from typing import Any

import numpy as np

from hpcq.errors import JobError


def _bound(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def describe(space: Any) -> dict[str, Any]:
    """Return a space as JSON: its kind and its parameters.

    Raises
    ------
    JobError
        for a space that is not one of Gymnasium's own.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        nvec = np.asarray(space.nvec)
        start = np.broadcast_to(np.asarray(space.start), nvec.shape)
        return {"kind": "MultiDiscrete", "nvec": nvec.tolist(), "start": start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        return _box(space)
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
    if isinstance(space, spaces.Dict):
        if not all(isinstance(name, str) for name in space.spaces):
            raise JobError(f"{space}: keys that are not text cannot be stored")
        return {"kind": "Dict", "spaces": {k: describe(space[k]) for k in sorted(space.spaces)}}
    if isinstance(space, spaces.OneOf):
        return {"kind": "OneOf", "spaces": [describe(part) for part in space.spaces]}
    if isinstance(space, spaces.Text):
        return {"kind": "Text", "max_length": int(space.max_length)}
    if isinstance(space, spaces.Sequence):
        return {"kind": "Sequence", "space": describe(space.feature_space)}
    if isinstance(space, spaces.Graph):
        edge = None if space.edge_space is None else describe(space.edge_space)
        return {"kind": "Graph", "node": describe(space.node_space), "edge": edge}
    if np.dtype(space.dtype).kind == "U":
        # Text spaces of other packages, such as MiniGrid's missions.
        return {"kind": "Text", "max_length": None}
    raise JobError(
        f"{type(space).__name__} is none of Gymnasium's spaces; leave it out, or turn it into one, "
        "in a Gymnasium wrapper (environment.wrappers)"
    )


def _box(space: Any) -> dict[str, Any]:
    """Integer bounds keep the Box's shape; float bounds are one list, with None for infinity."""
    low, high, dtype = np.asarray(space.low), np.asarray(space.high), np.dtype(space.dtype)
    if dtype.kind in "iub":
        bounds = {"low": low.tolist(), "high": high.tolist()}
        if dtype.kind == "b":
            bounds = {"low": low.astype(int).tolist(), "high": high.astype(int).tolist()}
        return {"kind": "Box", "dtype": dtype.name, **bounds}
    return {
        "kind": "Box",
        "dtype": dtype.name,
        "shape": list(space.shape),
        "low": [_bound(value) for value in low.ravel()],
        "high": [_bound(value) for value in high.ravel()],
    }


def item(description: dict[str, Any], batch: Any, i: int) -> Any:
    """Return observation `i` of a VectorEnv's batch."""
    if description["kind"] == "Tuple":
        return tuple(
            item(part, column, i) for part, column in zip(description["spaces"], batch, strict=True)
        )
    if description["kind"] == "Dict":
        return {name: item(part, batch[name], i) for name, part in description["spaces"].items()}
    return batch[i]


def named(description: dict[str, Any]) -> str:
    """Return a space as short text, similar to Gymnasium's."""
    kind = description["kind"]
    parts: Any = description.get("spaces")
    if kind == "Dict":
        return f"Dict({', '.join(f'{name}: {named(part)}' for name, part in parts.items())})"
    if parts is not None:
        return f"{kind}({', '.join(map(named, parts))})"
    if kind in ("Digest", "Sequence"):
        return f"{kind}({named(description['space'])})"
    if kind == "Discrete":
        start = f", start={description['start']}" if description["start"] else ""
        return f"Discrete({description['n']}{start})"
    if kind == "MultiDiscrete":
        return f"MultiDiscrete({description['nvec']})"
    bounds = description.get("low")
    shape = description.get("shape") or ([] if bounds is None else list(np.shape(bounds)))
    if kind == "Box" and "dimensions" in description:
        bins = [
            len(d["edges"]) + 1 if "edges" in d else d["bins"] for d in description["dimensions"]
        ]
        return f"Box({', '.join(map(str, shape))}) in bins {bins}"
    return f"{kind}({', '.join(map(str, shape))})" if shape else kind
