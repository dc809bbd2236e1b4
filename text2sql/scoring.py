"""Scores of predicted SQL: two definitions of execution accuracy, causes of failure, intervals.

- `execution_accuracy`, the paper's (section II.D): both results as Python sets of rows, equal or not.
- `official_execution_accuracy`: the official evaluator's, see `text2sql.official`.

Both run in the sandbox of `text2sql.execution`, which stops what it does not allow: there the official evaluator,
which runs anything, may come to another verdict (`Verdict.stopped`).
"""

import itertools
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from text2sql.errors import UserError
from text2sql.execution import Executor, Limits, Result
from text2sql.failures import CAUSE_GROUPS, CAUSES, cause_of_difference, cause_of_error
from text2sql.gold_cache import GoldCache
from text2sql.hardness import HARDNESS_LEVELS, hardness_of_parsed, hardness_of_query
from text2sql.official import Rows, gold_as_executed, official_equal, order_matters, prediction_as_executed
from text2sql.spider import Example

CORRECT = "correct"
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200

_STOPPED = ("limit", "too_large", "forbidden", "crash")
_NORMAL_QUANTILE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Verdict:
    """What became of one prediction.

    `outcome` is `CORRECT` where the official definition says so, else one of `failures.CAUSES`; `error` is what
    SQLite or the sandbox said, and `stopped` whether the sandbox stopped the query; `seconds` is how long it ran.
    `gold_result` and `result` (None for a query that fails) show the columns, the first rows and how many there are.
    """

    index: int
    db_id: str
    hardness: str
    question: str
    gold: str
    sql: str
    execution_accuracy: bool
    official_execution_accuracy: bool
    outcome: str
    error: str | None
    stopped: bool
    seconds: float
    gold_result: dict
    result: dict | None

    def to_dict(self) -> dict:
        """Return a line of `data/verdicts/spider/<model>.jsonl`: all but what differs from run to run."""
        return {
            "index": self.index,
            "db_id": self.db_id,
            "hardness": self.hardness,
            "question": self.question,
            "gold": self.gold,
            "sql": self.sql,
            "execution_accuracy": self.execution_accuracy,
            "official_execution_accuracy": self.official_execution_accuracy,
            "outcome": self.outcome,
            "error": self.error,
            "gold_result": self.gold_result,
            "result": self.result,
        }


def same_rows(gold: Rows, predicted: Rows) -> bool:
    """Return whether two results are the same set of rows, the paper's comparison."""
    return set(gold) == set(predicted)


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson (1927), without correction for continuity.

    Where `total` is 0 nothing is known: (0, 1).
    """
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total}")
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    square = _NORMAL_QUANTILE**2 / total
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return (
        0.0 if successes == 0 else middle - half,
        1.0 if successes == total else middle + half,
    )


def score_examples(
    examples: Sequence[Example],
    predictions: Sequence[str],
    database_of: Callable[[str], Path],
    limits: Limits,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    keep_distinct: bool = False,
    on_verdict: Callable[[], object] = lambda: None,
) -> list[Verdict]:
    """Score one prediction an example, in order; `database_of` gives the SQLite file of a db_id.

    Queries run in `workers` processes, one a core by default. Results of gold queries are kept in `cache_dir`, if one
    is given. `keep_distinct` is the official evaluator's option of that name; `on_verdict` is called after each
    verdict. Raises UserError where a gold query fails: an error of the data, never a score.
    """
    cases = [_Case(example, sql, keep_distinct) for example, sql in zip(examples, predictions, strict=True)]
    by_database: dict[str, list[_Case]] = defaultdict(list)
    for case in cases:
        by_database[case.example.db_id].append(case)
    with Executor(limits, workers) as executor:
        groups = [
            _Group(database_of(db_id), group_cases, cache_dir, limits) for db_id, group_cases in by_database.items()
        ]
        # All queries in one go, so that a slow one at the end of a database does not leave the other workers idle.
        results = executor.run_each((group.database, text) for group in groups for text in group.texts)
        for group in groups:
            for _ in group.judge(results):
                on_verdict()
    return [case.verdict() for case in cases]


class _Case:
    """A prediction and its example: the texts to run, and what has been found so far."""

    def __init__(self, example: Example, sql: str, keep_distinct: bool) -> None:
        self.example = example
        self.sql = sql
        self.executed = prediction_as_executed(sql, keep_distinct)
        self.gold_executed = gold_as_executed(example.query, keep_distinct)
        self.order_matters = order_matters(example.query, keep_distinct)
        self.hardness = _hardness(example)
        self._paper: dict | None = None
        self._official: dict | None = None

    @property
    def complete(self) -> bool:
        return self._paper is not None and self._official is not None

    def take(self, text: str, result: Result, golds: Mapping[str, Result]) -> None:
        """Judge by the result of `text`, which is the prediction as written, as executed, or both."""
        if text == self.sql:
            self._paper = self._judge_as_paper(result, golds[self.example.query])
        if text == self.executed:
            self._official = self._judge_as_official(result, golds[self.gold_executed])

    def _judge_as_paper(self, result: Result, gold: Result) -> dict:
        return {
            "execution_accuracy": result.error is None and same_rows(gold.rows, result.rows),
            "error": result.error,
            "gold_result": _preview(gold),
            "result": _preview(result) if result.error is None else None,
        }

    def _judge_as_official(self, result: Result, gold: Result) -> dict:
        # A semicolon or a comment alone is a statement without rows there; an empty line gets no verdict there.
        runs = result.error is None or (result.error_kind == "empty" and self.executed.strip() != "")
        right = runs and official_equal(gold.rows, result.rows, self.order_matters)
        if right:
            outcome = CORRECT
        elif result.error is None:
            outcome = cause_of_difference(gold.rows, result.rows)
        else:
            outcome = cause_of_error(self.sql, result)
        return {
            "official_execution_accuracy": right,
            "outcome": outcome,
            "error": result.error,
            "stopped": result.error_kind in _STOPPED,
            "seconds": result.seconds,
        }

    def verdict(self) -> Verdict:
        """Return the verdict of a case that is complete."""
        example = self.example
        found = self._paper | self._official | {"error": self._official["error"] or self._paper["error"]}
        return Verdict(
            example.index, example.db_id, self.hardness, example.question, example.query, self.sql, **found
        )


class _Group:
    """The cases of one database, and the texts that have to be run for them, each once."""

    def __init__(
        self, database: str | Path, cases: list[_Case], cache_dir: str | Path | None, limits: Limits
    ) -> None:
        self.database = Path(database)
        self._cases = cases
        self._cache = GoldCache(cache_dir, self.database, limits)
        golds = dict.fromkeys(text for case in cases for text in (case.example.query, case.gold_executed))
        self._known = self._cache.results(golds)
        self._golds_to_run = [text for text in golds if text not in self._known]
        self._waiting: dict[str, list[_Case]] = defaultdict(list)
        for case in cases:
            for text in dict.fromkeys((case.sql, case.executed)):
                self._waiting[text].append(case)
        self._predictions_to_run = [text for text in self._waiting if text not in golds]

    @property
    def texts(self) -> list[str]:
        """What has to be run: gold queries that the cache does not know, then predictions that are not gold's text."""
        return self._golds_to_run + self._predictions_to_run

    def judge(self, results: Iterator[Result]) -> Iterator[_Case]:
        """Take the results of `texts`, in order, and yield the cases as they get complete."""
        golds = self._known | self._take_golds(results)
        known = ((text, golds[text]) for text in self._waiting if text in golds)
        run = ((text, next(results)) for text in self._predictions_to_run)
        for text, result in itertools.chain(known, run):
            for case in self._waiting[text]:
                case.take(text, result, golds)
                if case.complete:
                    yield case

    def _take_golds(self, results: Iterator[Result]) -> dict[str, Result]:
        new = {text: next(results) for text in self._golds_to_run}
        for text, result in new.items():
            if result.error is not None:
                texts = {case.gold_executed: case.example for case in self._cases}
                example = (texts | {case.example.query: case.example for case in self._cases})[text]
                raise UserError(
                    f"example {example.index} (database {example.db_id}): its gold query fails: {result.error}: "
                    f"{text:.300}"
                )
        self._cache.add(new)
        return new


def _hardness(example: Example) -> str:
    if example.sql is None:
        return hardness_of_query(example.query)
    try:
        return hardness_of_parsed(example.sql)
    except UserError as error:
        raise UserError(f"example {example.index} (database {example.db_id}): {error}") from None


def _preview(result: Result) -> dict:
    return {
        "columns": [name[:PREVIEW_CHARACTERS] for name in result.columns],
        "rows": [list(map(_shown, row)) for row in result.rows[:PREVIEW_ROWS]],
        "row_count": len(result.rows),
    }


def _shown(cell: object) -> object:
    """Return a cell as JSON can hold it: null, number or text, cut."""
    if isinstance(cell, bytes):
        return f"x'{cell[:PREVIEW_CHARACTERS].hex()}'"[:PREVIEW_CHARACTERS]
    if isinstance(cell, float) and math.isinf(cell):
        return "Inf" if cell > 0 else "-Inf"
    return cell[:PREVIEW_CHARACTERS] if isinstance(cell, str) else cell


def summarise(verdicts: Iterable[Verdict]) -> dict:
    """Return the metrics of one model, the content of `metrics/spider/<model>.json`; shares rounded to 6 digits."""
    verdicts = list(verdicts)
    by_hardness = {level: [verdict for verdict in verdicts if verdict.hardness == level] for level in HARDNESS_LEVELS}
    causes = _causes(verdicts)
    accuracies = _accuracies(verdicts)
    return {
        **accuracies,
        "failures": accuracies["total"] - accuracies["successes"],
        "by_hardness": {level: _accuracies(chosen) for level, chosen in by_hardness.items()},
        "by_database": _by_database(verdicts),
        "causes": causes,
        "causes_by_hardness": {level: _causes(chosen) for level, chosen in by_hardness.items()},
        "cause_groups": {group: sum(causes[cause] for cause in members) for group, members in CAUSE_GROUPS.items()},
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
    }


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
