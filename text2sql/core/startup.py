"""Faster start of a process that imports large libraries."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports(library: str) -> Iterator[None]:
    """Turn garbage collection off while the block imports `library` and other large ones, then freeze what they made.

    Modules live until the process ends, and every collection would scan them. Does nothing if `library` is already
    imported.
    """
    if library in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
