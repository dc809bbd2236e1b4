"""Decoding: a token for each row of a batch, step by step; which one is the pick's choice.

A batch runs until its longest answer ends, most of them long before: rows that have ended leave it. On a GPU a step is
recorded as a CUDA graph, since a step of a small model is some thousand kernels of microseconds each, which take four
times as long when Python launches them one by one. A recording has a fixed number of rows, so that batches shrink to a
few sizes only; recordings and their memory are kept for the next batches of the same sizes.
"""

from collections.abc import Collection
from typing import Any

import torch

from text2sql.model.cuda_graphs import can_be_recorded, record
from text2sql.model.packed import can_be_packed
from text2sql.model.picking import GREEDY, Pick
from text2sql.model.prefill import PrefilledBatch
from text2sql.model.row_cache import RowCache, attending_to

# A CPU drops rows once this share of them has ended: each row costs time there, and so does dropping.
SHARE_TO_DROP = 0.25
# A GPU shrinks batches to one of these sizes. With fewer rows a step takes no less; each size is another recording.
GPU_SIZES = (64, 256, 1024, 4096)
# How often, in steps, a GPU is asked which answers have ended; the reply is read at the next look, without waiting.
STEPS_BETWEEN_LOOKS = 4
# Recording costs about as much as so many steps.
FEWEST_RECORDED_STEPS = 16
# Rows of a GPU have room for a multiple of so many tokens: batches of similar prompts then share recordings.
CAPACITY_STEP = 256
# Where a model keeps what its last batch was decoded in.
KEPT = "_text2sql_decoding"


def decode(
    model: Any, prompts: PrefilledBatch, max_new_tokens: int, end_ids: Collection[int], pick: Pick = GREEDY
) -> list[list[int]]:
    """Return the continuation of each row of `prompts`, up to and including its end token; `pick` chooses the tokens.

    The cache of `prompts` is emptied. On a GPU the memory and the recordings stay with the model until `release`.
    """
    try:
        workspace = _Workspace.of(model, prompts, max_new_tokens)
        with attending_to(model, workspace.cache):
            batch = _Batch(workspace.cache, prompts, max_new_tokens, end_ids, pick)
            answers = _decode(model, workspace, batch, max_new_tokens, _on_gpu(prompts.logits))
    except BaseException:
        release(model)  # out of memory, say: the next try needs all of it
        raise
    if not _on_gpu(prompts.logits):
        release(model)
    return answers


def release(model: Any) -> None:
    """Free what decoding keeps with `model`. To be called before its modules change: recordings hold the old ones."""
    vars(model).pop(KEPT, None)


def _decode(model: Any, workspace: "_Workspace", batch: "_Batch", most: int, on_gpu: bool) -> list[list[int]]:
    """Decode `batch` up to `most` tokens a row."""
    for taken in range(1, most):
        batch.take(workspace.step(model, batch.longest + taken, most - taken))
        if on_gpu and taken % STEPS_BETWEEN_LOOKS:
            continue
        open_rows = batch.open_rows()
        if not open_rows:
            break
        count = fewer_rows(workspace.cache.rows, len(open_rows), on_gpu)
        if count < workspace.cache.rows:
            batch.keep(open_rows, count, batch.longest + taken)
    return batch.answers()


def fewer_rows(rows: int, still_open: int, on_gpu: bool) -> int:
    """Return to how many of its `rows` a batch shrinks while `still_open` have not ended: `rows` where it does not pay.

    A rule of these numbers alone: the same batches are computed alike, and give the same bytes, whatever came before.
    """
    if not on_gpu:
        return still_open if still_open <= (1 - SHARE_TO_DROP) * rows else rows
    size = next((size for size in GPU_SIZES if size >= still_open), rows)
    return size if 2 * size <= rows else rows


class _Workspace:
    """A cache for the rows of a batch, and recorded steps on it by its shape.

    A model keeps it, and it does not hold the model: its memory would be freed late.
    """

    def __init__(self, cache: RowCache) -> None:
        self.cache = cache
        self._recordings: dict[tuple[int, int], tuple[Any, torch.Tensor]] = {}
        self._met: set[tuple[int, int]] = set()

    @classmethod
    def of(cls, model: Any, prompts: PrefilledBatch, max_new_tokens: int) -> "_Workspace":
        """Return the workspace that `model` keeps, or a new one if there is none large enough, with `prompts` in it."""
        rows, width = prompts.mask.shape
        capacity = width + max_new_tokens
        if _on_gpu(prompts.logits):
            capacity = -(-capacity // CAPACITY_STEP) * CAPACITY_STEP
        kept = vars(model).get(KEPT)
        if kept is None or not kept.cache.has_room(rows, capacity):
            kept = None  # before memory is taken for another
            release(model)
            kept = cls(RowCache(prompts.cache, rows, capacity, can_be_packed(model)))
            vars(model)[KEPT] = kept
        kept.cache.shape(rows, capacity)
        kept.cache.fill(prompts.cache, prompts.mask, prompts.sources)
        return kept

    def step(self, model: Any, longest: int, steps_left: int) -> torch.Tensor:
        """Return the logits (rows, vocabulary) of the next tokens, of rows that have at most `longest` with this one.

        A shape is recorded the second time that it is met, if as many as `steps_left` pay for it.
        """
        shape = (self.cache.rows, self.cache.capacity)
        if shape not in self._recordings and self._is_worth_recording(model, shape, steps_left):
            pool = next((graph.pool() for graph, _ in self._recordings.values()), None)
            recorded = record(model, lambda: self.cache.step(model, longest), pool)
            if recorded is None:
                self._recordings.clear()  # they must not be replayed after a failure
            else:
                self._recordings[shape] = recorded
        self._met.add(shape)  # the first, eager step has initialised what must not be initialised while recording
        if shape not in self._recordings:
            return self.cache.step(model, longest)
        graph, logits = self._recordings[shape]
        graph.replay()
        return logits

    def _is_worth_recording(self, model: Any, shape: tuple[int, int], steps_left: int) -> bool:
        on_gpu = self.cache.token.is_cuda
        return on_gpu and shape in self._met and steps_left >= FEWEST_RECORDED_STEPS and can_be_recorded(model)


class _Batch:
    """The rows of a batch that are still decoded, and the tokens of all."""

    def __init__(
        self, cache: RowCache, prompts: PrefilledBatch, max_new_tokens: int, end_ids: Collection[int], pick: Pick
    ) -> None:
        rows, self.longest = prompts.mask.shape  # no prompt has more tokens
        device = prompts.logits.device
        self._cache, self._pick = cache, pick
        self._ends = torch.tensor(sorted(end_ids), device=device)
        # Filled with an end token: a position that is never written counts as the end.
        self._outputs = self._ends[0].repeat(max_new_tokens, rows)
        self._rows = torch.arange(rows, device=device)
        self._ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self._taken = torch.zeros(1, dtype=torch.long, device=device)
        self._look: _Look | None = None
        self.take(prompts.logits)

    def take(self, logits: torch.Tensor) -> None:
        """Append to each row the token that is picked by its `logits` (rows, vocabulary)."""
        token = self._pick(logits, self._taken)
        self._cache.token.copy_(token)
        self._outputs.index_put_((self._taken, self._rows), token.flatten())
        self._ended |= (token == self._ends).any(dim=1)
        self._taken += 1

    def open_rows(self) -> list[int]:
        """Return which rows have not ended, to be asked once a look; of a GPU, which had not at the look before."""
        before, self._look = self._look, _Look(self._ended)
        if not _on_gpu(self._ended):
            return self._look.open_rows()
        return before.open_rows() if before else list(range(len(self._rows)))

    def keep(self, open_rows: list[int], count: int, longest: int) -> None:
        """Keep `count` rows: those of `open_rows`, filled up with others; no row has more than `longest` tokens."""
        others = sorted(set(range(self._cache.rows)) - set(open_rows))
        kept = torch.tensor(sorted(open_rows + others[: count - len(open_rows)])).to(self._rows.device)
        self._cache.keep(kept, longest)
        self._pick = self._pick.select(kept)
        self._rows, self._ended, self._look = self._rows[kept], self._ended[kept], None

    def answers(self) -> list[list[int]]:
        """Return each row's tokens, up to and including its end token."""
        ends = set(self._ends.tolist())
        return [up_to_end(output, ends) for output in self._outputs[: int(self._taken)].T.tolist()]


class _Look:
    """Flags of a batch as they are now, to be read later."""

    def __init__(self, flags: torch.Tensor) -> None:
        self._flags = flags.to("cpu", non_blocking=True, copy=True)
        self._event = torch.cuda.Event() if flags.is_cuda else None
        if self._event:
            self._event.record()

    def open_rows(self) -> list[int]:
        """Return the rows whose flag is not set."""
        if self._event:
            self._event.synchronize()
        return [row for row, flag in enumerate(self._flags.tolist()) if not flag]


def _on_gpu(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda


def up_to_end(ids: list[int], ends: set[int]) -> list[int]:
    """Return `ids` up to and including the first that is one of `ends`."""
    for position, token in enumerate(ids):
        if token in ends:
            return ids[: position + 1]
    return ids
