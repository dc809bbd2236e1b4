"""The processes of one run: one by default, more under `torchrun` (or, on GPUs, `accelerate launch`)."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from text2sql.core.errors import RunError


@dataclass(frozen=True)
class Processes:
    """This process's number, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes outputs."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until all processes are here. Raises RunError where one has ended."""
        if self.count > 1:
            from accelerate import PartialState

            with self.together():
                PartialState().wait_for_everyone()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around work that exchanges data: turn the loss of another process into one line.

        Gloo's errors are plain RuntimeErrors that name it, NCCL's and the store's are PyTorch's own.
        """
        try:
            yield
        except RuntimeError as error:
            from torch.distributed import DistError

            if self.count == 1 or not (isinstance(error, DistError) or "gloo" in str(error).lower()):
                raise
            _on_sigterm(signal.SIG_IGN)  # this one ends by itself, with one line
            raise RunError(
                f"process {self.index + 1} of {self.count}: another process of this run has ended; "
                "once what ended it is mended, the same command goes on"
            ) from error


def current_processes() -> Processes:
    """Return this process's place under torchrun or `accelerate launch`, with its GPU selected."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # A launcher of one process: without its variables the run is the same as without it.
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
        return Processes()
    import torch
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        # By itself it names the device `cpu:0`, which PyTorch loads no checkpoint's optimizer onto.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    # Without `cpu` it takes each process on a machine without GPUs for the only one.
    state = PartialState(cpu=on_cpu)
    processes = Processes(state.process_index, state.num_processes)

    def stop(number: int, frame: Any) -> None:
        print(f"process {processes.index + 1} of {processes.count}: stopped by SIGTERM", file=sys.stderr, flush=True)
        sys.exit(128 + number)

    _on_sigterm(stop)  # torchrun sends it to all the others where a process has ended
    return processes


def _on_sigterm(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # the only one that may
        signal.signal(signal.SIGTERM, handler)
