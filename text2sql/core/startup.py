"""Faster start of a process that imports large libraries."""

import contextlib
import ctypes
import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from text2sql.core.bytecode import keep_bytecode
from text2sql.core.import_scans import imported_later, kept_scans

Found = TypeVar("Found")


@contextlib.contextmanager
def quick_imports(library: str) -> Iterator[None]:
    """Turn garbage collection off while the block imports `library` and other large ones, then freeze what they made.

    Modules live until the process ends, and every collection would scan them. What transformers does at each import and
    need not is left away. Does nothing if `library` is already imported.
    """
    if library in sys.modules:
        yield
        return
    gc.disable()
    try:
        with kept_scans(), imported_later():
            yield
    finally:
        gc.collect(0)  # else errors in cycles keep the frames that they went through, and all that those name
        gc.freeze()
        gc.enable()


def in_background(work: Callable[[], Found]) -> "Future[Found]":
    """Call `work` in a thread that ends with the process; the future has its result, or what it raised."""
    future: Future[Found] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def load_ahead() -> "Future[None]":
    """Begin to load what a model needs and Python need not wait for: PyTorch's libraries, and the GPU's driver.

    Both take seconds outside Python, beside which it imports modules. What is not there is left to PyTorch. What is
    compiled from here on is kept, see `keep_bytecode`.
    """
    keep_bytecode()

    def load() -> None:
        _load_torch_libraries()
        _open_gpu()

    return in_background(load)


def _load_torch_libraries() -> None:
    """Load the libraries that `import torch` loads, in its order."""
    if "torch" in sys.modules or not sys.platform.startswith("linux"):
        return
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        # `ctypes.CDLL` would hold the interpreter's lock meanwhile; a function called through it does not.
        load = ctypes.CDLL(None).dlopen
        load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        for name, mode in (("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch_python.so", os.RTLD_LOCAL)):
            load(os.path.join(folder, "lib", name).encode(), mode | os.RTLD_LAZY)


def _open_gpu() -> None:
    """Open the driver and this process's GPU, whose context PyTorch then takes over."""
    try:
        driver: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return  # no GPU
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as PyTorch does before it opens the driver
    device, context = ctypes.c_int(), ctypes.c_void_p()
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), number) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
