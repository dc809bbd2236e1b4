"""Packed rows: the examples of a pass one after another in one row of tokens, without padding.

Each example attends to itself alone, and its positions begin at 0. On a GPU in half precision FlashAttention computes
all of them at once, whatever their lengths; elsewhere `sdpa` computes one after another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from text2sql.model.library_way import accepted
from text2sql.model.packed import DTYPES, LARGEST_HEAD, Segments, flash

# transformers takes a name with "flash" in it for a package to import.
PACKED = "packed_examples"


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the examples of a packed row lie: their `lengths`, and the same as FlashAttention takes it, or None."""

    lengths: Sequence[int]
    segments: Segments | None = None


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each example of a packed row; without `packing` the whole row is one.

    `query` is (1, heads, tokens, size), `key` and `value` (1, key heads, tokens, size). Returns (1, tokens, heads,
    size).
    """
    if packing is not None and packing.segments is not None:
        # Where all weights are trained, they and some activations are float32 under autocast.
        half = value.dtype if value.dtype in DTYPES else torch.get_autocast_dtype("cuda")
        query, key, value = (tensor[0].transpose(0, 1).to(half) for tensor in (query, key, value))
        return flash(query, key, value, packing.segments, packing.segments, True, scaling)[0][None], None
    lengths = [query.shape[2]] if packing is None else [length for length in packing.lengths if length]
    examples = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        sdpa_attention_forward(module, one, its_key, its_value, None, scaling=scaling, **kwargs)[0]
        for one, its_key, its_value in examples
    ]
    return torch.cat(outputs, dim=1), None


def use_packed_attention(model: Any) -> bool:
    """Let `model` attend within the examples of packed rows, if it can; return whether it now does.

    It must use `sdpa` without a sliding window, and nothing else in it may mix tokens: a convolution or a state would
    carry one example into the next. That is tried, since neither config nor class tells it for all architectures.
    """
    windowed = getattr(model.config, "sliding_window", None) is not None
    if model.config._attn_implementation != "sdpa" or windowed or "position_ids" not in accepted(model):
        return False
    # No mask function is registered under this name: transformers makes no mask.
    AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(PACKED)
    if _examples_stay_apart(model):
        return True
    model.set_attn_implementation("sdpa")
    return False


def _examples_stay_apart(model: Any) -> bool:
    """Whether an example has the same logits alone, and behind either of two others."""
    one, two, example = [1, 2, 3, 4, 5], [9, 8, 7, 6, 9], [3, 5, 4, 7]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model

    def logits(rows: list[list[int]]) -> torch.Tensor:
        output = base(
            input_ids=torch.tensor([sum(rows, [])], device=model.device),
            position_ids=torch.tensor([[place for row in rows for place in range(len(row))]], device=model.device),
            packing=Packing(list(map(len, rows))),
            use_cache=False,
        )
        return output.logits[0, -len(example) :].float()

    trains = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone, *behind = (logits(rows) for rows in ([example], [one, example], [two, example]))
    except (TypeError, ValueError, RuntimeError):
        return False
    finally:
        model.train(trains)
    apart = max((other - alone).abs().max().item() for other in behind)
    return apart <= (1e-3 if model.dtype == torch.float32 else 3e-2) * alone.abs().max().item()


def takes_flash(model: Any, device: torch.device) -> bool:
    """Whether FlashAttention computes packed rows of `model`, forward and backward, on `device`.

    Where it should and does not, a line says why.
    """
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if (
        device.type != "cuda"
        or model.dtype not in DTYPES
        or size > LARGEST_HEAD
        or getattr(config, "attention_dropout", 0)
        # FlashAttention 2 begins with Ampere.
        or torch.cuda.get_device_capability(device) < (8, 0)
    ):
        return False
    try:
        value = torch.ones(3, 2, size, dtype=model.dtype, device=device, requires_grad=True)
        # An empty segment as well, with which recorded passes are filled up.
        segments = Segments.of([2, 1, 0], device)
        output, _ = flash(value, value, value, segments, segments, True, None)
        return bool(torch.autograd.grad(output.sum(), value)[0].isfinite().all())
    except (AttributeError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        print(f"No FlashAttention ({reason}): going on with PyTorch's attention, more slowly", flush=True)
        return False
