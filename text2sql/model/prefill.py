"""A batch of prompts through the model, with what several of them begin with read once.

Few-shot examples and schemas make most of a prompt, and many prompts share them.
"""

import copy
import os
from collections import OrderedDict
from typing import Any

import torch
from torch.nn.functional import pad

# Shared beginnings count in multiples of so many tokens: the next batch then mostly has the very same ones.
PREFIX_STEP = 16
# Of the beginnings that were read so many tokens are kept for the batches that follow.
MOST_KEPT = 16_384
# A GPU reads beginnings apart where that saves so many padded tokens: fewer take no longer than to launch a pass more.
LEAST_SAVED = 8192


class Prefill:
    """Reads prompts, and keeps what the model remembers of their shared beginnings.

    What comes out depends on the batch alone, not on what was read before: a run that goes on after a kill gives the
    same numbers, digit by digit.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self._model, self._pad_id = model, pad_id
        self._kept: OrderedDict[tuple, Any] = OrderedDict()

    def __call__(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Return the logits of the prompts' last tokens (batch, vocabulary), a mask (batch, positions) and the cache.

        The mask is 1 where the cache, a DynamicCache, holds a token and 0 at padding, which stands anywhere.
        """
        groups = groups_by_prefix(prompts)
        whole = [list(range(len(prompts)))]
        if self._model.device.type == "cuda":
            # One pass for all beginnings and one for all ends: what a pass takes is mostly the launching.
            saved = padded_tokens(prompts, whole) - padded_tokens(prompts, groups)
            return self._read(prompts, groups if saved >= LEAST_SAVED else whole)
        if len(groups) == 1:
            return self._read(prompts, whole)
        # A CPU takes time for every token, padding as well: one group after another.
        parts = []
        for group in groups:
            members = [prompts[position] for position in group]
            parts.append(self._read(members, [list(range(len(members)))]))
        return _together(parts, [position for group in groups for position in group])

    def _read(self, prompts: list[list[int]], groups: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Read `prompts`, of which each of `groups` begins alike, in a pass for the beginnings and one for the rest."""
        device = self._model.device
        prefixes = [shared_prefix([prompts[position] for position in group]) for group in groups]
        if len(prompts) == 1:
            prefixes = [[]]  # shared with nobody: one pass is enough
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
            past_key_values=self._remembered(prefixes, list(group_of.values())),
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1], mask, output.past_key_values

    def _remembered(self, prefixes: list[list[int]], rows: list[int]) -> Any:
        """Return the keys and values of `prefixes[row]` for each of `rows`, or None where all prefixes are empty.

        Padded on the right: no token of a prefix comes after its padding, so that reading them needs no mask.
        """
        if not any(prefixes):
            return None
        key = tuple(map(tuple, prefixes))
        if key not in self._kept:
            ids = torch.tensor(_right_padded(prefixes, self._pad_id), device=self._model.device)
            self._kept[key] = self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        self._kept.move_to_end(key)
        cache = copy.copy(self._kept[key])
        while sum(map(_size, self._kept)) > MOST_KEPT:
            self._kept.popitem(last=False)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        cache.batch_select_indices(torch.tensor(rows, device=self._model.device))
        return cache


def padded_tokens(prompts: list[list[int]], groups: list[list[int]]) -> int:
    """Return how many tokens, padding among them, are read where each of `groups` has its beginning read once."""
    prefixes = [len(shared_prefix([prompts[position] for position in group])) for group in groups]
    rest = max(len(prompts[position]) - cut for group, cut in zip(groups, prefixes, strict=True) for position in group)
    return len(groups) * max(prefixes) + len(prompts) * rest


def shared_prefix(prompts: list[list[int]]) -> list[int]:
    """Return what all of `prompts` begin with, in whole steps."""
    shared = os.path.commonprefix(prompts)
    # At least one token of each prompt must remain, to give the logits that follow it.
    length = min(len(shared), min(map(len, prompts)) - 1)
    return list(shared[: length // PREFIX_STEP * PREFIX_STEP])


def groups_by_prefix(prompts: list[list[int]]) -> list[list[int]]:
    """Return the positions of `prompts` in groups that share at least half of what they begin with."""
    groups: list[list[int]] = []
    shared = 0
    for position in sorted(range(len(prompts)), key=prompts.__getitem__):
        # In sorted order what a whole group shares is what its first and its last member share.
        common = len(os.path.commonprefix([prompts[groups[-1][0]], prompts[position]])) if groups else 0
        if groups and 2 * common >= shared:
            groups[-1].append(position)
            shared = common
        else:
            groups.append([position])
            shared = len(prompts[position])
    return groups


def _right_padded(rows: list[list[int]], value: int) -> list[list[int]]:
    width = max(map(len, rows))
    return [row + [value] * (width - len(row)) for row in rows]


def _size(prefixes: tuple[tuple[int, ...], ...]) -> int:
    return len(prefixes) * max(map(len, prefixes))


def _together(parts: list[tuple], positions: list[int]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Put parts of a batch together, padded on the left, with the rows in the order of `positions`."""
    back = torch.tensor(sorted(range(len(positions)), key=positions.__getitem__))
    width = max(mask.shape[1] for _, mask, _ in parts)
    logits = torch.cat([logits for logits, _, _ in parts])[back]
    mask = torch.cat([pad(mask, (width - mask.shape[1], 0)) for _, mask, _ in parts])[back]
    caches = [cache for _, _, cache in parts]
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        keys, values = (
            torch.cat([pad(side, (0, 0, width - side.shape[2], 0)) for side in sides])[back]
            for sides in zip(*((layer.keys, layer.values) for layer in layers), strict=True)
        )
        for layer in layers:
            layer.keys = layer.values = None  # one layer at a time, so that memory holds them once
        layers[0].keys, layers[0].values = keys, values
    return logits, mask, caches[0]
