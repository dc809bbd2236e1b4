"""deepeval's face of the paper's execution accuracy (section II.D). The comparison is that of `verdicts`.

Importing deepeval takes 5 s, and it reports to its makers unless told not to before: import this module where needed.
"""

import os
from pathlib import Path

os.environ.setdefault("DEEPEVAL_TELEMETRY_OPT_OUT", "YES")

from deepeval.metrics import BaseMetric  # noqa: E402
from deepeval.test_case import LLMTestCase  # noqa: E402

from text2sql.core.errors import UserError  # noqa: E402
from text2sql.data.archives import is_safe_name  # noqa: E402
from text2sql.execution.executor import Executor, Limits, Result, run_query  # noqa: E402
from text2sql.scoring.golds import FailingGold  # noqa: E402
from text2sql.scoring.verdicts import same_rows  # noqa: E402


class ExecutionAccuracyMetric(BaseMetric):
    """1.0 where the generated query returns the same set of rows as the expected one, else 0.0; synchronous.

    A test case holds the generated SQL as `actual_output`, gold as `expected_output`, and the database's id as the
    first entry of `context`; further gold queries, of which any is right, are a list `other_golds` in its `metadata`.
    `databases` is a folder with `<db_id>/<db_id>.sqlite`. Queries run in `executor`, or, where none is given, each in a
    process of its own. After `measure`, `score`, `success` and `reason` say what happened.
    """

    async_mode = False

    def __init__(
        self,
        databases: str | Path,
        executor: Executor | None = None,
        limits: Limits | None = None,
        threshold: float = 1.0,
        failing_gold: FailingGold = "refuse",
    ) -> None:
        # deepeval's `evaluate` and `assert_test` copy a metric: they make another of the attributes that are named as
        # the arguments are.
        self.threshold = self._threshold = threshold
        self.databases = Path(databases)
        self.executor = executor
        self.limits = limits or Limits()
        self.failing_gold = failing_gold
        self._golds: dict[tuple[Path, str], Result] = {}

    @property
    def __name__(self) -> str:
        return "Execution Accuracy"

    def measure(self, test_case: LLMTestCase, *args: object, **kwargs: object) -> float:
        """Run both queries and compare.

        Raises UserError where the test case is not right, and where its gold query fails, unless that is `wrong`.
        """
        database = self._database(test_case)
        predicted = self._run(database, test_case.actual_output or "")
        golds = [self._gold(database, query) for query in _gold_queries(test_case)]
        failed = next((gold for gold in golds if gold.error is not None), None)
        ran = failed is None and predicted.error is None
        equal = next((gold for gold in golds if ran and same_rows(gold.rows, predicted.rows)), None)
        self.score = score = float(equal is not None)
        self.reason = _reason(failed or equal or golds[0], predicted, equal is not None)
        self.success = score >= self._threshold
        return score

    async def a_measure(self, test_case: LLMTestCase, *args: object, **kwargs: object) -> float:
        """Do as `measure` does, for callers that know only this one."""
        return self.measure(test_case)

    def is_successful(self) -> bool:
        """Return whether the last test case reached the threshold."""
        return bool(self.success)

    def _database(self, test_case: LLMTestCase) -> Path:
        db_id = test_case.context[0] if test_case.context else ""
        if not is_safe_name(db_id) or "/" in db_id:
            raise UserError(f"test case: found {db_id!r:.60} as first entry of its context, wanted a database's id")
        if test_case.expected_output is None:
            raise UserError("test case: has no expected_output, wanted the gold query")
        path = self.databases / db_id / f"{db_id}.sqlite"
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return path

    def _gold(self, database: Path, query: str) -> Result:
        gold = self._golds.get((database, query))
        if gold is None:
            gold = self._golds[database, query] = self._run(database, query)
        if gold.error is not None and self.failing_gold != "wrong":
            raise UserError(f"{database.stem}: its gold query fails: {gold.error}: {query:.300}")
        return gold

    def _run(self, database: Path, sql: str) -> Result:
        if self.executor is None:
            return run_query(database, sql, self.limits)
        return self.executor.run_all([(database, sql)])[0]


def _gold_queries(test_case: LLMTestCase) -> list[str]:
    return [test_case.expected_output or "", *(test_case.metadata or {}).get("other_golds", ())]


def _reason(gold: Result, predicted: Result, right: bool) -> str:
    if gold.error is not None:
        return f"Its gold query fails: {gold.error}"
    if predicted.error is not None:
        return f"The query fails: {predicted.error}"
    expected, found = set(gold.rows), set(predicted.rows)
    if right:
        return f"Both queries return the same set of rows, {len(expected)} of them."
    return (
        f"The rows differ: {len(expected)} different rows expected, {len(found)} found, "
        f"{len(expected & found)} in common."
    )
