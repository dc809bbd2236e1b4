"""Forward and backward passes recorded as CUDA graphs, by shape.

Launched one by one, a small model's kernels take ten times as long to launch as to run; a CUDA graph launches all of
them at once. `RecordedShapes` records each shape that comes again; `RecordedBuckets`, for when memory is short, records
few shapes before the first pass.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from text2sql.model.cuda_graphs import record
from text2sql.training.examples import IGNORED
from text2sql.training.flat_parameters import FlatParameters
from text2sql.training.parts import Part
from text2sql.training.shapes import Shape, bucket_of, padded_to, rounded_shape, shape_of

# Each recording takes some megabytes; parts of further shapes run eagerly.
MOST_RECORDINGS = 96
# `loss_of(part, count)` runs the model on a part of a step whose loss counts `count` tokens in all.
LossOf = Callable[[Part, torch.Tensor], torch.Tensor]


class RecordedPasses(abc.ABC):
    """Recorded passes of one model on one GPU. Gradients are summed in tensors with fixed addresses."""

    def __init__(self, model: Any, flat: FlatParameters, loss_of: LossOf, pad_id: int) -> None:
        self._parameters, self._gradients = flat.parts, flat.gradients
        self._model, self._loss_of, self._pad_id = model, loss_of, pad_id
        self._recordings: dict[Shape, _Recording] = {}
        self._failed = False  # a recording did: further parts run eagerly
        self._pool: Any = None

    @property
    def number(self) -> int:
        """How many shapes are recorded."""
        return len(self._recordings)

    @abc.abstractmethod
    def run(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss."""

    @abc.abstractmethod
    def padded(self, part: Part) -> Part:
        """Return `part` padded to the shape in which it is computed, recorded or not."""

    def run_eagerly(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        """Do as `run` without recording, padded the same: a run that resumes here rounds as one that did not stop."""
        return self._pass(self.padded(part), count)

    def _pass(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        loss = self._loss_of(part, count)
        torch._foreach_add_(self._gradients, torch.autograd.grad(loss, self._parameters))
        return loss.detach()

    def _record(self, shape: Shape, part: Part, count: torch.Tensor) -> None:
        part, count = part.map(torch.Tensor.clone), count.clone()
        recorded = None
        try:
            recorded = record(self._model, lambda: self._pass(part, count), self._pool)
        finally:
            if recorded is None:  # failed or out of memory: the recordings before must not be replayed
                self._recordings, self._pool = {}, None
        if recorded is None:
            self._failed = True
            return
        graph, loss = recorded
        self._recordings[shape] = _Recording(graph, part, count, loss)
        self._pool = graph.pool()  # shared by all recordings: only one runs at a time


class RecordedShapes(RecordedPasses):
    """Passes of parts whose shapes are rounded up, each shape recorded when it comes a second time."""

    def __init__(self, model: Any, flat: FlatParameters, loss_of: LossOf, pad_id: int) -> None:
        super().__init__(model, flat, loss_of, pad_id)
        self._met: set[Shape] = set()

    def run(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss."""
        part = self.padded(part)
        shape = shape_of(part)
        # The first pass of a shape is eager, and initialises what must not be initialised while recording.
        if shape in self._met and shape not in self._recordings and self._may_record():
            self._record(shape, part, count)
        if shape in self._recordings:
            return self._recordings[shape].replay(part, count)
        loss = self._pass(part, count)
        self._met.add(shape)  # after the pass: not if it ran out of memory
        return loss

    def padded(self, part: Part) -> Part:
        """Return `part` padded to its shape, rounded up."""
        return padded_to(part, rounded_shape(part), self._pad_id)

    def _may_record(self) -> bool:
        return not self._failed and len(self._recordings) < MOST_RECORDINGS


class RecordedBuckets(RecordedPasses):
    """Passes of single rows, each padded to the smallest of a few shapes, all recorded before the first pass."""

    def __init__(
        self, model: Any, flat: FlatParameters, loss_of: LossOf, pad_id: int, shapes: Sequence[Shape], room: int = 0
    ) -> None:
        """`shapes` are those of `shape_buckets`; recording leaves `room` bytes of the GPU's memory free."""
        super().__init__(model, flat, loss_of, pad_id)
        self._shapes, self._room = sorted(shapes, reverse=True), room

    def run(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `part`, one row, to those of the step; return its loss."""
        if not self._recordings and not self._failed:
            self._record_all(part, count)
        part = self.padded(part)
        return self._pass(part, count) if self._failed else self._recordings[shape_of(part)].replay(part, count)

    def padded(self, part: Part) -> Part:
        """Return `part`, a row as if collated alone, padded to the smallest of the shapes that it fits into."""
        return padded_to(part, bucket_of(part, self._shapes), self._pad_id)

    def _record_all(self, part: Part, count: torch.Tensor) -> None:
        """Record all shapes, the widest first, with a row that counts nothing."""
        first, position = part.input_ids[:1, :1], torch.zeros_like(part.predicted[1][:1])
        ignored = torch.full_like(first, IGNORED)
        nothing = Part(first, ignored, shift_labels=ignored, logits_to_keep=position)
        parts = {shape: padded_to(nothing, shape, self._pad_id) for shape in self._shapes}
        room = torch.empty(self._room, dtype=torch.uint8, device=first.device)
        # Two rounds: after the first recording there may be no memory left for an eager pass.
        for part in parts.values():
            self._pass(part, count)
        torch._foreach_zero_(self._gradients)  # a model's loss may be more than that of its tokens
        for shape, part in parts.items():
            if not self._failed:
                self._record(shape, part, count)
        del room


class _Recording:
    def __init__(self, graph: Any, part: Part, count: torch.Tensor, loss: torch.Tensor) -> None:
        self._graph, self._inputs, self._count, self._loss = graph, part.model_inputs(), count, loss

    def replay(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        for name, value in part.model_inputs().items():
            self._inputs[name].copy_(value)
        self._count.copy_(count)
        self._graph.replay()
        return self._loss.clone()
