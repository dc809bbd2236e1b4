"""All weights of a base, trained: a whole model in Hugging Face's format, which needs no base beside it.

It lies where an adapter would (`models/<model>/`), and is loaded by whatever loads an adapter. In training its weights
are float32, 16 bytes each with gradient and optimizer; on disk they have the dtype that the base was loaded in.
"""

import copy
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory
from text2sql.core.params import ModelParams
from text2sql.model.adapters import disk_errors, trained_on_cpu

CONFIG = "config.json"
CHECKPOINT = "model.safetensors"  # the name that Trainer looks for


def is_whole(folder: str | Path) -> bool:
    """Whether `folder` holds a whole model, by its config."""
    return (Path(folder) / CONFIG).is_file()


def whole_params(folder: str | Path, model: ModelParams) -> ModelParams:
    """Return the params that load the whole model in `folder` as `model` loads its base.

    Raises UserError where it should be scaled: there is no adapter to scale.
    """
    if model.strength != 1:
        raise UserError(f"model.strength: got {model.strength:g}, takes 1: {folder} is a whole model, and no adapter")
    return model.model_copy(update={"base": str(Path(folder).resolve()), "revision": None})


def train_all(base: Any) -> Any:
    """Let all weights of `base` be trained, and return it. Raises UserError where some are quantised."""
    for name, parameter in base.named_parameters():
        if not parameter.is_floating_point():
            raise UserError(f"train.method: full: {name} of model.base is quantised; takes a base that is not, or lora")
        parameter.requires_grad_(True)
    return base


def save_weights(model: Any, folder: str | Path) -> None:
    """Write the weights of a training in progress to a checkpoint's folder, in float32."""
    from safetensors.torch import save_file

    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(trained_on_cpu(model), Path(folder) / CHECKPOINT)


def load_weights(model: Any, folder: str | Path) -> None:
    """Read what `save_weights` wrote into the weights of `model`, in place."""
    import torch
    from safetensors.torch import load_file

    kept = load_file(Path(folder) / CHECKPOINT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(kept[name])


def save_whole(model: Any, tokenizer: Any, folder: str | Path, as_loaded: Any, card: str) -> None:
    """Write a trained `model` atomically to `folder`, with its tokenizer and `card` as its README.

    `as_loaded` is `how_loaded` of the base before training. Equal weights give equal bytes. The model is of no use for
    training afterwards. Raises RunError if the disk is full.
    """
    dtype, model.config, model.generation_config = copy.deepcopy(as_loaded)
    for parameter in model.parameters():
        # Each in memory of its own: in training they are views of one tensor.
        parameter.data = parameter.data.to(dtype=dtype, copy=True)
    with disk_errors(folder, "model"), atomic_directory(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        for path in temporary.iterdir():
            path.chmod(0o644)


def how_loaded(base: Any) -> Any:
    """Return the dtype and the configs of a base as it was loaded; a trainer changes them."""
    return copy.deepcopy((base.dtype, base.config, base.generation_config))
