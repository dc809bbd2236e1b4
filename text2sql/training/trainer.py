"""The trainer: TRL's SFTTrainer, with our own order of examples, loss positions and checkpoints.

Import it after the base is loaded: unsloth must come before transformers and TRL.
"""

import contextlib
import itertools
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors import SafetensorError
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from text2sql.core.errors import RunError, UserError, is_out_of_memory
from text2sql.core.params import TrainParams
from text2sql.core.processes import Processes
from text2sql.core.timing import Stopwatch
from text2sql.model.adapters import adapter_on_cpu
from text2sql.model.attention import use_right_padded_attention
from text2sql.model.cuda_graphs import can_be_recorded
from text2sql.model.language_model import adapter_in_float32
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.examples import IGNORED, TrainingExample
from text2sql.training.passes import (
    FlatParameters,
    RecordedPasses,
    cut,
    few_shapes,
    halves,
    repeat_loss,
    single_rows,
    tokens_per_pass,
)

# The loss of each step is read so often, in steps, where one GPU trains: reading it waits for the GPU, which meanwhile
# has nothing to do. Elsewhere each step is read as it ends.
STEPS_BETWEEN_READS = 25
# Of those that a recipe may name, the ones that take memory for the adapter's size at each step, and give it back.
OPTIMIZERS_WITH_TEMPORARIES = {"adamw_torch", "sgd"}


class EpochOrder:
    """In which order the examples are trained, a function of seed and epoch alone.

    Each epoch is shuffled and cut into steps of `step_size` examples; within a step the longest come first, so that
    parts hold examples of like length and padding stays low. The last step is filled up with the position
    one past the last example, which stands for an example that counts nothing.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self._lengths, self._step_size, self._seed = lengths, step_size, seed
        self.steps_per_epoch = math.ceil(len(lengths) / step_size)
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps_per_epoch * self._step_size

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self._steps(self.epoch))

    def tokens(self, steps: int) -> int:
        """Return how many tokens, without padding, the first `steps` steps of the training read."""
        tokens = 0
        for epoch in range(math.ceil(steps / self.steps_per_epoch)):
            left = steps - epoch * self.steps_per_epoch
            for step in self._steps(epoch)[:left]:
                tokens += sum(self._lengths[position] for position in step if position < len(self._lengths))
        return tokens

    def _steps(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self._lengths)))
        random.Random(f"{self._seed} {epoch}").shuffle(order)
        steps = []
        for start in range(0, len(order), self._step_size):
            step = sorted(order[start : start + self._step_size], key=lambda i: (-self._lengths[i], i))
            steps.append(step + [len(order)] * (self._step_size - len(step)))
        return steps


class Collator:
    """Makes of the examples of one step the parts that are trained one after another."""

    def __init__(
        self,
        pad_id: int,
        tokens_per_pass: int,
        whole_sequence: bool = False,
        masked: bool = True,
        powers_of_two: bool = False,
    ) -> None:
        """`whole_sequence`: leave labels as they are, for a model that computes its loss in a way of its own.

        `masked`: give each part a mask; a model that attends causally needs none, since padding stands on the right.
        `powers_of_two`: so many rows a part, for passes that are recorded by their shape.
        """
        self._pad_id, self._whole_sequence, self._masked = pad_id, whole_sequence, masked
        self._powers_of_two = powers_of_two
        self.tokens_per_pass = tokens_per_pass

    def __call__(self, rows: Sequence[dict]) -> dict[str, Any]:
        """Return `parts`, and the `labels` of all rows one after another, by which Trainer counts tokens."""
        parts = cut([len(row["input_ids"]) for row in rows], self.tokens_per_pass, self._powers_of_two)
        return {
            "labels": torch.tensor([label for row in rows for label in row["labels"]])[None],
            "parts": [self.part(rows[part.start : part.stop]) for part in parts],
        }

    def part(self, rows: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each of shape (rows, longest).

        By length, not by token: a pad token that is also the end token stays counted where it ends an answer. Then
        `logits_to_keep` names the n positions that predict a counted token in any row, and `shift_labels`, of shape
        (rows, n), what they are to predict: most of a prompt is never projected onto the vocabulary.
        """
        width = max(len(row["input_ids"]) for row in rows)
        padding = [width - len(row["input_ids"]) for row in rows]
        part = {
            "input_ids": [row["input_ids"] + [self._pad_id] * pad for row, pad in zip(rows, padding, strict=True)],
            "labels": [row["labels"] + [IGNORED] * pad for row, pad in zip(rows, padding, strict=True)],
        }
        if self._masked:
            part["attention_mask"] = [[1] * (width - pad) + [0] * pad for pad in padding]
        part = {name: torch.tensor(values) for name, values in part.items()}
        if not self._whole_sequence:
            following = torch.nn.functional.pad(part["labels"], (0, 1), value=IGNORED)[:, 1:]
            positions = (following != IGNORED).any(dim=0).nonzero().flatten()
            if len(positions) == 0:
                positions = torch.tensor([0])  # fillers alone: their loss is the sum over nothing
            part["shift_labels"] = following[:, positions]
            part["logits_to_keep"] = positions
        return part


class AdapterTrainer(SFTTrainer):
    """SFTTrainer of an adapter, with the model's own loss at the positions that count.

    Its signals and checkpoints are in `watch`, the order of its examples in `order`.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        examples: Sequence[TrainingExample],
        recipe: TrainParams,
        step_share: int,
        loader: str,
        store: CheckpointStore,
        processes: Processes,
    ) -> None:
        """`model` has its adapter; of each step's examples this process trains `step_share`."""
        self.order = EpochOrder(
            [len(example.input_ids) for example in examples], recipe.batch_size * recipe.grad_accum, recipe.seed
        )
        if all(label == IGNORED for example in examples for label in example.labels):
            raise UserError("the loss counts no token of any training example")
        self.store, self.processes = store, processes
        self.stopwatch = Stopwatch()
        self.watch = _Watch(recipe.checkpoint_minutes, self.order, processes)
        self._unread: list[tuple[int, torch.Tensor, float]] = []
        causal = loader != "unsloth" and use_right_padded_attention(model)
        # One process on a GPU records its passes. Several exchange gradients in the middle of theirs.
        alone_on_gpu = model.device.type == "cuda" and processes.count == 1
        recorded = causal and alone_on_gpu and model.dtype != torch.float16 and can_be_recorded(model)
        filler = TrainingExample([tokenizer.pad_token_id], [IGNORED])
        rows = [{"input_ids": example.input_ids, "labels": example.labels} for example in (*examples, filler)]
        super().__init__(
            model=model,
            args=_arguments(model, recipe, step_share, store, processes, STEPS_BETWEEN_READS if recorded else 1),
            # unsloth's forward computes its loss from whole label rows.
            data_collator=Collator(
                tokenizer.pad_token_id,
                tokens_per_pass(model),
                whole_sequence=loader == "unsloth",
                masked=not causal,
                powers_of_two=recorded,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        # TRL casts the adapter to bfloat16 where the base is in 4 bit. The optimizer is made later, of these.
        adapter_in_float32(model)
        # unsloth has an optimizer of its own making; several processes exchange gradients tensor by tensor.
        self.flat = FlatParameters(model) if loader != "unsloth" and processes.count == 1 else None
        # unsloth computes its layers in a way of its own.
        self._layers_can_be_repeated = loader != "unsloth" and model.supports_gradient_checkpointing
        self._pad_id = tokenizer.pad_token_id
        self._optim = recipe.optim
        self._sizes = [
            (len(example.input_ids), sum(label != IGNORED for label in example.labels)) for example in examples
        ]
        self._shapes: list[tuple[int, int, int]] = []  # as they come
        self._has_stepped = False
        self.recorded = self._new_recordings() if recorded else None
        self.remove_callback(PrinterCallback)
        self.add_callback(self.watch)
        if processes.is_main:
            self.add_callback(_Progress(name))

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the recipe's optimizer, of one tensor where the adapter is one."""
        if self.flat is None:
            return super().create_optimizer(model)
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            group = {"params": [self.flat.parameter], "weight_decay": self.args.weight_decay}
            self.optimizer = kind([group], **options)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict, *args: Any, **kwargs: Any) -> Any:
        """Return the loss that the model itself computes.

        TRL's own needs Triton, which PyTorch for CPUs does not have.
        """
        return Trainer.compute_loss(self, model, {**inputs, "use_cache": False}, *args, **kwargs)

    def training_step(self, model: Any, inputs: dict, num_items_in_batch: Any = None) -> torch.Tensor:
        """Add up the gradients of a whole step, part by part; return its loss.

        Where memory does not suffice, the step starts again: with each part cut in two, down to single examples, and
        then as `_with_less_memory` has it.
        """
        inputs = self._prepare_inputs(inputs)
        parts = inputs["parts"]
        if self.recorded and self._shapes:
            parts = [row for part in parts for row in single_rows(part)]
        while True:
            try:
                loss = self._train_parts(model, parts, num_items_in_batch)
                self._has_stepped = True
                self._unread.append((self.state.global_step + 1, loss.detach(), self._get_learning_rate()))
                return loss
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.processes.count > 1:
                    raise
                if self.recorded:
                    self.recorded = self._new_recordings()  # those before hold memory
                largest = max(len(part["labels"]) for part in parts)
                onward = f"with {-(-largest // 2)}" if largest > 1 else self._with_less_memory()
                if onward is None:
                    raise
            # Outside the except block, where the traceback no longer holds the tensors of the failed attempt.
            model.zero_grad(set_to_none=True)
            if largest > 1:
                # Of what failed: the step after this one is cut already, and would otherwise count a second time.
                failed = max(part["input_ids"].numel() for part in parts)
                self.data_collator.tokens_per_pass = min(self.data_collator.tokens_per_pass, failed // 2)
                parts = [half for part in parts for half in halves(part)]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            examples = "one example" if largest == 1 else f"{largest} examples"
            print(f"Out of memory at {examples} a pass: going on {onward}", flush=True)

    def _with_less_memory(self) -> str | None:
        """Give up speed for memory where single examples do not fit; return how, in words, or None at the end of it."""
        if self._layers_can_be_repeated and not self.model.is_gradient_checkpointing:
            # What is dropped at random must be the same the second time, which no recording can see to.
            if _is_random(self.model):
                self.recorded = None
            self.model.gradient_checkpointing_enable(
                {"use_reentrant": False, "preserve_rng_state": self.recorded is None}
            )
            repeat_loss(self.model.get_base_model())
            if self.recorded:
                self._shapes = few_shapes(self._sizes)
                self._tokens_per_pass, self.data_collator.tokens_per_pass = self.data_collator.tokens_per_pass, 1
                self.recorded = self._new_recordings()
            return "with gradient checkpointing"
        if self.recorded:
            self.recorded = None  # recordings have memory of their own
            if self._shapes:
                self.data_collator.tokens_per_pass = self._tokens_per_pass
            return "without recording"
        return None

    def _train_parts(self, model: Any, parts: Sequence[dict], count: torch.Tensor) -> torch.Tensor:
        if self.flat:
            self.flat.begin_step()
        # The first step is not recorded: at its end the optimizer takes memory, which recordings would not give back.
        if self.recorded and self._has_stepped:
            model.train()
            return sum(self.recorded.run(part, count) for part in parts)
        losses = []
        for number, part in enumerate(parts, start=1):
            # Several processes exchange their gradients once, after the last part.
            with contextlib.nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, count))
        return sum(losses)

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        if self.flat is None:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_([self.flat.parameter], self.args.max_grad_norm)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss of each step since the last call, where Trainer logs their mean."""
        if "loss" not in logs or self.args.logging_steps == 1:
            self._unread.clear()
            super().log(logs, start_time)
            return
        steps, losses, rates = zip(*self._unread, strict=True)
        self._unread.clear()
        for step, loss, rate in zip(steps, torch.stack(losses).tolist(), rates, strict=True):
            entry = {"loss": loss, "learning_rate": rate, "epoch": step / self.order.steps_per_epoch, "step": step}
            self.state.log_history.append(entry)
            self.control = self.callback_handler.on_log(self.args, self.state, self.control, entry)

    def _new_recordings(self) -> RecordedPasses | None:
        """Return recordings of none yet, or None where the model cannot be recorded."""
        if not can_be_recorded(self.model):
            return None
        # Made anew at each step, so large as the adapter.
        room = self.flat.parameter.nbytes if self._optim in OPTIMIZERS_WITH_TEMPORARIES else 0
        return RecordedPasses(self.model, self.flat, self._recordable_loss, self._pad_id, self._shapes, room)

    def _recordable_loss(self, part: dict, count: torch.Tensor) -> torch.Tensor:
        with self.compute_loss_context_manager():
            return self.compute_loss(self.model_wrapped, part, num_items_in_batch=count)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self.order

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.store.unfinished)

    def _save(self, output_dir: str, state_dict: dict | None = None) -> None:
        # The adapter alone: no copy of the tokenizer, no pickle, no look at the hub for the base's vocabulary.
        self.model.save_pretrained(output_dir, state_dict=adapter_on_cpu(self.model), save_embedding_layers=False)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint, whole or not at all. Where the disk refuses it, training goes on without."""
        step = self.state.global_step
        written = self.store.unfinished / f"checkpoint-{step}"
        failure = _attempt(self.store.begin) if self.processes.is_main else None
        self.processes.wait()
        # Trainer's own, past TRL's, which writes a model card first. In all processes, whatever the main one met:
        # they add up their counts here.
        failure = _attempt(lambda: Trainer._save_checkpoint(self, model, trial)) or failure
        self.processes.wait()
        if self.processes.is_main and failure is None:
            failure = _attempt(lambda: self.store.finish(written, step, self.stopwatch.seconds))
        if failure is not None:
            print(f"warning: no checkpoint at step {step}: {failure}", file=sys.stderr, flush=True)

    def _send_telemetry(self) -> None:
        """TRL would tell its makers of each training."""


def _is_random(model: Any) -> bool:
    """Whether `model` drops or shifts anything at random in training, as far as its modules and settings tell."""
    dropped = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    named = [value for key, value in model.config.to_dict().items() if "drop" in key or "jitter" in key]
    return any(dropped) or any(isinstance(value, (int, float)) and value for value in named)


def _arguments(
    model: Any,
    recipe: TrainParams,
    step_share: int,
    store: CheckpointStore,
    processes: Processes,
    steps_between_reads: int,
) -> SFTConfig:
    on_gpu = torch.cuda.is_available()
    dtype = model.get_input_embeddings().weight.dtype
    arguments = SFTConfig(
        output_dir=str(store.folder),
        per_device_train_batch_size=step_share,  # `training_step` cuts it into parts
        gradient_accumulation_steps=1,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        optim=recipe.optim,
        seed=recipe.seed,
        # Autocast only where the base is in half precision on a GPU. On a CPU the adapter's own products stay in
        # float32: they are few.
        bf16=on_gpu and dtype == torch.bfloat16,
        fp16=on_gpu and dtype == torch.float16,
        use_cpu=not on_gpu,
        gradient_checkpointing=False,
        # The examples come as token ids with labels, none too long.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        logging_steps=steps_between_reads,
        logging_nan_inf_filter=False,  # a loss that is no number stops the training
        save_strategy="no",  # `_Watch` says when
        report_to="none",
        disable_tqdm=True,  # `_Progress` shows rate and remaining time
        # To hand the GPU the next step's examples is not to wait for it.
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},
        ddp_find_unused_parameters=False,
    )
    if processes.count == 1 and arguments.n_gpu > 1:
        # One process uses one GPU; more of them take `accelerate launch`.
        arguments._n_gpu = 1
    return arguments


def _attempt(work: Callable[[], Any]) -> Exception | None:
    """Do `work`; return the error where the disk fails it (PyTorch and safetensors have errors of their own)."""
    try:
        work()
    except (OSError, RuntimeError, SafetensorError) as error:
        return error
    return None


class _Watch(TrainerCallback):
    """Says when to write a checkpoint and when to stop, at the end of a step, the same in all processes."""

    def __init__(self, minutes: float, order: EpochOrder, processes: Processes) -> None:
        self.signal_number: int | None = None
        self._seconds, self._order, self._processes = minutes * 60, order, processes
        self._last = time.monotonic()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGTERM and Ctrl-C as the wish to stop after the current step. A second one stops at once."""
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
        # Before the data loader starts on the epoch, resumed in its middle or not.
        self._order.epoch = state.global_step // self._order.steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        due = time.monotonic() - self._last >= self._seconds
        due, number = self._agreed(int(due), self.signal_number or 0)
        if number:
            self.signal_number = number
            control.should_training_stop = True
        epoch_ends = state.global_step % self._order.steps_per_epoch == 0 or state.global_step == state.max_steps
        if due or number or epoch_ends:
            control.should_log = True  # a checkpoint holds the losses so far
            control.should_save = True
            self._last = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
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


class _Progress(TrainerCallback):
    """A bar with rate and remaining time, and the last loss."""

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
        if "loss" in (logs or {}):
            self._bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()
