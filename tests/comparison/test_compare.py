"""The comparison: what it counts, when it speaks of a difference, and what metrics/compare.json alone gives back."""

import json
from types import SimpleNamespace

import pytest

from testkit import synthetic
from testkit.compared import LIMITS, inputs
from text2sql.comparison import compare as comparison
from text2sql.comparison import significance as statistics
from text2sql.comparison.compare import MODELS, compare, entry, flatten, sentences, trade_off
from text2sql.core.errors import UserError


def with_outcomes(spider, mmlu):
    """Results where base and m1 answer as given, [(base, m1), …] a task; m2 answers as base does."""
    made = synthetic.results(examples=len(spider), questions=len(mmlu), subjects=("philosophy",), hostile=False)
    for place, model in enumerate(("base", "m1", "base")):
        name = MODELS[place]
        for line, pair in zip(made.spider_verdicts[name], spider):
            right = pair[model == "m1"]
            line |= {"execution_accuracy": right, "official_execution_accuracy": right}
            line["outcome"] = "correct" if right else "wrong_rows"
        made.spider_verdicts[name] = [dict(line) for line in made.spider_verdicts[name]]
        for line, pair in zip(made.mmlu_verdicts[name], mmlu):
            line["correct"] = pair[model == "m1"]
        made.spider_metrics[name] = synthetic.spider_metrics(made.spider_verdicts[name])
        made.mmlu_metrics[name] = synthetic.mmlu_metrics(made.mmlu_verdicts[name])
    return made


def outcomes(both=0, gained=0, lost=0, neither=0):
    return [(True, True)] * both + [(False, True)] * gained + [(True, False)] * lost + [(False, False)] * neither


@pytest.fixture(scope="module")
def made():
    return synthetic.results(examples=200, questions=30)


@pytest.fixture(scope="module")
def found(made):
    return compare(inputs(made), LIMITS)


def test_every_pair_is_compared_on_every_measure(found):
    measures = [(e["task"], e["measure"], e["level"], e["scope"]) for e in found["comparisons"][::3]]
    assert measures == [
        ("spider", "execution_accuracy", "overall", "all"),
        ("spider", "official_execution_accuracy", "overall", "all"),
        ("mmlu", "accuracy", "overall", "all"),
        *(("mmlu", "accuracy", "category", category) for category in ("stem", "humanities", "social_sciences")),
        *(("mmlu", "accuracy", "subject", subject) for subject in synthetic.SUBJECTS),
    ]
    for place in range(0, len(found["comparisons"]), 3):
        pairs = [(e["model"], e["against"]) for e in found["comparisons"][place : place + 3]]
        assert pairs == [("m1", "base"), ("m2", "base"), ("m1", "m2")]


@pytest.mark.parametrize("measure", ["execution_accuracy", "official_execution_accuracy"])
def test_counts_are_those_of_the_verdict_lines(made, found, measure):
    ours = [line[measure] for line in made.spider_verdicts["m1"]]
    theirs = [line[measure] for line in made.spider_verdicts["base"]]
    one = entry(found, "m1", "base", measure)
    assert one["total"] == len(ours) == one["gained"] + one["lost"] + one["both_right"] + one["both_wrong"]
    assert one["both_right"] == sum(a and b for a, b in zip(ours, theirs))
    assert one["gained"] - one["lost"] == sum(ours) - sum(theirs)
    assert one["difference_pts"] == pytest.approx(100 * (sum(ours) - sum(theirs)) / len(ours), abs=1e-4)
    assert one["low_pts"] <= one["difference_pts"] <= one["high_pts"]
    assert one["p"] == pytest.approx(statistics.mcnemar_p(one["gained"], one["lost"]), rel=1e-3)


def test_a_category_counts_its_own_questions(made, found):
    lines = [line for line in made.mmlu_verdicts["m1"] if line["category"] == "humanities"]
    one = entry(found, "m1", "base", "accuracy", "humanities")
    assert one["total"] == len(lines) == 30
    assert one["accuracy"] == pytest.approx(sum(line["correct"] for line in lines) / 30, abs=1e-6)


def test_p_is_adjusted_within_each_named_family(found):
    assert found["families"] == {
        "headline": "Spider (both accuracies) and MMLU overall: 9 comparisons (3 pairs of models)",
        "mmlu_categories": "MMLU by category: 9 comparisons (3 pairs of models)",
        "mmlu_subjects": "MMLU by subject: 9 comparisons (3 pairs of models)",
    }
    for family in found["families"]:
        members = [e for e in found["comparisons"] if e["family"] == family]
        adjusted = statistics.holm([e["p"] for e in members])
        assert [e["p_holm"] for e in members] == pytest.approx(adjusted, rel=2e-3)
        assert all(e["p_holm"] >= e["p"] for e in members)


def test_a_verdict_follows_from_the_adjusted_p_alone():
    # Five gained of fifty, none lost: the interval lies above 0, p = 0.0625 does not reach 5 %.
    found = compare(inputs(with_outcomes(outcomes(5, 5, 0, 40), outcomes(10, 0, 12, 28))), LIMITS)
    spider, mmlu = entry(found, "m1", "base", "execution_accuracy"), entry(found, "m1", "base", "accuracy")
    assert spider["low_pts"] > 0 and spider["p"] == 0.0625
    assert spider["verdict"] == "not distinguishable"
    assert mmlu["verdict"] == "worse" and mmlu["p_holm"] == pytest.approx(9 * 2 / 2**12, rel=1e-3)
    sentence = found["sentences"]["m1"]
    assert sentence.startswith("Model 1 is not distinguishable from Base on Spider (+10.00 points, 95 % interval +")
    assert "and regressed from Base on MMLU (-24.00 points" in sentence
    assert "improved" not in sentence


def test_an_unadjusted_p_below_five_percent_is_not_enough():
    found = compare(inputs(with_outcomes(outcomes(5, 8, 0, 37), outcomes(10, 0, 0, 40))), LIMITS)
    one = entry(found, "m1", "base", "execution_accuracy")
    assert one["p"] < 0.05 < one["p_holm"]
    assert one["verdict"] == "not distinguishable"


def test_the_smallest_detectable_difference_stands_beside_the_verdict(found):
    one = entry(found, "m1", "base", "execution_accuracy")
    expected = 100 * statistics.smallest_detectable_difference(one["gained"], one["lost"], one["total"])
    assert one["smallest_detectable_pts"] == pytest.approx(expected, abs=0.005)
    assert f"smallest detectable: {one['smallest_detectable_pts']:.2f} on 200 questions" in found["sentences"]["m1"]


def test_too_few_questions_detect_nothing_and_say_nothing_of_it():
    found = compare(inputs(with_outcomes(outcomes(1, 1, 1, 1), outcomes(1, 1, 1, 1))), LIMITS)
    flat = flatten(found)
    assert entry(found, "m1", "base", "execution_accuracy")["smallest_detectable_pts"] is None
    assert not [key for key in flat if "smallest_detectable" in key]
    assert "smallest detectable" not in sentences(flat)["m1"]


def test_a_model_that_answers_as_base_does_is_never_told_apart():
    found = compare(inputs(with_outcomes(outcomes(9, 20, 0, 31), outcomes(20, 0, 0, 20))), LIMITS)
    one = entry(found, "m2", "base", "execution_accuracy")
    assert (one["difference_pts"], one["low_pts"], one["high_pts"], one["p_holm"]) == (0, 0, 0, 1)
    assert found["sentences"]["m2"].startswith("Model 2 is not distinguishable from Base on Spider (0.00 points")
    assert found["agreement"]["m2"]["spider_verdicts"] == 1.0
    assert found["sentences"]["m1_m2"].startswith("Model 1 is better than Model 2 on Spider (+33.33 points")


def test_agreement_counts_identical_outputs_verdicts_and_choices(made, found):
    base, m1 = made.predictions["base"], made.predictions["m1"]
    assert found["agreement"]["m1"]["outputs"] == sum(a["raw"] == b["raw"] for a, b in zip(base, m1)) / 200
    choices = [(a["choice"], b["choice"]) for a, b in zip(made.mmlu_verdicts["base"], made.mmlu_verdicts["m1"])]
    assert found["agreement"]["m1"]["mmlu_choices"] == pytest.approx(sum(a == b for a, b in choices) / 90, abs=1e-6)
    assert set(found["agreement"]) == {"m1", "m2", "m1_m2"}


def test_the_same_input_gives_the_same_comparison(made, found):
    again = compare(inputs(made), LIMITS)
    assert json.dumps(again) == json.dumps(found)


def test_lines_may_come_as_a_stream(made, found):
    streams = {
        f"{model}__{field}": iter(getattr(made, source)[model])
        for model in MODELS
        for field, source in (("mmlu_verdicts", "mmlu_verdicts"), ("predictions", "predictions"))
    }
    assert compare(inputs(made, **streams), LIMITS) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: {"m1__predictions": made.predictions["m1"][:-1]}, "m1: its predictions and its Spider verdicts"),
        (
            lambda made: {
                "m2__spider_verdicts": made.spider_verdicts["m2"][:-1],
                "m2__predictions": made.predictions["m2"][:-1],
            },
            "m2: its verdicts give Spider total 199, its metrics 200",
        ),
        (
            lambda made: {"m1__mmlu_metrics": made.mmlu_metrics["m1"] | {"correct": 1}},
            "m1: its verdicts give MMLU correct",
        ),
        (
            lambda made: {"m1__mmlu_verdicts": made.mmlu_verdicts["m1"][::-1]},
            "mmlu: base and m1 were evaluated on different questions",
        ),
        (
            lambda made: {
                "base__mmlu_verdicts": [],
                "base__mmlu_metrics": made.mmlu_metrics["base"] | {"total": 0, "correct": 0},
            },
            "base: MMLU total is 0",
        ),
    ],
)
def test_results_that_do_not_belong_together_are_refused(made, change, message):
    with pytest.raises(UserError, match=message):
        compare(inputs(made, **change(made)), LIMITS)


class TestFlat:
    """metrics/compare.json: numbers under names without dots, enough for verdicts and gate."""

    def test_keys_are_flat_and_values_are_numbers(self, found):
        flat = flatten(found)
        assert not [key for key in flat if not key.replace("_", "").isalnum()]
        assert all(type(value) in (int, float) for value in flat.values())
        assert len(flat) <= 55
        assert not [key for key in flat if "second" in key or "minute" in key]

    def test_it_repeats_the_metrics_and_the_comparison(self, made, found):
        flat = flatten(found)
        for model in MODELS:
            assert flat[f"spider_execution_accuracy_{model}"] == made.spider_metrics[model]["execution_accuracy"]
            assert flat[f"mmlu_accuracy_{model}"] == made.mmlu_metrics[model]["accuracy"]
        mmlu = entry(found, "m1", "base", "accuracy")
        assert flat["mmlu_loss_pts_m1"] == -mmlu["difference_pts"]
        assert (flat["mmlu_loss_pts_low_m1"], flat["mmlu_loss_pts_high_m1"]) == (-mmlu["high_pts"], -mmlu["low_pts"])
        assert flat["spider_gain_pts_m2"] == entry(found, "m2", "base", "execution_accuracy")["difference_pts"]
        assert flat["agreement_identical_outputs_m2"] == found["agreement"]["m2"]["outputs"]

    def test_sentences_and_trade_off_follow_from_it_alone(self, found, tmp_path):
        path = tmp_path / "compare.json"
        path.write_text(json.dumps(flatten(found)))
        flat = comparison.read_flat(path)
        assert sentences(flat) == found["sentences"]
        assert trade_off(flat, LIMITS) == found["trade_off"]

    def test_no_value_is_minus_zero(self):
        found = compare(inputs(with_outcomes(outcomes(5, 0, 0, 5), outcomes(5, 0, 0, 5))), LIMITS)
        assert "-0.0" not in json.dumps(flatten(found))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[]", "found list, wanted an object"),
            ("{}", "spider_total: found None, wanted a number"),
            ("{", "not valid JSON"),
        ],
    )
    def test_a_damaged_file_is_named(self, tmp_path, text, message):
        path = tmp_path / "compare.json"
        path.write_text(text)
        with pytest.raises(UserError, match=f"compare.json.*{message}"):
            comparison.read_flat(path)


class TestTradeOff:
    """Broken where the whole interval lies beyond the limit, inconclusive where it straddles it, kept otherwise."""

    @staticmethod
    def judged(gain, loss):
        flat = {}
        for model in ("m1", "m2"):
            for name, interval in (("spider_gain_pts", gain), ("mmlu_loss_pts", loss)):
                low, high = interval
                flat |= {f"{name}_{model}": (low + high) / 2}
                flat |= {f"{name}_low_{model}": low, f"{name}_high_{model}": high}
        limits = SimpleNamespace(max_mmlu_loss_pts=5, min_spider_gain_pts=2)
        return trade_off(flat, limits)

    @pytest.mark.parametrize(
        ("gain", "verdict"),
        [((2, 9), "kept"), ((2.1, 9), "kept"), ((1.9, 9), "inconclusive"), ((-3, 2), "inconclusive"),
         ((-3, 1.9), "broken")],
    )  # fmt: skip
    def test_gain_on_spider(self, gain, verdict):
        found = self.judged(gain, (0, 0))
        assert found["m1"]["spider"]["verdict"] == verdict == found["m1"]["verdict"]
        assert comparison.gate_outcome(found) == verdict

    @pytest.mark.parametrize(
        ("loss", "verdict"),
        [((-8, 5), "kept"), ((-8, 5.1), "inconclusive"), ((5, 9), "inconclusive"), ((5.1, 9), "broken")],
    )
    def test_loss_on_mmlu(self, loss, verdict):
        found = self.judged((3, 4), loss)
        assert found["m2"]["mmlu"]["verdict"] == verdict == found["m2"]["verdict"]

    def test_the_worse_of_the_two_counts(self):
        assert self.judged((1, 3), (6, 8))["m1"]["verdict"] == "broken"
        assert self.judged((1, 3), (0, 1))["m1"]["verdict"] == "inconclusive"

    def test_each_line_names_model_limit_and_verdict(self):
        lines = comparison.gate_lines(self.judged((1, 3), (6, 8)))
        assert lines[0] == "inconclusive: Model 1, gain on Spider: +2.00 points (+1.00 to +3.00), at least 2 wanted"
        assert lines[3] == "broken: Model 2, loss on MMLU: +7.00 points (+6.00 to +8.00), at most 5 wanted"


def test_cost_is_told_only_of_a_gain_that_is_more_than_chance(made, found):
    costs = comparison.cost(found, made.timings)
    gain = entry(found, "m1", "base", "execution_accuracy")
    assert gain["verdict"] == "better"
    minutes = made.timings["train_m1"]["seconds"] / 60
    assert costs["m1"]["training_minutes"] == pytest.approx(minutes)
    assert costs["m1"]["minutes_per_spider_point"] == pytest.approx(minutes / gain["difference_pts"])
    loss = -entry(found, "m1", "base", "accuracy")["difference_pts"]
    assert costs["m1"]["mmlu_points_per_spider_point"] == pytest.approx(loss / gain["difference_pts"])
    assert costs["m2"]["minutes_per_spider_point"] is None
    assert comparison.cost(found, {})["m1"]["training_minutes"] is None


def test_plot_rows_hold_every_model_with_its_interval(made, found):
    rows = comparison.accuracy_rows(found)
    assert len(rows) == 9 and list(rows[0]) == ["model", "task", "accuracy", "low", "high"]
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    rows = comparison.category_rows(found)
    assert len(rows) == 9 and list(rows[0]) == ["model", "category", "accuracy", "low", "high", "difference_pts"]
    for base, m1 in zip(rows[::3], rows[1::3]):
        assert base["difference_pts"] == 0
        assert m1["difference_pts"] == pytest.approx(100 * (m1["accuracy"] - base["accuracy"]), abs=1e-3)


def test_p_is_never_rounded_across_the_threshold():
    assert comparison.p_text(0.0504) == "p = 0.0504"
    assert comparison.p_text(0.05) == "p = 0.05"
    assert comparison.p_text(0.012345) == "p = 0.012"
    assert comparison.p_text(1e-9) == "p < 0.0001"
    assert comparison.p_text(1.0) == "p = 1"
