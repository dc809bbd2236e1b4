"""What is trained, how, and by how many processes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_object
from text2sql.core.params import ModelParams, TrainParams
from text2sql.core.processes import Processes
from text2sql.model.adapters import CONFIG
from text2sql.training.examples import variants
from text2sql.training.snapshots import Snapshots


@dataclass(frozen=True)
class TrainingJob:
    """One model's training: its model's name (`m1`, `m2`), base, recipe, and the processes that share it.

    `stage` names its stage in dvc.yaml, if it is one: checkpoints then depend on the stage's inputs and code too.
    `template` holds the chat template's variables, `inputs` what else checkpoints depend on, {name: any JSON value}.
    `start` is the folder of the adapter that training goes on from, None for a new one. `snapshots`: where the adapter
    is kept along the way, if it is.
    """

    name: str
    model: ModelParams
    recipe: TrainParams
    processes: Processes = Processes()
    stage: str | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None
    snapshots: Snapshots | None = None

    @property
    def step_size(self) -> int:
        """How many examples a step trains, in all processes together."""
        return self.recipe.batch_size * self.recipe.grad_accum

    @property
    def step_share(self) -> int:
        """How many of them one process trains."""
        return step_share(self.recipe.batch_size, self.recipe.grad_accum, self.processes.count)

    def check_step_size(self) -> None:
        """Raise UserError if a step cannot be divided among the processes."""
        step_share(self.recipe.batch_size, self.recipe.grad_accum, self.processes.count)

    @property
    def trains_all(self) -> bool:
        """Whether all weights are trained, and no adapter."""
        return self.recipe.method == "full"

    def check_method(self) -> None:
        """Raise UserError where all weights shall be trained and are not there to be, and for what DoRA does not take.

        That is loaders and quantised weights that it was not tried with, and a strength: no factor scales it.
        """
        method = self.recipe.method
        if method != "lora" and (self.with_unsloth or self.model.quantization != "none"):
            raise UserError(
                f"train.method: {method}: takes model.loader: transformers and model.quantization: none, got "
                f"{self.model.loader} and {self.model.quantization}"
            )
        if method == "dora" and self.model.strength != 1:
            raise UserError(
                f"train.method: dora: takes model.strength: 1, got {self.model.strength:g}: no factor scales it"
            )

    @property
    def ways(self) -> int:
        """In how many ways each example is written: of a pair, as its right and its wrong answer."""
        return 2 if self.with_pairs else variants(self.recipe)

    @property
    def with_pairs(self) -> bool:
        """Whether it trains on pairs of a right and a wrong answer."""
        return self.recipe.objective == "dpo"

    def check_start(self) -> None:
        """Raise UserError where it goes on from an adapter in a way that was not tried, or from none."""
        objective = self.recipe.objective
        if objective not in ("dpo", "grpo"):
            return
        if self.start is None:
            raise UserError(f"train.objective: {objective}: goes on from an adapter, and train.from names none")
        wanted = {"train.method": self.recipe.method == "full", "train.augment": self.recipe.augment != "none"}
        wanted |= {"model.loader": self.with_unsloth}
        for name in (name for name, is_wrong in wanted.items() if is_wrong):
            takes = {"train.method": "lora or dora", "train.augment": "none", "model.loader": "transformers"}[name]
            raise UserError(f"train.objective: {objective}: takes {name}: {takes}")
        config = read_object(self.start / CONFIG, {"r": int, "lora_alpha": int})
        shape = config["r"], config["lora_alpha"], bool(config.get("use_dora"))
        if shape != (self.recipe.lora.r, self.recipe.lora.alpha, self.recipe.method == "dora"):
            raise UserError(
                f"train.objective: {objective}: goes on with the adapter of {self.start}: takes its train.lora.r "
                f"{shape[0]}, train.lora.alpha {shape[1]} and train.method {'dora' if shape[2] else 'lora'}"
            )
        if self.processes.count > 1:
            raise UserError(
                f"train.objective: {objective}: trains in one process, and there are {self.processes.count}"
            )

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the model alone: accelerate's configuration asks for FSDP."""
        return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

    @property
    def with_unsloth(self) -> bool:
        """Whether unsloth loads and trains it, with a forward pass, loss and optimizer of its own."""
        return self.model.loader == "unsloth"


def check_shards(job: TrainingJob) -> None:
    """Raise UserError where the model of `job` cannot be trained in shards, as accelerate's configuration asks for."""
    version, lean = os.environ.get("FSDP_VERSION", "1"), os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    asked = "accelerate's config asks for FSDP:"
    if job.processes.count == 1:
        raise UserError(f"{asked} takes several processes, and there is one")
    if _on_cpus():
        raise UserError(f"{asked} needs GPUs: accelerate shards on accelerators alone")
    if version != "2":
        raise UserError(f"{asked} fsdp_version: takes 2, got {version} (launch/fsdp.yaml)")
    if lean.lower() == "true":
        raise UserError(f"{asked} fsdp_cpu_ram_efficient_loading: takes false, got true (launch/fsdp.yaml)")
    if job.with_unsloth or job.model.quantization != "none":
        raise UserError(
            f"{asked} takes model.loader: transformers and model.quantization: none, got {job.model.loader} and "
            f"{job.model.quantization}"
        )
    if job.recipe.optim.endswith("8bit"):
        raise UserError(f"{asked} takes train.optim: adamw_torch, got {job.recipe.optim}: its state is not sharded")


def _on_cpus() -> bool:
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    return bool(PartialState().distributed_type == DistributedType.MULTI_CPU)


def step_share(batch_size: int, grad_accum: int, processes: int) -> int:
    """Return how many examples of each step one process trains: an equal share of the recipe's product.

    Raises UserError if it cannot be divided.
    """
    if batch_size * grad_accum % processes:
        raise UserError(
            f"train: batch_size {batch_size} × grad_accum {grad_accum} cannot be divided among {processes} "
            f"processes; takes a product that is a multiple of {processes}"
        )
    return batch_size * grad_accum // processes
