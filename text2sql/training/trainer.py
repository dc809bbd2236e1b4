"""The trainer: TRL's SFTTrainer with our own order of examples, passes, loss positions and checkpoints.

Import it after the base is loaded: unsloth must come before transformers and TRL.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from text2sql.core.errors import UserError, is_out_of_memory
from text2sql.model.adapters import adapter_in_float32, without_needless_casts
from text2sql.model.cuda_graphs import can_be_recorded
from text2sql.model.fused_norm import use_fused_norms
from text2sql.model.library_way import accepted
from text2sql.training.arguments import common_arguments, use_one_gpu
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.chunked_loss import use_chunked_loss
from text2sql.training.examples import IGNORED, TrainingExample, variants
from text2sql.training.flat_parameters import FlatParameters
from text2sql.training.fused import fused_kernels, liger_kernels
from text2sql.training.job import TrainingJob
from text2sql.training.kept_trainer import KeptTrainer
from text2sql.training.low_rank import LeanAdapter, can_be_lean
from text2sql.training.order import EpochOrder
from text2sql.training.packing import takes_flash, use_packed_attention
from text2sql.training.parts import Collator, Form, Part, cut, tokens_per_pass
from text2sql.training.passes import Passes, RecordedPasses, few_shapes
from text2sql.training.plan import PassMode, PassPlan
from text2sql.training.reproducible import add_in_any_order

# How often, in steps, losses are read when passes are recorded: reading waits for the GPU, which is idle meanwhile.
# Otherwise each loss is read as its step ends.
STEPS_BETWEEN_READS = 25


class AdapterTrainer(KeptTrainer, SFTTrainer):
    """SFTTrainer of an adapter or of all weights, with the model's own loss at the counted positions.

    See `KeptTrainer` for its order, checkpoints and signals.
    """

    shards = False  # whether each process holds a part of the model alone: `ShardedTrainer` does
    data_collator: Any  # Trainer's annotation allows for what never is here

    def __init__(
        self,
        job: TrainingJob,
        model: Any,
        tokenizer: Any,
        examples: Sequence[TrainingExample],
        store: CheckpointStore,
    ) -> None:
        """`model` has its adapter, or lets all of its weights be trained.

        Raises UserError if the loss counts no token of any of `examples`.
        """
        if not any(example.counted_tokens for example in examples):
            raise UserError("the loss counts no token of any training example")
        lengths, ways = [len(example.input_ids) for example in examples], variants(job.recipe)
        order = EpochOrder(lengths, job.step_size, job.recipe.seed, ways, job.processes.count)
        self.keep(job, store, order)
        self._unread: list[tuple[int, torch.Tensor, float]] = []
        self._examples, self._pad_id = examples, tokenizer.pad_token_id
        # unsloth's forward pass, and those of some architectures, compute the loss from whole rows of labels.
        whole = job.with_unsloth or "logits_to_keep" not in accepted(model)
        form = Form.WHOLE if whole else Form.PACKED if use_packed_attention(model) else Form.MASKED
        device = model.device
        if self.shards and torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())  # where its layers will be, one by one
        flash = form is Form.PACKED and takes_flash(model, device)
        self.plan = _first_plan(job, model, flash, device)
        lean = not self.shards and _is_lean(job, model)
        longest = max(len(example.input_ids) for example in examples) if flash else None
        filler = TrainingExample([self._pad_id], [IGNORED])
        rows = [{"input_ids": example.input_ids, "labels": example.labels} for example in (*examples, filler)]
        recorded = self.plan.mode is PassMode.RECORDED
        super().__init__(
            model=model,
            args=_arguments(job, model, store.folder, STEPS_BETWEEN_READS if recorded else 1, autocast=not lean),
            data_collator=Collator(self._pad_id, self.plan.tokens_per_pass, form, longest),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        # TRL casts the adapter to bfloat16 if the base is in 4 bit. Where all weights are trained, those are cast here,
        # after `_arguments` has seen the base's own dtype: products stay in it. The optimizer is created from these.
        adapter_in_float32(model)
        # unsloth has an optimizer of its own. With any number of processes the optimizer's state is the same tensor, so
        # that a checkpoint serves another number as well.
        self.flat = None if job.with_unsloth or self.shards else FlatParameters(model)
        self.lean = None
        if lean and self.flat:
            self.flat.cast_to(model.dtype)
            self.lean = LeanAdapter(model, self.flat)
            if model.device.type == "cuda":
                self.lean.keep_weights(torch.cuda.get_device_properties(model.device).total_memory)
        # Several processes exchange gradients in the middle of a pass; float16 scales them: Trainer does.
        self._own_passes = form is Form.PACKED and job.processes.count == 1 and not self.args.fp16
        self.passes = self._new_passes()
        self.show()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does, with the adapter's layers computed in the way that was chosen."""
        with contextlib.ExitStack() as stack:
            if self.lean is None:
                stack.enter_context(without_needless_casts(self.model))
            else:
                stack.enter_context(self.lean.in_use())
                use_fused_norms(self.model)
                if self.model.device.type == "cuda" and (kernels := liger_kernels()):
                    stack.enter_context(fused_kernels(self.model, *kernels))
            self.model.train()  # the base was loaded for evaluation
            return super().train(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the recipe's optimizer, of one tensor if the adapter is one."""
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
        """Sum the gradients of a whole step, part by part; return its loss.

        When out of memory, the step starts again as the plan says: in smaller parts, then in another mode. It also does
        where a kernel has no deterministic form.
        """
        inputs = self._prepare_inputs(inputs)
        parts = inputs["parts"]
        while True:
            try:
                loss = self._train_parts(model, parts, num_items_in_batch)
                self.plan.stepped()
                self._unread.append((self.state.global_step + 1, loss.detach(), self._get_learning_rate()))
                return loss
            except (MemoryError, RuntimeError) as error:
                if add_in_any_order(error):
                    model.zero_grad(set_to_none=True)
                    continue
                if not is_out_of_memory(error) or self.job.processes.count > 1:
                    raise
                examples = max(part.examples for part in parts)
                onward = self._fall_back(examples, max(part.tokens for part in parts))
                if onward is None:
                    raise
            # Outside the except block, where no traceback holds the tensors of the failed attempt.
            model.zero_grad(set_to_none=True)
            parts = inputs["again"](self.args.device)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            failed = "one example" if examples == 1 else f"{examples} examples"
            print(f"Out of memory at {failed} a pass: going on {onward}", flush=True)

    def _fall_back(self, examples: int, tokens: int) -> str | None:
        """Change the plan after a step ran out of memory in parts of up to so many examples and tokens.

        Returns how training continues, in words, or None if nothing is left to try.
        """
        if self.lean and self.lean.keeps_weights:
            self.lean.free_weights()  # the same numbers: no fallback that a checkpoint would keep
            self.passes = self._new_passes()
            return "with weights in 4 bit"
        if self.plan.mode is PassMode.RECORDED and not can_be_recorded(self.model):
            self.plan.stop_recording()
        onward = self.plan.out_of_memory(examples, tokens)
        self._follow_plan()
        return onward

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Run passes as the run did that is resumed, whose checkpoint `kept` its plan."""
        if self.job.processes.count == 1:
            self.plan.go_on(kept)
            self._follow_plan()

    def _follow_plan(self) -> None:
        self.data_collator.tokens_per_pass = self.plan.tokens_per_pass
        if self.plan.mode is PassMode.CHECKPOINTED and not self.model.is_gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            use_chunked_loss(self.model if self.job.trains_all else self.model.get_base_model())
        self.passes = self._new_passes()  # the recordings of those before hold memory

    def _train_parts(self, model: Any, parts: Sequence[Part], count: torch.Tensor) -> Any:
        if self.flat:
            self.flat.begin_step()
        if self.passes:
            replays = self.plan.replays
            return sum(self.passes.run(part, count, replays) for part in parts)
        losses = []
        for number, part in enumerate(parts, start=1):
            # Several processes exchange their gradients once, after the last part.
            with contextlib.nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part.model_inputs(), count))
        return sum(losses)

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        if self.flat is None:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_([self.flat.parameter], self.args.max_grad_norm)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the loss of each step since the last call; Trainer would log their mean."""
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

    def _new_passes(self) -> Passes | None:
        """Return what runs passes in the plan's mode, or None if Trainer does."""
        if self.flat is None or not self._own_passes:
            return None
        if self.plan.mode is PassMode.RECORDED:
            shapes, share = few_shapes(self._sizes()), self.job.step_share
            return RecordedPasses(self.flat, self._loss_of, self.model, self._pad_id, shapes, share)
        return Passes(self.flat, self._loss_of)

    def _sizes(self) -> list[tuple[int, int]]:
        """Return tokens and counted positions of all parts of the first epoch, as its steps are cut now."""
        filler = TrainingExample([self._pad_id], [IGNORED])
        sizes = []
        for step in self.order.steps(0):
            examples = [self._examples[place] if place < len(self._examples) else filler for place in step]
            for some in cut([len(example.input_ids) for example in examples], self.plan.tokens_per_pass):
                part = examples[some.start : some.stop]
                counts = sum(example.counted_tokens for example in part)
                sizes.append((sum(len(example.input_ids) for example in part), counts))
        return sizes

    def _loss_of(self, part: Part, count: torch.Tensor) -> torch.Tensor:
        with self.compute_loss_context_manager():
            return self.compute_loss(self.model_wrapped, part.model_inputs(), num_items_in_batch=count)


def _first_plan(job: TrainingJob, model: Any, flash: bool, device: torch.device) -> PassPlan:
    """Return the plan to start with, on `device`; `flash`: FlashAttention computes packed rows."""
    # Several processes exchange gradients in the middle of a pass, which no recording can hold.
    alone = job.processes.count == 1
    return PassPlan(
        tokens_per_pass(model, device),
        can_record=flash and alone and model.dtype != torch.float16 and can_be_recorded(model),
        # unsloth has its own forward pass.
        can_checkpoint=not job.with_unsloth and model.supports_gradient_checkpointing,
    )


def _is_lean(job: TrainingJob, model: Any) -> bool:
    """Whether `LeanAdapter` computes the passes: where it casts the adapter, several processes could not exchange."""
    casts = model.dtype != torch.float32 and job.processes.count > 1
    return not job.with_unsloth and not casts and can_be_lean(model)


def _arguments(job: TrainingJob, model: Any, folder: Path, steps_between_reads: int, autocast: bool) -> SFTConfig:
    recipe = job.recipe
    on_gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        **common_arguments(recipe, model, folder, autocast),
        per_device_train_batch_size=job.step_share,  # `training_step` cuts it into parts
        gradient_accumulation_steps=1,
        # The examples are token ids with labels already, none too long.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        logging_steps=steps_between_reads,
        # The loss counts answers alone: how a mixture of experts balances depends on how a step is cut.
        router_aux_loss_coef=0.0,
        # Copy the next step's examples to the GPU without waiting for it.
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},
        ddp_find_unused_parameters=False,
    )
    if job.processes.count == 1:
        use_one_gpu(arguments)
    return arguments
