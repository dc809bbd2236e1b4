"""How passes run, and what a training does each time it runs out of memory."""

import pytest

from text2sql.training.plan import PassMode, PassPlan


def modes_and_words(plan):
    """Run out of memory at single rows until nothing is left to try; return the modes and what was said of them."""
    seen = [plan.mode]
    words = []
    while (onward := plan.out_of_memory(examples=1, tokens=100)) is not None:
        seen.append(plan.mode)
        words.append(onward)
    return seen, words


@pytest.mark.parametrize(
    ("model", "modes", "words"),
    [
        ({"can_record": True}, [PassMode.RECORDED, PassMode.CHECKPOINTED], ["with gradient checkpointing"]),
        (
            {"can_record": True, "can_checkpoint": False},
            [PassMode.RECORDED, PassMode.EAGER],
            ["without recording"],
        ),
        ({}, [PassMode.EAGER, PassMode.CHECKPOINTED], ["with gradient checkpointing"]),
        ({"can_checkpoint": False}, [PassMode.EAGER], []),
    ],
    ids=["gpu", "gpu, no checkpointing", "cpu", "unsloth"],
)
def test_each_mode_is_followed_by_one_that_takes_less_memory(model, modes, words):
    assert modes_and_words(PassPlan(1000, **model)) == (modes, words)


@pytest.mark.parametrize("can_record", [True, False])
def test_parts_are_halved_before_the_mode_changes(can_record):
    plan = PassPlan(1000, can_record)
    before = plan.mode
    assert plan.out_of_memory(examples=7, tokens=980) == "with 490 tokens" and plan.tokens_per_pass == 490
    assert plan.out_of_memory(examples=4, tokens=480) == "with 240 tokens" and plan.tokens_per_pass == 240
    assert plan.out_of_memory(examples=2, tokens=900) == "with 240 tokens"  # never more again
    assert plan.mode is before
    assert plan.out_of_memory(examples=1, tokens=140) == "with gradient checkpointing"
    # Which leaves room for larger parts again.
    assert plan.tokens_per_pass == 1000
    assert plan.out_of_memory(examples=7, tokens=980) == "with 490 tokens" and plan.mode is PassMode.CHECKPOINTED


def test_the_first_step_uses_no_recording():
    plan = PassPlan(1000, can_record=True)
    assert not plan.replays
    plan.stepped()
    assert plan.replays
    eager = PassPlan(1000)
    eager.stepped()
    assert not eager.replays


def test_a_model_that_cannot_be_recorded_after_all_is_trained_eagerly():
    plan = PassPlan(1000, can_record=True)
    plan.stop_recording()
    assert modes_and_words(plan) == ([PassMode.EAGER, PassMode.CHECKPOINTED], ["with gradient checkpointing"])


def test_fallbacks_are_counted():
    plan = PassPlan(1024, can_record=False, can_checkpoint=True)
    assert plan.fallbacks == 0
    plan.out_of_memory(4, 800)
    plan.out_of_memory(1, 400)
    assert plan.fallbacks == 2


def test_a_resumed_run_goes_on_as_the_run_before_did():
    """Another mode, or another cut of its steps, would round otherwise."""
    before = PassPlan(1000, can_record=True)
    before.out_of_memory(examples=4, tokens=800)
    before.out_of_memory(examples=1, tokens=390)
    resumed = PassPlan(1000, can_record=True)
    resumed.go_on(before.kept())
    assert resumed.mode is PassMode.CHECKPOINTED and resumed.kept() == before.kept()
    assert not resumed.replays and resumed.tokens_per_pass == before.tokens_per_pass == 1000
    assert resumed.out_of_memory(1, 100) is None and before.out_of_memory(1, 100) is None
    elsewhere = PassPlan(1000)
    elsewhere.go_on(PassPlan(8000, can_record=True).kept())  # that never ran out of memory: this machine's own way
    assert elsewhere.mode is PassMode.EAGER and elsewhere.tokens_per_pass == 1000
