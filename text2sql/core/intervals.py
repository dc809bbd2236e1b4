"""Intervals of shares."""

import math
from statistics import NormalDist

_NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson (1927), without correction for continuity.

    Where `total` is 0 nothing is known: (0, 1).
    """
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total}")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    square = _NORMAL_QUANTILE**2 / total
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return (
        0.0 if successes == 0 else middle - half,
        1.0 if successes == total else middle + half,
    )
