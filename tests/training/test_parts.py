"""Parts of a step: padding and cutting change no loss."""

import pytest

from testkit.train_once import PAIRS, model_params
from tests.training.comparing import counted
from text2sql.prompts.chat import assistant_turn
from text2sql.training.examples import IGNORED, encode


def test_padding_is_not_counted_even_where_pad_and_end_token_are_one(smollm2):
    import torch

    from text2sql.training.parts import Collator, Form

    assert smollm2.pad_token_id == assistant_turn(smollm2).end_id
    examples, _ = encode(smollm2, PAIRS, 512)
    part = Collator(smollm2.pad_token_id, 10_000, Form.MASKED).part([vars(example) for example in examples])
    for row, (_, answer) in enumerate(PAIRS):
        targets = part.tensors["shift_labels"][row]
        assert smollm2.decode(targets[targets != IGNORED]) == answer + "<|im_end|>"
        length = len(examples[row].input_ids)
        width = part.tensors["labels"].shape[1]
        assert part.tensors["attention_mask"][row].tolist() == [1] * length + [0] * (width - length)
    # Each position that is kept predicts the token after it.
    following = torch.roll(part.tensors["labels"], -1, dims=1)[:, part.tensors["logits_to_keep"]]
    assert torch.equal(following, part.tensors["shift_labels"])


def test_a_packed_row_counts_each_answer_once_and_has_no_padding(smollm2):
    from text2sql.training.parts import Collator

    examples, _ = encode(smollm2, PAIRS, 512)
    part = Collator(smollm2.pad_token_id, 10_000).part([vars(example) for example in examples])
    assert part.tokens == sum(len(example.input_ids) for example in examples) and part.examples == len(PAIRS)
    answers = "".join(answer + "<|im_end|>" for _, answer in PAIRS)
    assert smollm2.decode(part.tensors["shift_labels"][0]) == answers
    ids, kept = part.tensors["input_ids"][0], part.tensors["logits_to_keep"]
    assert ids[kept + 1].tolist() == part.tensors["shift_labels"][0].tolist()
    places = [place for example in examples for place in range(len(example.input_ids))]
    assert part.tensors["position_ids"][0].tolist() == places


def test_an_example_that_begins_with_a_counted_token_is_not_predicted_by_the_one_before():
    import torch

    from text2sql.training.parts import Collator

    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}] * 2
    part = Collator(0, 10).part(rows)
    assert torch.equal(part.tensors["logits_to_keep"], torch.tensor([0, 1, 3, 4]))
    assert part.tensors["shift_labels"].tolist() == [[6, 7, 6, 7]]


def test_the_loss_is_that_of_the_whole_sequence(micro_model):
    """Logits at the counted positions alone give the loss that all logits give, computed here by hand."""
    import torch

    from text2sql.model.loading import load_base
    from text2sql.training.packing import use_packed_attention
    from text2sql.training.parts import Collator, Form
    from text2sql.training.passes import Shape, padded_to

    model, tokenizer = load_base(model_params(micro_model))
    examples, _ = encode(tokenizer, PAIRS, 512)
    total = count = 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
        count += len(counted(example))
    rows = [vars(example) for example in examples]
    for form in (Form.WHOLE, Form.MASKED):
        part = Collator(tokenizer.pad_token_id, 10_000, form).part(rows)
        assert model(**part.model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    # Packed; padded as for recorded passes; and in parts.
    packed = Collator(tokenizer.pad_token_id, 120)
    assert use_packed_attention(model)
    part = packed.part(rows)
    assert model(**part.model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    padded = padded_to(part, Shape(part.tokens + 9, 200), 9, tokenizer.pad_token_id)
    assert padded.tokens == sum(padded.lengths) == part.tokens + 9
    assert model(**padded.model_inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    step = packed(rows)
    assert len(step["parts"]) > 2 and (step["labels"] != IGNORED).sum() == count
    counts = torch.tensor(count)
    summed = sum(model(**part.model_inputs(), num_items_in_batch=counts).loss.item() for part in step["parts"])
    assert summed == pytest.approx(total / count, rel=1e-5)


def test_a_step_is_cut_into_parts_of_so_many_tokens():
    from text2sql.training.parts import cut

    assert cut([9, 8, 3, 3, 1], 17) == [range(0, 2), range(2, 5)]
    assert cut([9, 8, 3, 3, 1], 18, padded=True) == [range(0, 2), range(2, 5)]
    assert cut([9, 8, 3], 8) == [range(0, 1), range(1, 2), range(2, 3)]  # one example at least
    assert cut([3, 8, 9], 27, padded=True) == [range(0, 3)]
    assert cut([3, 8, 9], 20) == [range(0, 3)] and cut([3, 8, 9], 19) == [range(0, 2), range(2, 3)]
    assert cut([3, 8, 9], 26, padded=True) == [range(0, 2), range(2, 3)]


def test_a_step_that_is_made_again_is_cut_as_the_collator_cuts_by_then(smollm2):
    from text2sql.training.parts import Collator

    collator = Collator(smollm2.pad_token_id, 10_000)
    step = collator([vars(example) for example in encode(smollm2, PAIRS, 512)[0]])
    collator.tokens_per_pass = 1
    again = step["again"]("meta")  # on the device: no data loader moves it
    assert len(step["parts"]) == 1 and [part.examples for part in again] == [1] * len(PAIRS)
    assert {tensor.device.type for part in again for tensor in part.tensors.values()} == {"meta"}


def test_a_step_moves_to_a_device_whole(smollm2):
    """As accelerate's data loader moves it: a tensor left behind would fail on a GPU alone."""
    from accelerate.utils import send_to_device

    from text2sql.training.parts import Collator

    rows = [vars(example) for example in encode(smollm2, PAIRS, 512)[0]]
    step = Collator(smollm2.pad_token_id, 120, longest=50)(rows)
    moved = send_to_device(step, "meta", non_blocking=True)
    assert moved["labels"].device.type == "meta" and len(moved["parts"]) == len(step["parts"])
    for part, before in zip(moved["parts"], step["parts"], strict=True):
        shapes = {name: value.shape for name, value in before.tensors.items()}
        assert len(shapes) == 5 and {name: value.shape for name, value in part.tensors.items()} == shapes
        assert part.segments.bounds.shape == before.segments.bounds.shape and part.lengths == before.lengths
        assert {value.device.type for value in (*part.tensors.values(), part.segments.bounds)} == {"meta"}


def test_what_a_pass_holds_depends_on_the_kind_of_gpu_and_not_on_what_is_free(monkeypatch):
    """Memory is pretended: the product asks for the device's whole memory, which another process does not change."""
    from types import SimpleNamespace

    import torch

    from text2sql.training.parts import TOKENS_ON_GPU, tokens_per_pass

    config = SimpleNamespace(hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, vocab_size=128_256)
    model, device = SimpleNamespace(config=config), SimpleNamespace(type="cuda")
    found = {}
    for whole, free in ((12e9, 11e9), (12e9, 1e9), (140e9, 139e9), (140e9, 2e9)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *a, free=free, whole=whole: (int(free), int(whole)))
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, whole=whole: SimpleNamespace(total_memory=int(whole))
        )
        found.setdefault(whole, set()).add(tokens_per_pass(model, device))
    assert all(len(tokens) == 1 for tokens in found.values())
    assert max(found[12e9]) < max(found[140e9]) <= TOKENS_ON_GPU
