"""How far the committed sets' scores carry: the table of their further evaluation sets, in docs/results.md."""

from collections.abc import Sequence

from text2sql.comparison.result import Difference, Verdict
from text2sql.report.markdown_text import DASH, as_text, table
from text2sql.report.numbers import in_percent, interval, points
from text2sql.report.read_sets import ResultSet
from text2sql.report.sentences import CARRIED_NOTE, set_in_words

NONE_YET = "No committed set has been asked further evaluation sets yet."
_NOTE = "Gain: against Base. `*`: more than chance, by a p that Holm's method adjusts over all rows of a set's column."


def carried_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a result set, a further evaluation set and a model; a sentence where there is none."""
    rows = []
    for found in sets:
        for (name, model), carried in found.carried.items():
            metrics = found.metrics["spider"][model]
            rows.append(
                [
                    found.name,
                    as_text(set_in_words(name, found.sets[name])),
                    found.models.titles[model],
                    in_percent(metrics["successes"] / metrics["total"]),
                    in_percent(carried.accuracy),
                    _points(carried),
                    _points(carried.gain),
                    DASH if carried.flips is None else in_percent(carried.flips),
                ]
            )
    if not rows:
        return NONE_YET
    headings = ["Set", "Asked", "Model", "Spider", "On it", "Against Spider", "Gain on it", "Verdicts that flip"]
    return f"{table(headings, rows)}\n\n{CARRIED_NOTE} {_NOTE}"


def _points(found: Difference | None) -> str:
    if found is None:
        return DASH
    told = "" if found.verdict is Verdict.NOT_DISTINGUISHABLE else " *"
    return f"{points(found.difference_pts)} ({interval(points(found.low_pts, 1), points(found.high_pts, 1))}){told}"
