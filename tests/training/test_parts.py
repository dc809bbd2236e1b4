"""Parts of a step: padding and cutting change no loss."""

import pytest

from testkit.train_once import PAIRS, model_params
from tests.training.comparing import counted
from text2sql.prompts.chat import assistant_turn
from text2sql.training.examples import IGNORED, encode


def test_padding_is_not_counted_even_where_pad_and_end_token_are_one(smollm2):
    import torch

    from text2sql.training.parts import Collator

    assert smollm2.pad_token_id == assistant_turn(smollm2).end_id
    examples, _ = encode(smollm2, PAIRS, 512)
    batch = Collator(smollm2.pad_token_id, 10_000).part([vars(example) for example in examples])
    for row, (_, answer) in enumerate(PAIRS):
        targets = batch.shift_labels[row]
        assert smollm2.decode(targets[targets != IGNORED]) == answer + "<|im_end|>"
        length = len(examples[row].input_ids)
        assert batch.attention_mask[row].tolist() == [1] * length + [0] * (batch.labels.shape[1] - length)
    # Each position that is kept predicts the token after it.
    following = torch.roll(batch.labels, -1, dims=1)[:, batch.logits_to_keep]
    assert torch.equal(following, batch.shift_labels)


def test_the_loss_is_that_of_the_whole_sequence(micro_model):
    """Logits at the counted positions alone give the loss that all logits give, computed here by hand."""
    import torch

    from text2sql.model.attention import use_right_padded_attention
    from text2sql.model.loading import load_base
    from text2sql.training.parts import Collator
    from text2sql.training.shapes import padded_to, rounded_shape

    model, tokenizer = load_base(model_params(micro_model))
    examples, _ = encode(tokenizer, PAIRS, 512)
    total = count = 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
        count += len(counted(example))
    rows = [vars(example) for example in examples]
    for whole_sequence in (False, True):
        part = Collator(tokenizer.pad_token_id, 10_000, whole_sequence).part(rows)
        assert model(**part.model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    # Without a mask, as a causal model is trained; padded further, as for recorded passes; and in parts.
    unmasked = Collator(tokenizer.pad_token_id, 120, masked=False)
    assert use_right_padded_attention(model)
    assert model(**unmasked.part(rows).model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    part = unmasked.part(rows)
    padded = padded_to(part, rounded_shape(part), tokenizer.pad_token_id)
    assert padded.input_ids.shape == (8, 64)
    assert model(**padded.model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    step = unmasked(rows)
    assert len(step["parts"]) > 2 and (step["labels"] != IGNORED).sum() == count
    counts = torch.tensor(count)
    summed = sum(model(**part.model_inputs(), num_items_in_batch=counts).loss.item() for part in step["parts"])
    assert summed == pytest.approx(total / count, rel=1e-5)


def test_a_step_is_cut_into_parts_of_so_many_padded_tokens():
    from text2sql.training.parts import cut

    assert cut([9, 8, 3, 3, 1], 18) == [range(0, 2), range(2, 5)]
    assert cut([9, 8, 3], 8) == [range(0, 1), range(1, 2), range(2, 3)]  # one example at least
    assert cut([5, 4, 3, 3, 3, 1, 1], 15, powers_of_two=True) == [range(0, 2), range(2, 6), range(6, 7)]
    assert cut([3, 8, 9], 27) == [range(0, 3)] and cut([3, 8, 9], 26) == [range(0, 2), range(2, 3)]


def test_a_step_moves_to_a_device_whole(smollm2):
    """As accelerate's data loader moves it: a tensor left behind would fail on a GPU alone."""
    from accelerate.utils import send_to_device

    from text2sql.training.parts import Collator

    rows = [vars(example) for example in encode(smollm2, PAIRS, 512)[0]]
    step = Collator(smollm2.pad_token_id, 120)(rows)
    moved = send_to_device(step, "meta", non_blocking=True)
    assert moved["labels"].device.type == "meta" and len(moved["parts"]) == len(step["parts"])
    for part, before in zip(moved["parts"], step["parts"], strict=True):
        shapes = {name: value.shape for name, value in before.model_inputs().items()}
        assert len(shapes) == 5 and {name: value.shape for name, value in part.model_inputs().items()} == shapes
        assert {value.device.type for value in part.model_inputs().values()} == {"meta"}


def test_what_a_pass_holds_depends_on_the_kind_of_gpu_and_not_on_what_is_free(monkeypatch):
    """Memory is pretended: the product asks for the device's whole memory, which another process does not change."""
    from types import SimpleNamespace

    import torch

    from text2sql.training.parts import TOKENS_ON_GPU, tokens_per_pass

    config = SimpleNamespace(hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, vocab_size=128_256)
    model = SimpleNamespace(device=SimpleNamespace(type="cuda"), config=config)
    found = {}
    for whole, free in ((12e9, 11e9), (12e9, 1e9), (140e9, 139e9), (140e9, 2e9)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *a, free=free, whole=whole: (int(free), int(whole)))
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, whole=whole: SimpleNamespace(total_memory=int(whole))
        )
        found.setdefault(whole, set()).add(tokens_per_pass(model))
    assert all(len(tokens) == 1 for tokens in found.values())
    assert max(found[12e9]) < max(found[140e9]) <= TOKENS_ON_GPU
