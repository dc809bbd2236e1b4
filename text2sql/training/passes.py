"""Forward and backward passes over packed rows, on a GPU recorded as CUDA graphs by shape.

Launched one by one, a small model's kernels take ten times as long to launch as to run; a CUDA graph launches all of
them at once. A row's tokens and counted positions are rounded up, so that few shapes differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad

from text2sql.model.cuda_graphs import record
from text2sql.training.examples import IGNORED
from text2sql.training.flat_parameters import FlatParameters
from text2sql.training.parts import Part

# Tokens are rounded up to multiples of the first, above the second to multiples of the third.
TOKENS_STEP, WIDE, WIDE_STEP = 64, 1024, 256
# Counted positions cost little: the fewer shapes, the better.
POSITIONS_STEP = 128
# Each recording takes some megabytes; parts of further shapes run eagerly.
MOST_RECORDINGS = 96
# `loss_of(part, count)` runs the model on a part of a step whose loss counts `count` tokens in all.
LossOf = Callable[[Part, torch.Tensor], torch.Tensor]


class Passes:
    """Passes of one model in one process, which sum the gradients of a step in `flat`."""

    def __init__(self, flat: FlatParameters, loss_of: LossOf) -> None:
        self._flat, self._loss_of = flat, loss_of

    def run(self, part: Part, count: torch.Tensor, replays: bool = False) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss. `replays` is for `RecordedPasses`."""
        loss = self._loss_of(part, count)
        self._flat.add(torch.autograd.grad(loss, self._flat.leaves))
        return loss.detach()


@dataclass(frozen=True)
class Shape:
    """Tokens of a packed row, at how many of them the loss is computed, and its segments."""

    tokens: int
    positions: int
    segments: int


class RecordedPasses(Passes):
    """Passes whose shapes are rounded up, each shape recorded when it comes a second time."""

    def __init__(self, flat: FlatParameters, loss_of: LossOf, model: Any, pad_id: int, examples: int) -> None:
        """`examples`: the most that a part has."""
        super().__init__(flat, loss_of)
        self._model, self._pad_id, self._examples = model, pad_id, examples
        self._recordings: dict[Shape, _Recording] = {}
        self._met: set[Shape] = set()
        self._failed = False  # a recording did: further parts run eagerly
        self._pool: Any = None

    @property
    def number(self) -> int:
        """How many shapes are recorded."""
        return len(self._recordings)

    def run(self, part: Part, count: torch.Tensor, replays: bool = False) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss.

        Without `replays` nothing is recorded, and the row is padded the same: a run that resumes here rounds as one
        that did not stop.
        """
        shape = rounded_shape(part, self._examples)
        part = padded_to(part, shape, self._pad_id)
        if not replays:
            return super().run(part, count)
        # The first pass of a shape is eager, and initialises what must not be initialised while recording.
        if shape in self._met and shape not in self._recordings and self._may_record():
            self._record(shape, part, count)
        if shape in self._recordings:
            return self._recordings[shape].replay(part, count)
        loss = super().run(part, count)
        self._met.add(shape)  # after the pass: not if it ran out of memory
        return loss

    def _may_record(self) -> bool:
        return not self._failed and len(self._recordings) < MOST_RECORDINGS

    def _record(self, shape: Shape, part: Part, count: torch.Tensor) -> None:
        part, count = part.map(torch.Tensor.clone), count.clone()
        recorded = None
        try:
            recorded = record(self._model, lambda: super(RecordedPasses, self).run(part, count), self._pool)
        finally:
            if recorded is None:  # failed or out of memory: the recordings before must not be replayed
                self._recordings, self._pool = {}, None
        if recorded is None:
            self._failed = True
            return
        graph, loss = recorded
        self._recordings[shape] = _Recording(graph, part, count, loss)
        self._pool = graph.pool()  # shared by all recordings: only one runs at a time


def rounded_shape(part: Part, examples: int) -> Shape:
    """Return the shape of a packed `part`, one of at most so many `examples`, rounded up."""
    tokens, positions = part.tokens, len(part.tensors["logits_to_keep"])
    step = TOKENS_STEP if tokens <= WIDE else WIDE_STEP
    return Shape(_up(tokens, step), _up(positions, POSITIONS_STEP), examples + 1)  # a segment more, for padding


def padded_to(part: Part, shape: Shape, pad_id: int) -> Part:
    """Return a packed `part` in `shape`: with a segment of padding, empty ones, and positions that count nothing."""
    more, tensors = shape.tokens - part.tokens, part.tensors
    positions = shape.positions - len(tensors["logits_to_keep"])
    places = torch.arange(more, device=tensors["position_ids"].device)[None]
    padded = {
        "input_ids": pad(tensors["input_ids"], (0, more), value=pad_id),
        "position_ids": torch.cat([tensors["position_ids"], places], dim=1),
        "labels": pad(tensors["labels"], (0, more), value=IGNORED),
        "shift_labels": pad(tensors["shift_labels"], (0, positions), value=IGNORED),
        "logits_to_keep": pad(tensors["logits_to_keep"], (0, positions), value=0),
    }
    empty = shape.segments - part.examples
    segments = part.segments
    if segments is not None:
        bounds = pad(segments.bounds, (0, empty), value=shape.tokens)
        segments = replace(segments, bounds=bounds, longest=max(segments.longest, WIDE_STEP))
    return Part(padded, [*part.lengths, more, *[0] * (empty - 1)], True, segments)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


class _Recording:
    def __init__(self, graph: Any, part: Part, count: torch.Tensor, loss: torch.Tensor) -> None:
        self._graph, self._part, self._count, self._loss = graph, part, count, loss

    def replay(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        for name, value in part.tensors.items():
            self._part.tensors[name].copy_(value)
        if self._part.segments is not None and part.segments is not None:
            self._part.segments.bounds.copy_(part.segments.bounds)
        self._count.copy_(count)
        self._graph.replay()
        return self._loss.clone()
