"""What all trainers here have in common: the order of examples, and checkpoints that are whole or not there.

Import it after the base is loaded: unsloth must come before transformers.
"""

import sys
from collections.abc import Callable
from typing import Any

from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer

from text2sql.core.timing import Stopwatch
from text2sql.model.adapters import trained_on_cpu
from text2sql.model.whole_model import load_weights, save_weights
from text2sql.training.callbacks import KeepSnapshots, Progress, Watch
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.job import TrainingJob
from text2sql.training.order import EpochOrder
from text2sql.training.plan import PassPlan


class KeptTrainer(Trainer):
    """Trainer whose `watch` handles signals and checkpoints; `order` is that of the examples, `plan` how passes run."""

    model: Any  # Trainer's annotation allows for what never is here
    plan: PassPlan

    def keep(self, job: TrainingJob, store: CheckpointStore, order: EpochOrder) -> None:
        """Note what is trained, where its checkpoints lie, and in which order; call it before Trainer's own start."""
        self.job, self.store, self.order = job, store, order
        self.stopwatch = Stopwatch()
        self.watch = Watch(job.recipe.checkpoint_minutes, order, job.processes)

    def show(self) -> None:
        """Take our callbacks in the place of Trainer's; call it after Trainer's own start."""
        self.remove_callback(PrinterCallback)
        self.add_callback(self.watch)
        if self.job.processes.is_main:
            self.add_callback(KeepSnapshots(self.job, self.model))
            self.add_callback(Progress(self.job.name))

    def gather(self) -> None:
        """Have the trained weights whole in the main process, after training: here they are."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.store.unfinished)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # The weights alone: no copy of the tokenizer, no pickle, no request to the hub for the base's vocabulary.
        if self.job.trains_all:
            save_weights(self.model, str(output_dir))
            return
        # One that is only compared with, as in `preferences`, stays behind.
        self.model.save_pretrained(
            output_dir,
            state_dict=trained_on_cpu(self.model),
            save_embedding_layers=False,
            selected_adapters=["default"],
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.job.trains_all:
            load_weights(self.model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint atomically. If the disk fails, warn and continue without it."""
        step, processes = self.state.global_step, self.job.processes
        written = self.store.unfinished / f"checkpoint-{step}"
        failure = _attempt(self.store.begin) if processes.is_main else None
        processes.wait()
        # Trainer's own: TRL's writes a model card first. In all processes, even if the main one failed: they sum up
        # their counts here.
        failure = _attempt(lambda: Trainer._save_checkpoint(self, model, trial)) or failure
        processes.wait()
        if processes.is_main and failure is None:
            failure = _attempt(lambda: self.store.finish(written, step, self.stopwatch.seconds, self.plan.kept()))
        if failure is not None:
            print(f"warning: no checkpoint at step {step}: {failure}", file=sys.stderr, flush=True)

    def _send_telemetry(self) -> None:
        """TRL would report each training to its makers."""


def _attempt(work: Callable[[], Any]) -> Exception | None:
    """Call `work`; return the error if the disk fails (PyTorch and safetensors have errors of their own)."""
    try:
        work()
    except (OSError, RuntimeError, SafetensorError) as error:
        return error
    return None
