"""Which token comes next in each row of a batch: the one place where decoding chooses.

A pick is called once a step with the rows' logits. It is not part of the step that is recorded as a CUDA graph. On a
GPU it should not read values from tensors, since decoding would wait for them.
"""

from typing import Protocol

import torch


class Pick(Protocol):
    """Chooses the next token of each row."""

    def __call__(self, logits: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Return the tokens (rows, 1) that `logits` (rows, vocabulary) lead to.

        `position` (1), int64, is how many tokens the answers hold so far. The next step overwrites `logits`.
        """
        ...

    def select(self, rows: torch.Tensor) -> "Pick":
        """Return the pick of a batch that holds these `rows` (positions, int64) of this one's, and no others."""
        ...


class ReplaceablePick(Pick, Protocol):
    """A pick whose tokens another may replace: one that a constraint holds."""

    def select(self, rows: torch.Tensor) -> "ReplaceablePick": ...

    def replaced(self, logits: torch.Tensor, position: torch.Tensor, tokens: torch.Tensor) -> None:
        """Be told that `tokens` (rows, 1) were taken at `position`, by these `logits`, whatever was picked there."""
        ...


class Greedy:
    """Picks the most likely token."""

    def __call__(self, logits: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=-1, keepdim=True)

    def select(self, rows: torch.Tensor) -> "Greedy":
        return self

    def replaced(self, logits: torch.Tensor, position: torch.Tensor, tokens: torch.Tensor) -> None:
        pass


GREEDY = Greedy()
