"""Ends a command where its first batch goes into the model, and writes when that was.

For `benchmarks.bench_startup`, which puts this folder on PYTHONPATH: Python then runs this file before the command, and
the command's own code stays as it is, in any version of this project. A batch is the first call of an embedding with
more than a few tokens: what looks at a model with a token or two is none.
"""

import importlib.util
import os
import sys
import time
from typing import Any

FILE = os.environ.get("FIRST_BATCH_FILE")
PROFILE = os.environ.get("FIRST_BATCH_PROFILE")  # where cProfile's figures go; none without it
MODULE = "torch.nn.modules.module"
FEWEST_TOKENS = 16


def look_for_batch(module: Any, inputs: tuple) -> None:
    """A hook of PyTorch's before each module's forward pass."""
    if type(module).__name__ == "Embedding" and inputs and inputs[0].numel() >= FEWEST_TOKENS:
        found = time.time()
        sys.stdout.flush()
        if profiler:
            profiler.disable()
            profiler.dump_stats(PROFILE)
        with open(str(FILE), "w") as file:
            file.write(repr(found))
        os._exit(0)


class AfterImport:
    """Registers the hook once PyTorch has the module that keeps such hooks."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the module's own spec, with the registration after its execution; None for other modules."""
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            module.register_module_forward_pre_hook(look_for_batch)

        spec.loader.exec_module = exec_module
        return spec


profiler: Any = None
if PROFILE:
    import cProfile

    profiler = cProfile.Profile()
    profiler.enable()
if FILE:
    sys.meta_path.insert(0, AfterImport())
