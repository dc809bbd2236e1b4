"""Fused kernels for what lies between a layer's products: its norms, gated activation and rotary embedding.

transformers computes each by some small kernels, which take a third of a step on a fast GPU. PyTorch has one for the
norm, liger-kernel one for each of the others; without that package those stay as they are. Each is held against what it
stands for, on random numbers of the model's own modules, and taken where both agree: no list of architectures.
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
def fused_kernels(model: Any, gate: Kernel | None = None, rotate: Kernel | None = None) -> Iterator[list[str]]:
    """Let `model` take fused kernels within the block; yields which: "norm", "gate", "rotary embedding".

    `gate(x, y)` is silu(x) · y, `rotate(query, key, cos, sin)` the rotary embedding.
    """
    taken = []
    with contextlib.ExitStack() as stack:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(0)
            norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
            if _replace(stack, model, norms, _fused_norm):
                taken.append("norm")
            gated = [module for module in model.modules() if _is_gated(module)]
            if gate and _replace(stack, model, gated, lambda module: _fused_gate(module, gate)):
                taken.append("gate")
            if rotate and _replace_rotary(stack, model, rotate):
                taken.append("rotary embedding")
        yield taken


def _replace(stack: contextlib.ExitStack, model: Any, modules: list[Any], fused: Callable[[Any], Kernel]) -> bool:
    """Replace the forward passes of `modules` until `stack` is left, if the first one's agrees; return whether."""
    if not modules:
        return False
    try:
        first = modules[0]
        x = torch.randn(1, 5, _width(first), dtype=model.dtype, device=model.device)
        with torch.no_grad():
            if not _agree(fused(first)(x.clone()), first(x.clone())):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    for module in modules:
        module.forward = fused(module)
        stack.callback(delattr, module, "forward")
    return True


def _width(module: Any) -> int:
    """Return how many numbers a token has before `module`."""
    return module.gate_proj.in_features if hasattr(module, "gate_proj") else len(module.weight)


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    limit = 1e-5 if other.dtype == torch.float32 else AGREEMENT
    return one.dtype == other.dtype and (one - other).abs().max().item() <= limit * other.abs().max().item()


def _fused_norm(module: Any) -> Kernel:
    weight, epsilon = module.weight, module.variance_epsilon
    return lambda x: torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)


def _is_gated(module: Any) -> bool:
    return all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))


def _fused_gate(module: Any, gate: Kernel) -> Kernel:
    return lambda x: module.down_proj(gate(module.gate_proj(x), module.up_proj(x)))


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
