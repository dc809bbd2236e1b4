"""Intervals of shares."""

import math
from collections.abc import Sequence
from statistics import NormalDist

_NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)


def wilson_interval(successes: float, total: float) -> tuple[float, float]:
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


def clustered_interval(successes: Sequence[int], size: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share over clusters of `size` draws each, `successes` of each cluster.

    Draws within a cluster are not independent. The interval is Wilson's, with the number of draws divided by Kish's
    design effect (Kish 1965), as Korn and Graubard (1998) do for Clopper and Pearson's: the variance between clusters
    over that of independent draws. It never counts more draws than there are; where all fail, or all succeed, each
    cluster counts for one. Where there is no cluster nothing is known: (0, 1).
    """
    clusters = len(successes)
    share = sum(successes) / (clusters * size or 1)
    if clusters < 2 or share in (0, 1):
        return wilson_interval(share * clusters, clusters)
    variance = sum((count / size - share) ** 2 for count in successes) / (clusters - 1) / clusters
    independent: float = clusters * size
    if variance:
        independent = min(independent, share * (1 - share) / variance)
    return wilson_interval(share * independent, independent)
