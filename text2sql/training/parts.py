"""A step cut into parts: the rows of one forward and backward pass.

A step trains `batch_size × grad_accum` examples. How it is cut changes the sum of its losses by rounding alone, so the
cut is made for the machine: as many padded tokens a pass as keep it busy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from text2sql.training.examples import IGNORED

# Padded tokens a pass. More keep a CPU no busier and take memory: with 1,024 a step of a 0.5 B model took 8.7 GB, with
# 256 4.2 GB, and no more time.
TOKENS_ON_CPU = 256
# A GPU needs little more time for so many than for the kernel launches. Large models take fewer: `tokens_per_pass`.
TOKENS_ON_GPU = 8192


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a step, padded on the right to the longest, as tensors of token ids.

    `input_ids` and `labels`: (rows, width). `attention_mask`: likewise, or None for a model that attends causally.
    `logits_to_keep`: the n positions that predict a counted token in any row; `shift_labels` (rows, n): the tokens to
    predict there. Most of a prompt is then never projected onto the vocabulary. Both are None for a model that computes
    its loss from `labels`.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor | None = None
    shift_labels: torch.Tensor | None = None
    logits_to_keep: torch.Tensor | None = None

    @property
    def rows(self) -> int:
        """How many examples it has, fillers included."""
        return self.input_ids.shape[0]

    @property
    def tokens(self) -> int:
        """How many tokens it has, padding included."""
        return self.input_ids.numel()

    @property
    def predicted(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`shift_labels` and `logits_to_keep` of a part that has them."""
        assert self.shift_labels is not None and self.logits_to_keep is not None
        return self.shift_labels, self.logits_to_keep

    def model_inputs(self) -> dict[str, torch.Tensor]:
        """Return what a model of transformers takes as keyword arguments."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Part":
        """Return a part with `function` applied to each tensor."""
        return Part(**{name: function(value) for name, value in self.model_inputs().items()})

    def to(self, device: Any, non_blocking: bool = False) -> "Part":
        """Return it on `device`: accelerate's data loader calls this."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Part":
        """Return it in page-locked memory: PyTorch's data loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory())

    def only(self, rows: slice) -> "Part":
        """Return the part of these `rows`."""
        # All rows of a part have the same positions.
        return replace(self.map(lambda tensor: tensor[rows]), logits_to_keep=self.logits_to_keep)


class Collator:
    """Makes the parts of a step from its examples."""

    def __init__(
        self,
        pad_id: int,
        tokens_per_pass: int,
        whole_sequence: bool = False,
        masked: bool = True,
        powers_of_two: bool = False,
    ) -> None:
        """`whole_sequence`: give `labels` only, for a model that computes its loss from them.

        `masked`: give each part a mask; a model that attends causally needs none, since padding is on the right.
        `powers_of_two`: cut into parts of 1, 2, 4, … rows, for passes that are recorded by shape.
        """
        self._pad_id, self._whole_sequence, self._masked = pad_id, whole_sequence, masked
        self._powers_of_two = powers_of_two
        self.tokens_per_pass = tokens_per_pass

    def __call__(self, rows: Sequence[dict]) -> dict[str, Any]:
        """Return the `parts` of a step, and the `labels` of all rows in one row, by which Trainer counts tokens."""
        parts = cut([len(row["input_ids"]) for row in rows], self.tokens_per_pass, self._powers_of_two)
        return {
            "labels": torch.tensor([label for row in rows for label in row["labels"]])[None],
            "parts": [self.part(rows[part.start : part.stop]) for part in parts],
        }

    def part(self, rows: Sequence[dict]) -> Part:
        """Return `rows` as one part.

        Padding is told by length, not by token: if the pad token is also the end token, the end of an answer counts.
        """
        width = max(len(row["input_ids"]) for row in rows)
        padding = [width - len(row["input_ids"]) for row in rows]
        ids = [row["input_ids"] + [self._pad_id] * pad for row, pad in zip(rows, padding, strict=True)]
        labels = torch.tensor([row["labels"] + [IGNORED] * pad for row, pad in zip(rows, padding, strict=True)])
        mask = torch.tensor([[1] * (width - pad) + [0] * pad for pad in padding]) if self._masked else None
        part = Part(torch.tensor(ids), labels, mask)
        if self._whole_sequence:
            return part
        following = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        positions = (following != IGNORED).any(dim=0).nonzero().flatten()
        if len(positions) == 0:
            positions = torch.tensor([0])  # fillers alone: their loss is a sum over nothing
        return replace(part, shift_labels=following[:, positions], logits_to_keep=positions)


def tokens_per_pass(model: Any) -> int:
    """Return how many padded tokens of `model` to train in one pass on its device.

    Decided by the model and the kind of device alone, so that the same recipe cuts its steps, and rounds, the same
    whatever else runs there. On a GPU they take at most a quarter of its memory, by what each layer keeps for the
    backward pass: some 24 times its hidden size and 8 times its inner size, in 2 bytes.
    """
    if model.device.type != "cuda":
        return TOKENS_ON_CPU
    config = model.config
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size)
    bytes_per_token = config.num_hidden_layers * 2 * (24 * config.hidden_size + 8 * inner) + 12 * config.vocab_size
    memory = torch.cuda.get_device_properties(model.device).total_memory
    return max(256, min(TOKENS_ON_GPU, memory // 4 // bytes_per_token))


def cut(lengths: Sequence[int], tokens: int, powers_of_two: bool = False) -> list[range]:
    """Return positions 0 … n-1 as ranges of at most `tokens` padded tokens, and at least one position, each.

    With `powers_of_two` each range holds 1, 2, 4, … positions.
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


def halves(part: Part) -> list[Part]:
    """Return `part` in two, by rows; a single row stays as it is."""
    if part.rows == 1:
        return [part]
    middle = part.rows // 2
    return [part.only(slice(None, middle)), part.only(slice(middle, None))]


def single_rows(part: Part) -> list[Part]:
    """Return the rows of `part`, each as a part of its own; of several rows `own_row`, which waits for a GPU."""
    if part.rows == 1:
        return [part]
    return [own_row(part.only(slice(row, row + 1))) for row in range(part.rows)]


def own_row(row: Part) -> Part:
    """Return a `row` that was one of several as `Collator.part` makes it of its example alone. Waits for a GPU.

    Its width and its positions, and with them how a pass of it rounds, do not depend on the others then. An example
    ends with a token that counts: what follows is padding.
    """
    labels, positions = row.predicted
    counted = labels[0] != IGNORED
    some = bool(counted.any())
    counted[0] |= not some  # at least one position, as in `Collator.part`
    positions = positions[counted]
    width = int(positions[-1]) + 2 if some else 1

    def narrowed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[:, :width]

    return Part(
        input_ids=narrowed(row.input_ids),
        labels=narrowed(row.labels),
        attention_mask=None if row.attention_mask is None else narrowed(row.attention_mask),
        shift_labels=labels[:, counted],
        logits_to_keep=positions,
    )
