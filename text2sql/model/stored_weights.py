"""A base's weights as its files have them, a tensor at a time; those that are trained on in 4 bit as they are then."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_object
from text2sql.core.params import ModelParams
from text2sql.model.shards import INDEX


class StoredWeights:
    """The tensors in a folder's safetensors files, by name.

    `quantised` names those that the model is loaded with in 4 bit: they are quantised as loading does it, and
    dequantised. Tensors that are in 4 bit in the files are dequantised.
    """

    def __init__(self, folder: Path, model: ModelParams, quantised: Collection[str]) -> None:
        from safetensors import safe_open

        self._folder, self._model, self._quantised = folder, model, quantised
        self.names: dict[str, str] = {}  # to the file that holds each
        if (folder / INDEX).is_file():
            self.names = dict(read_object(folder / INDEX, {"weight_map": dict})["weight_map"])
        else:
            for path in sorted(folder.glob("*.safetensors")):
                with safe_open(path, framework="pt") as file:
                    self.names |= dict.fromkeys(file.keys(), path.name)
        # What belongs to a tensor in 4 bit: `….weight.absmax`, `….weight.quant_state.bitsandbytes__nf4`, …
        self._states: dict[str, list[str]] = {}
        for name in list(self.names):
            owner = name.partition(".weight.")[0] + ".weight"
            if owner != name and owner in self.names:
                self._states.setdefault(owner, []).append(name)
        for state in self._states.values():
            for name in state:
                del self.names[name]

    def tensor(self, name: str) -> Any:
        """Return a weight as it is stored; one in 4 bit dequantised, in float32."""
        from safetensors import safe_open

        with safe_open(self._folder / self.names[name], framework="pt") as file:
            value = file.get_tensor(name)
            if name in self._states:
                return _dequantised(value, {key: file.get_tensor(key) for key in self._states[name]}, name)
        return _through_4bit(value, self._model) if name in self._quantised else value


def _dequantised(packed: Any, state: dict[str, Any], name: str) -> Any:
    """Return a tensor that bitsandbytes packed, in float32; `state` is what its files hold beside it."""
    functional = _functional()
    stats = {key.removeprefix(f"{name}."): value for key, value in state.items()}
    device = _device()
    restored = functional.QuantState.from_dict(stats, device=device)
    return functional.dequantize_4bit(packed.to(device), restored).float().cpu()


def _through_4bit(weight: Any, model: ModelParams) -> Any:
    """Return `weight` as `load_base` has it in 4 bit (NF4, double quantisation), dequantised, in float32."""
    from text2sql.model.dtypes import torch_dtype

    functional, device = _functional(), _device()
    loaded = weight.to(device, torch_dtype(model.dtype))
    packed, state = functional.quantize_4bit(loaded, quant_type="nf4", compress_statistics=True)
    return functional.dequantize_4bit(packed, state).float().cpu()


def _functional() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise UserError(
            "model.quantization: a base in 4 bit is dequantised by the package bitsandbytes, which is not installed: "
            "pip install --no-deps -r requirements/gpu.txt"
        ) from None
    return bitsandbytes.functional


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
