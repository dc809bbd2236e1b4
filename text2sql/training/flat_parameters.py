"""The trained parameters of a model as one tensor."""

from collections.abc import Sequence
from typing import Any

import torch


class FlatParameters:
    """The trained parameters of a model as one tensor, `parameter`, and their gradients as another, its `grad`.

    The model's own parameters are views of it. An optimizer steps tensor by tensor, sometimes waiting for the GPU after
    each: an adapter has hundreds, and its steps would take longer than its passes. For AdamW and SGD, which work
    element by element, the result is the same; AdamW in 8 bits would leave tensors under 4,096 elements in 32.

    `leaves` are what a pass takes gradients for: the parameters, or copies in another dtype, see `cast_to`.
    """

    def __init__(self, model: Any) -> None:
        """Move the trained parameters of `model`, all of one dtype on one device, into one tensor."""
        self.parts = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.parameter = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in self.parts]))
        self._gradient = self.parameter.grad = torch.zeros_like(self.parameter)
        self._sizes = [part.numel() for part in self.parts]
        self._gradients = []
        for part, values, gradient in zip(
            self.parts,
            self.parameter.detach().split(self._sizes),
            self._gradient.split(self._sizes),
            strict=True,
        ):
            part.data = values.view_as(part)
            self._gradients.append(gradient.view_as(part))
        self.leaves: list[torch.Tensor] = list(self.parts)
        self._cast: torch.Tensor | None = None

    def cast_to(self, dtype: torch.dtype) -> None:
        """Let `leaves` be copies of the parameters in `dtype`, made anew in each step, all of them at once."""
        if dtype == self.parameter.dtype:
            return
        self._cast = self.parameter.detach().to(dtype)
        self.leaves = [
            values.view_as(part).detach().requires_grad_()
            for part, values in zip(self.parts, self._cast.split(self._sizes), strict=True)
        ]

    def begin_step(self) -> None:
        """Set all gradients to zero. Raises RuntimeError if the parameters were moved: no step would reach them."""
        if self.parts[0].data_ptr() != self.parameter.data_ptr():
            raise RuntimeError("the adapter's parameters were moved to other memory after they became one tensor")
        self._gradient.zero_()
        for part, gradient in zip(self.parts, self._gradients, strict=True):
            part.grad = gradient
        if self._cast is not None:
            self._cast.copy_(self.parameter.detach())

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add a pass's `gradients` for the `leaves` to those of the step."""
        self._gradient.add_(torch.cat([gradient.flatten() for gradient in gradients]))
