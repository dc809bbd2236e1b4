"""What a fine-tune gained, what it cost, and whether either is more than chance: verdict lines in, `Comparison` out."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from text2sql.comparison import significance as statistics
from text2sql.comparison.result import (
    ACCURACY,
    ALL,
    BY_CATEGORY,
    BY_SUBJECT,
    EXECUTION,
    HEADLINE,
    OFFICIAL,
    SPIDER_MEASURES,
    Agreement,
    Comparison,
    PairComparison,
)
from text2sql.core.errors import UserError
from text2sql.core.models import ModelTable
from text2sql.data.mmlu import CATEGORIES

_FAMILIES = {
    HEADLINE: "Spider (both accuracies) and MMLU overall",
    BY_CATEGORY: "MMLU by category",
    BY_SUBJECT: "MMLU by subject",
}


class Bootstrap(Protocol):
    """What the section `compare` of the params says of the bootstrap."""

    bootstrap_samples: int
    seed: int


@dataclass(frozen=True)
class ModelResults:
    """What the evaluation of one model left: two metrics dictionaries, and lines in the form of the files' own."""

    spider_metrics: Mapping[str, Any]
    mmlu_metrics: Mapping[str, Any]
    spider_verdicts: Iterable[Mapping[str, Any]]
    mmlu_verdicts: Iterable[Mapping[str, Any]]
    predictions: Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class _Answers:
    """What is kept of a model's lines: a column each, so that memory does not grow with the results' rows."""

    spider_keys: list[tuple]
    spider: dict[str, list[bool]]
    mmlu_keys: list[tuple]
    mmlu_categories: list[str]
    mmlu: list[bool]
    choices: list[int]
    outputs: list[str]


@dataclass(frozen=True)
class _Measure:
    """What is compared. `places`: of the questions among all of the task, None for all of them."""

    task: str
    measure: str
    level: str
    scope: str
    family: str
    places: list[int] | None = None

    def verdicts(self, answers: _Answers) -> list[bool]:
        column = answers.mmlu if self.task == "mmlu" else answers.spider[self.measure]
        return column if self.places is None else [column[place] for place in self.places]


def compare(results: Mapping[str, ModelResults], bootstrap: Bootstrap, models: ModelTable) -> Comparison:
    """Return the comparison of `models`, each of which has its `results`.

    Raises UserError where the models were not evaluated on the same questions, or lines and metrics do not agree.
    """
    answers = {model: _collect(model, results[model]) for model in models.names}
    base = answers[models.base]
    for model in models.tuned:
        for task in ("spider", "mmlu"):
            if getattr(answers[model], f"{task}_keys") != getattr(base, f"{task}_keys"):
                raise UserError(f"{task}: {models.base} and {model} were evaluated on different questions; rerun both")
    rows = [
        _compare_pair(measure, (model, against), answers, bootstrap)
        for measure in _measures(base)
        for model, against in models.pairs
    ]
    sizes = {family: sum(row.family == family for row in rows) for family in _FAMILIES}
    return Comparison(
        models=models,
        spider={model: results[model].spider_metrics for model in models.names},
        mmlu={model: results[model].mmlu_metrics for model in models.names},
        rows=_adjusted(rows),
        families={
            family: f"{description}: {sizes[family]} comparisons ({len(models.pairs)} pairs of models)"
            for family, description in _FAMILIES.items()
        },
        agreement={(model, against): _agreement(answers[model], answers[against]) for model, against in models.pairs},
    )


def _collect(model: str, results: ModelResults) -> _Answers:
    answers = _Answers([], {measure: [] for measure in SPIDER_MEASURES}, [], [], [], [], [])
    for line in results.spider_verdicts:
        answers.spider_keys.append((line["index"], line["db_id"]))
        for measure in SPIDER_MEASURES:
            answers.spider[measure].append(line[measure])
    for line in results.mmlu_verdicts:
        answers.mmlu_keys.append((line["subject"], line["index"]))
        answers.mmlu_categories.append(line["category"])
        answers.mmlu.append(line["correct"])
        answers.choices.append(line["choice"])
    prediction_keys = []
    for line in results.predictions:
        prediction_keys.append((line["index"], line["db_id"]))
        answers.outputs.append(line["raw"])
    if prediction_keys != answers.spider_keys:
        raise UserError(f"{model}: its predictions and its Spider verdicts are not of the same examples")
    _require_metrics_of(model, answers, results)
    return answers


def _require_metrics_of(model: str, answers: _Answers, results: ModelResults) -> None:
    spider, mmlu = results.spider_metrics, results.mmlu_metrics
    for name, right, wanted in (
        ("Spider total", len(answers.spider_keys), spider["total"]),
        ("Spider successes", sum(answers.spider[EXECUTION]), spider["successes"]),
        ("Spider official successes", sum(answers.spider[OFFICIAL]), spider["official_successes"]),
        ("MMLU total", len(answers.mmlu), mmlu["total"]),
        ("MMLU correct", sum(answers.mmlu), mmlu["correct"]),
    ):
        if right != wanted:
            raise UserError(f"{model}: its verdicts give {name} {right}, its metrics {wanted}; rerun its evaluation")
        if not right and name.endswith("total"):
            raise UserError(f"{model}: {name} is 0; there is nothing to compare")


def _measures(answers: _Answers) -> list[_Measure]:
    """Return what is compared, in the order of the output."""
    measures = [_Measure("spider", measure, "overall", ALL, HEADLINE) for measure in SPIDER_MEASURES]
    measures.append(_Measure("mmlu", ACCURACY, "overall", ALL, HEADLINE))
    subjects = [subject for subject, _ in answers.mmlu_keys]
    present = set(answers.mmlu_categories)
    for level, family, scopes, column in (
        ("category", BY_CATEGORY, [name for name in CATEGORIES if name in present], answers.mmlu_categories),
        ("subject", BY_SUBJECT, list(dict.fromkeys(subjects)), subjects),
    ):
        places: dict[str, list[int]] = {}
        for place, name in enumerate(column):
            places.setdefault(name, []).append(place)
        measures += [_Measure("mmlu", ACCURACY, level, scope, family, places[scope]) for scope in scopes]
    return measures


def _compare_pair(
    measure: _Measure, pair: tuple[str, str], answers: Mapping[str, _Answers], bootstrap: Bootstrap
) -> PairComparison:
    """Return one row, whose p is not adjusted yet."""
    model, against = pair
    right, right_against = measure.verdicts(answers[model]), measure.verdicts(answers[against])
    total = len(right)
    gained, lost = statistics.discordant(right, right_against)
    low, high = statistics.paired_bootstrap_interval(gained, lost, total, bootstrap.bootstrap_samples, bootstrap.seed)
    detectable = statistics.smallest_detectable_difference(gained, lost, total)
    p = statistics.mcnemar_p(gained, lost)
    return PairComparison(
        task=measure.task,
        measure=measure.measure,
        level=measure.level,
        scope=measure.scope,
        family=measure.family,
        model=model,
        against=against,
        total=total,
        accuracy=round(sum(right) / total, 6),
        accuracy_against=round(sum(right_against) / total, 6),
        difference_pts=_points((gained - lost) / total),
        low_pts=_points(low),
        high_pts=_points(high),
        gained=gained,
        lost=lost,
        both_right=sum(right) - gained,
        both_wrong=total - sum(right) - lost,
        p=p,
        p_holm=p,
        smallest_detectable_pts=None if detectable is None else round(100 * detectable, 2),
    )


def _points(share: float) -> float:
    return round(100 * share, 4) + 0.0  # never -0.0


def _adjusted(rows: list[PairComparison]) -> tuple[PairComparison, ...]:
    """Return `rows` with their p adjusted within each family."""
    adjusted: dict[int, float] = {}
    for family in _FAMILIES:
        places = [place for place, row in enumerate(rows) if row.family == family]
        adjusted |= zip(places, statistics.holm([rows[place].p for place in places]))
    # Rounded before any verdict is taken, so that metrics/compare.json leads to the same one.
    return tuple(
        dataclasses.replace(row, p=_rounded(row.p), p_holm=_rounded(adjusted[place])) for place, row in enumerate(rows)
    )


def _rounded(p: float) -> float:
    return float(f"{p:.4g}")


def _agreement(answers: _Answers, against: _Answers) -> Agreement:
    def share(ours: list, theirs: list) -> float:
        return round(sum(one == other for one, other in zip(ours, theirs)) / len(ours), 6)

    return Agreement(
        outputs=share(answers.outputs, against.outputs),
        spider_verdicts=share(answers.spider[EXECUTION], against.spider[EXECUTION]),
        mmlu_choices=share(answers.choices, against.choices),
    )
