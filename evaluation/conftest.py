"""The paper's test matrix (section II.C): every dev example, every fine-tuned model, from the predictions on disk.

    pytest evaluation --html=evaluation/report.html --self-contained-html

A wrong query fails its case: that is the measurement, and no fault of the project. Each case is named after model,
index and database, such as `m1-0017-concert_singer` (`-k m1-0017`).
"""

from collections import Counter
from pathlib import Path

import pytest

from text2sql.core.files import read_jsonl
from text2sql.core.params import load_params
from text2sql.execution.executor import Executor, Limits

ROOT = Path(__file__).parent.parent
PREDICTIONS = ROOT / "data" / "predictions"
DATABASES = ROOT / "data" / "prepared" / "databases"
BASE = "base"

right_of_model: Counter[str] = Counter()
cases_of_model: Counter[str] = Counter()


def pytest_configure() -> None:
    """Say what is missing before anything starts."""
    if not _prediction_files():
        raise pytest.UsageError(f"{PREDICTIONS} holds no predictions of a fine-tuned model: run `dvc repro` first")
    if not DATABASES.is_dir():
        raise pytest.UsageError(f"{DATABASES}: no such folder: run `dvc repro` first")


def _prediction_files() -> list[Path]:
    return sorted(path for path in PREDICTIONS.glob("*.jsonl") if path.stem != BASE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case of each prediction of each fine-tuned model."""
    if "prediction" in metafunc.fixturenames:
        cases = [(path.stem, record) for path in _prediction_files() for record in read_jsonl(path)]
        metafunc.parametrize(
            ("model", "prediction"),
            cases,
            ids=[f"{model}-{record['index']:04d}-{record['db_id']}" for model, record in cases],
        )


@pytest.fixture(scope="session")
def metric():
    """The metric, with worker processes that all cases share."""
    from text2sql.scoring.metric import ExecutionAccuracyMetric

    params = load_params(ROOT / "params.yaml")
    with Executor(Limits(**params.execution.model_dump()), workers=1) as executor:
        yield ExecutionAccuracyMetric(DATABASES, executor, failing_gold=params.data.failing_gold)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the cases, and the right ones, of each model.

    Reports of `pytest -n` reach the main process from its workers; those that `--reruns` repeats are not the last word.
    """
    if report.when == "call" and report.outcome != "rerun":
        model = dict(report.user_properties)["model"]
        cases_of_model[model] += 1
        right_of_model[model] += report.passed


def _accuracies() -> list[str]:
    return [
        f"{model}: {right_of_model[model]} of {count} right, execution accuracy {right_of_model[model] / count:.2%}"
        for model, count in sorted(cases_of_model.items())
    ]


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how each model did."""
    for line in _accuracies():
        terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report) -> None:
    """Name the HTML report."""
    name = load_params(ROOT / "params.yaml").data.name
    report.title = f"{name}: execution accuracy of the fine-tuned models, case by case"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix, summary, postfix) -> None:
    """Say in the HTML report how each model did."""
    prefix.extend(f"<p>{line}</p>" for line in _accuracies())
