"""Prefill without padding: all prompts of a batch in one row of tokens, each shared prefix in it once.

The row holds the prefixes that groups of prompts share, then what follows them in each prompt. A token attends to its
own segment, and what follows a prefix also to that prefix; the two attentions are joined by their log-sum-exps, which
is the attention over both (Milakov and Gimelshein, 2018, "Online normalizer calculation for softmax"). FlashAttention
computes segments of many lengths at once, and makes no plan for each new shape, as cuDNN does.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache

from text2sql.model.attention import GROUPED

# transformers takes a name with "flash" in it for a package to import.
PACKED = "packed_rows"
# What FlashAttention computes: in half precision, with heads of at most so many values.
DTYPES = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256


@dataclass(frozen=True, eq=False)
class Segments:
    """Consecutive tokens of a row: where each segment begins (int32, on the device), and the longest one's length."""

    bounds: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: Any) -> "Segments":
        """Return the segments of `lengths`, one after another."""
        bounds = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        return cls(bounds.to(device, non_blocking=True), max(lengths, default=0))


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a packed row belong; `of` says what its parts are."""

    ids: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor
    segments: Segments
    prefix_tokens: int
    prefixes: Segments
    followers: Segments
    alone: torch.Tensor | None
    source: torch.Tensor | None
    lengths: list[int]
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        prompts: Sequence[list[int]],
        groups: Sequence[Sequence[int]],
        cuts: Sequence[int],
        device: Any,
        cache: bool,
    ) -> "Layout":
        """Lay out `prompts` (token ids), whose `groups` share prefixes of as many tokens as `cuts` says.

        `ids` and `positions` (1, tokens) are the model's input, `last` (prompts) the place of each prompt's last token.
        `segments` are all parts of the row, `prefixes` those of its first `prefix_tokens` tokens, `followers` what
        follows them, a segment a group; `alone` marks followers (tokens) without a prefix, None if there are none.
        With `cache`, `source` (prompts, longest) names the token of the row for each position of each prompt.
        """
        row: list[int] = []
        positions: list[int] = []
        prefix_at, place = [], {}
        for group, cut in zip(groups, cuts, strict=True):
            prefix_at.append(len(row))
            row += prompts[group[0]][:cut]
            positions += range(cut)
        prefix_tokens = len(row)
        lengths = [cut for cut in cuts if cut]
        followers = []
        for number, (group, cut) in enumerate(zip(groups, cuts, strict=True)):
            before = len(row)
            for position in group:
                rest = prompts[position][cut:]
                place[position] = (prefix_at[number], cut, len(row))
                row += rest
                positions += range(cut, cut + len(rest))
                lengths.append(len(rest))
            followers.append(len(row) - before)
        alone = None
        if not all(cuts) and prefix_tokens:
            marks = torch.tensor([cut == 0 for cut in cuts]).repeat_interleave(torch.tensor(followers))
            alone = marks.to(device, non_blocking=True)
        ends = [place[position][2] + len(prompt) - place[position][1] - 1 for position, prompt in enumerate(prompts)]
        return cls(
            ids=torch.tensor(row)[None].to(device, non_blocking=True),
            positions=torch.tensor(positions)[None].to(device, non_blocking=True),
            last=torch.tensor(ends).to(device, non_blocking=True),
            segments=Segments.of(lengths, device),
            prefix_tokens=prefix_tokens,
            prefixes=Segments.of(list(cuts), device),
            followers=Segments.of(followers, device),
            alone=alone,
            source=_source(prompts, place).to(device, non_blocking=True) if cache else None,
            lengths=list(map(len, prompts)),
        )

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep keys and values (1, key heads, tokens, size) of a layer, as (prompts, key heads, longest, size)."""
        if self.source is not None:
            self.kept[layer] = (key[0][:, self.source].transpose(0, 1), value[0][:, self.source].transpose(0, 1))

    def cache(self) -> Any:
        """Return what was kept as a DynamicCache, padded on the right."""
        cache = DynamicCache()
        for layer in sorted(self.kept):
            cache.update(*self.kept.pop(layer), layer)
        return cache

    def mask(self) -> torch.Tensor:
        """Return (prompts, longest), 1 where `cache` holds a token."""
        assert self.source is not None
        places = torch.arange(self.source.shape[1], device=self.source.device)
        return (places < torch.tensor(self.lengths, device=self.source.device)[:, None]).long()


def _source(prompts: Sequence[list[int]], place: dict[int, tuple[int, int, int]]) -> torch.Tensor:
    source = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    for position, prompt in enumerate(prompts):
        prefix, cut, rest = place[position]
        source[position, :cut] = torch.arange(prefix, prefix + cut)
        source[position, cut : len(prompt)] = torch.arange(rest, rest + len(prompt) - cut)
    return source


def can_be_packed(model: Any) -> bool:
    """Whether prompts of `model`, one of plain attention, can be packed: half precision on a CUDA GPU, no window."""
    config = model.config
    windowed = getattr(config, "sliding_window", None) is not None
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        model.device.type == "cuda"
        and model.dtype in DTYPES
        and size <= LARGEST_HEAD
        and config._attn_implementation == GROUPED
        and not windowed
        and hasattr(torch.ops.aten, "_flash_attention_forward")
        # FlashAttention 2 begins with Ampere.
        and torch.cuda.get_device_capability(model.device) >= (8, 0)
    )


def read_packed(model: Any, layout: Layout) -> torch.Tensor:
    """Return the logits (prompts, vocabulary) of the last token of each prompt; `layout` keeps what it is told to."""
    with _packing(model, layout):
        output = model(input_ids=layout.ids, position_ids=layout.positions, use_cache=False, logits_to_keep=layout.last)
    return output.logits[0]


_layout: ContextVar[Layout] = ContextVar("layout")


@contextlib.contextmanager
def _packing(model: Any, layout: Layout) -> Iterator[None]:
    # No mask function is registered under this name: transformers makes no mask.
    AttentionInterface.register(PACKED, packed_attention)
    before, token = model.config._attn_implementation, _layout.set(layout)
    model.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _layout.reset(token)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within a packed row, as the layout of the pass says.

    `query` is (1, heads, tokens, size), `key` and `value` (1, key heads, tokens, size). Returns (1, tokens, heads,
    size).
    """
    layout = _layout.get()
    layout.keep(module.layer_idx, key, value)
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    own, own_sums = flash(query, key, value, layout.segments, layout.segments, True, scaling)
    cut = layout.prefix_tokens
    if cut:
        parts = query[cut:], key[:cut], value[:cut]
        shared, sums = flash(*parts, layout.followers, layout.prefixes, False, scaling)
        share = torch.sigmoid(sums - own_sums[:, cut:])  # of the weight that lies on the prefix
        if layout.alone is not None:
            share = share.masked_fill(layout.alone, 0)
        # Rounded to half precision, as what is joined.
        torch.lerp(own[cut:], shared, share.T[:, :, None].to(own.dtype), out=own[cut:])
    return own[None], None


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Segments,
    keys: Segments,
    causal: bool,
    scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return FlashAttention of each segment of `queries` to the same of `keys`, and log-sum-exps (heads, tokens).

    `query` is (tokens, heads, size), `key` and `value` likewise with their own tokens and heads.
    """
    output, sums, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        queries.bounds,
        keys.bounds,
        queries.longest,
        keys.longest,
        0.0,
        causal,
        False,
        scale=scale,
    )
    return output, sums
