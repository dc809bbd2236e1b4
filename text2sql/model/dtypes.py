"""The dtype that a base is loaded in: as params name it, or by what this machine's hardware multiplies fast."""

from typing import Any

# What of a CPU makes products in bfloat16 faster than in float32, by PyTorch's names, and what to call it.
FAST_BFLOAT16 = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 BF16"}


def torch_dtype(name: str) -> Any:
    """Return the torch dtype that `model.dtype: name` stands for on this machine.

    `auto` goes by the hardware's own flags and never by a timing, so that a machine takes the same each time.
    """
    import torch

    if name != "auto":
        return getattr(torch, name)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # Other CPUs are faster in float32, where answers do not depend on the batch size either.
    return torch.bfloat16 if _fast_units() else torch.float32


def auto_dtype() -> str:
    """Return what `model.dtype: auto` takes here and by which flags, for a log line."""
    import torch

    if torch.cuda.is_available():
        why = torch.cuda.get_device_name()
    else:
        found = _fast_units()
        why = f"the CPU has {' and '.join(found)}" if found else f"the CPU has no {' or '.join(FAST_BFLOAT16.values())}"
    return f"model.dtype: auto takes {str(torch_dtype('auto')).removeprefix('torch.')}: {why}"


def _fast_units() -> list[str]:
    import torch

    flags = torch.cpu.get_capabilities()
    return [unit for flag, unit in FAST_BFLOAT16.items() if flags.get(flag)]
