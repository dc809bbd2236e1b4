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
def deterministic_kernels(device_type: str, strict: bool) -> Iterator[None]:
    """Take PyTorch's deterministic kernels within the block where `device_type` is "cuda". On a CPU nothing changes.

    A kernel that has no deterministic form raises RuntimeError where `strict`, see `add_in_any_order`, and else warns.
    Attention's backward pass has one in strict mode alone: without it, examples of some hundred tokens give another
    adapter each time.
    """
    if device_type != "cuda":
        yield
        return
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic: Any = torch.utils.deterministic  # its one setting is made at import, where types do not see it
    fills = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    deterministic.fill_uninitialized_memory = False  # costs time, and only hides reads of what is not set
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = fills


def add_in_any_order(error: BaseException) -> bool:
    """Leave strict mode if `error` is that of a kernel without a deterministic form; return whether it is."""
    if "does not have a deterministic implementation" not in str(error):
        return False
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    kernel = str(error).split(" does not have")[0].split()[-1]
    print(f"{kernel} adds in no fixed order: the next run of this recipe may round otherwise", flush=True)
    return True
