"""Fused kernels of liger-kernel for what lies between a layer's products: gated activation and rotary embedding.

transformers computes each by some small kernels. Without that package they stay as they are. Each is held against what
it stands for, on random numbers and the model's own modules, and taken where both agree: no list of architectures.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

ROTARY = "apply_rotary_pos_emb"
# How far results in half precision may lie apart, relative to the largest.
AGREEMENT = 2e-2

Kernel = Callable[..., Any]


def liger_kernels() -> tuple[Kernel, Kernel] | None:
    """Return liger-kernel's gated activation and rotary embedding, or None where the package is not installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    try:
        from liger_kernel.ops.rope import LigerRopeFunction
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction
    except (ImportError, RuntimeError, AttributeError) as error:
        print(f"liger-kernel does not load ({error}): going on without, more slowly", file=sys.stderr, flush=True)
        return None

    def rotated(query: Any, key: Any, cos: Any, sin: Any, *arguments: Any, **options: Any) -> Any:
        return LigerRopeFunction.apply(query, key, cos, sin)

    return LigerSiLUMulFunction.apply, rotated


@contextlib.contextmanager
def fused_kernels(model: Any, gate: Kernel, rotate: Kernel) -> Iterator[list[str]]:
    """Let `model` take fused kernels within the block; yields which: "gate", "rotary embedding".

    `gate(x, y)` is silu(x) · y, `rotate(query, key, cos, sin)` the rotary embedding.
    """
    taken = []
    with contextlib.ExitStack() as stack:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(0)
            if _replace_gates(stack, model, gate):
                taken.append("gate")
            if _replace_rotary(stack, model, rotate):
                taken.append("rotary embedding")
        yield taken


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    limit = 1e-5 if other.dtype == torch.float32 else AGREEMENT
    return one.dtype == other.dtype and (one - other).abs().max().item() <= limit * other.abs().max().item()


def _replace_gates(stack: contextlib.ExitStack, model: Any, gate: Kernel) -> bool:
    """Replace the forward passes of gated MLPs until `stack` is left, if the first one's agrees; return whether."""
    names = ("gate_proj", "up_proj", "down_proj", "act_fn")
    modules = [module for module in model.modules() if all(hasattr(module, name) for name in names)]
    if not modules:
        return False

    def fused(module: Any) -> Kernel:
        return lambda x: module.down_proj(gate(module.gate_proj(x), module.up_proj(x)))

    try:
        x = torch.randn(1, 5, modules[0].gate_proj.in_features, dtype=model.dtype, device=model.device)
        with torch.no_grad():
            if not _agree(fused(modules[0])(x), modules[0](x)):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    for module in modules:
        module.forward = fused(module)
        stack.callback(delattr, module, "forward")
    return True


def _replace_rotary(stack: contextlib.ExitStack, model: Any, rotate: Kernel) -> bool:
    """Replace the function by which the module of the model's attention rotates, until `stack` is left."""
    attention = next((module for module in model.modules() if hasattr(module, "q_proj")), None)
    source: ModuleType | None = sys.modules.get(type(attention).__module__)
    real = getattr(source, ROTARY, None)
    if real is None or attention is None:
        return False
    size = getattr(attention, "head_dim", 0)
    options = {"dtype": model.dtype, "device": model.device}
    try:
        # As in the model: strided, and more heads of queries than of keys.
        query, key = (torch.randn(1, 5, heads, size, **options).transpose(1, 2) for heads in (4, 2))
        angles = torch.randn(1, 5, size // 2, device=model.device).repeat(1, 1, 2)
        cos, sin = angles.cos().to(model.dtype), angles.sin().to(model.dtype)
        fused, expected = rotate(query.clone(), key.clone(), cos, sin), real(query, key, cos, sin)
        if not all(map(_agree, fused, expected)):
            return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    setattr(source, ROTARY, rotate)
    stack.callback(setattr, source, ROTARY, real)
    return True
