"""Scores of predicted SQL: two definitions of execution accuracy, causes of failure, intervals.

- `execution_accuracy`, the paper's (section II.D): both results as Python sets of rows, equal or not.
- `official_execution_accuracy`: the official evaluator's, see `text2sql.scoring.official`.

Both run in the sandbox of `text2sql.execution.executor`, which stops what it does not allow: there the official
evaluator, which runs anything, may come to another verdict (`Verdict.stopped`).
"""

import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from text2sql.core.intervals import wilson_interval
from text2sql.data.spider import Example
from text2sql.execution.executor import Executor, Limits, Purpose, Result
from text2sql.execution.gold_cache import GoldCache
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES, cause_of_difference, cause_of_error
from text2sql.scoring.golds import FailingGold, Gold, floors, refuse_failing
from text2sql.scoring.hardness import HARDNESS_LEVELS, hardness_of_example
from text2sql.scoring.official import Rows, gold_as_executed, official_equal, order_matters, prediction_as_executed

CORRECT = "correct"
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200

_Query = tuple[Path, str, Purpose]
_STOPPED = ("limit", "too_large", "forbidden", "crash")


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
    return gold == predicted or set(gold) == set(predicted)


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
    cases = [_Case(example, sql, keep_distinct) for example, sql in zip(examples, predictions, strict=True)]
    by_database: dict[str, list[_Case]] = defaultdict(list)
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
    return [case.verdict() for case in cases if failing_gold == "wrong" or case.gold_error is None]


class _Case:
    """A prediction and its example: the texts to run, and what has been found so far."""

    def __init__(self, example: Example, sql: str, keep_distinct: bool) -> None:
        self.example = example
        self.sql = sql
        self.executed = prediction_as_executed(sql, keep_distinct)
        self.gold_executed = gold_as_executed(example.query, keep_distinct)
        self.order_matters = order_matters(example.query, keep_distinct)
        self.hardness = hardness_of_example(example, f"example {example.index} (database {example.db_id})")
        self.gold_error: str | None = None
        self._paper: dict | None = None
        self._official: dict | None = None

    @property
    def complete(self) -> bool:
        return self._paper is not None and self._official is not None

    def golds_of(self, text: str) -> list[str]:
        """Return which gold queries the result of `text` is compared with."""
        pairs = ((self.sql, self.example.query), (self.executed, self.gold_executed))
        return [gold for prediction, gold in pairs if prediction == text]

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

    def fail(self, error: str) -> None:
        """Judge by the failure of the gold query: no answer is right."""
        self.gold_error = error
        nothing = {"columns": [], "rows": [], "row_count": 0}
        self._paper = {"execution_accuracy": False, "gold_result": nothing, "result": None}
        self._official = {
            "official_execution_accuracy": False,
            "outcome": "other_error",
            "error": f"its gold query fails: {error}",
            "stopped": False,
            "seconds": 0.0,
        }

    def verdict(self) -> Verdict:
        """Return the verdict of a case that is complete."""
        example = self.example
        assert self._paper is not None and self._official is not None
        found = self._paper | self._official | {"error": self._official["error"] or self._paper.get("error")}
        return Verdict(example.index, example.db_id, self.hardness, example.question, example.query, self.sql, **found)


class _Group:
    """The cases of one database, and what has to be run for them, each once: gold queries, then predictions."""

    def __init__(self, database: str | Path, cases: list[_Case], cache_dir: str | Path | None, limits: Limits) -> None:
        self.database = Path(database)
        self.size = self.database.stat().st_size if self.database.is_file() else 0
        self._cases = cases
        self._cache = GoldCache(cache_dir, self.database, limits)
        texts = dict.fromkeys(text for case in cases for text in (case.example.query, case.gold_executed))
        self._golds = self._cache.results(texts)
        self._golds_to_run = [text for text in texts if text not in self._golds]
        self._waiting: dict[tuple[str, Purpose], list[_Case]] = defaultdict(list)

    def golds_to_run(self) -> list[_Query]:
        """Return the gold queries that the cache does not know."""
        return [(self.database, text, Purpose()) for text in self._golds_to_run]

    def take_gold(self, query: _Query, result: Result) -> list[_Case]:
        """Take the result of a gold query. No case is complete by that."""
        self._golds[query[1]] = result
        return []

    def golds(self) -> Iterator[Gold]:
        """Yield what the gold query of each case returned."""
        for case in self._cases:
            texts = (case.example.query, case.gold_executed)
            written, executed = (self._golds[text] for text in texts)
            failed = next(
                ((text, self._golds[text].error) for text in texts if self._golds[text].error is not None), None
            )
            yield Gold(
                case.example.index,
                case.example.db_id,
                failed[0] if failed else case.example.query,
                failed[1] if failed else None,
                written.rows,
                executed.rows,
                case.order_matters,
            )

    def keep_golds(self) -> None:
        """Put what has been run, and has not failed, into the cache."""
        self._cache.add({text: self._golds[text] for text in self._golds_to_run if self._golds[text].error is None})

    def set_failed_apart(self) -> Iterator[_Case]:
        """Judge the cases whose gold query failed, and yield them: their predictions are not run."""
        for case, gold in zip(self._cases, list(self.golds()), strict=True):
            if gold.error is not None:
                case.fail(gold.error)
                yield case
        self._cases = [case for case in self._cases if not case.complete]

    def judge_known(self) -> Iterator[_Case]:
        """Judge the predictions that are the text of a gold query, and yield the cases that are complete."""
        for case in self._cases:
            for text in dict.fromkeys((case.sql, case.executed)):
                if text in self._golds:
                    yield from self._judge(case, text, self._golds[text])
                else:
                    self._waiting[text, self._purpose(case, text)].append(case)

    def _purpose(self, case: _Case, text: str) -> Purpose:
        """Return which results of a prediction can be right: unless gold has no rows, those of gold's width."""
        known = tuple(dict.fromkeys(case.golds_of(text)))
        golds = [self._golds[gold] for gold in known]
        widths = frozenset(len(gold.columns) for gold in golds) if all(gold.rows for gold in golds) else None
        return Purpose(widths, known)

    def predictions_to_run(self) -> list[_Query]:
        """Return the predictions that are not the text of a gold query, those with the longest gold queries first."""
        queries = [(self.database, text, purpose) for text, purpose in self._waiting]
        return sorted(queries, key=lambda query: -max(self._golds[gold].seconds for gold in query[2].known))

    def take_prediction(self, query: _Query, result: Result) -> Iterator[_Case]:
        """Judge by the result of a prediction, and yield the cases that are complete by it."""
        _, text, purpose = query
        if result.same_as is not None:
            result = replace(result, rows=self._golds[result.same_as].rows)
        for case in self._waiting[text, purpose]:
            yield from self._judge(case, text, result)

    def _judge(self, case: _Case, text: str, result: Result) -> Iterator[_Case]:
        case.take(text, result, self._golds)
        if case.complete:
            yield case


def _run(
    executor: Executor,
    groups: Sequence[_Group],
    queries_of: Callable[[_Group], list[_Query]],
    take: Callable[[_Group, _Query, Result], Iterable[_Case]],
) -> Iterator[_Case]:
    """Run queries of all groups in one go, so that no worker waits for another, and yield what `take` yields."""
    queries = [(group, query) for group in groups for query in queries_of(group)]
    for position, result in executor.run_unordered(query for _, query in queries):
        group, query = queries[position]
        yield from take(group, query, result)


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
        "failures": accuracies["total"] - accuracies["successes"],
        "by_hardness": {level: _accuracies(chosen) for level, chosen in by_hardness.items()},
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
