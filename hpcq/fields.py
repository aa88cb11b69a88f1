"""How an array of a run is saved: one declaration, beside the array, for all who read or write it.

The checkpoint's layout, its shapes, what is written, what is read back and how it is checked all
follow from these declarations; `learning/saved_state.py` lists them in the order of the file.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One saved array of a NamedTuple: a row for each environment, in environment order."""

    dataset: str
    """its name in the file"""
    attribute: str
    """its name in the NamedTuple"""
    dtype: str
    """in the file; in memory it may be narrower"""
    shape: tuple[str, ...] = ()
    """names of the dimensions after the first, see `saved_state.sizes`; `words`, of masks, is one
    only where a mask has several"""
    bound: str = ""
    """what all values stay below, see `checkpoint/reader.py`; "": anything. Values of `states` are
    hashes in memory and keys in the file"""
    needs: tuple[str, ...] = ()
    """the features of a job, see `saved_state.features`, all of which it is saved for; (): always,
    and the header does not list it"""
