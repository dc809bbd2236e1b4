"""What choosing among samples gained, for the reports: a sentence a model, and two tables."""

from collections.abc import Mapping
from pathlib import Path

from text2sql.comparison.choice import ChoiceGain, choice_gains
from text2sql.core.files import read_object
from text2sql.core.models import ModelTable
from text2sql.core.params import Params
from text2sql.core.paths import METRICS
from text2sql.report.markdown_text import DASH, table
from text2sql.report.numbers import interval, p_equation, p_value, percent, points, words

CHOICE_METRICS = {
    "samples": int, "choice": str, "when": str, "total": int, "official_successes": int,
    "official_execution_accuracy": float, "execution_accuracy": float, "changed": int, "rescued": int, "lost": int,
    "oracle": dict, "by_samples": dict,
}  # fmt: skip
OFFICIAL = "official_execution_accuracy"


def read_choices(params: Params, folder: Path = METRICS / "spider_choice") -> dict[str, ChoiceGain]:
    """Return {model: what its choice gained}, where the params have one; those of earlier params may still lie here."""
    if params.generation.samples == 1:
        return {}
    files = {model: folder / f"{model}.json" for model in params.model_table.names}
    found = {model: read_object(path, CHOICE_METRICS) for model, path in files.items() if path.is_file()}
    return choice_gains(found, params.compare)


def choice_lines(gains: Mapping[str, ChoiceGain], models: ModelTable) -> list[str]:
    """Return a sentence a model: `Model 1, chosen among 8 samples by majority: 69.54 % officially, +7.84 points …`."""
    return [
        f"{models.titles[model]}, chosen among {gain.metrics['samples']} samples by "
        f"{words(gain.metrics['choice'])}{_when(gain)}: {percent(gain.metrics[OFFICIAL])} officially, "
        f"{points(gain.difference_pts)} points over the greedy answer (95 % interval {_bounds(gain)}, "
        f"{p_equation(gain.p_holm)}); {gain.metrics['rescued']} rescued, {gain.metrics['lost']} lost; "
        f"the best choice possible: {percent(gain.metrics['oracle'][OFFICIAL])}"
        for model, gain in gains.items()
    ]


def _when(gain: ChoiceGain) -> str:
    return " where the greedy answer fails" if gain.metrics["when"] == "failed" else ""


def _bounds(gain: ChoiceGain) -> str:
    return interval(points(gain.low_pts), points(gain.high_pts))


def choice_tables(gains: Mapping[str, ChoiceGain], models: ModelTable) -> list[str]:
    """Return the section of chosen answers beside greedy ones, and of accuracy against the number of samples."""
    if not gains:
        return []
    rows = [
        [
            models.titles[model],
            percent(gain.greedy_accuracy),
            percent(gain.metrics[OFFICIAL]),
            f"{points(gain.difference_pts)} ({_bounds(gain)})",
            p_value(gain.p_holm),
            *(gain.metrics[name] for name in ("changed", "rescued", "lost")),
            percent(gain.metrics["oracle"][OFFICIAL]),
        ]
        for model, gain in gains.items()
    ]
    headings = ["", "Greedy", "Chosen", "Difference in points", "Adjusted p", "Changed", "Rescued", "Lost", "Oracle"]
    return [
        "## Chosen among samples, official execution accuracy",
        table(headings, rows),
        "### By number of samples",
        _curve(gains, models),
        "An oracle knows which answer is right; a choice sees only what answers return (docs/choice.md).",
    ]


def _curve(gains: Mapping[str, ChoiceGain], models: ModelTable) -> str:
    ways = list(
        dict.fromkeys(way for gain in gains.values() for by in gain.metrics["by_samples"].values() for way in by)
    )
    rows = [
        [models.titles[model], number, *(percent(by[way][OFFICIAL]) if way in by else DASH for way in ways)]
        for model, gain in gains.items()
        for number, by in gain.metrics["by_samples"].items()
    ]
    return table(["", "Samples", *(words(way).capitalize() for way in ways)], rows)
