"""The figure of accuracy over training: of a curve's points that were asked along their training, as SVG."""

from collections.abc import Mapping
from typing import Any

import jinja2

from text2sql.comparison.result import OFFICIAL
from text2sql.report.charts import TEMPLATES, Axis
from text2sql.report.curve_figure import questions_of
from text2sql.report.numbers import count, in_percent, interval

WIDTH, HEIGHT = 520, 300  # of the plot's box, in pixels
COLOURS = 6  # in the template: further lines take them again, broken
BESIDE = 5  # pixels from one line's last interval to the next one's


def along_of(curve: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[tuple[float, float]]]]:
    """Return the points that were asked along their training, each with its line.

    A line's places are the share of the training and the official execution accuracy, both in percent. It begins with
    the accuracy of the point whose model it begins with, where there is one that was asked alike.
    """
    names = {point["name"]: point["runs"][0] for point in curve["points"]}
    found = []
    for point in (point for point in curve["points"] if "along" in point["runs"][0]):
        start = names.get(point.get("along_from"))
        line = [(0.0, 100 * start["spider"][OFFICIAL])] if start else []
        line += [(100 * place["step"] / place["of"], 100 * place[OFFICIAL]) for place in point["runs"][0]["along"]]
        found.append((point, line))
    return found


def along_figure(curve: Mapping[str, Any]) -> str | None:
    """Return accuracy over training as one SVG file's text, or None where no point was asked along.

    Across, the share of each point's training; up, official execution accuracy in percent. The last value has its 95 %
    interval, beside those of other points.
    """
    found = along_of(curve)
    if not found:
        return None
    ends = [_end(point) for point, _ in found]
    accuracies = [accuracy for _, line in found for _, accuracy in line]
    axis = Axis.over([*accuracies, *(end for pair in ends for end in pair)])

    def up(value: float) -> float:
        return round((1 - axis.at(value) / 100) * HEIGHT, 1)

    lines = []
    for number, ((point, line), (low, high)) in enumerate(zip(found, ends, strict=True)):
        last = point["runs"][0]["along"][-1]
        lines.append(
            {
                "colour": number % COLOURS,
                "broken": number >= COLOURS,
                "places": [(round(WIDTH * share / 100, 1), up(accuracy)) for share, accuracy in line],
                "end": (WIDTH + BESIDE * (number + 1), up(low), up(high)),
                "title": f"{point['name']}: {in_percent(last[OFFICIAL], 1)} "
                f"({interval(f'{low:.1f}', f'{high:.1f}')}) after {count(last['examples'])} examples",
            }
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("along.svg.jinja").render(
        name=curve["name"],
        questions=questions_of(curve),
        ticks=[(f"{tick:g}", up(tick)) for tick in axis.ticks],
        shares=[(share, round(WIDTH * share / 100, 1)) for share in (0, 25, 50, 75, 100)],
        lines=lines,
        margin=20 + BESIDE * len(lines),
        width=WIDTH,
        height=HEIGHT,
    )


def _end(point: Mapping[str, Any]) -> tuple[float, float]:
    last = point["runs"][0]["along"][-1]
    return 100 * last[f"{OFFICIAL}_low"], 100 * last[f"{OFFICIAL}_high"]
