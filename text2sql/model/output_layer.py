"""The product with a model's output layer on a CPU: once for a whole batch."""

from typing import Any


def multiply_batch_at_once(model: Any) -> None:
    """Have the output layer of `model` read a contiguous tensor, if it is on a CPU.

    A model hands its output layer the last positions alone, which do not lie together. Where the layer's weight takes
    no gradient, as under an adapter, PyTorch then multiplies row by row, each with the whole vocabulary's weight, and
    in bfloat16 copies that weight first (`should_fold` in its ATen/native/LinearAlgebra.cpp). Of a layer that takes a
    gradient, as a base's own, it makes one product, as of a contiguous tensor.
    """
    import torch

    def copied(module: Any, inputs: tuple) -> tuple:
        # `contiguous()` would leave a single row as it is, with the strides that PyTorch looks at.
        return inputs[0].clone(memory_format=torch.contiguous_format), *inputs[1:]

    layer = model.get_output_embeddings()
    if model.device.type == "cpu" and layer is not None:
        layer.register_forward_pre_hook(copied)
