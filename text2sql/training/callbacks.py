"""Callbacks of the training: when to write a checkpoint and when to stop, what is kept on the way, the progress bar."""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import PartialState
from tqdm import tqdm
from transformers import TrainerCallback

from text2sql.core.errors import RunError
from text2sql.core.processes import Processes
from text2sql.model.adapters import save_adapter
from text2sql.training.job import TrainingJob
from text2sql.training.order import EpochOrder


class Watch(TrainerCallback):
    """Decides at the end of each step whether to write a checkpoint and whether to stop, alike in all processes.

    `signal_number` is the signal that stopped the training, if any.
    """

    def __init__(self, minutes: float, order: EpochOrder, processes: Processes) -> None:
        """Write a checkpoint every so many `minutes`, and at the end of each epoch."""
        self.signal_number: int | None = None
        self._seconds, self._order, self._processes = minutes * 60, order, processes
        self._last = time.monotonic()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Stop after the current step on SIGTERM or Ctrl-C. A second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, frame: Any) -> None:
            self.signal_number = number
            print(f"{signal.Signals(number).name}: writing a checkpoint after this step", file=sys.stderr, flush=True)
            for other, handler in before.items():
                signal.signal(other, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Before the data loader draws the epoch's order; a resumed epoch starts in its middle.
        self._order.epoch = state.global_step // self._order.steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        due, number = self._agreed(int(time.monotonic() - self._last >= self._seconds), self.signal_number or 0)
        if number:
            self.signal_number = number
            control.should_training_stop = True
        epoch_ends = state.global_step % self._order.steps_per_epoch == 0 or state.global_step == state.max_steps
        if due or number or epoch_ends:
            control.should_log = True  # a checkpoint holds the losses so far
            control.should_save = True
            self._last = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(loss):
            step = logs.get("step", state.global_step)
            raise RunError(f"the loss is {loss} at step {step}; try a smaller learning rate (lr)")

    def _agreed(self, *values: int) -> list[int]:
        """Return the largest of each of `values` over all processes."""
        if self._processes.count == 1:
            return list(values)
        shared = torch.tensor(values, device=PartialState().device)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
        return shared.tolist()


class KeepSnapshots(TrainerCallback):
    """Keeps the adapter of `model` where `job.snapshots` says.

    A checkpoint of the same step is written after it: a training that goes on from there has what came before.
    """

    def __init__(self, job: TrainingJob, model: Any) -> None:
        self._job, self._model = job, model

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kept, step = self._job.snapshots, state.global_step
        if kept is not None and step in kept.before_the_end(state.max_steps):
            card = f"# {self._job.name} after step {step} of {state.max_steps}\n\nKept to be asked on the way.\n"
            save_adapter(self._model, kept.at(step), self._job.model, card)


class Progress(TrainerCallback):
    """A progress bar with rate, remaining time and the last loss."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=f"train_{self._name}",
            unit="step",
            dynamic_ncols=True,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()
