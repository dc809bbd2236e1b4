"""What a fine-tune gained, what it cost, and whether either is more than chance: verdict lines in, `Comparison` out."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from text2sql.comparison import significance as statistics
from text2sql.comparison.also import SetVerdicts, carried, require_same_sets
from text2sql.comparison.chat import ChatVerdicts, require_same_questions
from text2sql.comparison.result import (
    ACCURACY,
    ALL,
    BIRD,
    BY_CATEGORY,
    BY_ROTATION,
    BY_SET,
    BY_SUBJECT,
    CARRIED,
    CHAT,
    EXECUTION,
    HEADLINE,
    IN_CHAT,
    OFFICIAL,
    ROTATED,
    SPIDER_MEASURES,
    Agreement,
    Carried,
    Comparison,
    PairComparison,
)
from text2sql.core.errors import UserError
from text2sql.core.models import ModelTable
from text2sql.data.mmlu import CATEGORIES, ROTATIONS, letter_shares

_FAMILIES = {
    HEADLINE: "{questions} ({accuracies}) and MMLU overall",
    BY_CATEGORY: "MMLU by category",
    BY_SUBJECT: "MMLU by subject",
    BY_ROTATION: "MMLU over the rotations of its options",
    IN_CHAT: "MMLU in chat",
    BY_SET: "further evaluation sets",
}


@dataclass(frozen=True)
class ModelResults:
    """What the evaluation of one model left: two metrics dictionaries, and lines in the form of the files' own.

    chat_verdicts: None for a model that was not asked MMLU in chat.
    also: {further evaluation set that the model was asked: its verdicts}.
    """

    spider_metrics: Mapping[str, Any]
    mmlu_metrics: Mapping[str, Any]
    spider_verdicts: Iterable[Mapping[str, Any]]
    mmlu_verdicts: Iterable[Mapping[str, Any]]
    predictions: Iterable[Mapping[str, Any]]
    chat_verdicts: Iterable[Mapping[str, Any]] | None = None
    also: Mapping[str, Iterable[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answers:
    """What is kept of a model's lines: a column each, so that memory does not grow with the results' rows."""

    spider_keys: list[tuple]
    spider: dict[str, list[bool]]
    bird: dict[int, bool]  # by place, of the questions that BIRD's definition was asked of
    mmlu_keys: list[tuple]
    mmlu_categories: list[str]
    mmlu: list[bool]
    choices: list[int]
    rotations_right: list[int]  # empty where the options were not rotated
    outputs: list[str]
    chat: ChatVerdicts | None
    also: dict[str, SetVerdicts]


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
        if self.task == IN_CHAT:
            assert answers.chat is not None
            return answers.chat.right
        if self.family == BY_SET:
            return answers.also[self.scope].right[self.measure]
        if self.measure == BIRD:
            return list(answers.bird.values())
        column = answers.mmlu if self.task == "mmlu" else answers.spider[self.measure]
        return column if self.places is None else [column[place] for place in self.places]


_IN_CHAT = _Measure(IN_CHAT, CHAT, "overall", ALL, IN_CHAT)


def compare(results: Mapping[str, ModelResults], bootstrap: statistics.Bootstrap, models: ModelTable) -> Comparison:
    """Return the comparison of `models`, each of which has its `results`.

    Raises UserError where the models were not evaluated on the same questions, or lines and metrics do not agree.
    """
    answers = {model: _collect(model, results[model], models.questions) for model in models.names}
    base = answers[models.base]
    for model in models.tuned:
        for task in ("spider", "mmlu"):
            if getattr(answers[model], f"{task}_keys") != getattr(base, f"{task}_keys"):
                raise UserError(f"{task}: {models.base} and {model} were evaluated on different questions; rerun both")
        if answers[model].bird.keys() != base.bird.keys():
            raise UserError(f"spider: {models.base} and {model} have BIRD's verdicts on different ones; rerun both")
        if len(answers[model].rotations_right) != len(base.rotations_right):
            raise UserError(f"mmlu: {models.base} and {model} were asked different rotations; rerun both")
    rows = [_compare_pair(measure, pair, answers, bootstrap) for measure in _measures(base) for pair in models.pairs]
    rows += [_compare_rotations(pair, answers, bootstrap) for pair in models.pairs if base.rotations_right]
    chats = {model: found.chat for model, found in answers.items() if found.chat is not None}
    require_same_questions(chats)
    rows += [_compare_pair(_IN_CHAT, pair, answers, bootstrap) for pair in models.pairs if chats.keys() >= set(pair)]
    sets = {model: found.also for model, found in answers.items()}
    require_same_sets(sets)
    for name in dict.fromkeys(name for found in sets.values() for name in found):
        on_set = _Measure("spider", EXECUTION, "set", name, BY_SET)
        asked = [pair for pair in models.pairs if all(name in sets[model] for model in pair)]
        rows += [_compare_pair(on_set, pair, answers, bootstrap) for pair in asked]
    on_dev = {model: SetVerdicts(found.spider_keys, found.spider) for model, found in answers.items()}
    further = carried(sets, on_dev, bootstrap)
    return Comparison(
        models=models,
        spider={model: results[model].spider_metrics for model in models.names},
        mmlu={model: results[model].mmlu_metrics for model in models.names},
        rows=_adjusted(rows),
        families=_families(rows, models.questions) | _family_of_carried(further, models.questions),
        agreement={(model, against): _agreement(answers[model], answers[against]) for model, against in models.pairs},
        letters={model: letter_shares(found.choices) for model, found in answers.items()},
        chat={
            model: {**found.summary, **found.by_log_likelihood(dict(zip(base.mmlu_keys, answers[model].mmlu)))}
            for model, found in chats.items()
        },
        also={
            name: {model: found[name].metrics for model, found in sets.items() if name in found}
            for name in dict.fromkeys(name for found in sets.values() for name in found)
        },
        carried=further,
    )


def _families(rows: Iterable[PairComparison], questions: str) -> dict[str, str]:
    """Return the families that `rows` have: their descriptions, and how many comparisons of how many pairs."""
    found = {}
    for family, description in _FAMILIES.items():
        pairs = [(row.model, row.against) for row in rows if row.family == family]
        if pairs or family not in (BY_ROTATION, IN_CHAT, BY_SET):
            comparisons, of = _counted(len(pairs), "comparison"), _counted(len(set(pairs)), "pair")
            accuracies = "all three accuracies" if any(row.measure == BIRD for row in rows) else "both accuracies"
            described = description.replace("{questions}", questions).replace("{accuracies}", accuracies)
            found[family] = f"{described}: {comparisons} ({of} of models)"
    return found


def _family_of_carried(found: Sequence[Carried], questions: str) -> dict[str, str]:
    comparisons = _counted(len(found), "comparison")
    return {CARRIED: f"each model on them against itself on {questions}: {comparisons}"} if found else {}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _collect(model: str, results: ModelResults, questions: str) -> _Answers:
    chat = None if results.chat_verdicts is None else ChatVerdicts.collect(results.chat_verdicts)
    answers = _Answers([], {measure: [] for measure in SPIDER_MEASURES}, {}, [], [], [], [], [], [], chat, {})
    answers.also.update({name: SetVerdicts.collect(found) for name, found in results.also.items()})
    for line in results.spider_verdicts:
        if BIRD in line:
            answers.bird[len(answers.spider_keys)] = line[BIRD]
        answers.spider_keys.append((line["index"], line["db_id"]))
        for measure in SPIDER_MEASURES:
            answers.spider[measure].append(line[measure])
    for line in results.mmlu_verdicts:
        answers.mmlu_keys.append((line["subject"], line["index"]))
        answers.mmlu_categories.append(line["category"])
        answers.mmlu.append(line["correct"])
        answers.choices.append(line["choice"])
        if "rotations_right" in line:
            answers.rotations_right.append(line["rotations_right"])
    prediction_keys = []
    for line in results.predictions:
        prediction_keys.append((line["index"], line["db_id"]))
        answers.outputs.append(line["raw"])
    if prediction_keys != answers.spider_keys:
        raise UserError(f"{model}: its predictions and its {questions} verdicts are not of the same examples")
    _require_metrics_of(model, answers, results, questions)
    return answers


def _require_metrics_of(model: str, answers: _Answers, results: ModelResults, questions: str) -> None:
    spider, mmlu, rotated = results.spider_metrics, results.mmlu_metrics, answers.rotations_right
    for name, right, wanted in (
        (f"{questions} total", len(answers.spider_keys), spider["total"]),
        (f"{questions} successes", sum(answers.spider[EXECUTION]), spider["successes"]),
        (f"{questions} official successes", sum(answers.spider[OFFICIAL]), spider["official_successes"]),
        ("BIRD's successes", sum(answers.bird.values()) if answers.bird else None, spider.get("bird_successes")),
        ("MMLU total", len(answers.mmlu), mmlu["total"]),
        ("MMLU correct", sum(answers.mmlu), mmlu["correct"]),
        *([("MMLU's rotations correct", sum(rotated), mmlu.get("rotated", {}).get("correct"))] if rotated else []),
    ):
        if right != wanted:
            raise UserError(f"{model}: its verdicts give {name} {right}, its metrics {wanted}; rerun its evaluation")
        if not right and name.endswith("total"):
            raise UserError(f"{model}: {name} is 0; there is nothing to compare")


def _measures(answers: _Answers) -> list[_Measure]:
    """Return what is compared, in the order of the output."""
    of_spider = [*SPIDER_MEASURES, *([BIRD] if answers.bird else [])]
    measures = [_Measure("spider", measure, "overall", ALL, HEADLINE) for measure in of_spider]
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
    measure: _Measure, pair: tuple[str, str], answers: Mapping[str, _Answers], bootstrap: statistics.Bootstrap
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
        difference_pts=statistics.in_points((gained - lost) / total),
        low_pts=statistics.in_points(low),
        high_pts=statistics.in_points(high),
        gained=gained,
        lost=lost,
        both_right=sum(right) - gained,
        both_wrong=total - sum(right) - lost,
        p=p,
        p_holm=p,
        smallest_detectable_pts=None if detectable is None else round(100 * detectable, 2),
    )


def _compare_rotations(
    pair: tuple[str, str], answers: Mapping[str, _Answers], bootstrap: statistics.Bootstrap
) -> PairComparison:
    """Return the row of MMLU over all rotations, by clusters of one question each; its p is not adjusted yet."""
    model, against = pair
    right, right_against = answers[model].rotations_right, answers[against].rotations_right
    size, total = ROTATIONS, len(right)
    differences = Counter(ours - theirs for ours, theirs in zip(right, right_against, strict=True))
    low, high = statistics.clustered_bootstrap_interval(differences, size, bootstrap.bootstrap_samples, bootstrap.seed)
    p = statistics.sign_flip_p(differences)
    never = sum(not (ours or theirs) for ours, theirs in zip(right, right_against))
    return PairComparison(
        task="mmlu_rotated",
        measure=ROTATED,
        level="overall",
        scope=ALL,
        family=BY_ROTATION,
        model=model,
        against=against,
        total=total,
        accuracy=round(sum(right) / (total * size), 6),
        accuracy_against=round(sum(right_against) / (total * size), 6),
        difference_pts=statistics.in_points((sum(right) - sum(right_against)) / (total * size)),
        low_pts=statistics.in_points(low),
        high_pts=statistics.in_points(high),
        gained=sum(count for value, count in differences.items() if value > 0),
        lost=sum(count for value, count in differences.items() if value < 0),
        both_right=differences[0] - never,
        both_wrong=never,
        p=p,
        p_holm=p,
        smallest_detectable_pts=None,
    )


def _adjusted(rows: list[PairComparison]) -> tuple[PairComparison, ...]:
    """Return `rows` with their p adjusted within each family."""
    adjusted: dict[int, float] = {}
    for family in _FAMILIES:
        places = [place for place, row in enumerate(rows) if row.family == family]
        adjusted |= zip(places, statistics.holm([rows[place].p for place in places]))
    # Rounded before any verdict is taken, so that metrics/compare.json leads to the same one.
    return tuple(
        dataclasses.replace(row, p=statistics.rounded_p(row.p), p_holm=statistics.rounded_p(adjusted[place]))
        for place, row in enumerate(rows)
    )


def _agreement(answers: _Answers, against: _Answers) -> Agreement:
    def share(ours: list, theirs: list) -> float:
        return round(sum(one == other for one, other in zip(ours, theirs)) / len(ours), 6)

    return Agreement(
        outputs=share(answers.outputs, against.outputs),
        spider_verdicts=share(answers.spider[EXECUTION], against.spider[EXECUTION]),
        mmlu_choices=share(answers.choices, against.choices),
    )
