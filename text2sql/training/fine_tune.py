"""Supervised fine-tuning of an adapter or of all weights: resumable, and the same on any number of processes."""

import array
import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key, stage_dependencies
from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import RunError, UserError, is_out_of_memory
from text2sql.core.params import ModelParams
from text2sql.core.processes import Processes
from text2sql.core.startup import in_background, quick_imports
from text2sql.core.timing import Stopwatch
from text2sql.model.adapters import adapter_in_float32, add_adapter, load_adapter, save_adapter
from text2sql.model.bases import check_base
from text2sql.model.context import check_prompts
from text2sql.model.loading import check_hardware, load_base, tokenizer_ahead
from text2sql.model.run_key import LIBRARIES, weights_and_runtime
from text2sql.model.whole_model import how_loaded, save_whole, train_all
from text2sql.training.checkpoints import CHECKPOINTS, Checkpoint, CheckpointStore
from text2sql.training.examples import TrainingExample, encode
from text2sql.training.job import TrainingJob, check_shards
from text2sql.training.reproducible import deterministic_kernels, fix_workspace


class Interrupted(RunError):
    """A signal stopped the training after a checkpoint; the next run resumes from it."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@dataclass
class Training:
    """A finished training: the model, with its adapter or trained whole, and its measurements."""

    model: Any
    metrics: dict
    loss_curve: list[dict] = field(repr=False)
    stopwatch: Stopwatch
    checkpoints: CheckpointStore
    job: TrainingJob
    tokenizer: Any = field(repr=False)
    loaded: Any = field(repr=False)  # how the base was, see `how_loaded`

    def save(self, folder: str | Path, card: str) -> None:
        """Write the adapter, or the whole model, to `folder`, with `card` as its README.

        Raises RunError if the disk is full.
        """
        if self.job.trains_all:
            save_whole(self.model, self.tokenizer, folder, self.loaded, card)
        else:
            save_adapter(self.model, folder, self.job.model, card)


def train_adapter(
    job: TrainingJob,
    pairs: Sequence[tuple[list[dict], str]],
    checkpoints: Path = CHECKPOINTS,
    load: Callable[[ModelParams, int], tuple[Any, Any]] = load_base,
) -> Training | None:
    """Fine-tune the adapter of `job`, or all weights of its base, on `pairs` of chat messages and reference answer.

    For the objective dpo they are the right answers and then, in the same order, the wrong ones.
    `load` returns the base and its tokenizer. Resumes from the last complete checkpoint of the same training, if any.
    Returns None in all processes but the main one. Raises UserError for a recipe that this machine or number of
    processes cannot run, RunError when out of memory or if loss or weights are no longer finite, and Interrupted
    after SIGTERM or the first Ctrl-C.
    """
    recipe, processes = job.recipe, job.processes
    _check_launcher(job)
    check_hardware(job.model, recipe.optim)
    job.check_method()
    job.check_step_size()  # before the base is loaded
    job.check_start()
    if job.stage:
        check_base(job.model)
    fix_workspace()
    ways = job.ways
    early = tokenizer_ahead(job.model) if load is load_base else None
    if early is not None:  # tokenises while the weights load
        encoded = in_background(lambda: encode(early, pairs, recipe.max_seq_len, job.template, ways))
        base, tokenizer = load_base(job.model, recipe.max_seq_len, early, on_cpu=job.shards)
    else:
        base, tokenizer = load(job.model, recipe.max_seq_len)
    loaded = how_loaded(base)
    with quick_imports("trl"):
        kind = trainer_of(job)

    if early is not None:
        examples, left_out = encoded.result()
    else:
        examples, left_out = encode(tokenizer, pairs, recipe.max_seq_len, job.template, ways)
    ids = [example.input_ids for example in examples]
    check_prompts(base, ids, 0, "train.max_seq_len or prompt.schema", "training examples")
    store = CheckpointStore(f"train_{job.name}", _key(base, examples, job), checkpoints)
    if processes.is_main:
        store.lock()
        store.say_what_changed()
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(store.unlock)
        model = _trainable(base, tokenizer, job)
        trainer = kind(job, model, tokenizer, examples, store)
        if processes.is_main:
            print(_description(job, model, len(examples) // ways, left_out), flush=True)
        _run(trainer, _latest_checkpoint(store, processes))
        if not processes.is_main:
            return None
        check_finite(job.name, model)
        curve = loss_curve(trainer.state.log_history)
        metrics = _metrics(trainer, curve, len(examples) // ways, left_out)
        on_failure.pop_all()  # the lock stays until the adapter is published
        return Training(model, metrics, curve, trainer.stopwatch, store, job, tokenizer, loaded)


def trainer_of(job: TrainingJob) -> Any:
    """Return the trainer's class. Importing it loads TRL: not before the base is loaded."""
    if job.with_pairs:
        from text2sql.training.preferences import PreferenceTrainer

        return PreferenceTrainer
    if job.shards:
        from text2sql.training.sharded import ShardedTrainer

        return ShardedTrainer
    from text2sql.training.trainer import AdapterTrainer

    return AdapterTrainer


def _trainable(base: Any, tokenizer: Any, job: TrainingJob) -> Any:
    """Return `base` with what is trained: an adapter, new or the one to go on from, or all of its weights."""
    if job.trains_all:
        return train_all(base)
    if job.start is not None and job.with_pairs:
        return adapter_in_float32(load_adapter(base, tokenizer, job.start, job.model, trainable=True)[0])
    recipe = job.recipe
    return add_adapter(base, recipe.lora, recipe.seed, job.model.loader, recipe.method == "dora")


def _run(trainer: Any, resumed: Checkpoint | None) -> None:
    """Train to the end, from the checkpoint `resumed` if there is one. Raises RunError and Interrupted."""
    name = trainer.job.name
    if resumed and trainer.job.processes.is_main:
        print(f"train_{name}: going on from the checkpoint at step {resumed.step}", flush=True)
    trainer.stopwatch = Stopwatch(already=resumed.seconds if resumed else 0)
    if resumed:
        trainer.go_on(resumed.plan)
    with (
        trainer.job.processes.together(),
        _memory_errors(trainer.job),
        # Where several processes exchange gradients, none can begin a step anew alone.
        deterministic_kernels(trainer.accelerator.device.type, strict=trainer.job.processes.count == 1),
        trainer.watch.signals(),
    ):
        trainer.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
        trainer.gather()
    state = trainer.state
    if trainer.watch.signal_number is not None and state.global_step < state.max_steps:
        raise Interrupted(
            f"train_{name}: stopped at step {state.global_step} of {state.max_steps}; the next run goes on from there",
            trainer.watch.signal_number,
        )


def _metrics(trainer: Any, curve: Sequence[dict], examples: int, left_out: int) -> dict:
    """Return `metrics/train/<model>.json`: losses in nats a token, counts of steps, examples, tokens, parameters."""
    losses = [row["loss"] for row in curve]
    trained, total = count_parameters(trainer.model)
    steps = trainer.state.global_step
    metrics = {
        "final_loss": losses[-1],
        "mean_loss": round(sum(losses) / len(losses), 6),
        "steps": steps,
        "epochs": trainer.job.recipe.epochs,
        "examples": examples,
        "examples_left_out": left_out,
        "tokens": trainer.order.tokens(steps),
        "trainable_parameters": trained,
        "total_parameters": total,
        "trainable_share": round(trained / total, 6),
    }
    # Another cut of a step rounds otherwise: two runs that differ in it may differ in their adapters.
    return metrics | ({"out_of_memory": trainer.plan.fallbacks} if trainer.plan.fallbacks else {})


def count_parameters(model: Any) -> tuple[int, int]:
    """Return how many parameters of `model` are trained, and how many there are.

    4-bit weights are packed, two a byte: their true shape is in their quantisation state.
    """
    trained = total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = math.prod(state.shape) if state is not None else parameter.numel()
        total += count
        trained += count if parameter.requires_grad else 0
    return trained, total


def _check_launcher(job: TrainingJob) -> None:
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise UserError(
            "accelerate's config asks for DEEPSPEED; takes plain data parallelism, or FSDP (launch/fsdp.yaml)"
        )
    if job.shards:
        check_shards(job)
    if job.with_unsloth and job.processes.count > 1:
        raise UserError(
            f"model.loader: unsloth trains in one process, and there are {job.processes.count}; takes transformers"
        )


def _key(base: Any, examples: Sequence[TrainingExample], job: TrainingJob) -> Key:
    """Return all that a checkpoint depends on: not how often it is written, nor how many processes there are."""
    data = hashlib.sha256()
    for example in examples:
        for ids in (example.input_ids, example.labels):
            data.update(len(ids).to_bytes(8, "little") + array.array("q", ids).tobytes())
    recipe = job.recipe.model_dump(exclude={"checkpoint_minutes"})
    parts = {f"train.{name}": value for name, value in recipe.items()}
    parts |= {f"model.{name}": value for name, value in job.model.model_dump(exclude={"strength"}).items()}
    libraries = (*LIBRARIES, "trl", *(("bitsandbytes",) if job.recipe.optim.endswith("8bit") else ()))
    libraries += ("liger-kernel",) if base.device.type == "cuda" else ()
    if job.start is not None:
        parts["the adapter to start from"] = digest_of_tree(job.start)
    if job.shards:  # an optimizer's state of another form
        parts["in shards"] = True
    if job.snapshots is not None:  # of what was before the checkpoint, too
        parts["kept along the way"] = job.snapshots.places
    parts |= {"training examples": data.hexdigest()} | weights_and_runtime(job.model, base, libraries)
    return Key.of(parts | dict(job.inputs) | (stage_dependencies(job.stage) if job.stage else {}))


def _latest_checkpoint(store: CheckpointStore, processes: Processes) -> Checkpoint | None:
    """Return the last complete checkpoint, the same in all processes: the main one decides."""
    found = [store.latest() if processes.is_main else None]
    if processes.count > 1:
        from accelerate.utils import broadcast_object_list

        with processes.together():
            broadcast_object_list(found)
    return found[0]


def _description(job: TrainingJob, model: Any, examples: int, left_out: int) -> str:
    """Return a log line: parameters, number of examples, dtype, device."""
    trained, total = count_parameters(model)
    device = model.device.type
    if device == "cuda":
        import torch

        device = torch.cuda.get_device_name(model.device)
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    return (
        f"train_{job.name}: {trained:,} of {total:,} parameters ({trained / total:.2%}) on {examples} "
        + ("pairs" if job.with_pairs else "examples")
        + (f" ({left_out} longer than train.max_seq_len left out)" if left_out else "")
        + f"; base in {dtype} on {device}"
        + (f" × {job.processes.count} processes" if job.processes.count > 1 else "")
    )


@contextlib.contextmanager
def _memory_errors(job: TrainingJob) -> Iterator[None]:
    """Turn an out-of-memory error, by now at a single example, into one line that says what to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        what = "pair of answers" if job.with_pairs else "example"
        raise RunError(
            f"train_{job.name}: out of memory at one {what} of up to {job.recipe.max_seq_len} tokens a pass; "
            "try a smaller train.max_seq_len, or model.quantization: 4bit on a GPU"
        ) from error


def check_finite(name: str, model: Any) -> None:
    """Raise RunError where a trained weight is no finite number: a loss says so only at the step that follows."""
    for weight, value in model.named_parameters():
        if value.requires_grad and not value.isfinite().all():
            raise RunError(
                f"train_{name}: {weight} is not finite after the last step; try a smaller learning rate (lr)"
            )


def loss_curve(history: Sequence[dict]) -> list[dict]:
    """Return the trainer's log as one row a step: step, epoch, loss (nats a token), learning rate."""
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
