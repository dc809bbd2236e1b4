"""Scores of predicted SQL: definitions of execution accuracy, causes of failure, intervals.

- `execution_accuracy`, the paper's (section II.D): both results as Python sets of rows, equal or not.
- `official_execution_accuracy`: the official evaluator's, see `text2sql.scoring.official`.
- `bird_execution_accuracy`: BIRD's, see `text2sql.scoring.bird`, where an example has what its files have.
- `lenient_successes`: how many are right officially, or wrong by a tie alone, see `text2sql.scoring.ties`.

All run in the sandbox of `text2sql.execution.executor`, which stops what it does not allow: there the official
evaluator, which runs anything, may come to another verdict (`Verdict.stopped`).
"""

import os
import sqlite3
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from text2sql.scoring.official import Rows
from text2sql.scoring.ties import Ranking

__all__ = ["CORRECT", "Verdict", "same_rows", "score_examples", "summarise"]

_Task = tuple[
    Callable[[Result], list], tuple[str | os.PathLike, str, Purpose]
]  # what takes a query's result; the query
_Take = Callable[[str, Purpose, Result], list[_Task]]
_Asked = tuple[_Take, str, Purpose]


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
            _Group(database_of(db_id), group_cases, GoldCache(cache_dir, database_of(db_id), limits), on_verdict)
            for db_id, group_cases in by_database.items()
        ]
        groups.sort(key=lambda group: group.size, reverse=True)  # a guess at which take long
        waiting = deque(task for group in groups for task in group.start(failing_gold == "refuse"))
        for take, result in executor.run_growing(waiting):
            waiting.extendleft(reversed(take(result)))
        golds = [gold for group in groups for gold in group.golds]
        if failing_gold == "refuse":
            refuse_failing(golds, "--failing-gold")
        on_golds(sorted(golds, key=lambda gold: gold.index))
    return [case.verdict() for case in cases if failing_gold == "wrong" or case.gold_error is None]


class _Group:
    """The cases of one database, and what is run for them, each query once: golds, predictions, rankings.

    What is to be run is given as tasks: what takes the result and returns further tasks, and the query. No group waits
    for another.
    """

    def __init__(
        self, database: str | Path, cases: list[Case], cache: GoldCache, on_verdict: Callable[[], object]
    ) -> None:
        self.database = Path(database)
        self.size = self.database.stat().st_size if self.database.is_file() else 0
        self.golds: list[Gold] = []
        self._cases = cases
        self._cache = cache
        self._on_verdict = on_verdict
        self._results: dict[str, Result] = {}  # of gold queries, by their text
        self._rankings: dict[str, Result] = {}  # likewise of rankings
        self._found: dict[str, Result] = {}  # what the cache is to keep of both
        self._waiting: dict[tuple[str, Purpose], list[Case]] = defaultdict(list)
        self._ranked: dict[str, list[_Ranked]] = defaultdict(list)
        self._running = 0

    def start(self, refuse: bool) -> list[_Task]:
        """Return the gold queries that the cache does not know; with `refuse`, no prediction is run if one fails."""
        texts = dict.fromkeys(text for case in self._cases for text in case.gold_texts)
        self._refuse = refuse
        self._results = self._cache.results(texts)
        missing = [text for text in texts if text not in self._results]
        self._golds_left = len(missing)
        return self._tasks([(self._take_gold, text, Purpose()) for text in missing]) or self._judge_known()

    def _tasks(self, queries: Sequence[_Asked]) -> list[_Task]:
        self._running += len(queries)
        return [
            (partial(self._take, take, text, purpose), (self.database, text, purpose))
            for take, text, purpose in queries
        ]

    def _take(
        self, take: Callable[[str, Purpose, Result], list[_Task]], text: str, purpose: Purpose, result: Result
    ) -> list[_Task]:
        further = take(text, purpose, result)
        self._running -= 1
        if not self._running:
            self._cache.add(self._found)
        return further

    def _take_gold(self, text: str, _: Purpose, result: Result) -> list[_Task]:
        self._results[text] = result
        if result.error is None:
            self._found[text] = result
        self._golds_left -= 1
        return [] if self._golds_left else self._judge_known()

    def _judge_known(self) -> list[_Task]:
        """Judge what is known once all golds are, and return the other predictions, long gold queries' first.

        Known are cases whose gold query fails, and predictions that are the text of a gold query.
        """
        self.golds = list(map(self._gold, self._cases))
        if self._refuse and any(gold.error is not None for gold in self.golds):
            return []
        further: list[_Task] = []
        for case, gold in zip(self._cases, self.golds, strict=True):
            if gold.error is not None:
                case.fail(gold.error)
                self._on_verdict()
                continue
            for text in dict.fromkeys((case.sql, case.executed)):
                if text in self._results:
                    further += self._judge(case, text, self._results[text])
                else:
                    self._waiting[text, self._purpose(case, text)].append(case)
        queries: list[_Asked] = [(self._take_prediction, text, purpose) for text, purpose in self._waiting]
        queries.sort(key=lambda query: -max(self._results[gold].seconds for gold in query[2].known))
        return further + self._tasks(queries)

    def _gold(self, case: Case) -> Gold:
        """Return what the gold queries of a case returned."""
        failed = next((text for text in case.gold_texts if self._results[text].error is not None), None)
        first, *others = (
            Gold(
                case.example.index,
                case.example.db_id,
                gold.written if failed is None else failed,
                None if failed is None else self._results[failed].error,
                self._results[gold.written].rows,
                self._results[gold.executed].rows,
                gold.order_matters,
            )
            for gold in case.golds
        )
        return replace(first, others=tuple(others))

    def _purpose(self, case: Case, text: str) -> Purpose:
        """Return which results of a prediction can be right: unless gold has no rows, those of gold's width."""
        known = tuple(dict.fromkeys(case.golds_of(text)))
        golds = [self._results[gold] for gold in known]
        widths = frozenset(len(gold.columns) for gold in golds) if all(gold.rows for gold in golds) else None
        return Purpose(widths, known)

    def _take_prediction(self, text: str, purpose: Purpose, result: Result) -> list[_Task]:
        if result.same_as is not None:
            same = self._results[result.same_as]
            result = replace(result, rows=same.rows, lossy=same.lossy)
        return [task for case in self._waiting[text, purpose] for task in self._judge(case, text, result)]

    def _judge(self, case: Case, text: str, result: Result) -> list[_Task]:
        """Judge by the result of `text`; return what says whether a case that is complete is wrong by a tie alone."""
        case.take(text, result, self._results)
        if not case.complete:
            return []
        self._on_verdict()
        ranked = (
            self._rank(ranking.sql(self._width(gold)), _Ranked(case, gold, ranking, ()))
            for gold, ranking in case.rankings.items()
        )
        return [task for tasks in ranked for task in tasks]

    def _width(self, gold: str) -> int:
        return len(self._results[gold].columns)

    def _rank(self, text: str, ranked: "_Ranked") -> list[_Task]:
        """Judge by the result of a ranking, if it is known; else return it, unless it runs already."""
        first = text not in self._ranked
        self._ranked[text].append(ranked)
        if first:
            self._rankings |= self._cache.results([text])
        if text in self._rankings:
            return self._judge_ranked(self._rankings[text], [ranked])
        return self._tasks([(self._take_ranked, text, Purpose())]) if first else []

    def _take_ranked(self, text: str, _: Purpose, result: Result) -> list[_Task]:
        self._rankings[text] = result
        if result.error is None:
            self._found[text] = result
        return self._judge_ranked(result, self._ranked[text])

    def _judge_ranked(self, result: Result, asked: Sequence["_Ranked"]) -> list[_Task]:
        further: list[_Task] = []
        for one in asked if result.error is None else ():
            gold, width = self._results[one.gold], self._width(one.gold)
            rows, more = (one.rows, result.rows) if one.rows else (result.rows, ())
            tie = one.case.take_ranked(gold, one.ranking, one.ranking.joined(rows, more, width))
            if not tie and not one.rows and not one.ranking.complete(rows) and not result.lossy:
                text = one.ranking.more_sql(rows, width)
                further += self._rank(text, _Ranked(one.case, one.gold, one.ranking, rows))
        return further


@dataclass(frozen=True)
class _Ranked:
    """A case that a ranking of one of its golds decides; `rows` are those of the first one, if this is the second."""

    case: Case
    gold: str
    ranking: Ranking
    rows: Rows


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
