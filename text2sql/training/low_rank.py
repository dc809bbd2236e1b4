"""LoRA's layers in training: the same products as PEFT's, with fewer kernels, and less kept for the backward pass.

PEFT adds two linear layers, a scale and a sum to each adapted layer, under autocast with a cast of each weight. Here
each adapted layer is one operation with a backward pass of its own, and all weights of the adapter are cast at once.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from text2sql.training.flat_parameters import FlatParameters

# Of a GPU's memory, what the weights of a 4-bit base may take once they are dequantised.
SHARE_FOR_WEIGHTS = 0.25


class _LowRank(torch.autograd.Function):
    """x Wᵀ + bias + scale · (x Aᵀ) Bᵀ with frozen W and bias, for x (…, in); returns (…, out)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, layer: "LeanLayer", first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ first.t()
        result = torch.nn.functional.linear(rows, layer.weight(), layer.bias)
        result.addmm_(low, second.t(), alpha=layer.scale)
        ctx.save_for_backward(rows, low, first, second)
        ctx.layer, ctx.shape = layer, x.shape
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        rows, low, first, second = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        of_low = gradient @ second
        # On a CPU the wide product is the faster one; on a GPU the other needs no copy afterwards.
        of_second = gradient.t() @ low if gradient.is_cuda else (low.t() @ gradient).t()
        if ctx.layer.scale != 1:
            of_low.mul_(ctx.layer.scale)
            of_second.mul_(ctx.layer.scale)
        of_first = of_low.t() @ rows
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ ctx.layer.weight()
            of_x = of_x.addmm_(of_low, first).view(ctx.shape)
        return of_x, None, of_first, of_second


class LeanLayer:
    """An adapted linear layer: PEFT's `module`, with the tensors to multiply by in place of its parameters."""

    def __init__(self, module: Any, first: torch.Tensor, second: torch.Tensor) -> None:
        """`first` (rank, in) and `second` (out, rank) are in the base's dtype."""
        self._module, self._first, self._second = module, first, second
        base = module.get_base_layer()
        self.bias, self.scale = base.bias, module.scaling[_adapter(module)]
        self._quantised = getattr(base.weight, "quant_state", None) is not None
        self._weight = None if self._quantised else base.weight

    def weight(self) -> torch.Tensor:
        """Return the frozen weight (out, in), dequantised if it is in 4 bit."""
        return self._dequantised() if self._weight is None else self._weight

    def keep(self, kept: bool) -> None:
        """Keep a 4-bit weight dequantised, or free that memory again: the numbers are the same."""
        if self._quantised:
            self._weight = self._dequantised() if kept else None

    def _dequantised(self) -> torch.Tensor:
        from bitsandbytes.functional import dequantize_4bit

        weight = self._module.get_base_layer().weight
        return dequantize_4bit(weight.data, weight.quant_state).to(self._first.dtype)

    def __call__(self, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """Do as the forward pass of PEFT's module."""
        return _LowRank.apply(x, self, self._first, self._second)

    @property
    def bytes_dequantised(self) -> int:
        """How much memory its weight takes once it is dequantised; 0 if it is not in 4 bit."""
        return self._first.shape[1] * self._second.shape[0] * self._first.itemsize if self._quantised else 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let it stand for the module's forward pass within the block."""
        self._module.forward = self
        try:
            yield
        finally:
            del self._module.forward


class LeanAdapter:
    """All layers that an adapter adds to, as `LeanLayer`s."""

    def __init__(self, model: Any, flat: FlatParameters) -> None:
        """Raises ValueError for an adapter that is more than LoRA on linear layers, see `can_be_lean`."""
        if not can_be_lean(model):
            raise ValueError("PEFT's own layers are needed")
        leaves = {id(part): leaf for part, leaf in zip(flat.parts, flat.leaves, strict=True)}
        self.layers = []
        for module in _adapted(model):
            name = _adapter(module)
            pair = (leaves[id(matrices[name].weight)] for matrices in (module.lora_A, module.lora_B))
            self.layers.append(LeanLayer(module, *pair))
        self.keeps_weights = False

    def keep_weights(self, memory: int) -> None:
        """Dequantise 4-bit weights once for all passes, if they take a fair share of the GPU's `memory` in bytes."""
        needed = sum(layer.bytes_dequantised for layer in self.layers)
        if not needed or needed > SHARE_FOR_WEIGHTS * memory:
            return
        self.keeps_weights = True
        try:
            for layer in self.layers:
                layer.keep(True)
        except torch.OutOfMemoryError:
            self.free_weights()

    def free_weights(self) -> None:
        """Dequantise 4-bit weights in each pass from now on."""
        self.keeps_weights = False
        for layer in self.layers:
            layer.keep(False)
        torch.cuda.empty_cache()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Compute the passes of the model's adapted layers within the block."""
        with contextlib.ExitStack() as stack:
            for layer in self.layers:
                stack.enter_context(layer.in_use())
            yield


def can_be_lean(model: Any) -> bool:
    """Whether the trained weights of `model` are pairs of matrices of LoRA, without dropout, on plain linear layers."""
    if not hasattr(model, "peft_config") or model.dtype not in (torch.float32, torch.bfloat16):
        return False
    modules = _adapted(model)
    pairs = {id(matrices[_adapter(module)].weight) for module in modules for matrices in (module.lora_A, module.lora_B)}
    trained = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    return bool(modules) and set(trained) == pairs and all(map(_is_plain, modules))


def _adapted(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer) and len(module.lora_A) == 1]


def _adapter(module: Any) -> str:
    return next(iter(module.lora_A))


def _is_plain(module: Any) -> bool:
    """Whether PEFT's `module` computes what `_LowRank` does."""
    name, base = _adapter(module), module.get_base_layer()
    # Subclasses may compute something else. bitsandbytes' has a layout of its own on a CPU.
    is_linear = type(base) is torch.nn.Linear or (type(base).__name__ == "Linear4bit" and base.weight.is_cuda)
    return (
        is_linear
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
        and not getattr(module, "lora_variant", None)
        and not module.lora_bias.get(name, False)
        and not module.merged
    )
