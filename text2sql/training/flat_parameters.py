"""The trained parameters of a model as one tensor."""

from typing import Any

import torch


class FlatParameters:
    """The trained parameters of a model as one tensor, `parameter`, and their gradients as another, its `grad`.

    The model's own parameters are views of it. An optimizer steps tensor by tensor, sometimes waiting for the GPU after
    each: an adapter has hundreds, and its steps would take longer than its passes. For AdamW and SGD, which work
    element by element, the result is the same; AdamW in 8 bits would leave tensors under 4,096 elements in 32.
    """

    def __init__(self, model: Any) -> None:
        """Move the trained parameters of `model`, all of one dtype on one device, into one tensor."""
        self.parts = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.parameter = torch.nn.Parameter(torch.cat([part.detach().flatten() for part in self.parts]))
        self._gradient = self.parameter.grad = torch.zeros_like(self.parameter)
        sizes = [part.numel() for part in self.parts]
        self.gradients = []
        for part, values, gradient in zip(
            self.parts, self.parameter.detach().split(sizes), self._gradient.split(sizes), strict=True
        ):
            part.data = values.view_as(part)
            self.gradients.append(gradient.view_as(part))

    def begin_step(self) -> None:
        """Set all gradients to zero. Raises RuntimeError if the parameters were moved: no step would reach them."""
        if self.parts[0].data_ptr() != self.parameter.data_ptr():
            raise RuntimeError("the adapter's parameters were moved to other memory after they became one tensor")
        self._gradient.zero_()
        for part, gradient in zip(self.parts, self.gradients, strict=True):
            part.grad = gradient
