"""An adapter merged into its base, a tensor at a time: neither model is ever in memory as a whole.

The merge of each layer is PEFT's own, in float32, on a layer whose base weight is read for it and given up after it.
A base that is loaded in 4 bit is quantised and dequantised first, so that what is merged is what was trained on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_object
from text2sql.core.params import ModelParams
from text2sql.core.startup import quick_imports
from text2sql.model.adapters import CONFIG, check_adapter, load_adapter, scale_adapter
from text2sql.model.loading import base_folder, load_tokenizer
from text2sql.model.shards import write_shards
from text2sql.model.stored_weights import StoredWeights
from text2sql.model.whole_model import is_whole, whole_params

# What an adapter may hold that no single layer's merge takes in.
_NOT_MERGED = ("trainable_token_indices", "target_parameters", "lora_bias")
_HEAD = "lm_head.weight"
_COMPUTED = "rotary_emb.inv_freq"  # in some files, and made anew from the config


class MergedModel:
    """A base with an adapter merged into it: its config, its tokenizer, and its weights by name.

    `shapes` has the names and shapes of all weights, in the model's order; tied embeddings come once.
    """

    def __init__(self, model: ModelParams, adapter: Path | None) -> None:
        """Read configs and the adapter; `adapter` may be a whole model's folder, which is taken as it is.

        The adapter is scaled by `model.strength`. Raises UserError for an adapter or a base that does not load, that do
        not belong together, or that cannot be merged layer by layer.
        """
        if adapter is not None and is_whole(adapter):
            model, adapter = whole_params(adapter, model), None
        if adapter is not None:
            check_adapter(adapter)
            _check_mergeable(adapter)
        folder = base_folder(model)
        self.config = _config(folder)
        base, self.tokenizer = _skeleton(self.config), load_tokenizer(model)
        (self._embeddings,) = (
            f"{name}.weight" for name, module in base.named_modules() if module is base.get_input_embeddings()
        )
        self._stored = StoredWeights(folder, model, _linear(base) if model.quantization == "4bit" else ())
        self._model: Any = base
        if adapter is not None:
            tuned, self.tokenizer = load_adapter(base, self.tokenizer, adapter, model)
            scale_adapter(tuned, adapter, model.strength)
            self._model = tuned.base_model.model
        self.config.tie_word_embeddings = bool(self.config.tie_word_embeddings) and not self._is_untied()
        self.config.architectures = [type(self._model).__name__]
        self.shapes = dict(self._shapes())
        self._check_stored(model.base)

    def _is_untied(self) -> bool:
        """Whether the adapter changes one of the two embeddings that its base ties: they are then no longer one."""
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        ends = (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        return any(isinstance(layer, (BaseTunerLayer, ModulesToSaveWrapper)) for layer in ends)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, weight in _skeleton(self.config).state_dict().items():
            if not (self.config.tie_word_embeddings and name == _HEAD):
                yield name, tuple(weight.shape)

    def _check_stored(self, base: str) -> None:
        """Raise UserError where a weight has no place in the base's files, or one in them none in the model."""
        missing = [name for name in self.shapes if self._stored_name(name) not in self._stored.names]
        rest = self._stored.names.keys() - self.shapes.keys() - {_HEAD}
        surplus = sorted(name for name in rest if not name.endswith(_COMPUTED))
        if missing or surplus:
            what = f"have no {missing[0]}" if missing else f"hold {surplus[0]}, which the model does not have"
            raise UserError(f"model.base: {base} is not merged tensor by tensor: its files {what}; takes --to adapter")

    def _stored_name(self, name: str) -> str:
        return self._embeddings if name == _HEAD and name not in self._stored.names else name

    def tensor(self, name: str) -> Any:
        """Return the merged weight `name`: in float32 where the adapter changes it, else as it is stored."""
        import torch
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        path, _, leaf = name.rpartition(".")
        module = self._model.get_submodule(path)
        with torch.no_grad():
            if isinstance(module, ModulesToSaveWrapper):
                return getattr(module.modules_to_save["default"], leaf).data
            weight = self._stored.tensor(self._stored_name(name))
            if isinstance(module, BaseTunerLayer) and leaf == "weight":
                weight = _merged(module, weight.float())
        if tuple(weight.shape) != self.shapes[name]:
            raise UserError(f"model.base: {name} has the shape {list(weight.shape)}, wanted {list(self.shapes[name])}")
        return weight

    def write_weights(self, folder: Path, dtype: str) -> None:
        """Write all weights to `folder` as safetensors in `dtype`, and the config. Raises OSError on a full disk."""
        import torch

        wanted = getattr(torch, dtype)
        # Contiguous and with memory of its own: what is read is a view of its file.
        write_shards(folder, self.shapes, dtype, lambda name: self.tensor(name).to(wanted, copy=True).contiguous())
        self.config.dtype = wanted
        self.config.save_pretrained(folder)


def _config(folder: Path) -> Any:
    with quick_imports("transformers"):
        from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _skeleton(config: Any) -> Any:
    """Return the model of this config on the device "meta", which holds shapes alone."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _linear(base: Any) -> set[str]:
    """Return the weights that are quantised where the base is loaded in 4 bit: all linear layers' but the output's."""
    import torch

    output = base.get_output_embeddings()
    layers = {name: module for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)}
    return {f"{name}.weight" for name, module in layers.items() if module is not output}


def _check_mergeable(adapter: Path) -> None:
    config = read_object(adapter / CONFIG, {})
    more = [name for name in _NOT_MERGED if config.get(name)]
    more += ["bias"] if config.get("bias", "none") != "none" else []
    if more:
        raise UserError(f"{adapter}: has {more[0]}, which is not merged layer by layer; takes --to adapter")


def _merged(layer: Any, weight: Any) -> Any:
    """Return `weight`, in float32, with what the LoRA `layer` adds to it, by PEFT's own merge."""
    import torch

    base = layer.get_base_layer()
    empty, base.weight = base.weight, torch.nn.Parameter(weight, requires_grad=False)
    try:
        layer.merge()
        return base.weight.data
    finally:
        base.weight = empty
        layer.merged_adapters.clear()
