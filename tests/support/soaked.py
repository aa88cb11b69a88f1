"""Which cases of a test repeat what the others hold: `tests/run all` has them, `tests/run` not."""

import pytest


def soak(*cases):
    """Return cases for `pytest.mark.parametrize`, marked; a tuple has several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak)
        for case in cases
    ]
