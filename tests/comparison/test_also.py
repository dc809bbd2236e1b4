"""How far a score carries: each model on a further evaluation set, against itself on the dev split."""

import random

import pytest
from scipy.stats import binomtest, fisher_exact

from testkit import synthetic
from testkit.compared import compared, inputs
from text2sql.comparison import significance as statistics
from text2sql.comparison.flat import flatten, read_carried
from text2sql.core.errors import UserError
from text2sql.core.files import write_json
from text2sql.core.models import PAPER_MODELS


def on_a_set(lines, share, seed=0, of=None):
    """Return verdict lines of the same questions, of which so large a share of verdicts was turned round."""
    rng = random.Random(seed)
    found = []
    for line in lines[:of]:
        right = line["execution_accuracy"] != (rng.random() < share)
        found.append({**line, "execution_accuracy": right, "official_execution_accuracy": right})
    return found


@pytest.fixture(scope="module")
def made():
    return synthetic.results(examples=200, questions=12)


@pytest.fixture(scope="module")
def sets(made):
    """By model: `syn` of as many questions as the dev split, and `dk` of fewer; Model 2 was not asked."""
    return {
        model: {
            "syn": on_a_set(made.spider_verdicts[model], share),
            "dk": on_a_set(made.spider_verdicts[model], 0.5, of=150),
        }
        for model, share in (("base", 0.1), ("m1", 0.3))
    }


@pytest.fixture(scope="module")
def found(made, sets):
    return compared(made, **{f"{model}__also": of for model, of in sets.items()})


def right(lines):
    return [line["execution_accuracy"] for line in lines]


def test_a_set_of_the_same_questions_is_compared_pair_by_pair(made, sets, found):
    ours, theirs = right(sets["m1"]["syn"]), right(made.spider_verdicts["m1"])
    one = found.carried_to("syn")["m1"]
    gained = sum(a and not b for a, b in zip(ours, theirs))
    lost = sum(b and not a for a, b in zip(ours, theirs))
    assert one.paired and (one.gained, one.lost, one.total) == (gained, lost, 200)
    assert one.flips == (gained + lost) / 200 > 0.2
    assert one.difference_pts == pytest.approx(100 * (sum(ours) - sum(theirs)) / 200, abs=1e-4)
    assert one.low_pts < one.difference_pts < one.high_pts
    assert one.p == pytest.approx(binomtest(gained, gained + lost).pvalue, rel=1e-3) and one.p_holm >= one.p
    assert one.accuracy_on_dev == pytest.approx(sum(theirs) / 200)


def test_a_set_of_other_questions_is_compared_as_two_samples(made, sets, found):
    ours, theirs = right(sets["m1"]["dk"]), right(made.spider_verdicts["m1"])
    one = found.carried_to("dk")["m1"]
    assert not one.paired and one.flips is None and one.gained is None and one.total == 150
    table = [[sum(ours), 150 - sum(ours)], [sum(theirs), 200 - sum(theirs)]]
    assert one.p == pytest.approx(fisher_exact(table).pvalue, rel=1e-3)
    assert one.difference_pts == pytest.approx(100 * (sum(ours) / 150 - sum(theirs) / 200), abs=1e-4)


def test_as_many_questions_about_other_databases_are_no_pairs(made, sets):
    moved = {model: {"syn": [dict(line) for line in of["syn"]]} for model, of in sets.items()}
    for of in moved.values():
        of["syn"][7]["db_id"] = "elsewhere"
    found = compared(made, **{f"{model}__also": of for model, of in moved.items()})
    assert not found.carried_to("syn")["m1"].paired


def test_birds_measure_stands_beside_the_others_on_a_set_in_birds_layout(made, sets, found):
    of_bird = synthetic.as_of_bird(synthetic.results(examples=200, questions=12))
    asked = {model: {"syn": of_bird.spider_verdicts[model], "dk": sets[model]["dk"]} for model in ("base", "m1")}
    one = compared(made, **{f"{model}__also": of for model, of in asked.items()})
    for key in ("bird_execution_accuracy", "bird_execution_accuracy_low", "bird_execution_accuracy_high"):
        assert one.also["syn"]["m1"][key] == of_bird.spider_metrics["m1"][key]
    assert "bird_execution_accuracy" not in one.also["dk"]["m1"]
    added = [key for key in flatten(one) if "bird" in key]
    assert added == [f"also_syn_bird_execution_accuracy_{model}" for model in ("base", "m1")]
    assert list(flatten(found)) == [key for key in flatten(one) if key not in added]


def test_models_are_compared_on_each_set_where_both_were_asked(sets, found):
    pairs = [(row.scope, row.model, row.against) for row in found.rows if row.level == "set"]
    assert pairs == [("syn", "m1", "base"), ("dk", "m1", "base")]
    row = found.against_base("m1", "execution_accuracy", "syn")
    ours, theirs = right(sets["m1"]["syn"]), right(sets["base"]["syn"])
    assert row.gained - row.lost == sum(ours) - sum(theirs)
    assert found.has("m1", "execution_accuracy", "syn") and not found.has("m2", "execution_accuracy", "syn")
    assert found.families["also"].endswith(": 2 comparisons (1 pair of models)")
    assert found.families["also_against_dev"].endswith(": 4 comparisons")
    assert found.also["dk"]["m1"]["successes"] == sum(right(sets["m1"]["dk"]))


def test_without_sets_all_is_as_it_was(made, found):
    plain = compared(made)
    assert plain.also == {} and plain.carried == ()
    assert plain.rows == tuple(row for row in found.rows if row.level != "set")
    assert flatten(plain) == {key: value for key, value in flatten(found).items() if not key.startswith("also_")}
    assert "also" not in plain.families and "also_against_dev" not in plain.families


def test_the_numbers_of_a_set_are_read_again_as_they_were_written(found, tmp_path):
    write_json(tmp_path / "compare.json", flatten(found))
    read = read_carried(tmp_path / "compare.json", PAPER_MODELS, ["syn", "dk", "other"])
    assert list(read) == [("syn", "base"), ("syn", "m1"), ("dk", "base"), ("dk", "m1")]
    for (name, model), numbers in read.items():
        one = found.carried_to(name)[model]
        assert (numbers.difference_pts, numbers.low_pts, numbers.high_pts) == (
            one.difference_pts, one.low_pts, one.high_pts
        )  # fmt: skip
        assert (numbers.accuracy, numbers.flips, numbers.verdict) == (one.accuracy, one.flips, one.verdict)
        assert (numbers.gain is None) == (model == "base")
        if numbers.gain:
            gain = found.against_base(model, "execution_accuracy", name)
            assert (numbers.gain.difference_pts, numbers.gain.p_holm) == (gain.difference_pts, gain.p_holm)


def test_models_that_were_asked_different_questions_are_refused(made, sets):
    fewer = {"syn": sets["m1"]["syn"][:-1]}
    with pytest.raises(UserError, match="syn: base and m1 were asked different questions; rerun both"):
        compared(made, base__also=sets["base"], m1__also=fewer)
    with pytest.raises(UserError, match="syn: m1: no question was scored"):
        compared(made, m1__also={"syn": []})
    assert inputs(made)["m1"].also == {}


def test_the_interval_of_two_samples_holds_what_a_resampling_of_questions_gives():
    rng = random.Random(0)
    ours, theirs = [True] * 60 + [False] * 90, [True] * 110 + [False] * 90
    drawn = sorted(sum(rng.choices(ours, k=150)) / 150 - sum(rng.choices(theirs, k=200)) / 200 for _ in range(4000))
    low, high = statistics.unpaired_bootstrap_interval(60, 150, 110, 200, 10_000, 0)
    assert (low, high) == (pytest.approx(drawn[100], abs=0.01), pytest.approx(drawn[3899], abs=0.01))
    assert low < 60 / 150 - 110 / 200 < high
