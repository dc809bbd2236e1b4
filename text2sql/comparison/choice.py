"""What choosing among samples gains over the greedy answer, question by question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from text2sql.comparison.significance import (
    Bootstrap,
    holm,
    in_points,
    mcnemar_p,
    paired_bootstrap_interval,
    rounded_p,
)


@dataclass(frozen=True)
class ChoiceGain:
    """One model's chosen answers against its greedy ones: points of official execution accuracy, chosen - greedy.

    `metrics` is the content of metrics/spider_choice/<model>.json; p is McNemar's exact one, `p_holm` adjusted over all
    models by Holm's method.
    """

    metrics: Mapping[str, Any]
    difference_pts: float
    low_pts: float
    high_pts: float
    p: float
    p_holm: float

    @property
    def greedy_accuracy(self) -> float:
        """The official execution accuracy of the greedy answers."""
        found = self.metrics
        return (found["official_successes"] - found["rescued"] + found["lost"]) / found["total"]


def choice_gains(metrics: Mapping[str, Mapping[str, Any]], bootstrap: Bootstrap) -> dict[str, ChoiceGain]:
    """Return {model: its gain} of {model: the content of metrics/spider_choice/<model>.json}."""
    p_values = {model: mcnemar_p(found["rescued"], found["lost"]) for model, found in metrics.items()}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    gains = {}
    for model, found in metrics.items():
        rescued, lost, total = found["rescued"], found["lost"], found["total"]
        low, high = paired_bootstrap_interval(rescued, lost, total, bootstrap.bootstrap_samples, bootstrap.seed)
        gains[model] = ChoiceGain(
            found,
            in_points((rescued - lost) / total),
            in_points(low),
            in_points(high),
            rounded_p(p_values[model]),
            rounded_p(adjusted[model]),
        )
    return gains
