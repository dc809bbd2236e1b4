"""Greedy decoding in preallocated tensors.

Keys and values are in transformers' StaticCache, which appends a token without copying the others. On a GPU this also
allows recording one step as a CUDA graph: a step of a small model is some thousand kernels of microseconds each, which
take four times as long when Python launches them one by one.
"""

from collections.abc import Collection
from typing import Any

import torch
from transformers import StaticCache

from text2sql.model.cuda_graphs import can_be_recorded, record
from text2sql.model.prefill import PrefilledBatch

# How often, in steps, to check which answers have ended: each check waits for the GPU.
STEPS_BETWEEN_LOOKS = 8
# Once this share of a batch has ended, a CPU drops those rows: each row costs time there, and so does dropping.
SHARE_TO_DROP = 0.25
# Recording costs about two steps; it does not pay for fewer steps than this.
FEWEST_RECORDED_STEPS = 8
# PyTorch's masked attention is fastest if the number of positions is a multiple of this.
ALIGNMENT = 8


def decode(model: Any, prompts: PrefilledBatch, max_new_tokens: int, end_ids: Collection[int]) -> list[list[int]]:
    """Return the greedy continuation of each row of `prompts`, up to and including its end token.

    The cache of `prompts` is emptied.
    """
    step = _Step(model, prompts, max_new_tokens, end_ids)
    on_gpu = prompts.logits.is_cuda
    recordable = on_gpu and can_be_recorded(model)
    run = step
    for taken in range(1, max_new_tokens):
        if taken == 2 and recordable and max_new_tokens - taken >= FEWEST_RECORDED_STEPS:
            # The first, eager step has initialised what must not be initialised while recording.
            run = step.recorded() or step
        run()
        if taken % STEPS_BETWEEN_LOOKS == 0:
            ended = step.ended.float().mean().item()
            if ended == 1:
                break
            if ended >= SHARE_TO_DROP and not on_gpu:
                step.drop_ended()
    return step.answers()


class _Step:
    """Appends one token to each row, in preallocated tensors."""

    def __init__(self, model: Any, prompts: PrefilledBatch, max_new_tokens: int, end_ids: Collection[int]) -> None:
        mask = prompts.mask
        batch, width = mask.shape
        capacity = -(-(width + max_new_tokens) // ALIGNMENT) * ALIGNMENT
        self._model = model
        self._end_ids = torch.tensor(sorted(end_ids), device=mask.device)
        self._cache = StaticCache(config=model.config, max_cache_len=capacity)
        for index, layer in enumerate(prompts.cache.layers):
            self._cache.update(layer.keys, layer.values, index)
            layer.keys = layer.values = None  # freed layer by layer, so that memory holds them once
        self._seen = torch.zeros(batch, 1, 1, capacity, dtype=torch.bool, device=mask.device)
        self._seen[:, 0, 0, :width] = mask.bool()
        self._position = mask.sum(dim=1, keepdim=True)
        self._slot = torch.tensor([width], device=mask.device)
        self._row = torch.tensor([0], device=mask.device)
        # Filled with an end token: a position that is never written counts as the end.
        self._outputs = self._end_ids[0].repeat(max_new_tokens, batch)
        self._token = torch.empty(batch, 1, dtype=torch.long, device=mask.device)
        self.ended = torch.zeros(batch, 1, dtype=torch.bool, device=mask.device)
        self._rows = list(range(batch))
        self._answers: list[list[int]] = [[] for _ in self._rows]
        self._take(prompts.logits)

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
        """Record the step without running it; return its replay function, or None if it cannot be recorded."""
        recorded = record(self._model, self)
        return None if recorded is None else recorded[0].replay

    def drop_ended(self) -> None:
        """Drop the rows that have ended."""
        self._read(self.ended.flatten())
        kept = (~self.ended).flatten().nonzero().flatten()
        self._rows = [self._rows[row] for row in kept.tolist()]
        layers: list[Any] = self._cache.layers
        for layer in layers:
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
        self._seen, self._position = self._seen[kept], self._position[kept]
        self._token, self.ended = self._token[kept], self.ended[kept]
        self._outputs = self._outputs[:, kept]

    def answers(self) -> list[list[int]]:
        """Return each row's tokens, up to and including its end token."""
        self._read(torch.ones_like(self.ended.flatten()))
        return self._answers

    def _read(self, chosen: torch.Tensor) -> None:
        ends = set(self._end_ids.tolist())
        outputs = self._outputs[: int(self._row)].T.tolist()
        for row, output, is_chosen in zip(self._rows, outputs, chosen.tolist(), strict=True):
            if is_chosen:
                self._answers[row] = up_to_end(output, ends)


def up_to_end(ids: list[int], ends: set[int]) -> list[int]:
    """Return `ids` up to and including the first that is one of `ends`."""
    for position, token in enumerate(ids):
        if token in ends:
            return ids[: position + 1]
    return ids
