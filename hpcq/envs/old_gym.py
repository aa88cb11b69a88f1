"""The package gym, Gymnasium's predecessor: recognise it, and say what to do."""

import sys
from typing import Any

OLD_GYM = (
    "name a function that returns shimmy.GymV26CompatibilityV0(env=...) of it, or "
    "shimmy.GymV21CompatibilityV0 where reset takes no seed (the package shimmy), or a wrapper of "
    "your own (environment.wrappers)"
)


def is_old_gym(thing: Any) -> bool:
    """Return whether a class of the package gym, Gymnasium's predecessor, made something."""
    return any(base.__module__.partition(".")[0] == "gym" for base in type(thing).__mro__)


def where_registered(named: str, id_: str) -> str:
    """Return what to do about an id that Gymnasium does not know."""
    gym = sys.modules.get("gym")
    if gym is not None and id_ in getattr(getattr(gym, "envs", None), "registry", ()):
        return f"It is registered with the old package gym: {OLD_GYM}"
    if named == id_:
        return (
            "Gymnasium knows the environments of a package once it is imported: name its module, "
            f"too, as in 'package:{id_}'"
        )
    module = named.removesuffix(f":{id_}")
    return f"{module} was imported, but registers no such id; 'module:Class' names a class"
