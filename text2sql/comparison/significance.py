"""Intervals and tests for two models that answered the same questions. Arrays and counts in, numbers out.

A question that one model answers and the other does not is discordant: `gained` counts those that only the model of
interest answers, `lost` those that only the other one does. Questions on which both agree carry no evidence of a
difference (McNemar 1947). scipy and statsmodels are imported where they are used, since they take a second.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

LEVEL = 0.05
POWER = 0.80


class Bootstrap(Protocol):
    """What the section `compare` of the params says of the bootstrap."""

    bootstrap_samples: int
    seed: int


def in_points(share: float) -> float:
    """Return a difference in shares as points, rounded to four digits."""
    return round(100 * share, 4) + 0.0  # never -0.0


def rounded_p(p: float) -> float:
    """Return a p value to four significant digits."""
    return float(f"{p:.4g}")


def discordant(correct: Sequence[bool], against: Sequence[bool]) -> tuple[int, int]:
    """Return (gained, lost): how many questions only `correct` answers, and only `against`. Raises ValueError."""
    ours, theirs = np.asarray(correct, dtype=bool), np.asarray(against, dtype=bool)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(f"wanted two lists of one length, not empty; found {ours.shape} and {theirs.shape}")
    return int((ours & ~theirs).sum()), int((~ours & theirs).sum())


def paired_bootstrap_interval(gained: int, lost: int, total: int, samples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the difference in shares, (gained - lost) / total.

    Questions are drawn with their pair of verdicts, `total` at a time with replacement, `samples` times. Such a draw
    holds gained, lost and agreeing questions in multinomial numbers, so that the counts are drawn directly.
    """
    shares = np.array([gained, lost, total - gained - lost]) / total
    draws = np.random.default_rng(seed).multinomial(total, shares, size=samples)
    low, high = np.percentile(draws[:, 0] - draws[:, 1], [2.5, 97.5])
    return float(low) / total, float(high) / total


def unpaired_bootstrap_interval(
    right: int, total: int, right_against: int, total_against: int, samples: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a difference in shares between two independent sets of questions.

    Each set is drawn with replacement, in its own size: the numbers of right answers are binomial.
    """
    random = np.random.default_rng(seed)
    ours = random.binomial(total, right / total, size=samples) / total
    theirs = random.binomial(total_against, right_against / total_against, size=samples) / total_against
    low, high = np.percentile(ours - theirs, [2.5, 97.5])
    return float(low), float(high)


def clustered_bootstrap_interval(
    differences: Mapping[int, int], size: int, samples: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the difference in shares over questions of `size` draws each.

    `differences` counts questions by how many draws more the model of interest has right: {-1: 7, 0: 90, 2: 3}.
    Questions are drawn with all their draws, since those are no independent ones (the cluster bootstrap, Davison and
    Hinkley 1997, section 3.8): multinomially, as in `paired_bootstrap_interval`, which this is for a `size` of 1.
    """
    values, counts = np.array(sorted(differences.items())).T
    total = counts.sum()
    draws = np.random.default_rng(seed).multinomial(total, counts / total, size=samples)
    low, high = np.percentile(draws @ values, [2.5, 97.5])
    return float(low) / (total * size), float(high) / (total * size)


def sign_flip_p(differences: Mapping[int, int]) -> float:
    """Return the exact two-sided p of the sign-flip test over questions; `differences` as above.

    Where the models do not differ, a question's difference is as likely to stand the other way round, all its draws
    together (Fisher's randomisation test for pairs, 1935). For differences of 1 it is McNemar's exact test.
    """
    from scipy.stats import binom

    sizes = Counter[int]()
    for value, count in differences.items():
        sizes[abs(value)] += count
    # The sum of all differences is 2 s - m, where s sums those that fall on the model's side, and m is their sum.
    distribution, most = np.ones(1), 0
    for value, count in sizes.items():
        if value:
            ours = np.zeros(value * count + 1)
            ours[::value] = binom.pmf(np.arange(count + 1), count, 0.5)
            distribution, most = np.convolve(distribution, ours), most + value * count
    fewer = (most - abs(sum(value * count for value, count in differences.items()))) // 2
    return min(1.0, 2 * float(distribution[: fewer + 1].sum()))


def mcnemar_p(gained: int, lost: int) -> float:
    """Return the exact two-sided p of McNemar's test: is either direction of change likelier than the other?"""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def fisher_p(right: int, total: int, right_against: int, total_against: int) -> float:
    """Return the two-sided p of Fisher's exact test (1922): has one of two sets of questions the larger share right?"""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[right, total - right], [right_against, total_against - right_against]]).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted by Holm's step-down method for being tested together, in their order."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def mcnemar_bounds(correct: int, against: int, total: int) -> tuple[float, float]:
    """Return the least and the greatest exact McNemar p over all pairings of two models' answers.

    `correct` and `against` are how many of `total` questions each model answers. Where only these counts are printed,
    any number of questions that both answer is possible, from the fewest that fit to the smaller of the two.
    """
    from scipy.special import bdtr

    both = np.arange(max(0, correct + against - total), min(correct, against) + 1)
    fewer = min(correct, against) - both
    p_values = np.minimum(1.0, 2 * bdtr(fewer, correct + against - 2 * both, 0.5))
    return float(p_values.min()), float(p_values.max())


@functools.lru_cache(maxsize=1024)
def smallest_detectable_difference(gained: int, lost: int, total: int) -> float | None:
    """Return the smallest difference in shares that `total` questions show with 80 % power, or None where none is.

    The power is that of the exact two-sided McNemar test at 5 %, where discordant questions are as frequent as was
    observed: their number is binomial, and so is their split. Where even a split all one way would be missed at that
    frequency, discordant questions are taken to be as frequent as the difference itself.
    """
    observed = (gained + lost) / total
    if observed > 0 and _power(observed, observed, total) >= POWER:
        return _bisect(lambda difference: _power(difference, observed, total), observed)
    if _power(1.0, 1.0, total) < POWER:
        return None
    return _bisect(lambda difference: _power(difference, difference, total), 1.0)


def _power(difference: float, discordance: float, total: int) -> float:
    """Return the chance that the exact McNemar test at 5 % shows a true `difference` in its right direction."""
    from scipy.special import bdtr
    from scipy.stats import binom

    # Beyond eight standard deviations nothing adds up to anything.
    mean, spread = total * discordance, 8 * (total * discordance * (1 - discordance)) ** 0.5 + 1
    discordants = np.arange(max(0, int(mean - spread)), min(total, int(mean + spread) + 1) + 1)
    greatest_lost = _greatest_lost(total)[discordants]
    lost_share = (1 - difference / discordance) / 2
    shown = np.where(greatest_lost >= 0, bdtr(np.maximum(greatest_lost, 0), discordants, lost_share), 0.0)
    return float((binom.pmf(discordants, total, discordance) * shown).sum())


@functools.lru_cache(maxsize=128)
def _greatest_lost(total: int) -> np.ndarray:
    """Return, for 0 to `total` discordant questions, how many may be lost while p stays within 5 %; -1 for none."""
    from scipy.stats import binom

    return binom.ppf(LEVEL / 2, np.arange(total + 1), 0.5).astype(int) - 1


def _bisect(power: Callable[[float], float], high: float) -> float:
    low = 0.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high
