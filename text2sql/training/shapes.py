"""Shapes of passes that are recorded as CUDA graphs: rounded up, so that few differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.nn.functional import pad

from text2sql.training.examples import IGNORED, TrainingExample
from text2sql.training.parts import Part

# Widths and numbers of positions are rounded up to multiples of the first, above the second to multiples of the third.
WIDTH_STEP, WIDE, WIDE_STEP = 64, 512, 256


@dataclass(frozen=True, order=True)
class Shape:
    """Rows of a part, their width in tokens, and at how many positions the loss is computed."""

    rows: int
    width: int
    positions: int


def shape_of(part: Part) -> Shape:
    """Return the shape of `part`, which has `logits_to_keep`."""
    rows, width = part.input_ids.shape
    return Shape(rows, width, len(part.predicted[1]))


def rounded_shape(part: Part) -> Shape:
    """Return the shape of `part` rounded up: rows to a power of two, the others to multiples."""
    exact = shape_of(part)
    return Shape(1 << (exact.rows - 1).bit_length(), _rounded(exact.width), _rounded(exact.positions))


def shape_buckets(examples: Sequence[TrainingExample]) -> list[Shape]:
    """Return few shapes of single rows such that each of `examples` fits into one of them.

    Each is half as wide as the one before, down to an eighth: its recording fits into the memory pool of the widest.
    """
    sizes = [(len(example.input_ids), example.counted_tokens) for example in examples]
    longest = max(width for width, _ in sizes)
    widths = sorted({_up(-(-longest // divisor)) for divisor in (1, 2, 4, 8)})
    return [
        Shape(1, most, _up(max((counted for width, counted in sizes if width <= most), default=1))) for most in widths
    ]


def bucket_of(row: Part, buckets: Sequence[Shape]) -> Shape:
    """Return the smallest of `buckets` that a `row` fits into: by its example alone, if `row` has its own width."""
    exact = shape_of(row)
    return min(shape for shape in buckets if shape.width >= exact.width and shape.positions >= exact.positions)


def padded_to(part: Part, shape: Shape, pad_id: int) -> Part:
    """Return `part` without its mask, padded to `shape` by rows, tokens and positions that the loss does not count."""
    exact = shape_of(part)
    more_rows, more_width = shape.rows - exact.rows, shape.width - exact.width
    more_positions = shape.positions - exact.positions
    labels, positions = part.predicted
    return Part(
        input_ids=pad(part.input_ids, (0, more_width, 0, more_rows), value=pad_id),
        labels=pad(part.labels, (0, more_width, 0, more_rows), value=IGNORED),
        shift_labels=pad(labels, (0, more_positions, 0, more_rows), value=IGNORED),
        logits_to_keep=pad(positions, (0, more_positions), value=0),
    )


def _rounded(size: int) -> int:
    return _up(size, WIDTH_STEP if size <= WIDE else WIDE_STEP)


def _up(size: int, step: int = WIDTH_STEP) -> int:
    return -(-size // step) * step
