"""The same recipe, the same adapter: kernels that add in a fixed order, on a GPU."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

# cuBLAS reuses one workspace in a fixed way with this; it reads it once, when the first product is computed.
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def fix_workspace() -> None:
    """Have cuBLAS take a workspace of fixed form; call it before anything is computed on a GPU."""
    os.environ.setdefault(*WORKSPACE)


@contextlib.contextmanager
def deterministic_kernels(device_type: str) -> Iterator[None]:
    """Take PyTorch's deterministic kernels within the block where `device_type` is "cuda".

    A kernel without a deterministic form, or one that takes it only in strict mode, as cuDNN's attention does, warns
    and runs: strict mode would end the training of some architectures. On a CPU nothing changes.
    """
    if device_type != "cuda":
        yield
        return
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic: Any = torch.utils.deterministic  # its one setting is made at import, where types do not see it
    fills = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # costs time, and only hides reads of what is not set
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = fills
