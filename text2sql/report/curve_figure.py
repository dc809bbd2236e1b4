"""Where things lie in the figure of a trade-off curve, and the figure: Spider gained against MMLU changed, as SVG."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from text2sql.comparison.result import ACCURACY, EXECUTION
from text2sql.core.models import SPIDER
from text2sql.report.charts import TEMPLATES, Axis
from text2sql.report.numbers import points, true_minus

WIDTH, HEIGHT = 640, 400  # of the plot's box, in pixels; the template adds its margins
LETTER, LINE = 6.2, 13  # a label's letter and line, in pixels
KINDS = ("base", "lora", "dora", "answers", "strength", "decoding", "full")  # of points, as the legend has them
# Where a label may lie beside its mark, in the order of preference: dx, dy, and what of it lies there.
SIDES = ((9, 4, "start"), (-9, 4, "end"), (0, -10, "middle"), (0, 18, "middle"), (9, -9, "start"), (-9, 17, "end"))


@dataclass(frozen=True)
class Mark:
    """A point's mark in pixels, with its intervals, its label, and where its other seeds lie."""

    name: str
    kind: str
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    seeds: tuple[tuple[float, float], ...]
    title: str
    label: tuple[float, float, str] = (0, 0, "start")


def questions_of(curve: Mapping[str, Any]) -> str:
    """Return what the text-to-SQL questions of a curve are called."""
    return curve.get("data", SPIDER)


class _Plot:
    """Axes over the gate's lines, the base at (0, 0) and the points asked as it is.

    A point whose prompt differs may lie far off, since the base is not asked that way: it is drawn at the edge then,
    but for a curve of steps, whose base is asked that way too.
    """

    def __init__(self, curve: Mapping[str, Any]) -> None:
        alike = [point for point in curve["points"] if not _asked_otherwise(point)]
        of_steps = any("after" in point for point in curve["points"])
        found = alike if len(alike) > 1 and not of_steps else curve["points"]
        differences = [run["against_base"] for point in found for run in point["runs"]]
        self.questions = questions_of(curve)
        self.gate = (curve["gate"]["min_spider_gain_pts"], -curve["gate"]["max_mmlu_loss_pts"])
        self.x, self.y = (
            Axis.over([limit, 0.0, *_ends(found[measure] for found in differences)])
            for limit, measure in zip(self.gate, (EXECUTION, ACCURACY), strict=True)
        )

    def at(self, gain: float, change: float) -> tuple[float, float]:
        """Return where points of gain and change lie, in pixels from the top left; beyond the axes, at their edge."""
        across, up = (min(max(share / 100, 0), 1) for share in (self.x.at(gain), self.y.at(change)))
        return round(across * WIDTH, 1), round((1 - up) * HEIGHT, 1)

    def is_beyond(self, gain: float, change: float) -> bool:
        """Whether such a point lies beyond the axes."""
        return not (self.x.low <= gain <= self.x.high and self.y.low <= change <= self.y.high)

    def mark(self, point: Mapping[str, Any]) -> Mark:
        first, *others = (self._differences(run) for run in point["runs"])
        gain, change = first
        place = gain["difference_pts"], change["difference_pts"]
        x, y = self.at(*place)
        beyond = f" ({true_minus(points(place[0]))}; {true_minus(points(place[1]))})" if self.is_beyond(*place) else ""
        return Mark(
            name=point["name"] + beyond,
            kind=point["kind"],
            x=x,
            y=y,
            x_ends=(self.at(gain["low_pts"], 0)[0], self.at(gain["high_pts"], 0)[0]),
            y_ends=(self.at(0, change["low_pts"])[1], self.at(0, change["high_pts"])[1]),
            seeds=tuple(self.at(*(found["difference_pts"] for found in other)) for other in others),
            title=f"{point['name']}: {self.questions} {points(gain['difference_pts'])}, "
            f"MMLU {points(change['difference_pts'])}",
        )

    def _differences(self, run: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return run["against_base"][EXECUTION], run["against_base"][ACCURACY]


def _asked_otherwise(point: Mapping[str, Any]) -> bool:
    return any(key.startswith("prompt.") for key in point["changes"])


def _ends(differences: Iterable[Mapping[str, Any]]) -> list[float]:
    return [found[end] for found in differences for end in ("low_pts", "difference_pts", "high_pts")]


def figure(curve: Mapping[str, Any]) -> str:
    """Return the figure of a curve as one SVG file's text.

    Each point has its 95 % intervals on both axes and small dots for further seeds; a dashed line is the Pareto front,
    dotted ones the gate's limits; thin lines join the base, an adapter and what is scaled of it. A point whose prompt
    differs is drawn at the edge where it lies beyond the others, with its figures.
    """
    plot = _Plot(curve)
    marks = {point["name"]: plot.mark(point) for point in curve["points"]}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minus"] = lambda value: true_minus(f"{value:g}")
    return environment.get_template("curve.svg.jinja").render(
        curve=curve,
        plot=plot,
        marks=_labelled(list(marks.values())),
        kinds=[kind for kind in KINDS if any(mark.kind == kind for mark in marks.values())],
        front=_steps([marks[point["name"]] for point in curve["points"] if point["pareto"]]),
        families=_families(curve["points"], marks),
        gate=plot.at(*plot.gate),
        width=WIDTH,
        height=HEIGHT,
    )


def _steps(front: Sequence[Mark]) -> str:
    """Return the Pareto front as a line in steps: what lies below and to the left of it is beaten."""
    corners: list[tuple[float, float]] = []
    for mark in sorted(front, key=lambda mark: mark.x):
        corners += [(corners[-1][0], mark.y)] if corners else []
        corners.append((mark.x, mark.y))
    return " ".join(f"{x:g},{y:g}" for x, y in corners)


def _families(found: Sequence[Mapping[str, Any]], marks: Mapping[str, Mark]) -> list[str]:
    """Return a line through the base and all strengths of one adapter, for each that has several."""
    lines = []
    for point in found:
        scaled = [other for other in found if other["adapter"] == point["name"] and other["kind"] == "strength"]
        if scaled:
            strengths = {0.0: found[0]["name"], 1.0: point["name"]}
            strengths |= {float(other["changes"]["strength"]): other["name"] for other in scaled}
            names = [name for _, name in sorted(strengths.items())]
            lines.append(" ".join(f"{marks[name].x:g},{marks[name].y:g}" for name in names))
    return lines


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """Return `marks` with their labels where they cover the least of other labels and marks."""
    taken = [(mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6) for mark in marks]
    placed = []
    for mark in marks:
        boxes = {side: _box(mark, side) for side in SIDES}
        best = min(SIDES, key=lambda side: sum(_overlap(boxes[side], other) for other in taken) + _outside(boxes[side]))
        taken.append(boxes[best])
        placed.append(Mark(**{**vars(mark), "label": (mark.x + best[0], mark.y + best[1], best[2])}))
    return placed


Box = tuple[float, float, float, float]


def _box(mark: Mark, side: tuple[float, float, str]) -> Box:
    dx, dy, anchor = side
    length = LETTER * len(mark.name)
    left = mark.x + dx - {"start": 0.0, "middle": length / 2, "end": length}[anchor]
    return left, mark.y + dy - LINE + 3, left + length, mark.y + dy + 3


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)


def _outside(box: Box) -> float:
    return LINE * (max(0, -box[0]) + max(0, box[2] - WIDTH) + max(0, -box[1]) + max(0, box[3] - HEIGHT))
