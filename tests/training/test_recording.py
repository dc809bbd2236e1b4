"""Recorded passes give the loss and gradients of eager ones."""

from types import SimpleNamespace

import pytest

from testkit.train_once import PAIRS, model_params
from tests.training.comparing import counted
from text2sql.core.params import LoraParams
from text2sql.training.examples import encode


def test_a_shape_that_did_not_fit_into_memory_is_not_recorded_the_next_time():
    """Its first pass initialises what must not be initialised while recording, and that one has not come to its end.

    A pass that were recorded after all would fail: there is no GPU, or no stream that may record.
    """
    import torch

    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.parts import Part
    from text2sql.training.recording import RecordedShapes

    model = torch.nn.Linear(1, 1, bias=False)
    flat = FlatParameters(model)
    memory = iter([False, True])

    def loss_of(part, count):
        if not next(memory):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.weight.sum() * part.input_ids.sum() / count

    passes = RecordedShapes(model, flat, loss_of, pad_id=0)
    row = torch.tensor([[1, 2, 3]])
    part = Part(row, row, shift_labels=row, logits_to_keep=row[0])
    flat.begin_step()
    with pytest.raises(torch.OutOfMemoryError):
        passes.run(part, torch.tensor(2))
    passes.run(part, torch.tensor(2))
    assert model.weight.grad.item() == 3 and passes.number == 0


def test_passes_for_little_memory_have_the_loss_and_gradients_of_all_others(micro_model, monkeypatch):
    """CUDA graphs need a GPU: here each replay computes anew what the recording would hold."""
    import torch

    import text2sql.training.recording
    from text2sql.model.adapters import add_adapter
    from text2sql.model.attention import use_right_padded_attention
    from text2sql.model.loading import load_base
    from text2sql.training.chunked_loss import POSITIONS_PER_CHUNK, use_chunked_loss
    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.parts import Collator, single_rows
    from text2sql.training.recording import RecordedBuckets, RecordedShapes
    from text2sql.training.shapes import shape_buckets, shape_of

    recorded, seen = [], []

    def record(model, work, pool):
        loss = torch.zeros(())
        recorded.append(work)
        return SimpleNamespace(pool=lambda: "pool", replay=lambda: loss.copy_(work())), loss

    def loss_of(part, count):
        seen.append(shape_of(part))
        return model(**part.model_inputs(), num_items_in_batch=count).loss

    def loss_and_gradients(passes):
        flat.begin_step()
        return sum(passes.run(part, count) for part in parts).item(), flat.parameter.grad.clone()

    monkeypatch.setattr(text2sql.training.recording, "record", record)
    base, tokenizer = load_base(model_params(micro_model))
    lora = LoraParams(r=2, alpha=4, dropout=0, target_modules=["q_proj", "down_proj"])
    model = add_adapter(base, lora, 1, "transformers")
    assert use_right_padded_attention(model)
    flat = FlatParameters(model)
    answer = "SELECT name FROM singer WHERE age IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)"
    long = [([{"role": "user", "content": "Why? " * number}], answer) for number in (150, 130, 90, 70, 50)]
    examples = sorted(encode(tokenizer, [*PAIRS, *long], 512)[0], key=lambda example: -len(example.input_ids))
    rows = [vars(example) for example in examples]
    collator = Collator(tokenizer.pad_token_id, 10_000, masked=False)
    parts = [collator.part(some) for some in (rows[:1], rows[1:5], rows[5:])]
    count = torch.tensor(sum(len(counted(example)) for example in examples))
    plain = RecordedShapes(model, flat, loss_of, tokenizer.pad_token_id)
    loss, gradients = loss_and_gradients(plain)
    assert loss > 1 and gradients.abs().max() > 0
    recorded.clear()

    shapes = shape_buckets(examples)
    parts = [row for part in parts for row in single_rows(part)]
    assert max(shape.positions for shape in shapes) > POSITIONS_PER_CHUNK
    use_chunked_loss(model.get_base_model())
    passes = RecordedBuckets(model, flat, loss_of, tokenizer.pad_token_id, shapes)
    for _ in range(2):
        seen.clear()
        again = loss_and_gradients(passes)
        assert again[0] == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(again[1], gradients, rtol=1e-3, atol=1e-6)
        assert len(recorded) == len(shapes) > 2
    # A row a pass, the long ones wider than the others.
    assert len(seen) == len(rows) and set(seen) < set(shapes) and min(seen) == min(shapes) and max(seen) == max(shapes)


def test_for_little_memory_a_pass_has_one_shape_whatever_its_example_was_collated_with(smollm2, monkeypatch):
    """A run that resumes rounds as one that did not stop: nor does it matter if a pass is recorded, or cannot be."""
    import torch

    import text2sql.training.recording
    from text2sql.training.flat_parameters import FlatParameters
    from text2sql.training.parts import Collator, own_row, single_rows
    from text2sql.training.recording import RecordedBuckets
    from text2sql.training.shapes import shape_buckets

    long = [([{"role": "user", "content": "Why? " * number}], "SELECT 1") for number in (150, 40)]
    examples = sorted(encode(smollm2, [*PAIRS, *long], 512)[0], key=lambda example: -len(example.input_ids))
    rows = [vars(example) for example in examples]
    model = torch.nn.Linear(1, 1, bias=False)
    seen = []

    def loss_of(part, count):
        seen.append({name: value.tolist() for name, value in part.model_inputs().items()})
        return model.weight.sum() * 0

    def inputs(run, parts):
        seen.clear()
        for part in parts:
            run(part, torch.tensor(1))
        return list(seen)

    def record(model, work, pool):
        return (SimpleNamespace(pool=lambda: "pool", replay=work), torch.zeros(())) if recordable else None

    monkeypatch.setattr(text2sql.training.recording, "record", record)
    collator = Collator(smollm2.pad_token_id, 10_000, masked=False)
    alone = [collator.part([row]) for row in rows]
    together = collator.part(rows)
    cut = [together.only(slice(place, place + 1)) for place in range(len(rows))]
    assert inputs(lambda part, count: loss_of(part, count), map(own_row, cut)) == inputs(loss_of, alone)
    shapes = shape_buckets(examples)
    found = []
    for recordable in (True, False):  # noqa: B007 (`record` reads it)
        passes = RecordedBuckets(model, FlatParameters(model), loss_of, smollm2.pad_token_id, shapes)
        found.append(inputs(passes.run_eagerly, alone))
        passes.run(alone[0], torch.tensor(1))  # records, where it can
        found += [inputs(passes.run, alone), inputs(passes.run, single_rows(together))]
    assert all(one == found[0] for one in found)
    assert len({len(one["input_ids"][0]) for one in found[0]}) > 2
