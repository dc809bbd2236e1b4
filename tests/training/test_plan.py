"""How passes run, and what a training does each time it runs out of memory."""

import pytest

from text2sql.training.plan import PassMode, PassPlan


def modes_and_words(plan):
    """Run out of memory at single rows until nothing is left to try; return the modes and what was said of them."""
    seen = [plan.mode]
    words = []
    while (onward := plan.out_of_memory(rows=1, tokens=100)) is not None:
        seen.append(plan.mode)
        words.append(onward)
    return seen, words


@pytest.mark.parametrize(
    ("model", "modes", "words"),
    [
        (
            {"can_record": True},
            [PassMode.RECORDED, PassMode.CHECKPOINTED_RECORDED, PassMode.CHECKPOINTED],
            ["with gradient checkpointing", "without recording"],
        ),
        (
            {"can_record": True, "is_random": True},
            [PassMode.RECORDED, PassMode.CHECKPOINTED],
            ["with gradient checkpointing"],
        ),
        (
            {"can_record": True, "can_checkpoint": False},
            [PassMode.RECORDED, PassMode.EAGER],
            ["without recording"],
        ),
        ({}, [PassMode.EAGER, PassMode.CHECKPOINTED], ["with gradient checkpointing"]),
        ({"is_random": True}, [PassMode.EAGER, PassMode.CHECKPOINTED], ["with gradient checkpointing"]),
        ({"can_checkpoint": False}, [PassMode.EAGER], []),
    ],
    ids=["gpu", "gpu, dropout", "gpu, no checkpointing", "cpu", "cpu, dropout", "unsloth"],
)
def test_each_mode_is_followed_by_one_that_takes_less_memory(model, modes, words):
    assert modes_and_words(PassPlan(1000, **model)) == (modes, words)


@pytest.mark.parametrize("can_record", [True, False])
def test_parts_are_halved_before_the_mode_changes(can_record):
    plan = PassPlan(1000, can_record)
    before = plan.mode
    assert plan.out_of_memory(rows=7, tokens=980) == "with 4" and plan.tokens_per_pass == 490
    assert plan.out_of_memory(rows=4, tokens=560) == "with 2" and plan.tokens_per_pass == 280
    assert plan.out_of_memory(rows=2, tokens=900) == "with 1" and plan.tokens_per_pass == 280  # never more again
    assert plan.mode is before
    assert plan.out_of_memory(rows=1, tokens=140) == "with gradient checkpointing"


def test_recordings_with_checkpointing_take_a_row_a_pass_and_parts_grow_again_without():
    plan = PassPlan(1000, can_record=True)
    plan.out_of_memory(rows=4, tokens=800)
    assert not plan.takes_single_rows
    plan.out_of_memory(rows=1, tokens=200)
    assert plan.mode is PassMode.CHECKPOINTED_RECORDED and plan.takes_single_rows and plan.tokens_per_pass == 1
    plan.out_of_memory(rows=1, tokens=200)
    assert plan.mode is PassMode.CHECKPOINTED and not plan.takes_single_rows and plan.tokens_per_pass == 400


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
    plan = PassPlan(1000, can_record=True)
    plan.out_of_memory(rows=1, tokens=100)
    plan.stop_recording()
    assert modes_and_words(plan) == ([PassMode.CHECKPOINTED], [])


def test_fallbacks_are_counted():
    plan = PassPlan(1024, can_record=False, can_checkpoint=True)
    assert plan.fallbacks == 0
    plan.out_of_memory(4, 800)
    plan.out_of_memory(1, 400)
    assert plan.fallbacks == 2


def test_a_resumed_run_goes_on_as_the_run_before_did():
    """Another mode, or another cut of its steps, would round otherwise."""
    before = PassPlan(1000, can_record=True)
    before.out_of_memory(rows=4, tokens=800)
    before.out_of_memory(rows=1, tokens=400)
    resumed = PassPlan(1000, can_record=True)
    resumed.go_on(before.kept())
    assert resumed.mode is PassMode.CHECKPOINTED_RECORDED and resumed.kept() == before.kept()
    assert not resumed.replays  # a process's first step never does
    assert resumed.out_of_memory(1, 100) == before.out_of_memory(1, 100) == "without recording"
    assert resumed.tokens_per_pass == before.tokens_per_pass == 400
    elsewhere = PassPlan(1000)
    elsewhere.go_on(PassPlan(8000, can_record=True).kept())  # that never ran out of memory: this machine's own way
    assert elsewhere.mode is PassMode.EAGER and elsewhere.tokens_per_pass == 1000
