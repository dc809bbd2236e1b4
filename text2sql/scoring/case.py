"""One prediction against the gold queries of its example: what is run, and what verdict follows from the results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from text2sql.data.spider import Example
from text2sql.execution.executor import Result
from text2sql.scoring.bird import bird_equal
from text2sql.scoring.failures import TIE, cause_of_difference, cause_of_error
from text2sql.scoring.hardness import hardness_of_example
from text2sql.scoring.official import Rows, gold_as_executed, official_equal, order_matters, prediction_as_executed
from text2sql.scoring.ties import Ranking, only_tied, ranking

CORRECT = "correct"
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200

_STOPPED = ("limit", "too_large", "forbidden", "crash")


@dataclass(frozen=True)
class Verdict:
    """What became of one prediction.

    `outcome` is `CORRECT` where the official definition says so, else one of `failures.CAUSES`; `error` is what
    SQLite or the sandbox said, and `stopped` whether the sandbox stopped the query; `seconds` is how long it ran.
    `gold_result` and `result` (None for a query that fails) show the columns, the first rows and how many there are.
    Where several gold queries are right, `gold` is the first, `gold_result` its result, and `other_golds` the others.
    `bird_execution_accuracy` and `difficulty` are None for an example that has nothing of BIRD's.
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
    other_golds: tuple[str, ...] = ()
    bird_execution_accuracy: bool | None = None
    difficulty: str | None = None

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
            **self.further(),
        }

    def further(self) -> dict:
        """Return what not every benchmark has, by key: nothing for Spider's own files."""
        found: dict = {"other_golds": list(self.other_golds)} if self.other_golds else {}
        if self.bird_execution_accuracy is not None:
            found["bird_execution_accuracy"] = self.bird_execution_accuracy
        return found | ({"difficulty": self.difficulty} if self.difficulty is not None else {})


def same_rows(gold: Rows, predicted: Rows) -> bool:
    """Return whether two results are the same set of rows, the paper's comparison."""
    return gold == predicted or set(gold) == set(predicted)


@dataclass(frozen=True)
class _Gold:
    """A gold query as written, and as the official evaluator runs it."""

    written: str
    executed: str
    order_matters: bool


class Case:
    """A prediction and its example: the texts to run, and what has been found so far."""

    def __init__(self, example: Example, sql: str, keep_distinct: bool) -> None:
        self.example = example
        self.sql = sql
        self.executed = prediction_as_executed(sql, keep_distinct)
        self.golds = [
            _Gold(query, gold_as_executed(query, keep_distinct), order_matters(query, keep_distinct))
            for query in example.queries
        ]
        self.hardness = hardness_of_example(example, f"example {example.index} (database {example.db_id})")
        self.gold_error: str | None = None
        self._paper: dict | None = None
        self._official: dict | None = None
        # How to rank the rows of the gold queries, by their text, that the prediction may differ from by a tie alone.
        self.rankings: dict[str, Ranking] = {}
        self._unequal: Rows = ()  # the prediction's, where there are any

    @property
    def complete(self) -> bool:
        return self._paper is not None and self._official is not None

    @property
    def gold_texts(self) -> list[str]:
        """The gold queries to run."""
        return [text for gold in self.golds for text in (gold.written, gold.executed)]

    def golds_of(self, text: str) -> list[str]:
        """Return which gold queries the result of `text` is compared with."""
        written = [gold.written for gold in self.golds if self.sql == text]
        return written + [gold.executed for gold in self.golds if self.executed == text]

    def take(self, text: str, result: Result, golds: Mapping[str, Result]) -> None:
        """Judge by the result of `text`, which is the prediction as written, as executed, or both."""
        if text == self.sql:
            self._paper = self._judge_as_written(result, [golds[gold.written] for gold in self.golds])
        if text == self.executed:
            self._official = self._judge_as_official(result, [golds[gold.executed] for gold in self.golds])

    def _judge_as_written(self, result: Result, golds: Sequence[Result]) -> dict:
        found = {
            "execution_accuracy": result.error is None and any(same_rows(gold.rows, result.rows) for gold in golds),
            "error": result.error,
            "gold_result": preview(golds[0]),
            "result": preview(result) if result.error is None else None,
        }
        if self.example.of_bird:
            found["bird_execution_accuracy"] = any(bird_equal(gold, result) for gold in golds)
        return found

    def _judge_as_official(self, result: Result, golds: Sequence[Result]) -> dict:
        # A semicolon or a comment alone is a statement without rows there; an empty line gets no verdict there.
        runs = result.error is None or (result.error_kind == "empty" and self.executed.strip() != "")
        right = runs and any(
            official_equal(rows.rows, result.rows, gold.order_matters) for gold, rows in zip(self.golds, golds)
        )
        if right:
            outcome = CORRECT
        elif result.error is None:
            outcome = cause_of_difference(golds[0].rows, result.rows)
            self._look_for_ties(result.rows, golds)
        else:
            outcome = cause_of_error(self.sql, result)
        return {
            "official_execution_accuracy": right,
            "outcome": outcome,
            "error": result.error,
            "stopped": result.error_kind in _STOPPED,
            "seconds": result.seconds,
        }

    def _look_for_ties(self, rows: Rows, golds: Sequence[Result]) -> None:
        """Note the gold queries that give as many rows of as many columns, and cut them by a LIMIT."""
        for gold, result in zip(self.golds, golds):
            if rows and len(rows) == len(result.rows) and len(rows[0]) == len(result.rows[0]):
                ranked = ranking(gold.executed)
                if ranked is not None:
                    self.rankings[gold.executed] = ranked
                    self._unequal = rows

    def take_ranked(self, gold: Result, ranked: Ranking, rows: Rows) -> bool:
        """Judge by rows of a ranking of `gold` (`Ranking.joined`): is the prediction wrong by a tie alone?"""
        tie = only_tied(ranked, rows, gold.rows, self._unequal)
        if tie:
            assert self._official is not None
            self._official["outcome"] = TIE
        return tie

    def fail(self, error: str) -> None:
        """Judge by the failure of a gold query: no answer is right."""
        self.gold_error = error
        nothing = {"columns": [], "rows": [], "row_count": 0}
        self._paper = {"execution_accuracy": False, "gold_result": nothing, "result": None}
        if self.example.of_bird:
            self._paper["bird_execution_accuracy"] = False
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
        return Verdict(
            example.index,
            example.db_id,
            self.hardness,
            example.question,
            example.query,
            self.sql,
            **found,
            other_golds=example.others,
            difficulty=example.difficulty,
        )


def preview(result: Result) -> dict:
    """Return what verdicts keep of a result: `columns`, the first `rows` and `row_count`, as JSON can hold them."""
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
