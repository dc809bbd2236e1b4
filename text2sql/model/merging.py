"""An adapter merged into its base in memory, for evaluation on a CPU.

Unmerged, each layer takes two small products more for each token. The product of the two matrices is added to the
layer's weight once, a layer at a time. In float32 the same sums come in another order: results agree up to rounding.
"""

from collections import Counter
from typing import Any


def merge_on_cpu(model: Any) -> Any:
    """Return the base of `model` with its one adapter merged into the weights, in place; else `model` as it is.

    As they are remain models on a GPU, bases in another dtype than float32 (rounding would take a small adapter away),
    and adapters that are more than pairs of matrices beside linear layers, and DoRA's magnitudes: layers or tokens
    trained whole, biases, and layers whose weight another layer has too.
    """
    return model.merge_and_unload() if model.device.type == "cpu" and _can_be_merged(model) else model


def _can_be_merged(model: Any) -> bool:
    import torch
    from peft.tuners.lora import Linear
    from peft.tuners.lora.variants import DoraLinearVariant
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    (config,) = model.peft_config.values()
    places = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    layers = [module for module in model.modules() if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
    return config.bias == "none" and all(
        type(layer) is Linear
        and type(layer.base_layer) is torch.nn.Linear
        and layer.base_layer.weight.dtype == torch.float32
        and places[id(layer.base_layer.weight)] == 1
        and all(isinstance(variant, DoraLinearVariant) for variant in layer.lora_variant.values())
        and not any(layer.lora_bias.values())
        for layer in layers
    )
