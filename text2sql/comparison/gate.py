"""The gate: each tuned model's gain on Spider and loss on MMLU against the limits of the params.

Needs neither numpy nor scipy: it works in a fresh clone from metrics/compare.json and params.yaml alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from text2sql.comparison.result import Summary


class Limits(Protocol):
    """What the section `compare` of the params allows."""

    max_mmlu_loss_pts: float
    min_spider_gain_pts: float


class Outcome(StrEnum):
    """How a result stands against a limit, from good to bad."""

    KEPT = "kept"
    INCONCLUSIVE = "inconclusive"  # the interval straddles the limit
    BROKEN = "broken"  # the whole interval lies beyond it


@dataclass(frozen=True)
class Limit:
    """Points with their 95 % interval, the least or the most that the params allow, and the verdict."""

    points: float
    low_pts: float
    high_pts: float
    limit_pts: float
    verdict: Outcome


@dataclass(frozen=True)
class TradeOff:
    """One tuned model: its gain on Spider (execution accuracy, the paper's) and its loss on MMLU overall."""

    model: str
    spider: Limit
    mmlu: Limit

    @property
    def verdict(self) -> Outcome:
        """The worse of the two."""
        return worst((self.spider.verdict, self.mmlu.verdict))


def trade_off(summary: Summary, limits: Limits) -> tuple[TradeOff, ...]:
    """Return how each tuned model stands against the limits."""
    found = []
    for model in summary.models.tuned:
        pair = summary.against_base(model)
        gain, change = pair.spider, pair.mmlu
        loss, low, high = 0.0 - change.difference_pts, 0.0 - change.high_pts, 0.0 - change.low_pts
        least, most = limits.min_spider_gain_pts, limits.max_mmlu_loss_pts
        spider = outcome(wholly_beyond=gain.high_pts < least, wholly_within=gain.low_pts >= least)
        mmlu = outcome(wholly_beyond=low > most, wholly_within=high <= most)
        found.append(
            TradeOff(
                model,
                spider=Limit(gain.difference_pts, gain.low_pts, gain.high_pts, least, spider),
                mmlu=Limit(loss, low, high, most, mmlu),
            )
        )
    return tuple(found)


def outcome(wholly_beyond: bool, wholly_within: bool) -> Outcome:
    """Return the verdict on an interval that lies wholly beyond a limit, wholly within it, or neither."""
    return Outcome.BROKEN if wholly_beyond else Outcome.KEPT if wholly_within else Outcome.INCONCLUSIVE


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of `outcomes`."""
    return max(outcomes, key=list(Outcome).index)


def gate_outcome(trade_offs: Iterable[TradeOff]) -> Outcome:
    """Return the worst verdict over all tuned models."""
    return worst(found.verdict for found in trade_offs)
