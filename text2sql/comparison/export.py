"""What an export lost against what was evaluated: the same questions, answer by answer, and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from text2sql.comparison.gate import Outcome, outcome
from text2sql.comparison.result import SIGNIFICANCE, Verdict
from text2sql.comparison.significance import discordant, mcnemar_p, paired_bootstrap_interval


class Limits(Protocol):
    """What the section `compare` of the params says of exports."""

    max_export_loss_pts: float
    bootstrap_samples: int
    seed: int


@dataclass(frozen=True)
class Loss:
    """Points lost by one set of answers against another, to the same `total` questions.

    accuracy, accuracy_against: shares from 0 to 1. gained, lost: questions that only these, or only the others, answer.
    loss_pts: with its paired bootstrap 95 % interval; above 0 where these are worse. p: exact two-sided McNemar.
    """

    total: int
    accuracy: float
    accuracy_against: float
    gained: int
    lost: int
    loss_pts: float
    loss_pts_low: float
    loss_pts_high: float
    p: float

    @classmethod
    def of(cls, right: Sequence[bool], against: Sequence[bool], limits: Limits) -> "Loss":
        """Return the loss of answers that are `right` as said, `against` others. Raises ValueError for no answers."""
        gained, lost = discordant(right, against)
        total = len(right)
        low, high = paired_bootstrap_interval(gained, lost, total, limits.bootstrap_samples, limits.seed)
        return cls(
            total,
            round(sum(right) / total, 6),
            round(sum(against) / total, 6),
            gained,
            lost,
            # From 0.0, so that no loss is 0 and not -0.
            round(0.0 - 100 * (gained - lost) / total, 4),
            round(0.0 - 100 * high, 4),
            round(0.0 - 100 * low, 4),
            mcnemar_p(gained, lost),
        )

    def verdict(self, limits: Limits) -> Outcome:
        """Return how the loss stands against the limit: broken where its whole interval lies beyond."""
        most = limits.max_export_loss_pts
        return outcome(wholly_beyond=self.loss_pts_low > most, wholly_within=self.loss_pts_high <= most)

    def to_dict(self) -> dict[str, Any]:
        """Return it as metrics hold it."""
        return asdict(self)


def distinguishable(p: float, loss_pts: float) -> Verdict:
    """Return whether an export is better or worse than what was evaluated, or not to be told from it."""
    if p > SIGNIFICANCE or not loss_pts:
        return Verdict.NOT_DISTINGUISHABLE
    return Verdict.WORSE if loss_pts > 0 else Verdict.BETTER
