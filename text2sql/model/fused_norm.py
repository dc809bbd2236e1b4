"""RMSNorm as one kernel: PyTorch's own, in place of the six that transformers' modules launch.

For evaluation on a GPU in half precision, where the norms' kernels take a fifth of a small model's time. PyTorch rounds
once, after the weight; transformers before it too.
"""

from typing import Any

import torch


def use_fused_norms(model: Any) -> int:
    """Let the RMSNorms of `model` be computed by PyTorch, on a CUDA GPU in half precision; return how many are.

    Those whose module computes something else (Gemma's add 1 to their weight) stay as they are: that is tried.
    """
    if model.device.type != "cuda" or model.dtype not in (torch.bfloat16, torch.float16):
        return 0
    return fuse_norms(model)


def fuse_norms(model: Any) -> int:
    """Replace the forward passes of RMSNorms that PyTorch computes likewise; return how many there are."""
    alike: dict[type, bool] = {}
    found = 0
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and _has_shape_of_one(module):
            kind = type(module)
            if kind not in alike:
                alike[kind] = _computes_the_same(module)
            if alike[kind]:
                module.forward = _Fused(module)
                found += 1
    return found


class _Fused:
    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(
            hidden_states, self._module.weight.shape, self._module.weight, self._module.variance_epsilon
        )


def _has_shape_of_one(module: Any) -> bool:
    """Whether `module` has one weight, over the last dimension, and an epsilon."""
    weights = [name for name, _ in module.named_parameters()]
    return weights == ["weight"] and module.weight.dim() == 1 and hasattr(module, "variance_epsilon")


def _computes_the_same(module: Any) -> bool:
    """Whether PyTorch's RMSNorm gives the values of `module`, up to rounding, on some input."""
    size = module.weight.shape[0]
    values = torch.linspace(-3, 5, 3 * size, device=module.weight.device, dtype=module.weight.dtype).view(1, 3, size)
    with torch.no_grad():
        try:
            expected, found = module(values).float(), _Fused(module)(values).float()
        except (TypeError, RuntimeError):
            return False
    tolerance = 1e-5 if module.weight.dtype == torch.float32 else 2e-2
    return expected.shape == found.shape and torch.allclose(expected, found, rtol=tolerance, atol=tolerance)
