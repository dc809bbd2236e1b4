"""The processes of one run: one by default, more under `accelerate launch`."""

import os
from dataclasses import dataclass


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
        """Wait until all processes are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def current_processes() -> Processes:
    """Return this process's place under `accelerate launch` or torchrun, with its GPU selected."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState()
    return Processes(state.process_index, state.num_processes)
