"""The verdicts in words: one sentence a pair of models, and one line a limit of the gate."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from text2sql.comparison.gate import TradeOff
from text2sql.comparison.result import (
    CHAT,
    ROTATED,
    SPIDER_MEASURES,
    Carried,
    Comparison,
    Difference,
    Summary,
    Verdict,
)
from text2sql.core.journal import STRENGTH
from text2sql.core.models import ModelTable
from text2sql.report.numbers import count, interval, p_equation, percent, points
from text2sql.scoring.failures import TIE

if TYPE_CHECKING:  # `score` starts without pydantic
    from text2sql.core.params import AlsoSet

_AGAINST_BASE = {Verdict.BETTER: "improved on", Verdict.WORSE: "regressed from"}
CHANCE = "A guess is right on 25 % of MMLU's questions, which have four options each."
CARRIED_NOTE = (
    "Differences are in points of execution accuracy. A set that has as many questions as the dev split, about "
    "the same databases in the same order, is compared with it question by question, as models are, and verdicts "
    "that are right in one place and wrong in the other flip; of any other the interval is a "
    "bootstrap's of two sets of questions, and p that of Fisher's exact test."
)
FLOOR_CHARACTERS = 80  # of the query shown
_OUT_OF_MEMORY = {
    "out_of_memory": "times that memory ran out, and a step was cut otherwise, which may round otherwise",
    "questions_in_halved_batches": "questions asked in halved batches, for memory ran out, which may round otherwise",
}
_AGAINST_TUNED = {Verdict.BETTER: "is better than", Verdict.WORSE: "is worse than"}


def sentences(summary: Summary) -> dict[tuple[str, str], str]:
    """Return one sentence for each pair (model, against).

    "improved" and "regressed" stand only where the Holm-adjusted p reaches 5 %.
    """
    titles = summary.models.titles
    found = {}
    for pair in summary.pairs:
        words = _AGAINST_BASE if pair.against == summary.models.base else _AGAINST_TUNED
        spider = _clause(
            words, f"{titles[pair.against]} on {summary.models.questions}", pair.spider, summary.spider_total
        )
        mmlu = _clause(words, f"{titles[pair.against]} on MMLU", pair.mmlu, summary.mmlu_total)
        found[pair.model, pair.against] = f"{titles[pair.model]} {spider} and {mmlu}."
    return found


def _clause(words: dict[Verdict, str], other_on_task: str, found: Difference, total: int) -> str:
    word = words.get(found.verdict, "is not distinguishable from")
    bounds = interval(points(found.low_pts), points(found.high_pts))
    numbers = f"{points(found.difference_pts)} points, 95 % interval {bounds}, Holm-adjusted {p_equation(found.p_holm)}"
    detectable = found.smallest_detectable_pts
    shown = "" if detectable is None else f"; smallest detectable: {detectable:.2f} on {count(total)} questions"
    return f"{word} {other_on_task} ({numbers}{shown})"


def gate_lines(trade_offs: Iterable[TradeOff], models: ModelTable) -> list[str]:
    """Say one line a tuned model and limit: its verdict, the points with their interval, and the limit."""
    return [
        f"{limit.verdict}: {models.titles[found.model]}, {name}: {points(limit.points)} points "
        f"({interval(points(limit.low_pts), points(limit.high_pts))}), {bound} {limit.limit_pts:g} wanted"
        for found in trade_offs
        for limit, name, bound in (
            (found.spider, f"gain on {models.questions}", "at least"),
            (found.mmlu, "loss on MMLU", "at most"),
        )
    ]


def sqlite_lines(spider: Mapping[str, Mapping[str, Any]], models: ModelTable) -> list[str]:
    """Say, where models were scored by different versions of SQLite, which; `spider` holds each model's metrics.

    37 of Spider's 5,240 gold results differ in the last digits of avg or sum between SQLite 3.40 and 3.54.
    """
    versions: dict[str, list[str]] = {}
    for model in models.names:
        versions.setdefault(spider[model]["sqlite_version"], []).append(models.titles[model])
    if len(versions) == 1:
        return []
    scored = "; ".join(f"{listed(titles)} with {version}" for version, titles in versions.items())
    return [f"scored by different versions of SQLite, which may round averages and sums differently: {scored}"]


def floor_lines(spider: Mapping[str, Mapping[str, Any]], models: ModelTable) -> list[str]:
    """Say what one answer to every question scores, where the metrics of the base know it."""
    floor = spider[models.base].get("floor")
    return [floor_line(floor)] if floor else []


def floor_line(floor: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what one answer to every question scores; `floor` is what `scoring.golds.floors` returns."""
    paper, official = (_of_floor(floor[measure]) for measure in SPIDER_MEASURES)
    return f"The same answer to every question scores {paper}, official {official}."


def _of_floor(entry: Mapping[str, Any]) -> str:
    share, query = entry["successes"] / (entry["total"] or 1), " ".join(entry["query"].split())
    query = query if len(query) <= FLOOR_CHARACTERS else f"{query[: FLOOR_CHARACTERS - 1]}…"
    return f"{percent(share)} ({count(entry['successes'])} of {count(entry['total'])}, by {query})"


def also_lines(found: Comparison, sets: Mapping[str, "AlsoSet"]) -> list[str]:
    """Say, a line a further evaluation set, how far each model's score on Spider carries to it."""
    return [
        f"{set_in_words(name, sets[name])}, {count(next(iter(by_model.values()))['total'])} questions: "
        + "; ".join(_carried(found, carried) for carried in found.carried_to(name).values())
        for name, by_model in found.also.items()
    ]


def set_in_words(name: str, entry: "AlsoSet") -> str:
    """Return what a further evaluation set is: `syn (data/raw/Spider-Syn)`, `reversed (hub, tables reversed)`."""
    order = f", tables {entry.table_order}" if entry.table_order else ""
    return f"{name} ({entry.spider}{order})"


def _carried(found: Comparison, carried: Carried) -> str:
    on_dev = f"{found.models.questions}'s {percent(carried.accuracy_on_dev)}"
    change = f"{points(carried.difference_pts)} points against {on_dev}"
    numbers = (
        f"95 % interval {interval(points(carried.low_pts), points(carried.high_pts))}, {p_equation(carried.p_holm)}"
    )
    kind = "other questions" if carried.flips is None else f"{percent(carried.flips)} of verdicts flip"
    return f"{found.models.titles[carried.model]} {percent(carried.accuracy)}, {change} ({numbers}, {kind})"


def tie_lines(spider: Mapping[str, Mapping[str, Any]], models: ModelTable) -> list[str]:
    """Say, for models with such answers, how many are wrong by a tie at gold's LIMIT alone."""
    return [
        f"{models.titles[model]}, {models.questions}: {line}"
        for model in models.names
        for line in tie_line(spider[model])
    ]


def tie_line(metrics: Mapping[str, Any]) -> list[str]:
    """Say how many answers are wrong by a tie at gold's LIMIT alone, and the lenient count; nothing where none is."""
    ties = metrics["causes"].get(TIE, 0)
    if not ties:
        return []
    lenient, total = metrics["lenient_successes"], metrics["total"]
    answers = "answers are" if ties > 1 else "answer is"
    return [
        f"{count(ties)} {answers} wrong by a tie at gold's LIMIT alone, and as right as gold: leniently "
        f"{count(lenient)} of {count(total)} ({percent(lenient / total)}) are right, officially "
        f"{count(metrics['official_successes'])}"
    ]


def rotation_lines(found: Comparison) -> list[str]:
    """Say how many answers are right over all rotations of MMLU's options, where they were asked."""
    shown = [
        f"{found.models.titles[model]} {percent(metrics['accuracy'])}{_against_base(found, model, ROTATED)}"
        for model, metrics in found.rotated.items()
    ]
    return [f"MMLU over the four rotations of its options: {'; '.join(shown)}"] if shown else []


def chat_lines(found: Comparison) -> list[str]:
    """Say what each model that was asked MMLU in chat answers."""
    of_all = found.mmlu[found.models.base]["total"]
    return [
        f"MMLU in chat, {count(chat['total'])} questions"
        + (f" drawn at random from {count(of_all)}" if chat["total"] < of_all else "")
        + f": {found.models.titles[model]} answers {percent(chat['letter_share'])} with a letter and "
        f"{percent(chat['sql_share'])} with SQL, and {percent(chat['accuracy'])} are right"
        + _against_base(found, model, CHAT)
        + f"; {count(chat['at_token_limit'])} ran to the token limit"
        for model, chat in found.chat.items()
    ]


def _against_base(found: Comparison, model: str, measure: str) -> str:
    if not found.has(model, measure):
        return ""
    row = found.against_base(model, measure)
    bounds = interval(points(row.low_pts), points(row.high_pts))
    base = found.models.titles[found.models.base]
    change = f"{points(row.difference_pts)} points against {base}"
    return f" ({change}, 95 % interval {bounds}, {p_equation(row.p_holm)})"


def memory_lines(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], models: ModelTable) -> list[str]:
    """Say where memory ran out; `metrics` holds each task's, by model.

    Training then cuts its steps otherwise, and evaluation asks fewer questions at once, which may round otherwise.
    """
    return [
        f"{models.titles[model]}, {task}: {what}: {count(found[model][key])}"
        for task, found in metrics.items()
        for model in models.names
        for key, what in _OUT_OF_MEMORY.items()
        if model in found and key in found[model]
    ]


def strength_lines(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], models: ModelTable) -> list[str]:
    """Say which models' adapters were scaled in evaluation; `metrics` holds each task's, by model."""
    found = {
        model: metric[STRENGTH]
        for task in metrics.values()
        for model, metric in task.items()
        if model in models.tuned and STRENGTH in metric
    }
    return [f"{models.titles[model]}: its adapter was scaled by {strength:g}" for model, strength in found.items()]


def listed(names: Iterable[str]) -> str:
    """Return names as a sentence lists them: `Base, Model 1 and Model 2`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
