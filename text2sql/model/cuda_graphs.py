"""CUDA graphs: the kernels of a piece of work, recorded once and from then on launched all at once.

Not every model can be recorded: its kernels must not wait for the GPU nor look at its numbers. One that cannot goes on
as it is, more slowly.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from text2sql.core.errors import is_out_of_memory

# Rotary embeddings whose frequencies transformers chooses by the longest position: Python looks at the GPU's numbers.
CHOSEN_BY_LENGTH = {"dynamic", "longrope"}
# Set on a model of which no recording came to its end.
FAILED = "_text2sql_recording_failed"

# Kept, though of no more use: PyTorch up to 2.12 goes on asking those whose recording did not come to its end.
_failed_graphs: list[Any] = []


def can_be_recorded(model: Any) -> bool:
    """Whether a CUDA graph can hold what `model` does: as far as its rotary embeddings tell, and until one failed."""
    kinds = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        kinds |= set(kind.values()) if isinstance(kind, dict) else {kind}  # some models have one for each kind of layer
    return kinds.isdisjoint(CHOSEN_BY_LENGTH) and not getattr(model, FAILED, False)


def record(model: Any, work: Callable[[], Any], pool: Any = None) -> tuple[Any, Any] | None:
    """Record the kernels that `work()` launches for `model`, and run none; return the graph and what `work` returned.

    The graph takes its memory from `pool`, that of another graph, or has its own. Returns None, after a printed line,
    where the recording fails; it is as if `work` had not been called, and `can_be_recorded(model)` is false from then
    on. Raises what `is_out_of_memory` knows where memory does not suffice. Graphs of the same model that were recorded
    before a failure, of either kind, must not be replayed after it.
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
            del cause  # its traceback holds this frame, and with it what the work had in memory
    setattr(model, FAILED, True)
    print(f"This model cannot be recorded as a CUDA graph ({reason}): going on without, more slowly", flush=True)
    return None


def _first_cause(error: BaseException) -> BaseException:
    """Return what `error` began with, or what in it tells of memory.

    Where the work fails the end of the recording often does so too, with an error that hides the first.
    """
    while not is_out_of_memory(error) and error.__context__ is not None:
        error = error.__context__
    return error


def _clean_up(graph: Any, pool: Any, stream: Any) -> None:
    """Undo what `torch.cuda.graph` leaves behind where the end of a recording fails, which depends on the version."""
    torch.cuda.set_stream(stream)
    graph.reset()
    # Up to 2.12 the allocator believes that the recording is still under way, and then frees no cached memory.
    with contextlib.suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(stream.device_index, pool)
    # In 2.11 so do the random numbers, which then refuse to be drawn. A copy of their state does not.
    generator = torch.cuda.default_generators[stream.device_index]
    generator.graphsafe_set_state(generator.clone_state())
    _failed_graphs.append(graph)
