"""Packed prompts: the logits and the cache of the padded way, on a CPU with a plain form of FlashAttention."""

import math

import pytest
import torch

from testkit.tiny_models import write_tiny_model
from text2sql.model import packed
from text2sql.model.decoding import decode
from text2sql.model.packed import Segments
from text2sql.model.prefill import Prefill

SCHEMA, OTHER = list(range(40, 90)), list(range(90, 120))
PROMPTS = [
    [*SCHEMA, 5, 6, 7],
    [*OTHER, 8, 9],
    [11, 12, 13, 14, 15],  # shares its beginning with no other
    [*SCHEMA, 5, 9],
    [*OTHER, 10],
    [*SCHEMA, 20, 21, 22, 23, 24],
]


def plain_flash(query, key, value, queries: Segments, keys: Segments, causal, scale):
    """FlashAttention as its paper defines it, a segment at a time; one without keys gives zeros and infinity."""
    output, sums = torch.zeros_like(query), torch.full((query.shape[1], query.shape[0]), math.inf)
    repeats = query.shape[1] // key.shape[1]
    for begin, end, first, last in zip(queries.bounds, queries.bounds[1:], keys.bounds, keys.bounds[1:], strict=False):
        if first == last or begin == end:
            continue
        q = query[begin:end].transpose(0, 1)
        k, v = (part[first:last].transpose(0, 1).repeat_interleave(repeats, 0) for part in (key, value))
        scores = q @ k.transpose(1, 2) * (scale or q.shape[-1] ** -0.5)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
        output[begin:end] = (scores.softmax(-1) @ v).transpose(0, 1)
        sums[:, begin:end] = scores.logsumexp(-1)
    return output, sums


@pytest.fixture(params=["llama", "gpt2"])
def both(request, tmp_path, monkeypatch):
    """A model's padded and packed prefill."""
    from testkit.train_once import model_params
    from text2sql.model.language_model import LanguageModel

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "model", request.param)))
    padded = Prefill(model.model, model.tokenizer.pad_token_id)
    monkeypatch.setattr(packed, "flash", plain_flash)
    monkeypatch.setattr("text2sql.model.prefill.can_be_packed", lambda model: True)
    return model, padded, Prefill(model.model, model.tokenizer.pad_token_id)


def test_packed_prompts_have_the_logits_of_padded_ones(both):
    model, padded, packing = both
    with torch.inference_mode():
        expected, found = padded.logits(PROMPTS), packing.logits(PROMPTS)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        for prompt, row in zip(PROMPTS, found, strict=True):  # alone, without any prefix
            torch.testing.assert_close(packing.logits([prompt])[0], row, atol=1e-4, rtol=1e-4)


def test_packed_prompts_are_continued_as_padded_ones(both):
    model, padded, packing = both
    with torch.inference_mode():
        answers = [decode(model.model, way(PROMPTS), 12, {0}) for way in (padded, packing)]
    assert answers[0] == answers[1] and any(len(answer) > 3 for answer in answers[0])


def test_a_row_holds_each_shared_prefix_once(both):
    _, _, packing = both
    layout = packing._layout(PROMPTS, cache=True)
    assert layout.ids.shape[1] == len(SCHEMA) + len(OTHER) + (3 + 2 + 5) + (2 + 1) + 5
    assert layout.ids[0, layout.last].tolist() == [prompt[-1] for prompt in PROMPTS]
    assert layout.positions[0, layout.last].tolist() == [len(prompt) - 1 for prompt in PROMPTS]
    for prompt, source in zip(PROMPTS, layout.source, strict=True):
        assert layout.ids[0, source[: len(prompt)]].tolist() == prompt
    assert layout.mask().sum(1).tolist() == list(map(len, PROMPTS))
