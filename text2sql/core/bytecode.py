"""Compiled modules kept where an installation keeps none.

Images of containers are often built without bytecode and told to write none (PYTHONDONTWRITEBYTECODE=1). Python then
compiles some 1,900 files of PyTorch and transformers at each start, which takes 5 s.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

from text2sql.core.files import user_cache


def keep_bytecode(package: str = "torch", folder: Path | None = None) -> None:
    """Keep what is compiled from here on in `folder`, if `package` is installed without bytecode and none is written.

    By default in the user's cache. Does nothing where Python keeps bytecode itself, or another folder was named by
    PYTHONPYCACHEPREFIX.
    """
    spec = importlib.machinery.PathFinder.find_spec(package)
    if sys.pycache_prefix is not None or spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return
    kept = Path(importlib.util.cache_from_source(spec.origin))
    if kept.is_file():
        return
    place = kept.parent if kept.parent.is_dir() else kept.parent.parent
    if sys.dont_write_bytecode or not os.access(place, os.W_OK):
        sys.pycache_prefix = str(folder or user_cache() / "bytecode")
        sys.dont_write_bytecode = False
