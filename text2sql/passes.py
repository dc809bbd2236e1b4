"""One step of training as forward and backward passes that fit into memory, and are fast on a GPU.

A step trains `batch_size × grad_accum` examples. How they are cut into passes changes the sum of their losses by
rounding alone, so the cut is made for the machine: as many padded tokens in a pass as it works on at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from text2sql.recording import record
from text2sql.training_data import IGNORED

# A CPU is busy with fewer; more take memory and no less time.
TOKENS_ON_CPU = 1024
# A GPU runs so many at little more than the cost of launching them. Large models take fewer: see `tokens_per_pass`.
TOKENS_ON_GPU = 8192
# Shapes are rounded up to multiples of these, so that few differ and each is recorded once.
WIDTH_STEP, WIDE, WIDE_STEP = 64, 512, 256
# Each recording holds some megabytes; shapes beyond so many run as usual.
MOST_RECORDINGS = 96


def tokens_per_pass(model: Any) -> int:
    """Return how many padded tokens of `model` to train in one pass on its device.

    On a GPU a quarter of the free memory at most, by what each layer keeps for the backward pass: some 24 times its
    hidden size and 8 times its inner size, in 2 bytes.
    """
    if model.device.type != "cuda":
        return TOKENS_ON_CPU
    config = model.config
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    bytes_per_token = config.num_hidden_layers * 2 * (24 * config.hidden_size + 8 * inner) + 12 * config.vocab_size
    free = torch.cuda.mem_get_info()[0]
    return max(256, min(TOKENS_ON_GPU, free // 4 // bytes_per_token))


def cut(lengths: Sequence[int], tokens: int, powers_of_two: bool = False) -> list[range]:
    """Return positions 0 … n-1 as ranges of at most `tokens` padded tokens, and at least one position, each.

    With `powers_of_two` each range holds 1, 2, 4, … positions, as `rounded_up` wants them.
    """
    parts, start = [], 0
    while start < len(lengths):
        size = 1
        while start + (more := 2 * size if powers_of_two else size + 1) <= len(lengths):
            if max(lengths[start : start + more]) * more > tokens:
                break
            size = more
        parts.append(range(start, start + size))
        start += size
    return parts


def halves(part: dict) -> list[dict]:
    """Return `part` in two, by rows; a single row stays as it is."""
    rows = len(part["labels"])
    if rows == 1:
        return [part]
    whole = {"logits_to_keep"}  # the same for all rows
    middle = rows // 2
    return [
        {name: value if name in whole else value[chosen] for name, value in part.items()}
        for chosen in (slice(None, middle), slice(middle, None))
    ]


class FlatParameters:
    """The trained parameters of a model as one tensor, `parameter`, and their gradients as another, its `grad`.

    The model's own are views of them. An optimizer takes each tensor for itself, some of them waiting for the GPU after
    each: an adapter has hundreds, and its steps would take longer than its passes. To AdamW and SGD, which work number
    by number, one tensor is the same; AdamW in 8 bits would leave tensors of fewer than 4,096 numbers in 32.
    """

    def __init__(self, model: Any) -> None:
        """Move the parameters of `model` that are trained, all of one dtype on one device, into one tensor."""
        self.parts = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.parameter = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in self.parts]))
        self.parameter.grad = torch.zeros_like(self.parameter)
        sizes = [part.numel() for part in self.parts]
        self.gradients = []
        for part, values, gradient in zip(
            self.parts, self.parameter.detach().split(sizes), self.parameter.grad.split(sizes), strict=True
        ):
            part.data = values.view_as(part)
            self.gradients.append(gradient.view_as(part))

    def begin_step(self) -> None:
        """Set all gradients to zero."""
        self.parameter.grad.zero_()
        for part, gradient in zip(self.parts, self.gradients, strict=True):
            part.grad = gradient


class RecordedPasses:
    """Forward and backward passes of one model on one GPU, recorded at each shape and replayed from then on.

    Launched one by one, a small model's kernels take ten times as long as they run; a CUDA graph launches them all at
    once. Gradients are added up in tensors that stay where they are.
    """

    def __init__(
        self, model: Any, flat: FlatParameters, loss_of: Callable[[dict, torch.Tensor], torch.Tensor], pad_id: int
    ) -> None:
        """`loss_of(part, count)` runs the model on a part of a step, whose loss counts `count` tokens in all."""
        self._parameters, self._gradients = flat.parts, flat.gradients
        self._model, self._loss_of, self._pad_id = model, loss_of, pad_id
        self._met: set[tuple] = set()
        self._recordings: dict[tuple, _Recording] = {}
        self._most_recordings = MOST_RECORDINGS
        self._pool: Any = None

    def run(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss."""
        part = rounded_up(part, self._pad_id)
        shape = (*part["input_ids"].shape, part["logits_to_keep"].shape[0])
        # The first pass of a shape runs as usual, and initialises what must not be initialised while recording.
        if shape in self._met and shape not in self._recordings and len(self._recordings) < self._most_recordings:
            self._record(shape, part, count)
        if shape in self._recordings:
            return self._recordings[shape].replay(part, count)
        loss = self._pass(part, count)
        self._met.add(shape)  # not where memory did not suffice
        return loss

    def _pass(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        loss = self._loss_of(part, count)
        torch._foreach_add_(self._gradients, torch.autograd.grad(loss, self._parameters))
        return loss.detach()

    def _record(self, shape: tuple, part: dict, count: torch.Tensor) -> None:
        part, count = {name: value.clone() for name, value in part.items()}, count.clone()
        recorded = None
        try:
            recorded = record(self._model, lambda: self._pass(part, count), self._pool)
        finally:
            if recorded is None:  # or memory did not suffice: either way those before it must not be replayed
                self._recordings, self._pool = {}, None
        if recorded is None:
            self._most_recordings = 0
            return
        graph, loss = recorded
        self._recordings[shape] = _Recording(graph, part, count, loss)
        self._pool = graph.pool()  # all recordings share their memory: only one runs at a time


class _Recording:
    def __init__(self, graph: Any, part: dict, count: torch.Tensor, loss: torch.Tensor) -> None:
        self._graph, self._part, self._count, self._loss = graph, part, count, loss

    def replay(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        for name, value in part.items():
            self._part[name].copy_(value)
        self._count.copy_(count)
        self._graph.replay()
        return self._loss.clone()


def rounded_up(part: dict, pad_id: int) -> dict:
    """Return `part` without its mask, padded to one of few shapes by what the loss does not count.

    `input_ids` (rows, width), `labels` likewise, `shift_labels` (rows, positions) and `logits_to_keep` (positions):
    rows to a power of two, width and positions to multiples.
    """
    rows, width = part["input_ids"].shape
    positions = part["logits_to_keep"].shape[0]
    more_rows = (1 << (rows - 1).bit_length()) - rows
    more_width = _rounded(width) - width
    more_positions = _rounded(positions) - positions
    return {
        "input_ids": pad(part["input_ids"], (0, more_width, 0, more_rows), value=pad_id),
        "labels": pad(part["labels"], (0, more_width, 0, more_rows), value=IGNORED),
        "shift_labels": pad(part["shift_labels"], (0, more_positions, 0, more_rows), value=IGNORED),
        "logits_to_keep": pad(part["logits_to_keep"], (0, more_positions), value=0),
    }


def _rounded(size: int) -> int:
    step = WIDTH_STEP if size <= WIDE else WIDE_STEP
    return -(-size // step) * step
