"""The figure of a curve's choices among samples: accuracy against the number of samples, as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from text2sql.comparison.result import OFFICIAL
from text2sql.report.charts import TEMPLATES, Axis
from text2sql.report.curve_figure import questions_of

WIDTH, HEIGHT = 520, 300  # of the plot's box, in pixels
LABEL = 12  # the height of a label
WAYS = {  # of choosing, as `by_samples` has them
    "oracle": "any of them (oracle)",
    "majority": "majority by result",
    "majority_where_greedy_fails": "majority, where greedy fails",
    "first_executable": "the first that runs, where greedy fails",
    "one_sample": "one sample, the mean",
}
BY_VERIFIER = {  # those of points whose samples a verifier judged
    "verifier": "likeliest right, by a verifier",
    "verifier_where_greedy_fails": "by a verifier, where greedy fails",
    "weighted_majority": "majority weighted by a verifier",
}


def ways_in(choices: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the ways to choose, {way: its title}, the verifier's as far as one of `choices` has them."""
    had = {way for choice in choices for ways in choice["by_samples"].values() for way in ways}
    return {way: title for way, title in (WAYS | BY_VERIFIER).items() if way in WAYS or way in had}


def samples_figure(curve: Mapping[str, Any]) -> str | None:
    """Return the figure of the last point that drew samples, as one SVG file's text, or None where none did.

    Across, the number of samples (each step doubles it); up, official execution accuracy in percent. The dashed line is
    the greedy answer.
    """
    sampled = [point for point in curve["points"] if "choice" in point["runs"][0]]
    if not sampled:
        return None
    point = sampled[-1]
    run = point["runs"][0]
    by_samples, greedy = run["choice"]["by_samples"], 100 * run["spider"][OFFICIAL]
    numbers = list(by_samples)
    ways = ways_in([run["choice"]])
    lines = {way: [100 * by_samples[number][way][OFFICIAL] for number in numbers] for way in ways}
    axis = Axis.over([greedy, *(value for line in lines.values() for value in line)])

    def up(value: float) -> float:
        return round((1 - axis.at(value) / 100) * HEIGHT, 1)

    ends = dict(zip(ways, _apart([up(lines[way][-1]) for way in ways]), strict=True))
    across = [round(WIDTH * place / max(len(numbers) - 1, 1), 1) for place in range(len(numbers))]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("samples.svg.jinja").render(
        name=f"{curve['name']}, {point['name']}",
        questions=questions_of(curve),
        ticks=[(f"{tick:g}", up(tick)) for tick in axis.ticks],
        numbers=list(zip(numbers, across, strict=True)),
        greedy=up(greedy),
        lines=[
            (way, title, f"{lines[way][-1]:.1f}", ends[way], list(zip(across, map(up, lines[way]), strict=True)))
            for way, title in ways.items()
        ],
        further=[way for way in BY_VERIFIER if way in ways],
        width=WIDTH,
        height=HEIGHT,
    )


def _apart(places: Sequence[float]) -> list[float]:
    """Return heights of labels at `places` (pixels), in their order from the top, moved down as far as they overlap."""
    found, last = dict.fromkeys(range(len(places)), 0.0), -math.inf
    for number in sorted(found, key=lambda number: places[number]):
        last = found[number] = max(places[number], round(last + LABEL, 1))
    return list(found.values())
