"""Prefill: a batch of prompts through the model, with each prefix that prompts share computed once.

Worked examples and schemas make up most of a prompt, and many prompts share them.
"""

import bisect
import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad

from text2sql.model.packed import Layout, can_be_packed, read_packed

# Shared prefixes are cut to a multiple of so many tokens, so that the next batch mostly has the same ones.
PREFIX_STEP = 16
# How many tokens of prefixes stay cached for the following batches.
MOST_CACHED = 16_384
# A GPU computes prefixes in a pass of their own if that saves so many padded tokens; with fewer the launch costs more.
LEAST_SAVED = 8192


@dataclass(frozen=True, eq=False)
class PrefilledBatch:
    """What decoding starts from.

    `logits` (batch, vocabulary) are those of the prompts' last tokens. `mask` (batch, positions) is 1 where `cache`, a
    DynamicCache, holds a token and 0 at padding, which may be at any position. `sources` (batch) says which of the
    cache's rows is each row's; None: its own.
    """

    logits: torch.Tensor
    mask: torch.Tensor
    cache: Any
    sources: torch.Tensor | None = None

    def repeated(self, counts: Sequence[int]) -> "PrefilledBatch":
        """Return a batch in which row n stands `counts[n]` times in a row, on the same cache."""
        rows = [row for row, count in enumerate(counts) for _ in range(count)]
        sources = torch.tensor(rows, device=self.mask.device)
        return PrefilledBatch(self.logits[sources], self.mask[sources], self.cache, sources)


class Prefill:
    """Computes logits and KV cache of prompts, and keeps the KV caches of recent prefixes.

    The results depend on the batch alone, not on earlier ones: a resumed run gives the same numbers to the last digit.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self._model, self._pad_id = model, pad_id
        self._prefix_caches: OrderedDict[tuple, Any] = OrderedDict()
        self._packs = can_be_packed(model)

    def logits(self, prompts: list[list[int]]) -> torch.Tensor:
        """Return the logits (batch, vocabulary) of the last tokens of `prompts` (token ids)."""
        return read_packed(self._model, self._layout(prompts, cache=False)) if self._packs else self(prompts).logits

    def __call__(self, prompts: list[list[int]]) -> PrefilledBatch:
        """Return logits, mask and cache of `prompts` (token ids)."""
        if self._packs:
            layout = self._layout(prompts, cache=True)
            logits = read_packed(self._model, layout)
            return PrefilledBatch(logits, layout.mask(), layout.cache())
        groups = groups_by_prefix(prompts)
        whole = [list(range(len(prompts)))]
        if self._model.device.type == "cuda":
            # One pass for all prefixes and one for all suffixes: the cost of a pass is mostly launching it.
            saved = padded_tokens(prompts, whole) - padded_tokens(prompts, groups)
            return self._read(prompts, groups if saved >= LEAST_SAVED else whole)
        if len(groups) == 1:
            return self._read(prompts, whole)
        # On a CPU every token costs time, padding too: one group after another.
        parts = []
        for group in groups:
            members = [prompts[position] for position in group]
            parts.append(self._read(members, [list(range(len(members)))]))
        return _merged(parts, [position for group in groups for position in group])

    def _layout(self, prompts: list[list[int]], cache: bool) -> Layout:
        groups = groups_by_prefix(prompts)
        # Of a prefix that no other prompt has nothing is saved.
        cuts = [common_length([prompts[p] for p in group]) if len(group) > 1 else 0 for group in groups]
        return Layout.of(prompts, groups, cuts, self._model.device, cache)

    def _read(self, prompts: list[list[int]], groups: list[list[int]]) -> PrefilledBatch:
        """Return the result for `prompts`, with one pass for the prefixes of all `groups` and one for the suffixes."""
        device = self._model.device
        prefixes = [shared_prefix([prompts[position] for position in group]) for group in groups]
        if len(prompts) == 1:
            prefixes = [[]]  # shared with no other prompt: one pass is enough
        group_of = dict(sorted((position, number) for number, group in enumerate(groups) for position in group))
        seen = _right_padded([[1] * len(prefix) for prefix in prefixes], 0)
        cut = [len(prefixes[number]) for number in group_of.values()]
        rest = [prompt[length:] for prompt, length in zip(prompts, cut, strict=True)]
        width = max(map(len, rest))
        ids = torch.tensor([[self._pad_id] * (width - len(part)) + part for part in rest], device=device)
        mask = torch.tensor(
            [
                seen[number] + [0] * (width - len(part)) + [1] * len(part)
                for number, part in zip(group_of.values(), rest, strict=True)
            ],
            device=device,
        )
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, -width:],
            past_key_values=self._prefix_cache(prefixes, list(group_of.values())),
            use_cache=True,
            logits_to_keep=1,
        )
        return PrefilledBatch(output.logits[:, -1], mask, output.past_key_values)

    def _prefix_cache(self, prefixes: list[list[int]], rows: list[int]) -> Any:
        """Return the keys and values of `prefixes[row]` for each of `rows`, or None if all prefixes are empty.

        Padded on the right: no token of a prefix comes after padding, so that the pass needs no mask.
        """
        if not any(prefixes):
            return None
        key = tuple(map(tuple, prefixes))
        if key not in self._prefix_caches:
            ids = torch.tensor(_right_padded(prefixes, self._pad_id), device=self._model.device)
            self._prefix_caches[key] = self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        self._prefix_caches.move_to_end(key)
        cache = copy.copy(self._prefix_caches[key])
        while sum(map(_size, self._prefix_caches)) > MOST_CACHED:
            self._prefix_caches.popitem(last=False)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        cache.batch_select_indices(torch.tensor(rows, device=self._model.device))
        return cache


def padded_tokens(prompts: list[list[int]], groups: list[list[int]]) -> int:
    """Return how many tokens, padding included, are computed if the prefix of each of `groups` is computed once."""
    prefixes = [len(shared_prefix([prompts[position] for position in group])) for group in groups]
    rest = max(len(prompts[position]) - cut for group, cut in zip(groups, prefixes, strict=True) for position in group)
    return len(groups) * max(prefixes) + len(prompts) * rest


def shared_prefix(prompts: list[list[int]]) -> list[int]:
    """Return the longest common prefix of `prompts`, cut to a multiple of `PREFIX_STEP` tokens."""
    return prompts[0][: common_length(prompts) // PREFIX_STEP * PREFIX_STEP]


def common_length(prompts: Sequence[list[int]]) -> int:
    """Return how many first tokens all `prompts` share; at least one of each remains, for its logits."""
    # Between the first and the last in order lie all others.
    return min(_common(min(prompts), max(prompts)), min(map(len, prompts)) - 1)


def groups_by_prefix(prompts: list[list[int]]) -> list[list[int]]:
    """Return the positions of `prompts` in groups whose common prefix shrinks by at most half with each member."""
    groups: list[list[int]] = []
    shared = 0
    for position in sorted(range(len(prompts)), key=prompts.__getitem__):
        # In sorted order the common prefix of a group is that of its first and its last member.
        # It only shrinks from member to member: most of the time one comparison tells that it did not.
        first = prompts[groups[-1][0]] if groups else []
        same = first[:shared] == prompts[position][:shared]
        common = shared if same else _common(first, prompts[position])
        if groups and 2 * common >= shared:
            groups[-1].append(position)
            shared = common
        else:
            groups.append([position])
            shared = len(prompts[position])
    return groups


def _common(first: list[int], second: list[int]) -> int:
    """Return how many first tokens two prompts share, by comparing slices: hundreds of tokens at a time."""
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect.bisect_left(lengths, True, key=lambda length: first[:length] != second[:length])


def _right_padded(rows: list[list[int]], value: int) -> list[list[int]]:
    width = max(map(len, rows))
    return [row + [value] * (width - len(row)) for row in rows]


def _size(prefixes: tuple[tuple[int, ...], ...]) -> int:
    return len(prefixes) * max(map(len, prefixes))


def _merged(parts: Sequence[PrefilledBatch], positions: list[int]) -> PrefilledBatch:
    """Return `parts` as one batch, padded on the left; row n of all parts goes to place `positions[n]`."""
    back = torch.tensor(sorted(range(len(positions)), key=positions.__getitem__))
    width = max(part.mask.shape[1] for part in parts)
    logits = torch.cat([part.logits for part in parts])[back]
    mask = torch.cat([pad(part.mask, (width - part.mask.shape[1], 0)) for part in parts])[back]
    caches = [part.cache for part in parts]
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        keys, values = (
            torch.cat([pad(side, (0, 0, width - side.shape[2], 0)) for side in sides])[back]
            for sides in zip(*((layer.keys, layer.values) for layer in layers), strict=True)
        )
        for layer in layers:
            layer.keys = layer.values = None  # freed layer by layer, so that memory holds them once
        layers[0].keys, layers[0].values = keys, values
    return PrefilledBatch(logits, mask, caches[0])
