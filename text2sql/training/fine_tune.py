"""Supervised fine-tuning of a LoRA adapter: resumable, and the same result on any number of processes."""

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key, stage_dependencies
from text2sql.core.errors import RunError, UserError, is_out_of_memory
from text2sql.core.params import ModelParams, TrainParams
from text2sql.core.processes import Processes
from text2sql.core.startup import quick_imports
from text2sql.core.timing import Stopwatch
from text2sql.model.language_model import add_adapter, check_hardware, load_base, without_needless_casts
from text2sql.model.run_key import LIBRARIES, weights_and_runtime
from text2sql.training.checkpoints import CHECKPOINTS, Checkpoint, CheckpointStore
from text2sql.training.examples import TrainingExample, encode


class Interrupted(RunError):
    """A signal stopped the training after a checkpoint; the next run goes on from there."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@dataclass
class Training:
    """A finished training: the model with its adapter, and what was measured."""

    model: Any
    metrics: dict
    loss_curve: list[dict] = field(repr=False)
    stopwatch: Stopwatch
    checkpoints: CheckpointStore


def train_adapter(
    name: str,
    pairs: Sequence[tuple[list[dict], str]],
    model_params: ModelParams,
    recipe: TrainParams,
    processes: Processes = Processes(),  # noqa: B008 (frozen)
    checkpoints: Path = CHECKPOINTS,
    stage: str | None = None,
) -> Training | None:
    """Fine-tune an adapter for the model `name` (`m1`, `m2`) on `pairs` of chat messages and the answer wanted.

    Goes on from the last whole checkpoint of the same training where there is one; `stage` names the stage of dvc.yaml
    that it is, whose inputs and code then have to be the same. Returns None in all processes but
    the main one. Raises UserError for a recipe that this machine or number of processes cannot run, RunError where
    memory does not suffice or the loss is no longer a number, and Interrupted after SIGTERM or the first Ctrl-C.
    """
    _check_launcher(model_params, processes)
    check_hardware(model_params, recipe.optim)
    share = step_share(recipe.batch_size, recipe.grad_accum, processes.count)
    base, tokenizer = load_base(model_params, recipe.max_seq_len)
    examples, left_out = encode(tokenizer, pairs, recipe.max_seq_len)
    key = _key(base, examples, model_params, recipe, stage)
    store = CheckpointStore(f"train_{name}", key, checkpoints)
    if processes.is_main:
        store.lock()
        store.say_what_changed()
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(store.unlock)
        model = add_adapter(base, recipe.lora, recipe.seed, model_params.loader)
        with quick_imports("trl"):
            from text2sql.training.trainer import AdapterTrainer

        trainer = AdapterTrainer(name, model, tokenizer, examples, recipe, share, model_params.loader, store, processes)
        trained, total = count_parameters(model)
        resumed = _latest_checkpoint(store, processes)
        if processes.is_main:
            print(_description(name, model, examples, left_out, trained, total, processes), flush=True)
            if resumed:
                print(f"train_{name}: going on from the checkpoint at step {resumed.step}", flush=True)
        trainer.stopwatch = Stopwatch(already=resumed.seconds if resumed else 0)
        with _memory_errors(name, recipe), without_needless_casts(model), trainer.watch.signals():
            trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
        state = trainer.state
        if trainer.watch.signal_number is not None and state.global_step < state.max_steps:
            raise Interrupted(
                f"train_{name}: stopped at step {state.global_step} of {state.max_steps}; "
                "the next run goes on from there",
                trainer.watch.signal_number,
            )
        if not processes.is_main:
            return None
        curve = _loss_curve(state.log_history)
        losses = [row["loss"] for row in curve]
        metrics = {
            "final_loss": losses[-1],
            "mean_loss": round(sum(losses) / len(losses), 6),
            "steps": state.global_step,
            "epochs": recipe.epochs,
            "examples": len(examples),
            "examples_left_out": left_out,
            "tokens": trainer.order.tokens(state.global_step),
            "trainable_parameters": trained,
            "total_parameters": total,
            "trainable_share": round(trained / total, 6),
        }
        on_failure.pop_all()  # the lock stays until the adapter is published
        return Training(model, metrics, curve, trainer.stopwatch, store)


def step_share(batch_size: int, grad_accum: int, processes: int) -> int:
    """Return how many examples of each step one process trains: the recipe's product, divided among all of them.

    Raises UserError where it cannot be divided.
    """
    if batch_size * grad_accum % processes:
        raise UserError(
            f"train: batch_size {batch_size} × grad_accum {grad_accum} cannot be divided among {processes} "
            f"processes; takes a product that is a multiple of {processes}"
        )
    return batch_size * grad_accum // processes


def count_parameters(model: Any) -> tuple[int, int]:
    """Return how many parameters of `model` are trained, and how many there are.

    A 4-bit weight is packed, two to a byte: its true shape stands in its quantisation state.
    """
    trained = total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = math.prod(state.shape) if state is not None else parameter.numel()
        total += count
        trained += count if parameter.requires_grad else 0
    return trained, total


def _check_launcher(model_params: ModelParams, processes: Processes) -> None:
    for plugin in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{plugin}", "").lower() == "true":
            raise UserError(f"accelerate's config asks for {plugin}; an adapter trains with plain data parallelism")
    if model_params.loader == "unsloth" and processes.count > 1:
        raise UserError(
            f"model.loader: unsloth trains in one process, and there are {processes.count}; takes transformers"
        )


def _key(
    base: Any, examples: Sequence[TrainingExample], model: ModelParams, recipe: TrainParams, stage: str | None
) -> Key:
    """Return everything that a checkpoint's worth depends on: not how often it is written, nor how many processes."""
    data = hashlib.sha256()
    for example in examples:
        data.update(f"{example.input_ids} {example.labels}\n".encode())
    parts = {f"train.{name}": value for name, value in recipe.model_dump(exclude={"checkpoint_minutes"}).items()}
    parts |= {f"model.{name}": value for name, value in model.model_dump().items()}
    libraries = (*LIBRARIES, "trl", *(("bitsandbytes",) if recipe.optim.endswith("8bit") else ()))
    parts |= {"training examples": data.hexdigest()} | weights_and_runtime(model, base, libraries)
    return Key.of(parts | (stage_dependencies(stage) if stage else {}))


def _latest_checkpoint(store: CheckpointStore, processes: Processes) -> Checkpoint | None:
    """Return the last whole checkpoint, the same in all processes: the main one decides."""
    found = [store.latest() if processes.is_main else None]
    if processes.count > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(found)
    return found[0]


def _description(
    name: str,
    model: Any,
    examples: Sequence[TrainingExample],
    left_out: int,
    trained: int,
    total: int,
    processes: Processes,
) -> str:
    """Say what is trained on what."""
    device = model.device.type
    if device == "cuda":
        import torch

        device = torch.cuda.get_device_name(model.device)
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    return (
        f"train_{name}: {trained:,} of {total:,} parameters ({trained / total:.2%}) on {len(examples)} examples"
        + (f" ({left_out} longer than train.max_seq_len left out)" if left_out else "")
        + f"; base in {dtype} on {device}"
        + (f" × {processes.count} processes" if processes.count > 1 else "")
    )


@contextlib.contextmanager
def _memory_errors(name: str, recipe: TrainParams) -> Iterator[None]:
    """Turn memory that does not suffice, for a single example by now, into one line that says what to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"train_{name}: out of memory at one example of up to {recipe.max_seq_len} tokens a pass; try a smaller "
            "train.max_seq_len, or model.quantization: 4bit on a GPU"
        ) from error


def _loss_curve(history: Sequence[dict]) -> list[dict]:
    """Return one row a step of the trainer's log: step, epoch, loss (nats a token), learning rate."""
    return [
        {
            "step": entry["step"],
            "epoch": round(entry["epoch"], 4),
            "loss": round(entry["loss"], 6),
            "learning_rate": float(f"{entry['learning_rate']:.6g}"),
        }
        for entry in history
        if "loss" in entry
    ]


def loss_curve_csv(curve: Sequence[dict]) -> str:
    """Return the rows of `curve` as CSV with a header."""
    header = "step,epoch,loss,learning_rate"
    return "\n".join([header, *(",".join(str(row[column]) for column in header.split(",")) for row in curve)]) + "\n"
