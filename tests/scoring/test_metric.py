"""The paper's metric as deepeval sees it, and its test matrix with pytest."""

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest

from text2sql.core.errors import UserError
from text2sql.core.files import write_jsonl
from text2sql.execution.executor import Executor, Limits

SCRIPT = """
CREATE TABLE country (name TEXT, continent TEXT, region TEXT);
INSERT INTO country VALUES ('China', 'Asia', 'East'), ('Iran', 'Asia', 'West'), ('Chile', 'South America', 'South');
"""
COUNT = "SELECT count(*) FROM country WHERE continent = 'Asia'"


DIFFER = "The rows differ: 1 different rows expected, 1 found, 0 in common."


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    (folder / "world").mkdir()
    with contextlib.closing(sqlite3.connect(folder / "world" / "world.sqlite")) as connection:
        connection.executescript(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def deepeval():
    """The parts of deepeval that the tests need; its import takes seconds."""
    import text2sql.scoring.metric  # first: it sets what deepeval has to find before it is imported

    assert text2sql.scoring.metric.BaseMetric
    import deepeval.metrics
    import deepeval.test_case

    return deepeval


@pytest.fixture
def case(deepeval):
    def case(sql, gold=COUNT, context=("world",), metadata=None):
        return deepeval.test_case.LLMTestCase(
            input="How many countries are in Asia?",
            actual_output=sql,
            expected_output=gold,
            context=None if context is None else list(context),
            metadata=metadata,
        )

    return case


@pytest.fixture(params=["in this process", "in a worker"])
def metric(request, databases):
    from text2sql.scoring.metric import ExecutionAccuracyMetric

    if request.param == "in this process":
        yield ExecutionAccuracyMetric(databases)
    else:
        with Executor(Limits(), workers=1) as executor:
            yield ExecutionAccuracyMetric(databases, executor)


def test_it_is_a_synchronous_metric_of_deepeval(metric, deepeval):
    assert isinstance(metric, deepeval.metrics.BaseMetric)
    assert metric.async_mode is False
    assert metric.__name__ == "Execution Accuracy"
    assert os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] == "YES"


@pytest.mark.parametrize(
    ("sql", "score", "reason"),
    [
        ("SELECT 2", 1.0, "Both queries return the same set of rows, 1 of them."),
        ("SELECT 2 UNION ALL SELECT 2", 1.0, "Both queries return the same set of rows, 1 of them."),
        ("SELECT count(*) FROM country WHERE region = 'Asia'", 0.0, DIFFER),
        ("SELECT count(*) FROM land", 0.0, "The query fails: no such table: land"),
        ("To translate the natural language question...", 0.0, 'The query fails: near "To": syntax error'),
        ("DROP TABLE country", 0.0, "The query fails: DROP is not allowed"),
        ("", 0.0, "The query fails: the query holds no statement"),
    ],
)  # fmt: skip
def test_score_and_reason(metric, case, sql, score, reason):
    assert metric.measure(case(sql)) == score
    assert metric.score == score
    assert metric.is_successful() is (score == 1.0)
    assert metric.reason == reason


def test_any_of_several_golds_is_right(metric, case):
    several = {"other_golds": ["SELECT 3", "SELECT nobody FROM country"]}
    with pytest.raises(UserError, match="its gold query fails: no such column: nobody"):
        metric.measure(case("SELECT 3", metadata=several))
    del several["other_golds"][1]
    assert [metric.measure(case(f"SELECT {n}", metadata=several)) for n in (2, 3, 4)] == [1.0, 1.0, 0.0]
    assert metric.reason == DIFFER  # from the first


def test_a_metric_measures_case_after_case(metric, case):
    assert [metric.measure(case(sql)) for sql in ("SELECT 1", "SELECT 2", "SELECT", "SELECT 2")] == [0, 1, 0, 1]
    assert asyncio.run(metric.a_measure(case("SELECT 2"))) == 1.0


def test_what_is_wrong_with_a_test_case_is_no_score(metric, case):
    for wrong, message in [
        (case("SELECT 2", gold="SELECT nobody FROM country"), "world: its gold query fails: no such column"),
        (case("SELECT 2", context=None), "wanted a database's id"),
        (case("SELECT 2", context=["../world"]), "wanted a database's id"),
        (case("SELECT 2", context=["moon"]), "moon.sqlite: no such file"),
        (case("SELECT 2", gold=None), "has no expected_output"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)):
            metric.measure(wrong)


def test_an_answer_is_wrong_where_gold_fails_and_that_is_chosen(databases, case):
    from text2sql.scoring.metric import ExecutionAccuracyMetric

    metric = ExecutionAccuracyMetric(databases, failing_gold="wrong")
    assert metric.measure(case("SELECT 2", gold="SELECT nobody FROM country")) == 0.0
    assert metric.reason == "Its gold query fails: no such column: nobody"


@pytest.mark.parametrize(("sql", "score"), [("SELECT 2", 1.0), ("SELECT 3", 0.0)])
def test_deepevals_own_functions_as_called_by_default(metric, case, sql, score, monkeypatch, tmp_path, capsys):
    """Both copy the metric, by the names of its arguments, and measure asynchronously."""
    from deepeval import assert_test, evaluate

    monkeypatch.chdir(tmp_path)  # deepeval keeps its results in a folder here
    (result,) = evaluate([case(sql)], [metric]).test_results
    assert [(found.score, found.success, found.error) for found in result.metrics_data] == [(score, score == 1, None)]
    if score:
        assert_test(case(sql), [metric])
    else:
        with pytest.raises(AssertionError, match=re.escape(DIFFER)):
            assert_test(case(sql), [metric])


def test_a_copy_runs_queries_where_and_as_the_first_does(databases, case):
    """deepeval's copies keep the limits, and share the workers."""
    from deepeval.metrics.utils import copy_metrics

    from text2sql.scoring.metric import ExecutionAccuracyMetric

    metric = ExecutionAccuracyMetric(databases, limits=Limits(max_rows=1), threshold=0.5)
    (copied,) = copy_metrics([metric])
    assert copied.measure(case("SELECT name FROM country", gold="SELECT 1")) == 0.0
    assert copied.reason == "The query fails: the result has more than 1 rows"
    assert copied.threshold == 0.5
    with Executor(Limits(), workers=1) as executor:
        (copied,) = copy_metrics([ExecutionAccuracyMetric(databases, executor)])
        assert copied.executor is executor


@pytest.mark.long
def test_the_test_matrix(repository, databases, tmp_path):
    """Run it as a user does, over two models' predictions, in a copy of the project."""
    shutil.copytree(
        repository / "evaluation",
        tmp_path / "evaluation",
        ignore=shutil.ignore_patterns("__pycache__", "report.html"),
    )
    for name in ("params.yaml", "pyproject.toml"):
        shutil.copy(repository / name, tmp_path)
    report = tmp_path / "evaluation" / "report.html"

    def run(*options, by=("pytest",)):
        command = [sys.executable, "-m", *by, "evaluation", f"--html={report}", "--self-contained-html", *options]
        environment = os.environ | {"PYTHONPATH": str(repository)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    nothing = run()
    assert nothing.returncode == pytest.ExitCode.USAGE_ERROR
    assert "holds no predictions of a fine-tuned model: run `dvc repro` first" in nothing.stdout + nothing.stderr

    shutil.copytree(databases, tmp_path / "data" / "prepared" / "databases")
    answers = {
        "base": ["SELECT 2", "SELECT 2"],
        "m1": ["SELECT 2", "SELECT 3"],
        "m2": ["What?", "<b>DROP</b> TABLE x"],
    }
    for model, queries in answers.items():
        lines = [
            {"index": index, "db_id": "world", "question": "How many?", "gold": COUNT, "raw": sql, "sql": sql}
            for index, sql in enumerate(queries)
        ]
        write_jsonl(tmp_path / "data" / "predictions" / f"{model}.jsonl", lines)
    done = run("-vv")  # the project's own -q takes one away
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    outcomes = dict(re.findall(r"test_spider_execution\[(\S+)\] (PASSED|FAILED)", done.stdout))
    assert outcomes == {
        "m1-0000-world": "PASSED", "m1-0001-world": "FAILED", "m2-0000-world": "FAILED", "m2-0001-world": "FAILED",
    }  # fmt: skip
    assert "m1: 1 of 2 right, execution accuracy 50.00%" in done.stdout
    assert DIFFER in done.stdout
    html = report.read_text(encoding="utf-8")
    assert "m1-0001-world" in html and "m2: 0 of 2 right" in html
    assert "<b>DROP</b>" not in html

    # A worker's cases count once, and so do those that are tried again.
    report.unlink()
    tried_twice = run("-n", "1", "--reruns", "1")
    assert tried_twice.returncode == pytest.ExitCode.TESTS_FAILED, tried_twice.stdout + tried_twice.stderr
    assert "3 rerun" in tried_twice.stdout
    for summary in (tried_twice.stdout, report.read_text(encoding="utf-8")):
        assert "m1: 1 of 2 right, execution accuracy 50.00%" in summary
        assert "m2: 0 of 2 right, execution accuracy 0.00%" in summary

    by_deepeval = run(by=("deepeval.cli.main", "test", "run"))
    assert by_deepeval.returncode == pytest.ExitCode.TESTS_FAILED, by_deepeval.stdout + by_deepeval.stderr
    assert "No test cases found" not in by_deepeval.stdout
    assert "Passed: 1 | Failed: 3" in by_deepeval.stdout
    assert "m1: 1 of 2 right, execution accuracy 50.00%" in by_deepeval.stdout
