"""CUDA graphs: the kernels of a function, recorded once and replayed with a single launch.

Not every model can be recorded: Python must neither wait for the GPU nor read its values. The fallback is to launch
kernels one by one, which is slower.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from text2sql.core.errors import is_out_of_memory

# Rotary embeddings whose frequencies depend on the longest position: transformers reads values from the GPU.
CHOSEN_BY_LENGTH = {"dynamic", "longrope"}
# Set on a model after a recording failed.
FAILED = "_text2sql_recording_failed"

# Kept alive: PyTorch up to 2.12 still accesses graphs whose recording failed.
_failed_graphs: list[Any] = []


def can_be_recorded(model: Any) -> bool:
    """Whether `model` may be recorded: judged by its rotary embeddings, and false after a recording failed."""
    kinds = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        kinds |= set(kind.values()) if isinstance(kind, dict) else {kind}  # some models have one a layer type
    return kinds.isdisjoint(CHOSEN_BY_LENGTH) and not getattr(model, FAILED, False)


def record(model: Any, work: Callable[[], Any], pool: Any = None) -> tuple[Any, Any] | None:
    """Record the kernels that `work()` launches for `model` without running them; return the graph and work's result.

    The graph allocates from `pool`, that of another graph, or from a new one. If the recording fails, this prints a
    line and returns None; `work` then had no effect, and `can_be_recorded(model)` is false from then on. Raises an
    error that `is_out_of_memory` recognises when out of memory. After either failure, graphs of the same model that
    were recorded before must not be replayed.
    """
    pool = pool or torch.cuda.graph_pool_handle()
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool):
            result = work()
        return graph, result
    except (MemoryError, RuntimeError) as error:
        _clean_up(graph, pool, stream)
        cause = _first_cause(error)
        reason = str(cause).partition("\n")[0]
        try:
            if is_out_of_memory(cause):
                raise cause from None
        finally:
            del cause  # its traceback holds this frame, and with it the tensors of `work`
    setattr(model, FAILED, True)
    print(f"This model cannot be recorded as a CUDA graph ({reason}): going on without, more slowly", flush=True)
    return None


def _first_cause(error: BaseException) -> BaseException:
    """Return the first exception in the chain of `error`, or the one that says out of memory.

    When the work fails, ending the recording often fails too, with an exception that hides the first.
    """
    while not is_out_of_memory(error) and error.__context__ is not None:
        error = error.__context__
    return error


def _clean_up(graph: Any, pool: Any, stream: Any) -> None:
    """Undo what `torch.cuda.graph` leaves behind, by version, when a recording fails."""
    torch.cuda.set_stream(stream)
    graph.reset()
    # Up to 2.12 the allocator still assumes a recording in progress, and frees no cached memory.
    with contextlib.suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(stream.device_index, pool)
    # In 2.11 so does the random generator, which then refuses to draw. A copy of its state does not.
    generator = torch.cuda.default_generators[stream.device_index]
    generator.graphsafe_set_state(generator.clone_state())
    _failed_graphs.append(graph)
