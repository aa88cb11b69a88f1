"""The confidence interval of a mean."""

import math
import statistics
from collections.abc import Sequence

# Two-sided 95 % quantiles of Student's t distribution for 1 ... 30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def half_width(values: Sequence[float]) -> float:
    """Return half the 95 % confidence interval of the mean, t s / sqrt(n); nan for one value."""
    count = len(values)
    if count < 2:
        return math.nan
    t = _T95[count - 2] if count - 1 <= len(_T95) else 1.960 + 2.4 / (count - 1)
    return t * statistics.stdev(values) / math.sqrt(count)
