"""Passes give the loss and gradients of PEFT's own layers, recorded or not."""

import itertools
from types import SimpleNamespace

import pytest

from testkit.train_once import PAIRS, model_params
from tests.training.comparing import counted
from text2sql.core.params import LoraParams
from text2sql.training.examples import encode

LORA = LoraParams(r=2, alpha=3, dropout=0, target_modules=["q_proj", "k_proj", "o_proj", "gate_proj", "down_proj"])


@pytest.fixture
def adapted(micro_model):
    """The micro model with an adapter that changes something, its flat parameters, and parts of a step."""
    import torch

    from text2sql.model.adapters import add_adapter
    from text2sql.model.loading import load_base
    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.packing import use_packed_attention
    from text2sql.training.parts import Collator

    base, tokenizer = load_base(model_params(micro_model))
    model = add_adapter(base, LORA, 1, "transformers")
    assert use_packed_attention(model)
    flat = FlatParameters(model)
    with torch.no_grad():
        flat.parameter += 0.1 * torch.randn(flat.parameter.shape, generator=torch.Generator().manual_seed(1))
    examples = encode(tokenizer, PAIRS, 512)[0]
    rows = [vars(example) for example in examples]
    collator = Collator(tokenizer.pad_token_id, 10_000)
    return SimpleNamespace(
        model=model,
        flat=flat,
        pad_id=tokenizer.pad_token_id,
        parts=[collator.part(some) for some in (rows[:1], rows[1:3], rows[3:])],
        count=torch.tensor(sum(len(counted(example)) for example in examples)),
        loss_of=lambda part, count: model(**part.model_inputs(), num_items_in_batch=count).loss,
    )


def loss_and_gradients(adapted, passes, replays=False):
    adapted.flat.begin_step()
    losses = [passes.run(part, adapted.count, replays).item() for part in adapted.parts]
    return sum(losses), adapted.flat.parameter.grad.clone()


def test_lean_layers_have_the_loss_and_gradients_of_pefts(adapted):
    import torch

    from text2sql.training.low_rank import LeanAdapter
    from text2sql.training.passes import Passes

    passes = Passes(adapted.flat, adapted.loss_of)
    loss, gradients = loss_and_gradients(adapted, passes)
    assert loss > 1 and gradients.abs().max() > 0
    forward = adapted.model.forward
    with LeanAdapter(adapted.model, adapted.flat).in_use():
        lean = loss_and_gradients(adapted, passes)
    assert lean[0] == pytest.approx(loss, rel=1e-6)
    assert torch.allclose(lean[1], gradients, rtol=1e-3, atol=1e-6)
    assert adapted.model.forward == forward and loss_and_gradients(adapted, passes)[0] == loss


def test_an_adapter_in_half_precision_is_cast_anew_in_each_step(micro_model):
    import torch

    from text2sql.model.adapters import add_adapter
    from text2sql.model.loading import load_base
    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.low_rank import LeanAdapter

    base, _ = load_base(model_params(micro_model, dtype="bfloat16"))
    model = add_adapter(base, LORA, 1, "transformers")
    flat = FlatParameters(model)
    flat.cast_to(torch.bfloat16)
    ids = torch.tensor([[3, 5, 8]])
    with torch.no_grad(), LeanAdapter(model, flat).in_use():
        before = model(input_ids=ids).logits
        flat.parameter.add_(0.1)
        assert torch.equal(model(input_ids=ids).logits, before)
        flat.begin_step()
        assert not torch.equal(model(input_ids=ids).logits, before)
    assert flat.parameter.dtype == torch.float32 and {leaf.dtype for leaf in flat.leaves} == {torch.bfloat16}


@pytest.mark.parametrize(
    "changed",
    [
        lambda lora: {"dropout": 0.1},
        lambda lora: {"target_modules": [*lora.target_modules, "embed_tokens"]},
    ],
    ids=["dropout", "an embedding"],
)
def test_what_is_more_than_pairs_of_matrices_on_linear_layers_stays_pefts(micro_model, changed):
    from text2sql.model.adapters import add_adapter
    from text2sql.model.loading import load_base
    from text2sql.training.low_rank import can_be_lean

    base, _ = load_base(model_params(micro_model))
    assert not can_be_lean(add_adapter(base, LORA.model_copy(update=changed(LORA)), 1, "transformers"))


def test_recorded_passes_have_the_loss_and_gradients_of_all_others(adapted, monkeypatch):
    """CUDA graphs need a GPU: here each replay computes anew what the recording would hold."""
    import torch

    import text2sql.training.passes
    from text2sql.training.passes import Passes, RecordedPasses, few_shapes

    recorded = []

    def record(model, work, pool):
        loss = torch.zeros(())
        recorded.append(work)
        return SimpleNamespace(pool=lambda: "pool", replay=lambda: loss.copy_(work())), loss

    monkeypatch.setattr(text2sql.training.passes, "record", record)
    loss, gradients = loss_and_gradients(adapted, Passes(adapted.flat, adapted.loss_of))
    sizes = [(part.tokens, len(part.tensors["logits_to_keep"])) for part in adapted.parts]
    passes = RecordedPasses(adapted.flat, adapted.loss_of, adapted.model, adapted.pad_id, few_shapes(sizes), 7)
    for replays, number in ((False, 0), (True, 0), (True, 3), (True, 3)):
        again = loss_and_gradients(adapted, passes, replays)
        assert again[0] == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(again[1], gradients, rtol=1e-3, atol=1e-6)
        assert passes.number == len(recorded) == number


def test_a_shape_that_did_not_fit_into_memory_is_not_recorded_the_next_time():
    """Its first pass initialises what must not be initialised while recording, and that one has not come to its end.

    A pass that were recorded after all would fail: there is no GPU, or no stream that may record.
    """
    import torch

    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.parts import Collator
    from text2sql.training.passes import RecordedPasses

    model = torch.nn.Linear(1, 1, bias=False)
    flat = FlatParameters(model)
    memory = iter([False, True])

    def loss_of(part, count):
        if not next(memory):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.weight.sum() * part.tensors["input_ids"].sum() / count

    passes = RecordedPasses(flat, loss_of, model, 0, [], 2)
    part = Collator(0, 10).part([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}])
    flat.begin_step()
    with pytest.raises(torch.OutOfMemoryError):
        passes.run(part, torch.tensor(2), True)
    passes.run(part, torch.tensor(2), True)
    assert model.weight.grad.item() == 3 and passes.number == 0


def test_few_shapes_hold_all_rows_and_little_padding():
    import random

    from text2sql.training.passes import few_shapes

    draw = random.Random(1)
    sizes = [(round(draw.gauss(4000, 500)), round(draw.gauss(240, 40))) for _ in range(800)]
    shapes = few_shapes(sizes)
    assert len(shapes) == 6 and shapes == sorted(shapes)
    padded = [next(s.tokens for s in shapes if s.tokens >= tokens and s.positions >= kept) for tokens, kept in sizes]
    assert sum(padded) < 1.06 * sum(tokens for tokens, _ in sizes)
    assert all(shape.tokens % 64 == shape.positions % 64 == 0 for shape in shapes)
    assert [(shape.tokens, shape.positions) for shape in few_shapes([(70, 3), (9, 2)])] == [(64, 64), (128, 64)]


@pytest.mark.parametrize("tokens", [64, 128, 192])
def test_a_padded_row_has_as_many_segments_as_all_others_none_longer_than_the_longest_example(tokens):
    from text2sql.training.parts import Collator
    from text2sql.training.passes import Shape, padded_to

    rows = [{"input_ids": [1] * length, "labels": [1] * length} for length in (30, 25, 4)]
    for number in (1, 3):
        part = Collator(0, 100, longest=30).part(rows[:number])
        padded = padded_to(part, Shape(tokens, 64), 4, 0)
        bounds = padded.segments.bounds.tolist()
        assert len(bounds) == 5 + -(-tokens // 30) and bounds[0] == 0 and bounds[-1] == padded.tokens == tokens
        lengths = [end - start for start, end in itertools.pairwise(bounds)]
        assert lengths == padded.lengths and max(lengths) <= 30 and lengths[:number] == [30, 25, 4][:number]
        assert padded.tensors["position_ids"].shape == padded.tensors["input_ids"].shape == (1, tokens)
