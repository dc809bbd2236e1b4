"""One case an example and model: does the predicted query return what gold returns? See `conftest.py`."""

import pytest


def test_spider_execution(metric, model, prediction, record_property):
    """Fail unless the model's query returns the same set of rows as gold."""
    from deepeval.test_case import LLMTestCase

    record_property("model", model)
    case = LLMTestCase(
        input=prediction["question"],
        actual_output=prediction["sql"],
        expected_output=prediction["gold"],
        context=[prediction["db_id"]],
        metadata={"other_golds": prediction.get("other_golds", [])},
    )
    difference = _difference(metric, case)
    if difference is not None:
        lines = [
            f"question: {prediction['question']}",
            f"gold:     {prediction['gold']}",
            f"{model + ':':<9} {prediction['sql']}",
            difference,
        ]
        pytest.fail("\n".join(lines), pytrace=False)


def _difference(metric, case) -> str | None:
    """Return why the case fails, if it does. Under `deepeval test run`, deepeval measures it, and keeps the result."""
    from deepeval import assert_test
    from deepeval.utils import get_is_running_deepeval

    if get_is_running_deepeval():
        try:
            assert_test(case, [metric])
        except AssertionError as error:
            return str(error)
        return None
    metric.measure(case)
    return None if metric.is_successful() else metric.reason
