"""One case an example and model: does the predicted query return what gold returns? See `conftest.py`."""

import pytest


def test_spider_execution(metric, model, prediction):
    """Fail unless the model's query returns the same set of rows as gold."""
    from deepeval.test_case import LLMTestCase

    case = LLMTestCase(
        input=prediction["question"],
        actual_output=prediction["sql"],
        expected_output=prediction["gold"],
        context=[prediction["db_id"]],
    )
    metric.measure(case)
    if not metric.is_successful():
        lines = [
            f"question: {prediction['question']}",
            f"gold:     {prediction['gold']}",
            f"{model + ':':<9} {prediction['sql']}",
            metric.reason,
        ]
        pytest.fail("\n".join(lines), pytrace=False)
