"""What a point on Spider cost (the paper's section III.C). It depends on the machine: for the reports alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from text2sql.comparison.result import ACCURACY, EXECUTION, Comparison, Verdict


@dataclass(frozen=True)
class Cost:
    """One tuned model's training minutes, and minutes and points of loss on MMLU a point gained on Spider.

    None where no time was recorded, and where no gain on Spider can be told from chance, since a cost per point of
    noise says nothing.
    """

    model: str
    training_minutes: float | None
    minutes_per_spider_point: float | None
    mmlu_points_per_spider_point: float | None


def costs(comparison: Comparison, timings: Mapping[str, Mapping[str, Any]]) -> tuple[Cost, ...]:
    """Return the cost of each tuned model; `timings` is {"train_m1": the content of data/timings/train_m1.json, …}."""
    found = []
    for model in comparison.models.tuned:
        spider = comparison.against_base(model, EXECUTION)
        gain = spider.difference_pts if spider.verdict is Verdict.BETTER else None
        loss = 0.0 - comparison.against_base(model, ACCURACY).difference_pts
        timing = timings.get(f"train_{model}")
        minutes = timing["seconds"] / 60 if timing else None
        found.append(
            Cost(
                model,
                training_minutes=minutes,
                minutes_per_spider_point=minutes / gain if gain and minutes is not None else None,
                mmlu_points_per_spider_point=loss / gain if gain else None,
            )
        )
    return tuple(found)
