"""What work with a model depends on besides code, data and params: its weights, libraries and hardware."""

import platform
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key, stage_dependencies
from text2sql.core.digests import digest_of_tree, file_sha256
from text2sql.core.params import ModelParams
from text2sql.core.timing import versions
from text2sql.model.base_identity import base_identity
from text2sql.model.bases import CARRIED, CONVERSION, check_base, hub_snapshot, is_gguf, is_local

LIBRARIES = ("torch", "transformers", "peft", "accelerate")
GRAMMAR_LIBRARY = "llguidance"


def run_key(stage: str, params: ModelParams, model: Any, grammar: bool = False) -> Key:
    """Return the key of what the stage `stage` of dvc.yaml computes with `model`, which is loaded by `params`.

    `grammar`: answers are constrained. The number of processes is not part of it. Raises UserError if the stage's
    inputs are missing.
    """
    check_base(params)
    return Key.of(stage_dependencies(stage) | weights_and_runtime(params, model, libraries_of(grammar)))


def libraries_of(grammar: bool) -> tuple[str, ...]:
    """Return the libraries whose versions answers depend on; `grammar`: where they are constrained."""
    return (*LIBRARIES, GRAMMAR_LIBRARY) if grammar else LIBRARIES


def weights_and_runtime(params: ModelParams, model: Any, libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Return {part: value}: the base's weights, versions of the libraries used, device and dtype of `model`."""
    if params.loader == "unsloth":
        libraries += ("unsloth",)
    if params.quantization == "4bit":
        libraries += ("bitsandbytes",)
    dtype = str(model.dtype).removeprefix("torch.")
    return {
        "the base's weights": _weights(params),
        "dtype": dtype,
        # Rounding in half precision depends on the kernels, and they on the chip.
        "device": [model.device.type, None if dtype == "float32" else _chip(model.device)],
        **{f"{library}'s version": version for library, version in versions(libraries).items()},
    }


def as_measured(params: ModelParams, model: Any) -> dict[str, Any]:
    """Return what a timing says of `model`, which is loaded by `params`: the base and its dtype."""
    return {"base": base_identity(params).known(), "dtype": str(model.dtype).removeprefix("torch.")}


def _weights(params: ModelParams) -> list[str]:
    """Return what stands for the base's content: a pinned sum, a commit of the hub, or a digest of all files."""
    if params.base in CARRIED:
        return [CARRIED[params.base].sha256, CONVERSION]
    if is_gguf(params.base):
        return [file_sha256(Path(params.base).expanduser()), CONVERSION]
    if is_local(params.base):
        return [digest_of_tree(Path(params.base).expanduser())]
    snapshot = hub_snapshot(params.base, params.revision)
    return [params.base, snapshot.name if snapshot else str(params.revision)]


def _chip(device: Any) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
