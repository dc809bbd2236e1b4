"""A batch of prompts through the model, with what several of them begin with read once.

Few-shot examples and schemas make most of a prompt, and many prompts share them.
"""

import copy
import os
from collections import OrderedDict
from typing import Any

import torch
from torch.nn.functional import pad

# Shared beginnings count in multiples of so many tokens: the next batch then mostly has the very same one.
PREFIX_STEP = 16
# So many beginnings are kept for the batches that follow.
MOST_KEPT = 32


class Prefill:
    """Reads prompts, and keeps what the model remembers of their shared beginnings.

    What comes out depends on the batch alone, not on what was read before: a run that goes on after a kill gives the
    same numbers, digit by digit.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self._model, self._pad_id = model, pad_id
        self._kept: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def __call__(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Return the logits of the prompts' last tokens (batch, vocabulary), a mask (batch, positions) and the cache.

        The mask is 1 where the cache, a DynamicCache, holds a token and 0 at padding, which stands anywhere.
        """
        # A GPU reads a whole batch in little more than the time to launch one pass. A CPU takes time for every token.
        groups = [] if self._model.device.type == "cuda" else groups_by_prefix(prompts)
        if len(groups) < 2:
            return self._read(prompts)
        parts = [self._read([prompts[position] for position in group]) for group in groups]
        return _together(parts, [position for group in groups for position in group])

    def _read(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        device = self._model.device
        prefix = shared_prefix(prompts)
        rest = [prompt[len(prefix) :] for prompt in prompts]
        width = max(map(len, rest))
        ids = torch.tensor([[self._pad_id] * (width - len(part)) + part for part in rest], device=device)
        mask = torch.tensor(
            [[1] * len(prefix) + [0] * (width - len(part)) + [1] * len(part) for part in rest], device=device
        )
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, len(prefix) :],
            past_key_values=self._remembered(prefix, len(prompts)),
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1], mask, output.past_key_values

    def _remembered(self, prefix: list[int], batch_size: int) -> Any:
        """Return the keys and values of `prefix`, repeated for a batch, or None where there is no prefix."""
        if not prefix:
            return None
        key = tuple(prefix)
        if key not in self._kept:
            ids = torch.tensor([prefix], device=self._model.device)
            self._kept[key] = self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        cache = copy.deepcopy(self._kept[key])
        cache.batch_repeat_interleave(batch_size)
        return cache


def shared_prefix(prompts: list[list[int]]) -> list[int]:
    """Return what all of `prompts` begin with, in whole steps; nothing for a single prompt."""
    if len(prompts) == 1:
        return []
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
