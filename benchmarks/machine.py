"""What this machine is, and how fast it multiplies and copies: on which the physical bounds rest."""

import importlib.util
import os
import platform
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

from text2sql.core.timing import versions

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "unsloth", "lm_eval", "dvc")


@cache
def machine() -> dict[str, Any]:
    """Return the hardware and library versions, with `slug`, a short name for file names. No host name."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    processor = _processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if gpus:
        name = gpus[0] + (f" x{len(gpus)}" if len(gpus) > 1 else "")
    else:
        families = re.findall(r"xeon|epyc|ryzen|core|apple m\d|threadripper", processor, re.IGNORECASE)
        name = f"{cores} core {families[0] if families else platform.machine()}"
    return {
        "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        "gpus": gpus,
        "processor": processor,
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "amx": bool(torch.cpu.get_capabilities().get("amx_tile")),
        "avx512_bf16": bool(torch.cpu.get_capabilities().get("avx512_bf16")),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
    }


def on_gpu() -> bool:
    """Whether there is a GPU that PyTorch sees."""
    import torch

    return torch.cuda.is_available()


def dtype_name() -> str:
    """Return the dtype of the benchmarks: bfloat16 on a GPU; float32 on a CPU, where greedy answers are exact."""
    return "bfloat16" if on_gpu() else "float32"


def has(package: str) -> bool:
    """Whether `package` is installed."""
    return importlib.util.find_spec(package) is not None


@cache
def rates(dtype: str, size: int | None = None) -> dict[str, float]:
    """Measure operations a second of a large square product, and bytes a second of a large copy (read and written).

    The best of several, about a second in all. A product of n x n matrices counts 2 n^3 operations.
    """
    import torch

    device = "cuda" if on_gpu() else "cpu"
    size = size or (8192 if on_gpu() else 2048)
    left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    source = torch.ones(2 * size * size, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: left @ right)
    copy = _fastest(lambda: target.copy_(source))
    return {
        "dtype": dtype,
        "operations_per_second": 2 * size**3 / product,
        "bytes_per_second": 2 * source.numel() * source.element_size() / copy,
    }


def wait() -> None:
    """Synchronize the GPU, so that a clock read afterwards is right."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _fastest(work: Any, repeats: int = 6) -> float:
    seconds = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
