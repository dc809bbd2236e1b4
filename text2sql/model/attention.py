"""Two variants of PyTorch's attention (`sdpa`) that transformers does not have.

Both give the results of `sdpa` up to rounding.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "grouped_sdpa"
RIGHT_PADDED = "right_padded_sdpa"


def use_grouped_attention(model: Any) -> None:
    """Let `model` decode without copying keys and values, if it uses `sdpa`."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)


def use_right_padded_attention(model: Any) -> bool:
    """Let `model` attend without a mask, if it uses `sdpa` and no sliding window; return whether it now does.

    For batches padded on the right: causality alone keeps tokens from attending to padding, and without a mask PyTorch
    takes its fastest kernels.
    """
    windowed = getattr(model.config, "sliding_window", None) is not None
    if model.config._attn_implementation != "sdpa" or windowed:
        return False
    # No mask function is registered under this name: transformers makes no mask, and `sdpa` without one is causal.
    AttentionInterface.register(RIGHT_PADDED, sdpa_attention_forward)
    model.set_attn_implementation(RIGHT_PADDED)
    return True


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
