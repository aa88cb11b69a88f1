"""How sure a value is: its average over its updates, and a 95 % interval by random scaling.

    mean_n = 1 / n sum_k q_k, over the updates k = 1 ... n of a value, the first ones left out
    V_n = 1 / n^2 sum_k k^2 (mean_k - mean_n)^2
    interval: mean_n +- 6.747 sqrt(V_n / n)

The averages are Polyak's and Ruppert's; under a learning rate that falls like N ** -exponent, with
an exponent in (0.5, 1), sqrt(n) (mean_n - q*) comes to be normal. V_n stands in for its variance
without an estimate of it, so that the quotient has another distribution, of which 6.747 is the
quantile. Lee, Liao, Seo, Shin, "Fast and robust online inference with stochastic gradient descent
via random scaling", AAAI 2022; for Q-learning: Panda, Liu, Xiang, arXiv 2410.10737.

Beside each value stand four sums, float64, kept as Welford (1962) keeps those of a variance: the
differences of large numbers would lose what they are about. Light to import: the kernels are in
interval_kernels.py.
"""

import numpy as np
from numpy.typing import NDArray

# The sums of a value:
#   COUNT   its updates, those left out aside
#   MEAN    mean_n
#   MIDDLE  the mean of mean_k with weights k^2
#   SPREAD  sum_k k^2 (mean_k - MIDDLE)^2
COUNT, MEAN, MIDDLE, SPREAD = range(4)
SUMS = 4

# Of the limit of sqrt(n) (mean_n - q*) / sqrt(V_n), below it 97.5 %: Abadir and Paruolo, "Two mixed
# normal densities from cointegration analysis", Econometrica 65, 1997, table I.
CRITICAL = 6.747


def first_sums(rows: int, columns: int, after: int) -> NDArray[np.float64]:
    """Return the sums of values without updates, (rows, columns * SUMS)."""
    sums = np.zeros((rows, columns, SUMS))
    sums[:, :, COUNT] = -after
    return sums.reshape(rows, -1)


def estimates(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means, and half the widths of the intervals; nan where there are none.

    Parameters
    ----------
    sums
        (..., SUMS)
    """
    n, mean, middle, spread = np.moveaxis(sums, -1, 0)
    with np.errstate(all="ignore"):
        total = n * (n + 1.0) * (2.0 * n + 1.0) / 6.0
        scale = (spread + total * (middle - mean) ** 2) / n**2
        width = CRITICAL * np.sqrt(scale / n)
    return np.where(n >= 1, mean, np.nan), np.where(n >= 2, width, np.nan)
