"""A pick that samples, each row by a random stream of its own (`text2sql.model.streams`)."""

import copy
from collections.abc import Sequence

import torch

from text2sql.model.streams import FIRST, SECOND, SHIFTS, STEP, Sampling, signed

# Tokens are drawn from at most so many, the most likely: sorting the whole vocabulary takes longer than a step of a
# small model, and what lies behind them is noise.
MOST_LIKELY = 128


class Sampler:
    """Picks at random: of each row by its own stream. Keeps the log-likelihood of each token that it picked."""

    def __init__(self, streams: Sequence[int], sampling: Sampling, max_new_tokens: int, device: torch.device) -> None:
        """`streams` are the rows' own, of `streams.stream`."""
        self._sampling = sampling
        self._streams = torch.tensor([signed(value) for value in streams], device=device)
        self._rows = torch.arange(len(streams), device=device)
        # Those of all rows of the first batch, also of rows that have left it.
        self._log_likelihoods = torch.zeros(max_new_tokens, len(streams), device=device)

    def __call__(self, logits: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        ids = _most_likely(logits)
        scores = torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(-1, ids)
        # In 64 bits, where a sum over the tokens hardly depends on rounding.
        shares = torch.softmax(scores.double() / self._sampling.temperature, dim=-1)
        up_to = shares.cumsum(dim=-1)
        kept = up_to - shares < self._sampling.top_p
        drawn = _uniform(self._streams, position) * (shares * kept).sum(dim=-1)
        rank = (kept & (up_to <= drawn[:, None])).sum(dim=-1, keepdim=True)
        # Where rounding makes the sum a little short; and where logits are no numbers, nothing is kept.
        rank = torch.minimum(rank, kept.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
        self._log_likelihoods.index_put_((position, self._rows), scores.gather(-1, rank).squeeze(-1))
        return ids.gather(-1, rank)

    def select(self, rows: torch.Tensor) -> "Sampler":
        part = copy.copy(self)
        part._streams, part._rows = self._streams[rows], self._rows[rows]
        return part

    def replaced(self, logits: torch.Tensor, position: torch.Tensor, tokens: torch.Tensor) -> None:
        scores = torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(-1, tokens)
        self._log_likelihoods.index_put_((position, self._rows), scores.squeeze(-1))

    def log_likelihoods(self, lengths: Sequence[int]) -> list[float]:
        """Return the log-likelihood of each row's first tokens, `lengths` of them."""
        steps = torch.arange(len(self._log_likelihoods), device=self._rows.device)
        answered = steps[:, None] < torch.tensor(lengths, device=self._rows.device)
        return torch.where(answered, self._log_likelihoods.double(), 0).sum(dim=0).tolist()


def _most_likely(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely tokens of each row of `logits` (rows, vocabulary), in order: of equal ones the first."""
    # In their own dtype: half as much to search in half precision.
    highest, ids = logits.topk(min(MOST_LIKELY, logits.shape[-1]), dim=-1, sorted=False)
    ids, order = ids.sort(dim=-1)
    order = highest.gather(-1, order).sort(dim=-1, descending=True, stable=True).indices
    return ids.gather(-1, order)


def _uniform(streams: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Return the number of each of `streams` at `position`: from 0 to below 1, in steps of 2**-53."""
    value = streams + (position + 1) * signed(STEP)
    for shift, factor in zip(SHIFTS, (FIRST, SECOND, None), strict=True):
        value = value ^ _shifted(value, shift)
        if factor is not None:
            value = value * signed(factor)
    return _shifted(value, 11).double() * 2.0**-53


def _shifted(value: torch.Tensor, by: int) -> torch.Tensor:
    """Return `value >> by` as of unsigned numbers, which PyTorch cannot shift."""
    return (value >> by) & ((1 << (64 - by)) - 1)
