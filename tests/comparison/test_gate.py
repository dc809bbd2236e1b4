"""The gate: broken where the whole interval lies beyond the limit, inconclusive where it straddles it, else kept."""

from types import SimpleNamespace

import pytest

from text2sql.comparison.gate import gate_outcome, trade_off
from text2sql.comparison.result import Agreement, Difference, PairSummary, Summary
from text2sql.core.models import PAPER_MODELS
from text2sql.report.sentences import gate_lines


def difference(low, high):
    return Difference(
        difference_pts=(low + high) / 2, low_pts=low, high_pts=high, p_holm=1.0, smallest_detectable_pts=None
    )


def judged(gain, loss):
    """Both tuned models with these intervals, against a least gain of 2 points and a greatest loss of 5."""
    spider, mmlu = difference(*gain), difference(-loss[1], -loss[0])
    pairs = tuple(PairSummary(model, "base", spider, mmlu, Agreement(0, 0, 0)) for model in ("m1", "m2"))
    return trade_off(Summary(PAPER_MODELS, 50, 50, pairs), SimpleNamespace(max_mmlu_loss_pts=5, min_spider_gain_pts=2))


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [((2, 9), "kept"), ((2.1, 9), "kept"), ((1.9, 9), "inconclusive"), ((-3, 2), "inconclusive"),
     ((-3, 1.9), "broken")],
)  # fmt: skip
def test_gain_on_spider(gain, verdict):
    found = judged(gain, (0, 0))
    assert found[0].spider.verdict == verdict == found[0].verdict
    assert gate_outcome(found) == verdict


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [((-8, 5), "kept"), ((-8, 5.1), "inconclusive"), ((5, 9), "inconclusive"), ((5.1, 9), "broken")],
)
def test_loss_on_mmlu(loss, verdict):
    found = judged((3, 4), loss)
    assert found[1].mmlu.verdict == verdict == found[1].verdict


def test_the_worse_of_the_two_counts():
    assert judged((1, 3), (6, 8))[0].verdict == "broken"
    assert judged((1, 3), (0, 1))[0].verdict == "inconclusive"


def test_each_line_names_model_limit_and_verdict():
    lines = gate_lines(judged((1, 3), (6, 8)), PAPER_MODELS)
    assert lines[0] == "inconclusive: Model 1, gain on Spider: +2.00 points (+1.00 to +3.00), at least 2 wanted"
    assert lines[3] == "broken: Model 2, loss on MMLU: +7.00 points (+6.00 to +8.00), at most 5 wanted"
