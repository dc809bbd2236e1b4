"""Forward and backward passes over packed rows, on a GPU recorded as CUDA graphs by shape.

Launched one by one, a small model's kernels take ten times as long to launch as to run; a CUDA graph launches all of
them at once. A row is padded to the smallest of a few shapes, which the lengths of the training's own steps give: a run
of a hundred steps replays most of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad

from text2sql.model.cuda_graphs import record
from text2sql.training.examples import IGNORED
from text2sql.training.flat_parameters import FlatParameters
from text2sql.training.parts import Part

# Tokens and counted positions of a shape are multiples of this: products of others are slower.
MULTIPLE = 64
# Shapes whose rows take a like share of the parts each. More need less padding, and are recorded later.
SHAPES = 6
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


@dataclass(frozen=True, order=True)
class Shape:
    """Tokens of a packed row, and at how many of them the loss is computed."""

    tokens: int
    positions: int

    @classmethod
    def around(cls, tokens: int, positions: int) -> "Shape":
        """Return the smallest shape that a row of so many `tokens` and `positions` fits into."""
        return cls(*(MULTIPLE * max(1, math.ceil(size / MULTIPLE)) for size in (tokens, positions)))


def few_shapes(sizes: Sequence[tuple[int, int]], most: int = SHAPES) -> list[Shape]:
    """Return at most so many shapes, from small to large, for rows of these `sizes` (tokens, counted positions).

    Each is as large as the largest of a like share of the rows.
    """
    ordered = sorted(sizes)
    shares = [ordered[len(ordered) * n // most : len(ordered) * (n + 1) // most] for n in range(most)]
    shapes, positions = [], 0
    for share in filter(None, shares):
        positions = max(positions, *(count for _, count in share))
        shapes.append(Shape.around(share[-1][0], positions))
    return sorted(set(shapes))


class RecordedPasses(Passes):
    """Passes whose shapes are rounded up, each shape recorded when it comes a second time."""

    def __init__(
        self, flat: FlatParameters, loss_of: LossOf, model: Any, pad_id: int, shapes: Sequence[Shape], examples: int
    ) -> None:
        """`shapes`: those to pad rows to, from small to large. `examples`: the most that a part has."""
        super().__init__(flat, loss_of)
        self._model, self._pad_id, self._shapes, self._examples = model, pad_id, shapes, examples
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
        shape = self._shape_for(part)
        part = padded_to(part, shape, self._examples, self._pad_id)
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

    def _shape_for(self, part: Part) -> Shape:
        own = Shape.around(part.tokens, len(part.tensors["logits_to_keep"]))
        fitting = (s for s in self._shapes if s.tokens >= own.tokens and s.positions >= own.positions)
        return next(fitting, own)

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


def padded_to(part: Part, shape: Shape, examples: int, pad_id: int) -> Part:
    """Return a packed `part` in `shape`, with as many segments as each part of at most so many `examples`.

    Padding lies in segments no longer than the longest example, for which a recording's attention is laid out; further
    ones are empty. Positions that are added count nothing.
    """
    more, tensors = shape.tokens - part.tokens, part.tensors
    device = tensors["input_ids"].device
    positions = shape.positions - len(tensors["logits_to_keep"])
    padded = {
        "input_ids": pad(tensors["input_ids"], (0, more), value=pad_id),
        "position_ids": pad(tensors["position_ids"], (0, more), value=0),
        "labels": pad(tensors["labels"], (0, more), value=IGNORED),
        "shift_labels": pad(tensors["shift_labels"], (0, positions), value=IGNORED),
        "logits_to_keep": pad(tensors["logits_to_keep"], (0, positions), value=0),
    }
    if part.segments is None:
        return Part(padded, [*part.lengths, more], True)
    longest = part.segments.longest
    number = examples + math.ceil(shape.tokens / longest) - part.examples
    ends = torch.arange(1, number + 1, dtype=torch.int32, device=device) * longest + part.tokens
    bounds = torch.cat([part.segments.bounds, ends.clamp(max=shape.tokens)])
    lengths = [min(longest, max(0, more - start)) for start in range(0, number * longest, longest)]
    return Part(padded, [*part.lengths, *lengths], True, replace(part.segments, bounds=bounds))


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
