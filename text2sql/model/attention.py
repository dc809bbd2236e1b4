"""A variant of PyTorch's attention (`sdpa`) that transformers does not have, with the same results up to rounding."""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "grouped_sdpa"


def use_grouped_attention(model: Any) -> None:
    """Let `model` decode without copying keys and values, if it uses `sdpa`."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `sdpa` does, without repeating keys and values when one token a row is decoded.

    `query` is (batch, heads, 1, size); `key` and `value` are (batch, key heads, positions, size). The heads that share
    a key head become its query rows: the same products, where `sdpa` would repeat the whole cache for each head.
    Anything but a masked single token falls back to `sdpa`. Returns (batch, 1, heads, size).
    """
    batch, heads, length, size = query.shape
    if length != 1 or attention_mask is None or heads == key.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    output = torch.nn.functional.scaled_dot_product_attention(rows, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(batch, 1, heads, size), None
