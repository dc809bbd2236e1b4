"""The comparison: what it counts, and when it speaks of a difference."""

import dataclasses
import json

import pytest

from testkit import synthetic
from testkit.compared import LIMITS, compared, outcomes, with_outcomes
from text2sql.comparison import significance as statistics
from text2sql.comparison.compare import compare
from text2sql.comparison.flat import flatten, summary_of
from text2sql.core.errors import UserError
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.report.sentences import sentences


@pytest.fixture(scope="module")
def made():
    return synthetic.results(examples=200, questions=30)


@pytest.fixture(scope="module")
def found(made):
    return compared(made)


def test_every_pair_is_compared_on_every_measure(found):
    measures = [(row.task, row.measure, row.level, row.scope) for row in found.rows[::3]]
    assert measures == [
        ("spider", "execution_accuracy", "overall", "all"),
        ("spider", "official_execution_accuracy", "overall", "all"),
        ("mmlu", "accuracy", "overall", "all"),
        *(("mmlu", "accuracy", "category", category) for category in ("stem", "humanities", "social_sciences")),
        *(("mmlu", "accuracy", "subject", subject) for subject in synthetic.SUBJECTS),
    ]
    for place in range(0, len(found.rows), 3):
        pairs = [(row.model, row.against) for row in found.rows[place : place + 3]]
        assert pairs == [("m1", "base"), ("m2", "base"), ("m1", "m2")]


@pytest.mark.parametrize("measure", ["execution_accuracy", "official_execution_accuracy"])
def test_counts_are_those_of_the_verdict_lines(made, found, measure):
    ours = [line[measure] for line in made.spider_verdicts["m1"]]
    theirs = [line[measure] for line in made.spider_verdicts["base"]]
    one = found.row("m1", "base", measure)
    assert one.total == len(ours) == one.gained + one.lost + one.both_right + one.both_wrong
    assert one.both_right == sum(a and b for a, b in zip(ours, theirs))
    assert one.gained - one.lost == sum(ours) - sum(theirs)
    assert one.difference_pts == pytest.approx(100 * (sum(ours) - sum(theirs)) / len(ours), abs=1e-4)
    assert one.low_pts <= one.difference_pts <= one.high_pts
    assert one.p == pytest.approx(statistics.mcnemar_p(one.gained, one.lost), rel=1e-3)


def test_birds_measure_is_compared_where_the_questions_have_it(made, found):
    assert "bird_execution_accuracy" not in {row.measure for row in found.rows}
    of_bird = synthetic.as_of_bird(synthetic.results(examples=200, questions=30))
    by_it = compared(of_bird)
    assert by_it.families["headline"].startswith("Spider (all three accuracies) and MMLU overall: 12 comparisons")
    headline = [row for row in by_it.rows if row.family == "headline"]
    assert [row.p_holm for row in headline] == pytest.approx(statistics.holm([row.p for row in headline]), rel=2e-3)
    unadjusted = [dataclasses.replace(row, p_holm=0) for row in by_it.rows if row.measure != "bird_execution_accuracy"]
    assert unadjusted == [dataclasses.replace(row, p_holm=0) for row in found.rows]
    ours, theirs = (
        [line["bird_execution_accuracy"] for line in of_bird.spider_verdicts[name]] for name in ("m1", "base")
    )
    one = by_it.against_base("m1", "bird_execution_accuracy")
    assert (one.gained, one.lost) == statistics.discordant(ours, theirs) and one.total == 200
    # Of questions that have it in part, those alone.
    for lines in of_bird.spider_verdicts.values():
        for line in lines[150:]:
            del line["bird_execution_accuracy"]
    metrics = {
        f"{model}__spider_metrics": made.spider_metrics[model]
        | {
            "bird_execution_accuracy": 0.5,
            "bird_successes": sum(line["bird_execution_accuracy"] for line in lines[:150]),
        }
        for model, lines in of_bird.spider_verdicts.items()
    }
    assert compared(of_bird, **metrics).against_base("m1", "bird_execution_accuracy").total == 150


def test_birds_verdicts_of_another_run_are_refused(made):
    of_bird = synthetic.as_of_bird(synthetic.results(examples=200, questions=30))
    old = {"m1__spider_verdicts": made.spider_verdicts["m1"]}
    with pytest.raises(UserError, match="m1: its verdicts give BIRD's successes None, its metrics"):
        compared(of_bird, **old)
    with pytest.raises(UserError, match="base and m1 have BIRD's verdicts on different ones"):
        compared(of_bird, **old, m1__spider_metrics=made.spider_metrics["m1"])


def test_a_category_counts_its_own_questions(made, found):
    lines = [line for line in made.mmlu_verdicts["m1"] if line["category"] == "humanities"]
    one = found.row("m1", "base", "accuracy", "humanities")
    assert one.total == len(lines) == 30
    assert one.accuracy == pytest.approx(sum(line["correct"] for line in lines) / 30, abs=1e-6)


def test_p_is_adjusted_within_each_named_family(found):
    assert found.families == {
        "headline": "Spider (both accuracies) and MMLU overall: 9 comparisons (3 pairs of models)",
        "mmlu_categories": "MMLU by category: 9 comparisons (3 pairs of models)",
        "mmlu_subjects": "MMLU by subject: 9 comparisons (3 pairs of models)",
    }
    for family in found.families:
        members = [row for row in found.rows if row.family == family]
        adjusted = statistics.holm([row.p for row in members])
        assert [row.p_holm for row in members] == pytest.approx(adjusted, rel=2e-3)
        assert all(row.p_holm >= row.p for row in members)


def test_a_verdict_follows_from_the_adjusted_p_alone():
    # Five gained of fifty, none lost: the interval lies above 0, p = 0.0625 does not reach 5 %.
    found = compared(with_outcomes(outcomes(5, 5, 0, 40), outcomes(10, 0, 12, 28)))
    spider, mmlu = found.row("m1", "base", "execution_accuracy"), found.row("m1", "base", "accuracy")
    assert spider.low_pts > 0 and spider.p == 0.0625
    assert spider.verdict == "not distinguishable"
    assert mmlu.verdict == "worse" and mmlu.p_holm == pytest.approx(9 * 2 / 2**12, rel=1e-3)
    sentence = sentences(found.summary)["m1", "base"]
    assert sentence.startswith("Model 1 is not distinguishable from Base on Spider (+10.00 points, 95 % interval +")
    assert "and regressed from Base on MMLU (-24.00 points" in sentence
    assert "improved" not in sentence


def test_an_unadjusted_p_below_five_percent_is_not_enough():
    found = compared(with_outcomes(outcomes(5, 8, 0, 37), outcomes(10, 0, 0, 40)))
    one = found.row("m1", "base", "execution_accuracy")
    assert one.p < 0.05 < one.p_holm
    assert one.verdict == "not distinguishable"


def test_the_smallest_detectable_difference_stands_beside_the_verdict(found):
    one = found.row("m1", "base", "execution_accuracy")
    expected = 100 * statistics.smallest_detectable_difference(one.gained, one.lost, one.total)
    assert one.smallest_detectable_pts == pytest.approx(expected, abs=0.005)
    sentence = sentences(found.summary)["m1", "base"]
    assert f"smallest detectable: {one.smallest_detectable_pts:.2f} on 200 questions" in sentence


def test_too_few_questions_detect_nothing_and_say_nothing_of_it():
    found = compared(with_outcomes(outcomes(1, 1, 1, 1), outcomes(1, 1, 1, 1)))
    flat = flatten(found)
    assert found.row("m1", "base", "execution_accuracy").smallest_detectable_pts is None
    assert not [key for key in flat if "smallest_detectable" in key]
    assert "smallest detectable" not in sentences(summary_of(flat, PAPER_MODELS))["m1", "base"]


def test_a_model_that_answers_as_base_does_is_never_told_apart():
    found = compared(with_outcomes(outcomes(9, 20, 0, 31), outcomes(20, 0, 0, 20)))
    one = found.row("m2", "base", "execution_accuracy")
    assert (one.difference_pts, one.low_pts, one.high_pts, one.p_holm) == (0, 0, 0, 1)
    assert sentences(found.summary)["m2", "base"].startswith(
        "Model 2 is not distinguishable from Base on Spider (0.00 points"
    )
    assert found.agreement["m2", "base"].spider_verdicts == 1.0
    assert sentences(found.summary)["m1", "m2"].startswith("Model 1 is better than Model 2 on Spider (+33.33 points")


def test_agreement_counts_identical_outputs_verdicts_and_choices(made, found):
    base, m1 = made.predictions["base"], made.predictions["m1"]
    assert found.agreement["m1", "base"].outputs == sum(a["raw"] == b["raw"] for a, b in zip(base, m1)) / 200
    choices = [(a["choice"], b["choice"]) for a, b in zip(made.mmlu_verdicts["base"], made.mmlu_verdicts["m1"])]
    assert found.agreement["m1", "base"].mmlu_choices == pytest.approx(sum(a == b for a, b in choices) / 90, abs=1e-6)
    assert list(found.agreement) == [("m1", "base"), ("m2", "base"), ("m1", "m2")]


def test_the_same_input_gives_the_same_comparison(made, found):
    again = compared(made)
    assert again == found and json.dumps(flatten(again)) == json.dumps(flatten(found))


def test_lines_may_come_as_a_stream(made, found):
    streams = {
        f"{model}__{field}": iter(getattr(made, source)[model])
        for model in made.models.names
        for field, source in (("mmlu_verdicts", "mmlu_verdicts"), ("predictions", "predictions"))
    }
    assert compared(made, **streams) == found


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
        compared(made, **change(made))


class TestMmluAskedOtherwise:
    """Over the rotations of its options, and in chat."""

    @pytest.fixture(scope="class")
    def made(self):
        return synthetic.ask_mmlu_otherwise(synthetic.results(examples=60, questions=40))

    @pytest.fixture(scope="class")
    def found(self, made):
        return compared(made)

    def test_the_other_comparisons_stay_as_they_are(self, found):
        plain = compared(synthetic.results(examples=60, questions=40))
        assert found.rows[: len(plain.rows)] == plain.rows
        assert flatten(plain).items() <= flatten(found).items()
        assert not any("chat" in key or "rotated" in key for key in flatten(plain))

    def test_rotations_are_paired_question_by_question(self, made, found):
        ours, theirs = ([line["rotations_right"] for line in made.mmlu_verdicts[model]] for model in ("m1", "base"))
        one = found.row("m1", "base", "rotated_accuracy")
        assert one.total == 120 and one.difference_pts == pytest.approx(100 * (sum(ours) - sum(theirs)) / 480, abs=1e-4)
        assert one.gained == sum(a > b for a, b in zip(ours, theirs))
        assert one.lost == sum(a < b for a, b in zip(ours, theirs))
        assert one.gained + one.lost + one.both_right + one.both_wrong == 120
        assert one.low_pts < one.difference_pts < one.high_pts
        assert found.families["mmlu_rotations"].endswith(": 3 comparisons (3 pairs of models)")

    def test_chat_compares_those_who_were_asked(self, made, found):
        assert list(found.chat) == ["base", "m1"]
        (one,) = [row for row in found.rows if row.measure == "chat_accuracy"]
        assert (one.model, one.against) == ("m1", "base") and one.verdict == "worse"
        right = {model: [line["correct"] for line in lines] for model, lines in made.chat_verdicts.items()}
        assert (one.gained, one.lost) == statistics.discordant(right["m1"], right["base"])
        assert found.families["mmlu_chat"] == "MMLU in chat: 1 comparison (1 pair of models)"
        sql = sum(line["kind"] == "sql" for line in made.chat_verdicts["m1"])
        assert found.chat["m1"]["sql_answers"] == sql and found.chat["m1"]["sql_share"] == round(sql / 120, 6)
        assert found.chat["base"]["log_likelihood_accuracy"] == found.mmlu["base"]["accuracy"]

    def test_letters_are_those_of_the_choices(self, made, found):
        for model in made.models.names:
            choices = [line["choice"] for line in made.mmlu_verdicts[model]]
            assert found.letters[model]["C"] == pytest.approx(choices.count(2) / 120, abs=1e-6)

    def test_metrics_have_both_with_their_intervals(self, found):
        flat = flatten(found)
        row = found.row("m1", "base", "chat_accuracy")
        assert (flat["mmlu_chat_loss_pts_low_m1"], flat["mmlu_chat_loss_pts_m1"]) == (
            -row.high_pts,
            -row.difference_pts,
        )
        assert flat["mmlu_chat_sql_share_m1"] == found.chat["m1"]["sql_share"]
        assert flat["mmlu_rotated_accuracy_m2"] == found.rotated["m2"]["accuracy"]
        assert flat["mmlu_rotated_p_holm_m1_m2"] == found.row("m1", "m2", "rotated_accuracy").p_holm

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda made: {"m1__chat_verdicts": made.chat_verdicts["m1"][1:]},
                "mmlu_chat: base and m1 were asked different questions",
            ),
            (
                lambda made: {
                    f"{model}__chat_verdicts": [{**line, "index": line["index"] + 99} for line in lines]
                    for model, lines in made.chat_verdicts.items()
                },
                "mmlu_chat: asked other questions than mmlu",
            ),
            (
                lambda made: {"m2__mmlu_verdicts": synthetic.results(examples=60, questions=40).mmlu_verdicts["m2"]},
                "mmlu: base and m2 were asked different rotations",
            ),
            (
                lambda made: {
                    "m1__mmlu_metrics": {**made.mmlu_metrics["m1"], "rotated": {"correct": 1}},
                },
                "m1: its verdicts give MMLU's rotations correct",
            ),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, made, change, message):
        with pytest.raises(UserError, match=message):
            compared(made, **change(made))


class TestFourModels:
    """How many models there are, and what they are called, is the table's affair."""

    @pytest.fixture(scope="class")
    def found(self):
        return compared(synthetic.results(examples=120, questions=20, models=synthetic.FOUR_MODELS))

    def test_each_tuned_model_stands_against_the_base_and_the_first_against_each_other(self, found):
        pairs = [("m1", "base"), ("m2", "base"), ("m3", "base"), ("m1", "m2"), ("m1", "m3")]
        assert [(row.model, row.against) for row in found.rows[:5]] == pairs == list(found.agreement)
        assert found.families["headline"].endswith("15 comparisons (5 pairs of models)")
        assert found.row("m3", "base", "accuracy", "stem").total == 20

    def test_the_same_two_models_differ_as_much_among_four_as_among_two(self, found):
        made = synthetic.results(examples=120, questions=20, models=synthetic.FOUR_MODELS)
        two = ModelTable({"base": "Start", "m3": "Third"})
        alone = compare({model: made.of_model(model) for model in two.names}, LIMITS, two)
        ours, theirs = (each.row("m3", "base", "execution_accuracy") for each in (found, alone))
        assert (ours.difference_pts, ours.low_pts, ours.p) == (theirs.difference_pts, theirs.low_pts, theirs.p)
        assert ours.p_holm >= theirs.p_holm
        assert list(sentences(alone.summary)) == [("m3", "base")]

    def test_names_may_be_any(self):
        table = ModelTable({"start": "As it came", "wide": "Wide"})
        made = synthetic.results(examples=20, questions=5, models=table)
        assert list(sentences(compared(made).summary).values())[0].startswith("Wide ")
        assert "spider_gain_pts_wide" in flatten(compared(made))
