"""How a process that needs large libraries starts in less time."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports(library: str) -> Iterator[None]:
    """Import `library`, and what else is large, in the block: without Python's search for garbage meanwhile or later.

    What libraries define stays for good, and each search would look through all of it. Where `library` is there
    already, nothing changes.
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
