"""A LoRA adapter: added fresh to a base or loaded onto it, kept in float32 in training, checked and saved on disk.

On disk it has PEFT's own format, with a model card as its README. It is loaded unmerged: a merge into 4-bit weights
would round a small adapter away. (On a CPU in float32, `merging` merges it for evaluation.)
"""

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import DISK_FULL, RunError, UserError, did_you_mean
from text2sql.core.files import atomic_directory, read_object
from text2sql.core.params import AUTO_MODULES, LoraParams, ModelParams
from text2sql.model.adapter_tokens import fit_tokens
from text2sql.model.base_identity import RECORD, base_identity, check_trained_on

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

ROUTERS = {"gate", "router", "shared_expert_gate"}
# PEFT refuses these modules in these architectures, whose kernels read their weights past the module.
STATE_SPACE = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
FUSED = {"conv1d", "out_proj"}


def add_adapter(base: Any, lora: LoraParams, seed: int, loader: str, dora: bool = False) -> Any:
    """Return `base` with a fresh LoRA adapter in float32, initialised from `seed`, as `loader` adds it.

    `dora`: a DoRA adapter (Liu et al., 2024), which trains the length of each output's weights beside their direction.

    Raises UserError if an entry of the target modules matches no module of the base, or one that LoRA has no form for.
    """
    import torch

    names = target_modules(base, lora)
    options: dict[str, Any] = {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": names,
        "bias": "none",
    }
    try:
        check_targets(base, names)
    except ValueError as error:
        raise UserError(f"train.lora.target_modules: {error}") from None
    torch.manual_seed(seed)
    if loader == "unsloth":
        from unsloth import FastLanguageModel

        model = FastLanguageModel.get_peft_model(base, random_state=seed, use_gradient_checkpointing=False, **options)
    else:
        from peft import LoraConfig, get_peft_model

        try:
            model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", use_dora=dora, **options))
        except ValueError as error:
            raise UserError(f"train.lora.target_modules: {' '.join(str(error).split())}") from None
    return adapter_in_float32(model)


def target_modules(base: Any, lora: LoraParams) -> list[str]:
    """Return the names of the modules that `lora` adapts; for `auto` those of all linear layers in the base's blocks.

    Left out are the output layer, what routes tokens to experts or gates them, names that other modules have too, and
    what PEFT refuses.
    """
    if lora.target_modules != [AUTO_MODULES]:
        return list(lora.target_modules)
    import torch
    from transformers.pytorch_utils import Conv1D

    output = base.get_output_embeddings()
    names: set[str] = set()
    others: set[str] = set()
    for name, module in base.named_modules():
        *parents, last = name.split(".")
        is_linear = isinstance(module, (torch.nn.Linear, Conv1D)) and module is not output
        (names if is_linear and ROUTERS.isdisjoint([*parents, last]) else others).add(last)
    # A number in a list, such as Zamba2's, names whole layers too.
    names -= others
    if base.config.model_type in STATE_SPACE:
        names -= FUSED
    if not names:
        raise UserError("train.lora.target_modules: auto finds no linear layer in model.base; takes a list of names")
    return sorted(names)


def adapter_in_float32(model: Any) -> Any:
    """Cast the trainable weights of `model` to float32 in place and return it: bfloat16 loses a step of 2e-8."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def without_needless_casts(model: Any) -> Any:
    """Return a context in which the adapter of `model` does not cast its inputs to float32 under bfloat16 autocast.

    Autocast would cast them back at once: the same products, with less memory and fewer kernels.
    """
    if model.device.type != "cuda" or not hasattr(model, "peft_config"):
        return contextlib.nullcontext()  # no autocast on a CPU, no adapter where all weights are trained
    from peft.helpers import disable_input_dtype_casting

    return disable_input_dtype_casting(model)


def load_adapter(
    base: Any, tokenizer: Any, adapter: Path, model: ModelParams, other_base: bool = False, trainable: bool = False
) -> tuple[Any, Any]:
    """Return `base`, which `model` names, with all of an adapter loaded onto it, unmerged, and its tokenizer.

    The tokenizer is `tokenizer`, or the adapter's own where that folder has another; embeddings grow to fit it. Of a
    base on the device "meta" the adapter alone has weights. `trainable`: its training may go on. Raises UserError that
    says what differs if the adapter was trained on another base, unless `other_base`, or if any of its weights has no
    place in the model, or any of its places no weight.
    """
    from peft import PeftConfig, get_peft_model

    config = read_object(adapter / CONFIG, {})
    if not other_base:
        check_trained_on(adapter, config, model)
    try:
        tokenizer = fit_tokens(base, tokenizer, adapter, adapter / WEIGHTS, other_base)
        check_targets(base, config.get("target_modules"))
        peft_config = PeftConfig.from_pretrained(str(adapter))
        peft_config.inference_mode = not trainable
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one line below says it, where PEFT takes thousands of characters
            mapping = getattr(base, "_checkpoint_conversion_mapping", {})
            tuned = get_peft_model(base, peft_config)
            if base.device.type == "meta":
                _allocate(tuned)
            result = tuned.load_adapter(str(adapter), "default", is_trainable=trainable, key_mapping=mapping)
        _check_landed(tuned, adapter / WEIGHTS, result.missing_keys, result.unexpected_keys)
    except Exception as error:
        reason = " ".join(f"{'no weight ' if isinstance(error, KeyError) else ''}{error}".split())
        raise UserError(
            f"{adapter}: does not load onto model.base {model.base}, wanted an adapter that was trained on it: "
            f"{reason:.400}"
        ) from error
    return tuned, tokenizer


def _allocate(model: Any) -> None:
    """Give the adapter of `model`, whose base is on the device "meta", memory of its own."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for module in model.modules():
        names: tuple[str, ...] = ()
        if isinstance(module, BaseTunerLayer):
            names = tuple(module.adapter_layer_names)
        elif isinstance(module, ModulesToSaveWrapper):
            names = ("modules_to_save",)
        for name in names:
            part = getattr(module, name, None)
            if part is not None:
                part.to_empty(device="cpu")


def _check_landed(model: Any, file: Path, missing: Sequence[str], surplus: Sequence[str]) -> None:
    """Raise ValueError unless all weights of `file` have a place in `model`, and all LoRA places got one that acts."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        in_file = list(weights.keys())
    # PEFT writes a layer that was trained whole twice where the vocabulary grew.
    surplus = [
        name
        for name in surplus
        if ".modules_to_save." not in name or name.replace(".modules_to_save.", ".") not in in_file
    ]
    places = sum("lora_" in name for name, _ in model.named_parameters())
    if missing or surplus:
        raise ValueError(
            f"{len(in_file) - len(surplus)} of its {len(in_file)} weights have a place in the model"
            + (f" (not {surplus[0]})" if surplus else "")
            + f", {len(missing)} of the model's {places} places get none"
            + (f" ({missing[0]})" if missing else "")
        )
    if is_idle(file):
        raise ValueError("its second matrices are all zero: it changes nothing")


def is_idle(file: Path) -> bool:
    """Whether the weights in `file` are of a LoRA adapter that changes nothing, as a new one does."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
        second = [name for name in names if "lora_B" in name or "lora_embedding_B" in name]
        # DoRA's magnitudes change something whatever the matrices are.
        alone = not any("lora_magnitude_vector" in name for name in names)
        return bool(second) and alone and not any(weights.get_tensor(name).any() for name in second)


def scale_adapter(model: Any, adapter: Path, strength: float) -> None:
    """Scale what the adapter adds to its base by `strength`, in place: 0 gives the base, 1 the adapter as trained.

    Raises UserError for an adapter that holds more than LoRA's pairs of matrices, which no factor scales.
    """
    if strength == 1:
        return
    check_scalable(adapter, strength)
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict):  # a LoRA layer's, by the name of its adapter
            for name in scaling:
                scaling[name] *= strength


def check_scalable(adapter: Path, strength: float) -> None:
    """Raise UserError where an adapter holds more than LoRA's pairs of matrices, and `strength` is not 1.

    DoRA's magnitudes, say: with its matrices scaled to nothing it is still not its base.
    """
    config = read_object(adapter / CONFIG, {})
    more = [name for name in ("use_dora", "modules_to_save", "trainable_token_indices") if config.get(name)]
    more += ["bias"] if config.get("bias", "none") != "none" else []
    if more and strength != 1:
        raise UserError(f"model.strength: got {strength:g}, takes 1: {adapter} has {more[0]}, which no factor scales")


def check_targets(base: Any, target_modules: object) -> None:
    """Raise ValueError if an entry of the list `target_modules` matches no layer of `base`: PEFT ignores it."""
    if not isinstance(target_modules, list):
        return  # a pattern, which PEFT refuses where nothing matches
    layers = [name for name, module in base.named_modules() if _is_layer(module)]
    unknown = [entry for entry in target_modules if not any(f".{name}".endswith(f".{entry}") for name in layers)]
    if unknown:
        there = sorted({last for name in layers if not (last := name.rpartition(".")[2]).isdigit()})
        raise ValueError(
            f"{', '.join(unknown)}: matches no module of the base that LoRA has a form for"
            f"{did_you_mean(unknown[0], there)}; it has {', '.join(there)}"
        )


def _is_layer(module: Any) -> bool:
    """Whether `module` is a projection, an embedding or the like, quantised or not: it alone holds a matrix."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not list(module.children()) and any(tensor.dim() > 1 for tensor in tensors)


def cast_adapter_to_base(model: Any) -> None:
    """Cast the adapter to bfloat16 if the base is in it, as products under autocast are in training on a GPU.

    PEFT would cast each layer's inputs to float32 and its outputs back: a quarter of a small model's time on a GPU, two
    thirds and more on a CPU whose units multiply bfloat16. Small updates survive the cast: the B matrices start at
    zero, and bfloat16 is as precise relative to any magnitude. DoRA's magnitudes are as large as the base's weights, of
    which a rounding would change every output: they stay float32, as in training.
    """
    import torch

    if model.dtype == torch.bfloat16:
        for name, parameter in model.named_parameters():
            if "lora_" in name and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)


def check_adapter(folder: str | Path) -> None:
    """Raise UserError unless `folder` holds a LoRA adapter in PEFT's format with undamaged weights as safetensors."""
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; wanted an adapter in PEFT's format")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: has no {name}; wanted an adapter in PEFT's format, as safetensors")
    kind = read_object(folder / CONFIG, {"peft_type": str})["peft_type"]
    if kind != "LORA":
        raise UserError(f"{folder / CONFIG}: found peft_type {kind!r}, wanted 'LORA'")
    try:
        with safe_open(folder / WEIGHTS, framework="np") as weights:
            names = list(weights.keys())
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS}: damaged: {error}; wanted safetensors") from None
    if not names:
        raise UserError(f"{folder / WEIGHTS}: holds no weights")


def trained_on_cpu(model: Any) -> dict[str, Any]:
    """Return copies of the trained weights of `model` by name, in CPU memory.

    PEFT would copy weights that share one tensor on the GPU, which may be out of memory.
    """
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def save_adapter(model: Any, folder: str | Path, base: ModelParams, card: str) -> None:
    """Write the adapter of `model` atomically to `folder`.

    The folder then holds `adapter_model.safetensors`, `adapter_config.json` and `README.md` (the text `card`), and
    nothing else. Equal weights give equal bytes. Raises RunError if the disk is full.
    """
    with disk_errors(folder, "adapter"), atomic_directory(folder) as temporary:
        # One that is only compared with, as in training on pairs, stays behind.
        model.save_pretrained(
            temporary,
            state_dict=trained_on_cpu(model),
            save_embedding_layers=False,
            selected_adapters=["default"],
        )
        config_file = temporary / CONFIG
        config = json.loads(config_file.read_text(encoding="utf-8"))
        # The base that was measured, by what anyone can look up, not by its path on this machine.
        identity = base_identity(base)
        config["base_model_name_or_path"] = identity.name
        config["revision"] = identity.revision
        config["auto_mapping"] = {RECORD: identity.known()}
        # PEFT keeps a set, whose order differs between runs.
        config["target_modules"] = sorted(config["target_modules"])
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")
        for path in temporary.iterdir():
            path.chmod(0o644)  # safetensors makes its file readable by its owner only


@contextlib.contextmanager
def disk_errors(folder: str | Path, what: str) -> Iterator[None]:
    """Turn what writing weights raises where the disk is full into a RunError of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise RunError(f"{folder}: not enough disk space for the {what}") from None
    except SafetensorError as error:
        raise RunError(f"{folder}: cannot write the {what}; is there disk space enough? ({error})") from None
