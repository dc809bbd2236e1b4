"""Training a model that is larger than one GPU: its weights, gradients and optimizer in shards, one a process.

accelerate's configuration asks for it (`launch/fsdp.yaml`) and does the work, with PyTorch's `fully_shard` (FSDP2):
each layer's weights are gathered when it is their turn, and given back afterwards. The order of examples, the loss and
the saved adapter are those of one process.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from trl import SFTTrainer

from text2sql.model.whole_model import CHECKPOINT
from text2sql.training.examples import IGNORED
from text2sql.training.parts import Part
from text2sql.training.plan import PassMode
from text2sql.training.trainer import AdapterTrainer

OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"
# The whole state in the main process's CPU memory, so that a checkpoint serves any number of processes.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedTrainer(AdapterTrainer):
    """`AdapterTrainer` of a model that accelerate shards over the processes."""

    shards = True
    optimizer: Any  # not None where these are used
    lr_scheduler: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is None:
            raise RuntimeError("accelerate was asked for FSDP and does not shard the model")
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.accelerator.mixed_precision)
        # Gradients are summed in float32, as one process sums them.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
        # Whoever shards lacks memory, and a step that runs out of it cannot begin anew in one process alone.
        self.plan.mode = PassMode.CHECKPOINTED
        self._follow_plan()

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the recipe's optimizer, with the same weight decay for all: as of the one tensor of `flat`."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self.optimizer = kind([{"params": trained, "weight_decay": self.args.weight_decay}], **options)
        return self.optimizer

    def _train_parts(self, model: Any, parts: Sequence[Part], count: torch.Tensor) -> Any:
        """Sum the gradients of a step, in as many passes in each process: all gather a layer's weights together."""
        most = torch.tensor(len(parts), device=self.accelerator.device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        filler = {"input_ids": [self._pad_id], "labels": [IGNORED]}
        idle = [self.data_collator.part([filler]) for _ in range(int(most) - len(parts))]
        parts = [*parts, *(part.to(self.accelerator.device) for part in idle)]
        return sum(SFTTrainer.training_step(self, model, part.model_inputs(), count) for part in parts)

    def gather(self) -> None:
        """Put the trained weights together again, in the main process's CPU memory; the model cannot train further."""
        whole = self._trained()
        if not self.job.processes.is_main:
            return
        for name, value in whole.items():
            module, _, last = name.rpartition(".")
            setattr(self.model.get_submodule(module), last, torch.nn.Parameter(value))
        if self.job.trains_all:
            self.model.tie_weights()  # of two names of one weight the loop meets the first

    def _trained(self) -> dict[str, torch.Tensor]:
        """Return the trained weights by name in the main process; all take part, one weight after another."""
        found = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                value = parameter.detach()
                value = value.full_tensor() if isinstance(value, DTensor) else value
                if self.job.processes.is_main:
                    found[name] = value.to("cpu", copy=True)
        return found

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trained weights to a checkpoint's folder."""
        whole = self._trained()
        if self.job.processes.is_main:
            os.makedirs(str(output_dir), exist_ok=True)
            save_file(whole, Path(str(output_dir)) / CHECKPOINT)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        kept = load_file(Path(resume_from_checkpoint) / CHECKPOINT)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(_sharded_as(parameter, kept[name]))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE)
        if self.job.processes.is_main:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state, schedule = (
            torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True)
            for name in (OPTIMIZER, SCHEDULER)
        )
        set_optimizer_state_dict(self.model, self.optimizer, state, options=WHOLE)
        self.lr_scheduler.load_state_dict(schedule)


def _sharded_as(parameter: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return `whole` in the shards of `parameter`."""
    if not isinstance(parameter, DTensor):
        return whole.to(parameter.device)
    return distribute_tensor(whole.to(parameter.device), parameter.device_mesh, parameter.placements)
