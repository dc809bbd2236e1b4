"""A step cut into parts: the rows of one forward and backward pass.

A step trains `batch_size × grad_accum` examples. How it is cut changes the sum of its losses by rounding alone, so the
cut is made for the machine: as many tokens a pass as keep it busy.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from text2sql.model.packed import Segments
from text2sql.training.examples import IGNORED
from text2sql.training.packing import Packing

# Tokens a pass. More keep a CPU little busier and take memory.
TOKENS_ON_CPU = 512
# A GPU needs little more time for so many than for the kernel launches. Large models take fewer: `tokens_per_pass`.
TOKENS_ON_GPU = 8192


class Form(enum.Enum):
    """How the examples of a part become the model's input."""

    PACKED = "one after another in one row, see `training.packing`"
    MASKED = "a row each, padded on the right to the longest, with a mask"
    WHOLE = "likewise, for a model that computes its loss from whole rows of labels"


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of a step, as the model takes them.

    `tensors` are the model's inputs by name. `input_ids` and `labels`: (1, tokens) if packed, else (examples, width).
    `logits_to_keep`: the n positions that predict a counted token, in any row; `shift_labels` (rows, n): the tokens to
    predict there. Most of a prompt is then never projected onto the vocabulary. `lengths`: the tokens of each example.
    `segments`: where they lie in a packed row, if FlashAttention computes it.
    """

    tensors: dict[str, torch.Tensor]
    lengths: Sequence[int]
    is_packed: bool = False
    segments: Segments | None = None

    @property
    def examples(self) -> int:
        """How many examples it has, fillers included."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """How many tokens it has, padding included."""
        return self.tensors["input_ids"].numel()

    def model_inputs(self) -> dict[str, Any]:
        """Return what a model of transformers takes as keyword arguments."""
        packing = {"packing": Packing(self.lengths, self.segments)} if self.is_packed else {}
        return {**self.tensors, **packing}

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Part":
        """Return a part with `function` applied to each tensor."""
        segments = self.segments and replace(self.segments, bounds=function(self.segments.bounds))
        return replace(self, tensors={name: function(one) for name, one in self.tensors.items()}, segments=segments)

    def to(self, device: Any, non_blocking: bool = False) -> "Part":
        """Return it on `device`: accelerate's data loader calls this."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Part":
        """Return it in page-locked memory: PyTorch's data loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory())


class Collator:
    """Makes the parts of a step from its examples."""

    def __init__(self, pad_id: int, tokens_per_pass: int, form: Form = Form.PACKED, longest: int | None = None) -> None:
        """`longest`: the most tokens of any example, where FlashAttention computes packed rows."""
        self._pad_id, self._form, self._longest = pad_id, form, longest
        self.tokens_per_pass = tokens_per_pass

    def __call__(self, rows: Sequence[dict]) -> dict[str, Any]:
        """Return a step's `parts`, the `labels` of all rows in one row, by which Trainer counts tokens, and `again`.

        `again(device)` makes the parts anew on that device, after `tokens_per_pass` changed.
        """
        return {
            "labels": torch.tensor([label for row in rows for label in row["labels"]])[None],
            "parts": self.parts(rows),
            # Neither Trainer nor accelerate moves these.
            "again": lambda device: [part.to(device) for part in self.parts(rows)],
        }

    def parts(self, rows: Sequence[dict]) -> list[Part]:
        """Return `rows`, the longest first, as parts of at most `tokens_per_pass` tokens, or one example each."""
        cuts = cut([len(row["input_ids"]) for row in rows], self.tokens_per_pass, self._form is not Form.PACKED)
        return [self.part(rows[some.start : some.stop]) for some in cuts]

    def part(self, rows: Sequence[dict]) -> Part:
        """Return `rows` as one part."""
        return self._packed(rows) if self._form is Form.PACKED else self._padded(rows)

    def _packed(self, rows: Sequence[dict]) -> Part:
        lengths = [len(row["input_ids"]) for row in rows]
        ids = torch.tensor([token for row in rows for token in row["input_ids"]])
        labels = torch.tensor([label for row in rows for label in row["labels"]])
        following = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[1:]
        following[torch.tensor(lengths).cumsum(0) - 1] = IGNORED  # an example's last token does not predict the next's
        positions = (following != IGNORED).nonzero().flatten()
        if len(positions) == 0:
            positions = torch.tensor([0])  # fillers alone: their loss is a sum over nothing
        tensors = {
            "input_ids": ids[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "labels": labels[None],
            "shift_labels": following[positions][None],
            "logits_to_keep": positions,
        }
        segments = Segments(Segments.of(lengths, "cpu").bounds, self._longest) if self._longest else None
        return Part(tensors, lengths, True, segments)

    def _padded(self, rows: Sequence[dict]) -> Part:
        """Padding is told by length, not by token: if the pad token is also the end token, the answer's end counts."""
        lengths = [len(row["input_ids"]) for row in rows]
        width = max(lengths)
        padding = [width - length for length in lengths]
        ids = [row["input_ids"] + [self._pad_id] * pad for row, pad in zip(rows, padding, strict=True)]
        labels = torch.tensor([row["labels"] + [IGNORED] * pad for row, pad in zip(rows, padding, strict=True)])
        tensors = {
            "input_ids": torch.tensor(ids),
            "labels": labels,
            "attention_mask": torch.tensor([[1] * length + [0] * (width - length) for length in lengths]),
        }
        if self._form is Form.MASKED:
            following = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
            positions = (following != IGNORED).any(dim=0).nonzero().flatten()
            if len(positions) == 0:
                positions = torch.tensor([0])
            tensors |= {"shift_labels": following[:, positions], "logits_to_keep": positions}
        return Part(tensors, lengths)


def tokens_per_pass(model: Any, device: torch.device) -> int:
    """Return how many tokens of `model` to train in one pass on `device`.

    Decided by the model and the kind of device alone, so that the same recipe cuts its steps, and rounds, the same
    whatever else runs there. On a GPU they take at most a quarter of its memory, by what each layer keeps for the
    backward pass: some 24 times its hidden size and 8 times its inner size, in 2 bytes.
    """
    if device.type != "cuda":
        return TOKENS_ON_CPU
    config = model.config
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    bytes_per_token = config.num_hidden_layers * 2 * (24 * config.hidden_size + 8 * inner) + 12 * config.vocab_size
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(256, min(TOKENS_ON_GPU, memory // 4 // bytes_per_token))


def cut(lengths: Sequence[int], tokens: int, padded: bool = False) -> list[range]:
    """Return positions 0 … n-1 as ranges of at most `tokens` tokens, and at least one position, each.

    If `padded`, each of a range takes as many tokens as its longest.
    """
    parts, start = [], 0
    for stop in range(1, len(lengths) + 1):
        some = lengths[start : stop + 1]
        if stop == len(lengths) or (max(some) * len(some) if padded else sum(some)) > tokens:
            parts.append(range(start, stop))
            start = stop
    return parts
