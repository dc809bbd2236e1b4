"""One step of training as forward and backward passes that fit into memory, and are fast on a GPU.

A step trains `batch_size × grad_accum` examples. How they are cut into passes changes the sum of their losses by
rounding alone, so the cut is made for the machine: as many padded tokens in a pass as it works on at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from transformers.loss.loss_utils import ForCausalLMLoss

from text2sql.model.cuda_graphs import record
from text2sql.training.examples import IGNORED

# A CPU is busy with fewer; more take memory and no less time.
TOKENS_ON_CPU = 1024
# A GPU runs so many at little more than the cost of launching them. Large models take fewer: see `tokens_per_pass`.
TOKENS_ON_GPU = 8192
# Shapes are rounded up to multiples of these, so that few differ and each is recorded once.
WIDTH_STEP, WIDE, WIDE_STEP = 64, 512, 256
# Of so many positions the loss is computed at once where memory is short.
POSITIONS_PER_LOSS = 32
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


def single_rows(part: dict) -> list[dict]:
    """Return `part` by its rows, each a part."""
    if len(part["labels"]) == 1:
        return [part]
    return [row for half in halves(part) for row in single_rows(half)]


def counted_alone(row: dict) -> dict:
    """Return a `row` that was one of several without the positions that only the others counted. Waits for a GPU."""
    counted = row["shift_labels"][0] != IGNORED
    counted[0] |= ~counted.any()  # at least one position, as in `Collator.part`
    return row | {"shift_labels": row["shift_labels"][:, counted], "logits_to_keep": row["logits_to_keep"][counted]}


def repeat_loss(model: Any) -> None:
    """Have `model` compute its loss for some positions after the others, and again on the way back.

    In float32 the logits of a large vocabulary are kept three times over, and take more memory than a layer. A model
    whose loss is of another kind stays as it is.
    """
    if model.loss_function is ForCausalLMLoss:
        model.loss_function = _repeated_loss


def _repeated_loss(
    logits: torch.Tensor,
    labels: Any,
    vocab_size: int,
    num_items_in_batch: Any = None,
    shift_labels: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    if shift_labels is None or num_items_in_batch is None:  # no sum over the positions
        return ForCausalLMLoss(logits, labels, vocab_size, num_items_in_batch, shift_labels=shift_labels, **options)
    return sum(
        checkpoint(
            lambda part, following: ForCausalLMLoss(
                part.contiguous(), None, vocab_size, num_items_in_batch, shift_labels=following.reshape(-1), **options
            ),
            part,
            following,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for part, following in zip(
            logits.split(POSITIONS_PER_LOSS, dim=1), shift_labels.split(POSITIONS_PER_LOSS, dim=1), strict=True
        )
    )


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
        self,
        model: Any,
        flat: FlatParameters,
        loss_of: Callable[[dict, torch.Tensor], torch.Tensor],
        pad_id: int,
        shapes: Sequence[tuple[int, int, int]] = (),
        room: int = 0,
    ) -> None:
        """`loss_of(part, count)` runs the model on a part of a step, whose loss counts `count` tokens in all.

        Without `shapes` each is recorded when it comes a second time. With them, see `few_shapes`, these alone are, the
        widest first and all of them before the first pass, such that `room` bytes stay free. Each part is one row then.
        """
        self._parameters, self._gradients = flat.parts, flat.gradients
        self._model, self._loss_of, self._pad_id = model, loss_of, pad_id
        self._shapes, self._room = sorted(shapes, reverse=True), room
        self._met: set[tuple] = set()
        self._recordings: dict[tuple, _Recording] = {}
        self._most_recordings = MOST_RECORDINGS
        self._pool: Any = None

    @property
    def number(self) -> int:
        """How many shapes are recorded."""
        return len(self._recordings)

    def run(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        """Add the gradients of `part` to those of the step; return its loss."""
        if self._shapes and not self._recordings:
            self._record_all(part, count)
        if not self._shapes:
            return self._run(rounded_up(part, shape_of(part), self._pad_id), count)
        shape = min(shape for shape in self._shapes if shape[1] >= part["input_ids"].shape[1])
        if len(part["logits_to_keep"]) > shape[2]:
            part = counted_alone(part)
        return self._run(rounded_up(part, shape, self._pad_id), count)

    def _run(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        shape = (*part["input_ids"].shape, part["logits_to_keep"].shape[0])
        # The first pass of a shape runs as usual, and initialises what must not be initialised while recording.
        if shape in self._met and shape not in self._recordings and len(self._recordings) < self._most_recordings:
            self._record(shape, part, count)
        if shape in self._recordings:
            return self._recordings[shape].replay(part, count)
        loss = self._pass(part, count)
        self._met.add(shape)  # not where memory did not suffice
        return loss

    def _record_all(self, part: dict, count: torch.Tensor) -> None:
        """Record all shapes with a row that counts nothing, before the first part of a step."""
        first, position = part["input_ids"][:1, :1], torch.zeros_like(part["logits_to_keep"][:1])
        ignored = torch.full_like(first, IGNORED)
        nothing = {"input_ids": first, "labels": ignored, "shift_labels": ignored, "logits_to_keep": position}
        parts = {shape: rounded_up(nothing, shape, self._pad_id) for shape in self._shapes}
        room = torch.empty(self._room, dtype=torch.uint8, device=first.device)
        # Two rounds: once there are recordings, no memory is left for a pass without.
        for part in parts.values():
            self._pass(part, count)
        torch._foreach_zero_(self._gradients)  # where a model's loss is more than its tokens'
        for shape, part in parts.items():
            if self._most_recordings:
                self._record(shape, part, count)
        del room
        if not self._recordings:  # a model that cannot be recorded
            self._shapes = []

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


def shape_of(part: dict) -> tuple[int, int, int]:
    """Return rows, width and positions of `part`, rounded up: rows to a power of two, the others to multiples."""
    rows, width = part["input_ids"].shape
    return 1 << (rows - 1).bit_length(), _rounded(width), _rounded(part["logits_to_keep"].shape[0])


def few_shapes(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return the few shapes that single rows of these `sizes` (tokens, and how many of them are counted) fit into.

    Each half as wide as the one before, down to an eighth: such a recording finds room in the memory of the largest.
    """
    longest = max(width for width, _ in sizes)
    widths = sorted({_up(-(-longest // divisor)) for divisor in (1, 2, 4, 8)})
    return [(1, most, _up(max((counted for width, counted in sizes if width <= most), default=1))) for most in widths]


def rounded_up(part: dict, shape: tuple[int, int, int], pad_id: int) -> dict:
    """Return `part` without its mask, padded to `shape` (rows, width, positions) by what the loss does not count.

    `input_ids` (rows, width), `labels` likewise, `shift_labels` (rows, positions) and `logits_to_keep` (positions).
    """
    rows, width = part["input_ids"].shape
    more_rows, more_width = shape[0] - rows, shape[1] - width
    more_positions = shape[2] - part["logits_to_keep"].shape[0]
    return {
        "input_ids": pad(part["input_ids"], (0, more_width, 0, more_rows), value=pad_id),
        "labels": pad(part["labels"], (0, more_width, 0, more_rows), value=IGNORED),
        "shift_labels": pad(part["shift_labels"], (0, more_positions, 0, more_rows), value=IGNORED),
        "logits_to_keep": pad(part["logits_to_keep"], (0, more_positions), value=0),
    }


def _rounded(size: int) -> int:
    return _up(size, WIDTH_STEP if size <= WIDE else WIDE_STEP)


def _up(size: int, step: int = WIDTH_STEP) -> int:
    return -(-size // step) * step
