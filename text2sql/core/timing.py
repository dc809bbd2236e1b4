"""A stage's duration and hardware: written beside the outputs, never into the metrics."""

import importlib.metadata
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from text2sql.core.files import write_json

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes", "unsloth")


class Stopwatch:
    """Measures one stage from construction, plus the seconds of an interrupted run before.

    A stage that trained first, for so many seconds (`training`), took those too; its tokens/s are of what followed.
    """

    def __init__(self, already: float = 0, training: float | None = None) -> None:
        self._started, self._training = time.monotonic() - already, training

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started

    def write(
        self,
        path: str | Path,
        stage: str,
        model: str,
        examples: int,
        tokens: int | None = None,
        loaded: Mapping[str, Any] | None = None,
    ) -> dict:
        """Write seconds, tokens/s (of what has `tokens`), peak memory (GB), machine, versions to `path`; return all.

        A stage that loads a model says in `loaded` which: its base and dtype.
        """
        seconds = self.seconds
        timing = {
            "stage": stage,
            "model": model,
            "examples": examples,
            "tokens": tokens,
            "seconds": round(seconds + (self._training or 0), 2),
            **({} if self._training is None else {"training_seconds": round(self._training, 2)}),
            "tokens_per_second": round(tokens / seconds, 1) if tokens is not None else None,
            "peak_memory_gb": round(_peak_memory_bytes() / 1e9, 3),
            "cpus": os.cpu_count(),
            **_device(),
            **(loaded or {}),
            "versions": {"python": platform.python_version(), **versions()},
        }
        write_json(path, timing)
        return timing


def _peak_memory_bytes() -> int:
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device() -> dict:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"device": "cpu", "gpu": None, "peak_gpu_memory_gb": None}
    return {
        "device": "cuda",
        "gpu": torch.cuda.get_device_name(),
        "peak_gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3),
    }


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
