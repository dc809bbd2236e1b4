"""Greedy decoding in tensors that stay where they are.

Keys and values lie in transformers' StaticCache, which takes a new token without copying all that came before. On a
GPU that also allows to record one step as a CUDA graph and replay it: a step of a small model is some thousand kernels
of microseconds each, which take four times as long when Python launches them one by one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StaticCache

from text2sql.model.cuda_graphs import can_be_recorded, record

# How often, in steps, to look which answers have ended: each look waits for the GPU.
STEPS_BETWEEN_LOOKS = 8
# Once this share of a batch has ended, a CPU goes on with the others alone: there each row costs, and so does the move.
SHARE_TO_DROP = 0.25
# Recording costs about two steps: an answer shorter than this is not worth it.
FEWEST_RECORDED_STEPS = 8
# PyTorch's masked attention is fastest where the number of positions is a multiple of this.
ALIGNMENT = 8


def decode(
    model: Any, logits: torch.Tensor, mask: torch.Tensor, cache: Any, max_new_tokens: int, end_ids: Sequence[int]
) -> list[list[int]]:
    """Return the greedy continuation of each row, up to and with its end token.

    `logits` (batch, vocabulary) are those of the prompts' last tokens, `mask` (batch, positions) is 1 where `cache`,
    a DynamicCache, holds a token and 0 at padding. `cache` is emptied.
    """
    step = _Step(model, logits, mask, cache, max_new_tokens, end_ids)
    recordable = logits.is_cuda and can_be_recorded(model)
    run = step
    for taken in range(1, max_new_tokens):
        if taken == 2 and recordable and max_new_tokens - taken >= FEWEST_RECORDED_STEPS:
            # The first step, run as usual, has initialised what must not be initialised while recording.
            run = step.recorded() or step
        run()
        if taken % STEPS_BETWEEN_LOOKS == 0:
            ended = step.ended.float().mean().item()
            if ended == 1:
                break
            if ended >= SHARE_TO_DROP and not logits.is_cuda:
                step.drop_ended()
    return step.answers()


class _Step:
    """One token more for each row, in tensors that stay where they are."""

    def __init__(
        self,
        model: Any,
        logits: torch.Tensor,
        mask: torch.Tensor,
        cache: Any,
        max_new_tokens: int,
        end_ids: Sequence[int],
    ) -> None:
        batch, width = mask.shape
        capacity = -(-(width + max_new_tokens) // ALIGNMENT) * ALIGNMENT
        self._model = model
        self._end_ids = torch.tensor(sorted(end_ids), device=mask.device)
        self._cache = StaticCache(config=model.config, max_cache_len=capacity)
        for index, layer in enumerate(cache.layers):
            self._cache.update(layer.keys, layer.values, index)
            layer.keys = layer.values = None  # one layer at a time, so that memory holds them once
        self._seen = torch.zeros(batch, 1, 1, capacity, dtype=torch.bool, device=mask.device)
        self._seen[:, 0, 0, :width] = mask.bool()
        self._position = mask.sum(dim=1, keepdim=True)
        self._slot = torch.tensor([width], device=mask.device)
        self._row = torch.tensor([0], device=mask.device)
        # Filled with an end token: what is never written counts as the end.
        self._outputs = self._end_ids[0].repeat(max_new_tokens, batch)
        self._token = torch.empty(batch, 1, dtype=torch.long, device=mask.device)
        self.ended = torch.zeros(batch, 1, dtype=torch.bool, device=mask.device)
        self._rows = list(range(batch))
        self._answers: list[list[int]] = [[] for _ in self._rows]
        self._take(logits)

    def __call__(self) -> None:
        self._seen.index_fill_(3, self._slot, True)
        output = self._model(
            input_ids=self._token,
            attention_mask=self._seen,
            position_ids=self._position,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._slot += 1
        self._position += 1
        self._take(output.logits[:, -1])

    def _take(self, logits: torch.Tensor) -> None:
        """Take each row's most likely token."""
        self._token.copy_(logits.float().argmax(dim=-1, keepdim=True))
        self._outputs.index_copy_(0, self._row, self._token.T)
        self._row += 1
        self.ended |= (self._token == self._end_ids).any(dim=1, keepdim=True)

    def recorded(self) -> Any:
        """Record the step, without taking it; return what takes it, or None where it cannot be recorded."""
        recorded = record(self._model, self)
        return None if recorded is None else recorded[0].replay

    def drop_ended(self) -> None:
        """Go on without the rows that have ended."""
        self._read(self.ended.flatten())
        kept = (~self.ended).flatten().nonzero().flatten()
        self._rows = [self._rows[row] for row in kept.tolist()]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
        self._seen, self._position = self._seen[kept], self._position[kept]
        self._token, self.ended = self._token[kept], self.ended[kept]
        self._outputs = self._outputs[:, kept]

    def answers(self) -> list[list[int]]:
        """Return each row's tokens, up to and with its end token."""
        self._read(torch.ones_like(self.ended.flatten()))
        return self._answers

    def _read(self, chosen: torch.Tensor) -> None:
        ends = set(self._end_ids.tolist())
        outputs = self._outputs[: int(self._row)].T.tolist()
        for row, output, wanted in zip(self._rows, outputs, chosen.tolist(), strict=True):
            if wanted:
                self._answers[row] = up_to_end(output, ends)


def up_to_end(ids: list[int], ends: set[int]) -> list[int]:
    """Return `ids` up to and with the first that is one of `ends`."""
    for position, token in enumerate(ids):
        if token in ends:
            return ids[: position + 1]
    return ids
