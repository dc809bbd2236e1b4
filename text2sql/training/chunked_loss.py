"""A model's loss in chunks of positions, recomputed in the backward pass: for when memory is short."""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.loss.loss_utils import ForCausalLMLoss

POSITIONS_PER_CHUNK = 32


def use_chunked_loss(model: Any) -> None:
    """Let `model` compute its loss chunk by chunk, and again in the backward pass.

    In float32 the logits of a large vocabulary are kept three times, and take more memory than a layer. A model whose
    loss is not transformers' own for causal language models stays as it is.
    """
    if model.loss_function is ForCausalLMLoss:
        model.loss_function = _chunked_loss


def _chunked_loss(
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
            logits.split(POSITIONS_PER_CHUNK, dim=1), shift_labels.split(POSITIONS_PER_CHUNK, dim=1), strict=True
        )
    )
