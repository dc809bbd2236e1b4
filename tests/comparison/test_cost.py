"""What a point on Spider cost."""

import pytest

from testkit import synthetic
from testkit.compared import compared
from text2sql.comparison.cost import costs


def test_cost_is_told_only_of_a_gain_that_is_more_than_chance():
    made = synthetic.results(examples=200, questions=30)
    found = compared(made)
    first, second = costs(found, made.timings)
    assert (first.model, second.model) == ("m1", "m2")
    gain = found.row("m1", "base", "execution_accuracy")
    assert gain.verdict == "better"
    minutes = made.timings["train_m1"]["seconds"] / 60
    assert first.training_minutes == pytest.approx(minutes)
    assert first.minutes_per_spider_point == pytest.approx(minutes / gain.difference_pts)
    loss = -found.row("m1", "base", "accuracy").difference_pts
    assert first.mmlu_points_per_spider_point == pytest.approx(loss / gain.difference_pts)
    assert second.minutes_per_spider_point is None
    assert costs(found, {})[0].training_minutes is None
