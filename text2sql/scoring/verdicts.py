"""Scores of predicted SQL: definitions of execution accuracy, causes of failure, intervals.

- `execution_accuracy`, the paper's (section II.D): both results as Python sets of rows, equal or not.
- `official_execution_accuracy`: the official evaluator's, see `text2sql.scoring.official`.
- `bird_execution_accuracy`: BIRD's, see `text2sql.scoring.bird`, where an example has what its files have.
- `lenient_successes`: how many are right officially, or wrong by a tie alone, see `text2sql.scoring.ties`.

All run in the sandbox of `text2sql.execution.executor`, which stops what it does not allow: there the official
evaluator, which runs anything, may come to another verdict (`Verdict.stopped`).
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from text2sql.core.intervals import wilson_interval
from text2sql.data.spider import Example
from text2sql.execution.executor import Executor, Limits, Purpose, Result
from text2sql.execution.gold_cache import GoldCache
from text2sql.scoring.bird import DIFFICULTIES
from text2sql.scoring.case import CORRECT, Case, Verdict, same_rows
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES, TIE
from text2sql.scoring.golds import FailingGold, Gold, floors, refuse_failing
from text2sql.scoring.hardness import HARDNESS_LEVELS
from text2sql.scoring.ties import Ranking

__all__ = ["CORRECT", "Verdict", "same_rows", "score_examples", "summarise"]

_Query = tuple[Path, str, Purpose]


def score_examples(
    examples: Sequence[Example],
    predictions: Sequence[str],
    database_of: Callable[[str], Path],
    limits: Limits,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    keep_distinct: bool = False,
    on_verdict: Callable[[], object] = lambda: None,
    failing_gold: FailingGold = "refuse",
    on_golds: Callable[[list[Gold]], object] = lambda golds: None,
) -> list[Verdict]:
    """Score one prediction an example, in order; `database_of` gives the SQLite file of a db_id.

    Queries run in `workers` processes, one a core by default. Results of gold queries are kept in `cache_dir`, if one
    is given. `keep_distinct` is the official evaluator's option of that name; `on_verdict` is called after each
    verdict, `on_golds` once with what the gold queries returned.

    A gold query that fails is an error of the data: `failing_gold` says whether UserError is raised, which names all
    of them, whether such examples get no verdict, or are wrong whatever the prediction.
    """
    cases = [Case(example, sql, keep_distinct) for example, sql in zip(examples, predictions, strict=True)]
    by_database: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_database[case.example.db_id].append(case)
    with Executor(limits, workers) as executor:
        groups = [
            _Group(database_of(db_id), group_cases, cache_dir, limits) for db_id, group_cases in by_database.items()
        ]
        groups.sort(key=lambda group: group.size, reverse=True)  # a guess at which take long
        for _ in _run(executor, groups, _Group.golds_to_run, _Group.take_gold):
            pass
        golds = [gold for group in groups for gold in group.golds()]
        if failing_gold == "refuse":
            refuse_failing(golds, "--failing-gold")
        on_golds(sorted(golds, key=lambda gold: gold.index))
        for group in groups:
            group.keep_golds()
            for _ in group.set_failed_apart():
                on_verdict()
            for _ in group.judge_known():
                on_verdict()
        for _ in _run(executor, groups, _Group.predictions_to_run, _Group.take_prediction):
            on_verdict()
        for _ in _run(executor, groups, _Group.rankings_to_run, _Group.take_ranked):
            pass
        for group in groups:
            group.keep_ranked()
    return [case.verdict() for case in cases if failing_gold == "wrong" or case.gold_error is None]


class _Group:
    """The cases of one database, and what has to be run for them, each once: gold queries, then predictions."""

    def __init__(self, database: str | Path, cases: list[Case], cache_dir: str | Path | None, limits: Limits) -> None:
        self.database = Path(database)
        self.size = self.database.stat().st_size if self.database.is_file() else 0
        self._cases = cases
        self._cache = GoldCache(cache_dir, self.database, limits)
        texts = dict.fromkeys(text for case in cases for text in case.gold_texts)
        self._golds = self._cache.results(texts)
        self._golds_to_run = [text for text in texts if text not in self._golds]
        self._waiting: dict[tuple[str, Purpose], list[Case]] = defaultdict(list)
        self._ranked: dict[str, list[tuple[Case, str, Ranking]]] = defaultdict(list)
        self._ranked_results: dict[str, Result] = {}

    def golds_to_run(self) -> list[_Query]:
        """Return the gold queries that the cache does not know."""
        return [(self.database, text, Purpose()) for text in self._golds_to_run]

    def take_gold(self, query: _Query, result: Result) -> list[Case]:
        """Take the result of a gold query. No case is complete by that."""
        self._golds[query[1]] = result
        return []

    def golds(self) -> Iterator[Gold]:
        """Yield what the gold queries of each case returned."""
        for case in self._cases:
            failed = next((text for text in case.gold_texts if self._golds[text].error is not None), None)
            first, *others = (
                Gold(
                    case.example.index,
                    case.example.db_id,
                    gold.written if failed is None else failed,
                    None if failed is None else self._golds[failed].error,
                    self._golds[gold.written].rows,
                    self._golds[gold.executed].rows,
                    gold.order_matters,
                )
                for gold in case.golds
            )
            yield replace(first, others=tuple(others))

    def keep_golds(self) -> None:
        """Put what has been run, and has not failed, into the cache."""
        self._cache.add({text: self._golds[text] for text in self._golds_to_run if self._golds[text].error is None})

    def set_failed_apart(self) -> Iterator[Case]:
        """Judge the cases whose gold query failed, and yield them: their predictions are not run."""
        for case, gold in zip(self._cases, list(self.golds()), strict=True):
            if gold.error is not None:
                case.fail(gold.error)
                yield case
        self._cases = [case for case in self._cases if not case.complete]

    def judge_known(self) -> Iterator[Case]:
        """Judge the predictions that are the text of a gold query, and yield the cases that are complete."""
        for case in self._cases:
            for text in dict.fromkeys((case.sql, case.executed)):
                if text in self._golds:
                    yield from self._judge(case, text, self._golds[text])
                else:
                    self._waiting[text, self._purpose(case, text)].append(case)

    def _purpose(self, case: Case, text: str) -> Purpose:
        """Return which results of a prediction can be right: unless gold has no rows, those of gold's width."""
        known = tuple(dict.fromkeys(case.golds_of(text)))
        golds = [self._golds[gold] for gold in known]
        widths = frozenset(len(gold.columns) for gold in golds) if all(gold.rows for gold in golds) else None
        return Purpose(widths, known)

    def predictions_to_run(self) -> list[_Query]:
        """Return the predictions that are not the text of a gold query, those with the longest gold queries first."""
        queries = [(self.database, text, purpose) for text, purpose in self._waiting]
        return sorted(queries, key=lambda query: -max(self._golds[gold].seconds for gold in query[2].known))

    def take_prediction(self, query: _Query, result: Result) -> Iterator[Case]:
        """Judge by the result of a prediction, and yield the cases that are complete by it."""
        _, text, purpose = query
        if result.same_as is not None:
            same = self._golds[result.same_as]
            result = replace(result, rows=same.rows, lossy=same.lossy)
        for case in self._waiting[text, purpose]:
            yield from self._judge(case, text, result)

    def rankings_to_run(self) -> list[_Query]:
        """Return the queries that say whether a prediction is wrong by a tie at gold's LIMIT alone."""
        for case in self._cases:
            for gold, ranked in case.rankings.items():
                self._ranked[ranked.sql(len(self._golds[gold].columns))].append((case, gold, ranked))
        known = self._cache.results(self._ranked)
        for text, result in known.items():
            self._judge_ranked(text, result)
        return [(self.database, text, Purpose()) for text in self._ranked if text not in known]

    def take_ranked(self, query: _Query, result: Result) -> list[Case]:
        """Take the result of a ranking. No case is complete by that, they are already."""
        if result.error is None:
            self._ranked_results[query[1]] = result
        self._judge_ranked(query[1], result)
        return []

    def _judge_ranked(self, text: str, result: Result) -> None:
        for case, gold, ranked in self._ranked[text]:
            case.take_ranked(self._golds[gold], ranked, result)

    def keep_ranked(self) -> None:
        """Put the rankings that have been run into the cache."""
        self._cache.add(self._ranked_results)

    def _judge(self, case: Case, text: str, result: Result) -> Iterator[Case]:
        case.take(text, result, self._golds)
        if case.complete:
            yield case


def _run(
    executor: Executor,
    groups: Sequence[_Group],
    queries_of: Callable[[_Group], list[_Query]],
    take: Callable[[_Group, _Query, Result], Iterable[Case]],
) -> Iterator[Case]:
    """Run queries of all groups in one go, so that no worker waits for another, and yield what `take` yields."""
    queries = [(group, query) for group in groups for query in queries_of(group)]
    for position, result in executor.run_unordered(query for _, query in queries):
        group, query = queries[position]
        yield from take(group, query, result)


def summarise(verdicts: Iterable[Verdict], golds: Sequence[Gold] = (), in_halves: int = 0) -> dict:
    """Return the metrics of one model, the content of `metrics/spider/<model>.json`; shares rounded to 6 digits.

    `golds`, if given, are what the gold queries returned: the floor then stands in the metrics, see `golds.floors`.
    `in_halves` is how many questions were asked in halved batches; none has no key.
    """
    verdicts = list(verdicts)
    scored = {verdict.index for verdict in verdicts}
    golds = [gold for gold in golds if gold.index in scored]  # not those left out, whose gold query fails
    by_hardness = {level: [verdict for verdict in verdicts if verdict.hardness == level] for level in HARDNESS_LEVELS}
    causes = _causes(verdicts)
    accuracies = _accuracies(verdicts)
    return {
        **accuracies,
        # Beside the official count, never in its place.
        "lenient_successes": accuracies["official_successes"] + causes[TIE],
        "failures": accuracies["total"] - accuracies["successes"],
        "by_hardness": {level: _accuracies(chosen) for level, chosen in by_hardness.items()},
        **_by_difficulty(verdicts),
        "by_database": _by_database(verdicts),
        "causes": causes,
        "causes_by_hardness": {level: _causes(chosen) for level, chosen in by_hardness.items()},
        "cause_groups": {group: sum(causes[cause] for cause in members) for group, members in CAUSE_GROUPS.items()},
        **({"floor": floors(golds)} if golds else {}),
        **({"questions_in_halved_batches": in_halves} if in_halves else {}),
        "sqlite_version": sqlite3.sqlite_version,
    }


def _accuracies(verdicts: list[Verdict]) -> dict:
    total = len(verdicts)
    successes = sum(verdict.execution_accuracy for verdict in verdicts)
    official_successes = sum(verdict.official_execution_accuracy for verdict in verdicts)
    return {
        **_accuracy("execution_accuracy", successes, total),
        "successes": successes,
        "total": total,
        **_accuracy("official_execution_accuracy", official_successes, total),
        "official_successes": official_successes,
        **_bird_accuracy(verdicts),
    }


def _bird_accuracy(verdicts: list[Verdict]) -> dict:
    """Return BIRD's execution accuracy over the examples that have one; nothing where none has."""
    found = [verdict.bird_execution_accuracy for verdict in verdicts if verdict.bird_execution_accuracy is not None]
    if not found:
        return {}
    return {**_accuracy("bird_execution_accuracy", sum(found), len(found)), "bird_successes": sum(found)}


def _by_difficulty(verdicts: list[Verdict]) -> dict:
    """Return the accuracies by BIRD's difficulty, the levels that its files name first; nothing where none is named."""
    named = {verdict.difficulty for verdict in verdicts if verdict.difficulty is not None}
    levels = [*(level for level in DIFFICULTIES if level in named), *sorted(named - set(DIFFICULTIES))]
    if not levels:
        return {}
    by_level = {level: [verdict for verdict in verdicts if verdict.difficulty == level] for level in levels}
    return {"by_difficulty": {level: _accuracies(chosen) for level, chosen in by_level.items()}}


def _by_database(verdicts: list[Verdict]) -> dict[str, dict[str, int]]:
    """Return counts alone: whoever leaves a database out, or wants one, adds them up."""
    counts: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        found = counts.setdefault(verdict.db_id, {"total": 0, "successes": 0, "official_successes": 0})
        found["total"] += 1
        found["successes"] += verdict.execution_accuracy
        found["official_successes"] += verdict.official_execution_accuracy
    return dict(sorted(counts.items()))


def _accuracy(name: str, successes: int, total: int) -> dict:
    low, high = wilson_interval(successes, total)
    share = successes / total if total else 0.0
    return {name: round(share, 6), f"{name}_low": round(low, 6), f"{name}_high": round(high, 6)}


def _causes(verdicts: list[Verdict]) -> dict[str, int]:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return {cause: counts[cause] for cause in CAUSES}
