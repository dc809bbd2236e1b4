"""Decoding: rows that end leave the batch, on a CPU and as on a GPU, and change no other."""

import pytest
import torch

from text2sql.model import decoding, row_cache
from text2sql.model.decoding import KEPT, decode, fewer_rows, release


def plain_flash_to_used(query, key, value, query_bounds, bounds, used, capacity, scale):
    """FlashAttention as its paper defines it, a row at a time."""
    assert query_bounds.tolist() == list(range(len(query) + 1))
    output = torch.empty_like(query)
    for row, (first, tokens) in enumerate(zip(bounds[:-1].tolist(), used.tolist(), strict=True)):
        assert tokens <= capacity
        repeats = query.shape[1] // key.shape[1]
        k, v = (part[first : first + tokens].repeat_interleave(repeats, 1) for part in (key, value))
        scores = torch.einsum("hd,nhd->hn", query[row], k) * scale
        output[row] = torch.einsum("hn,nhd->hd", scores.softmax(-1), v)
    return output


@pytest.fixture(params=["CPU", "GPU", "GPU with FlashAttention"])
def as_on(request, monkeypatch, model):
    """Decode as on a GPU but for recording: looks lag behind, batches shrink to a few sizes, memory is kept."""
    if request.param != "CPU":
        monkeypatch.setattr(decoding, "_on_gpu", lambda tensor: True)
        monkeypatch.setattr(decoding, "GPU_SIZES", (1, 2, 4))
        monkeypatch.setattr(decoding, "STEPS_BETWEEN_LOOKS", 2)
    if request.param == "GPU with FlashAttention":
        monkeypatch.setattr(decoding, "can_be_packed", lambda model: True)
        monkeypatch.setattr(row_cache, "flash_to_used", plain_flash_to_used)
    yield request.param
    release(model.model)


def up_to_first(ids, ends):
    return ids[: min([ids.index(token) for token in ends if token in ids], default=len(ids)) + 1]


def test_rows_that_end_leave_the_batch_and_change_no_other(model, prompts, as_on, monkeypatch):
    expected = [model.generate([prompt], 21)[0] for prompt in prompts]
    sizes = []
    keep = row_cache.RowCache.keep
    monkeypatch.setattr(
        row_cache.RowCache, "keep", lambda self, rows, longest: (sizes.append(len(rows)), keep(self, rows, longest))
    )
    some = {ids[3 + 2 * row] for row, ids in enumerate(expected[1:])}
    for ends in ({expected[1][4]}, some, set(model._end_ids)):
        with torch.inference_mode():
            answers = decode(model.model, model._prefill(prompts), 21, ends)
        assert answers == [up_to_first(ids, ends) for ids in expected]
    assert sizes and (as_on == "CPU" or set(sizes) <= {1, 2, 4})


def test_what_a_batch_was_decoded_in_serves_the_next_ones(model, prompts, as_on):
    expected = [model.generate([prompt], 12)[0] for prompt in prompts]
    kept = []
    for rows, new_tokens in ((7, 12), (3, 12), (7, 5), (5, 12)):
        with torch.inference_mode():
            answers = decode(model.model, model._prefill(prompts[:rows]), new_tokens, model._end_ids)
        assert answers == [ids[:new_tokens] for ids in expected[:rows]]
        kept.append(vars(model.model).get(KEPT))
    assert len({id(one) for one in kept}) == 1 and (kept[0] is None) is (as_on == "CPU")


def test_a_failure_leaves_no_memory_behind(model, prompts, as_on):
    def fails(logits, position):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode():
        decode(model.model, model._prefill(prompts), 4, model._end_ids, fails)
    assert KEPT not in vars(model.model)
    assert model.generate(prompts[:1], 4)  # and attention is as before


@pytest.mark.parametrize(
    ("rows", "still_open", "cpu", "gpu"),
    [
        (1034, 1034, 1034, 1034),
        (1034, 600, 600, 1034),
        (1034, 256, 256, 256),
        (1034, 65, 65, 256),
        (1034, 3, 3, 64),
        (256, 200, 256, 256),
        (256, 64, 64, 64),
        (100, 1, 1, 100),
        (64, 1, 1, 64),
        (8, 6, 6, 8),
    ],
)
def test_how_far_a_batch_shrinks(rows, still_open, cpu, gpu):
    assert fewer_rows(rows, still_open, on_gpu=False) == cpu
    assert fewer_rows(rows, still_open, on_gpu=True) == gpu
