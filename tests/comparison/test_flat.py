"""metrics/compare.json: numbers under names without dots, enough for verdicts and gate."""

import json

import pytest

from testkit import synthetic
from testkit.compared import LIMITS, compared, outcomes, with_outcomes
from text2sql.comparison import flat as flat_file
from text2sql.comparison.flat import flatten
from text2sql.comparison.gate import trade_off
from text2sql.core.errors import UserError
from text2sql.core.models import PAPER_MODELS, ModelTable, name_clash
from text2sql.report.sentences import sentences


@pytest.fixture(scope="module")
def made():
    return synthetic.results(examples=200, questions=30)


@pytest.fixture(scope="module")
def found(made):
    return compared(made)


def test_keys_are_flat_and_values_are_numbers(found):
    flat = flatten(found)
    assert not [key for key in flat if not key.replace("_", "").isalnum()]
    assert all(type(value) in (int, float) for value in flat.values())
    assert len(flat) <= 55
    assert not [key for key in flat if "second" in key or "minute" in key]


def test_it_repeats_the_metrics_and_the_comparison(made, found):
    flat = flatten(found)
    for model in made.models.names:
        assert flat[f"spider_execution_accuracy_{model}"] == made.spider_metrics[model]["execution_accuracy"]
        assert flat[f"mmlu_accuracy_{model}"] == made.mmlu_metrics[model]["accuracy"]
    mmlu = found.row("m1", "base", "accuracy")
    assert flat["mmlu_loss_pts_m1"] == -mmlu.difference_pts
    assert (flat["mmlu_loss_pts_low_m1"], flat["mmlu_loss_pts_high_m1"]) == (-mmlu.high_pts, -mmlu.low_pts)
    assert flat["spider_gain_pts_m2"] == found.row("m2", "base", "execution_accuracy").difference_pts
    assert flat["agreement_identical_outputs_m2"] == found.agreement["m2", "base"].outputs


def test_birds_measure_has_the_same_numbers_where_it_was_asked(made, found):
    of_bird = synthetic.as_of_bird(synthetic.results(examples=200, questions=30))
    compared_by_it = compared(of_bird)
    plain, flat = flatten(found), flatten(compared_by_it)
    assert [key for key in flat if "bird" not in key] == list(plain) and not [key for key in plain if "bird" in key]
    for model in made.models.names:
        assert (
            flat[f"spider_bird_execution_accuracy_{model}"] == of_bird.spider_metrics[model]["bird_execution_accuracy"]
        )
    row = compared_by_it.row("m1", "m2", "bird_execution_accuracy")
    gain = [flat[f"spider_bird_gain_{end}_m1_m2"] for end in ("pts", "pts_low", "pts_high", "p_holm")]
    assert gain == [row.difference_pts, row.low_pts, row.high_pts, row.p_holm]
    assert flat["spider_bird_smallest_detectable_pts_m1_m2"] == row.smallest_detectable_pts


def test_sentences_and_trade_off_follow_from_it_alone(found, tmp_path):
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(flatten(found)))
    summary = flat_file.read_summary(path, PAPER_MODELS)
    assert sentences(summary) == sentences(found.summary)
    assert trade_off(summary, LIMITS) == trade_off(found.summary, LIMITS)


def test_no_value_is_minus_zero():
    found = compared(with_outcomes(outcomes(5, 0, 0, 5), outcomes(5, 0, 0, 5)))
    assert "-0.0" not in json.dumps(flatten(found))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "found list, wanted an object"),
        ("{}", "spider_total: found None, wanted a number"),
        ("{", "not valid JSON"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, message):
    path = tmp_path / "compare.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"compare.json.*{message}"):
        flat_file.read_summary(path, PAPER_MODELS)


def test_what_is_read_is_what_was_written_of_any_number_of_models(tmp_path):
    found = compared(synthetic.results(examples=80, questions=12, models=synthetic.FOUR_MODELS))
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(flatten(found)))
    read = flat_file.read_summary(path, synthetic.FOUR_MODELS)
    assert read.models is synthetic.FOUR_MODELS and read.spider_total == 80
    for pair, written in zip(read.pairs, found.summary.pairs, strict=True):
        assert (pair.model, pair.against, pair.agreement) == (written.model, written.against, written.agreement)
        for task in ("spider", "mmlu"):
            ours, theirs = getattr(pair, task), getattr(written, task)
            for name in ("difference_pts", "low_pts", "high_pts", "p_holm", "smallest_detectable_pts", "verdict"):
                assert getattr(ours, name) == getattr(theirs, name)
    with pytest.raises(UserError, match="spider_gain_pts_m3: found None"):
        path.write_text(json.dumps(flatten(compared(synthetic.results(examples=8, questions=3)))))
        flat_file.read_summary(path, synthetic.FOUR_MODELS)


@pytest.mark.parametrize("names", [("m1", "low_m1"), ("m1", "m2", "m1_m2"), ("low", "m1"), ("m1", "m2", "high_m1_m2")])
def test_names_by_which_two_numbers_would_share_a_key_are_those_that_params_refuse(names):
    numbers = {}
    for tuned in (names, tuple(f"model{place}" for place in range(len(names)))):
        table = ModelTable({name: name for name in ("base", *tuned)})
        made = synthetic.results(examples=60, questions=12, models=table)
        numbers[name_clash(table.names) is None] = len(flatten(compared(made)))
    assert numbers[False] < numbers[True]
