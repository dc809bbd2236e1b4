"""Where things lie in the HTML report's plots: positions in percent of the plot's box."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.comparison.result import ACCURACY, EXECUTION, Comparison

TEMPLATES = Path(__file__).parent / "templates"  # of pages and figures
RAW_LOSS_POINTS = 600
MEAN_LOSS_POINTS = 30


@dataclass(frozen=True)
class Axis:
    """A range of values with round ticks; `at` places a value in percent from the range's start."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], least: float = -math.inf, most: float = math.inf, wanted: int = 5) -> "Axis":
        """Return the axis that holds `values`, widened to its ticks but never beyond `least` and `most`."""
        values = list(values) or [0.0]
        low, high = min(values), max(values)
        if high - low < 1e-9:
            low, high = low - 0.05, high + 0.05
        step = _round_step((high - low) / wanted)
        low = max(least, math.floor(low / step + 1e-9) * step)
        high = min(most, math.ceil(high / step - 1e-9) * step)
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        return cls(low, high, tuple(round(number * step, 10) for number in range(first, last + 1)))

    def at(self, value: float) -> float:
        """Return where `value` lies, in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def _round_step(raw: float) -> float:
    magnitude = 10 ** math.floor(math.log10(raw))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))


def share_axis(comparison: Comparison) -> Axis:
    """Return the axis of the strips by hardness and by category: it holds the ends of all their intervals, and 0."""
    ends = [0.0]
    for spider in comparison.spider.values():
        for level in spider["by_hardness"].values():
            if level["total"]:
                ends += [level["execution_accuracy_low"], level["execution_accuracy_high"]]
    for mmlu in comparison.mmlu.values():
        for category in mmlu["by_category"].values():
            ends += [category["accuracy_low"], category["accuracy_high"]]
    return Axis.over(ends, least=0.0, most=1.0, wanted=4)


def difference_axis(comparison: Comparison) -> Axis:
    """Return the axis of the differences to the base on MMLU, overall and by category: it holds their ends, and 0."""
    ends = [0.0]
    for row in comparison.rows:
        if row.task == "mmlu" and row.level != "subject" and row.against == comparison.models.base:
            ends += [row.low_pts, row.high_pts]
    return Axis.over(ends, wanted=3)


@dataclass(frozen=True)
class Place:
    """Where a model's point and the ends of its two intervals lie; `y` counts from the top."""

    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float


@dataclass(frozen=True)
class Scatter:
    """Axes, and one point a model."""

    x: Axis
    y: Axis
    points: dict[str, Place]


def trade_off_plot(comparison: Comparison) -> Scatter:
    """Return Spider (across) against MMLU (up), with both 95 % intervals."""
    across = {model: _with_interval(metrics, EXECUTION) for model, metrics in comparison.spider.items()}
    up = {model: _with_interval(metrics, ACCURACY) for model, metrics in comparison.mmlu.items()}
    x, y = (
        Axis.over([value for values in side.values() for value in values], least=0.0, most=1.0) for side in (across, up)
    )
    return Scatter(
        x,
        y,
        {
            model: Place(*(x.at(value) for value in across[model]), *(100 - y.at(value) for value in up[model]))
            for model in comparison.models.names
        },
    )


def _with_interval(metrics: Mapping[str, Any], measure: str) -> tuple[float, float, float]:
    return metrics[measure], metrics[f"{measure}_low"], metrics[f"{measure}_high"]


@dataclass(frozen=True)
class Line:
    """A loss curve as SVG points: each step as it was, and means of neighbours."""

    raw: str
    mean: str


@dataclass(frozen=True)
class LossPlot:
    """Axes, and one line a model that has a loss to draw."""

    x: Axis
    y: Axis
    lines: dict[str, Line]


def loss_plot(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> LossPlot | None:
    """Return the loss by step, or None where there is nothing to draw; a loss that is no finite number is left out."""
    points = {
        model: [(row["step"], row["loss"]) for row in rows if math.isfinite(row["loss"])]
        for model, rows in curves.items()
    }
    points = {model: line for model, line in points.items() if line}
    if not points:
        return None
    x = Axis.over([0] + [step for line in points.values() for step, _ in line])
    y = Axis.over([0.0] + [loss for line in points.values() for _, loss in line])

    def path(line: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x.at(step):g},{100 - y.at(loss):g}" for step, loss in line)

    return LossPlot(
        x,
        y,
        {
            model: Line(raw=path(_thinned(line, RAW_LOSS_POINTS)), mean=path(_thinned(line, MEAN_LOSS_POINTS)))
            for model, line in points.items()
        },
    )


def _thinned(line: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most `most` points, each the mean of neighbours."""
    size = math.ceil(len(line) / most)
    parts = [line[start : start + size] for start in range(0, len(line), size)]
    return [tuple(sum(values) / len(part) for values in zip(*part)) for part in parts]
