"""What a recipe says to any of TRL's trainers, in their words."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from text2sql.core.params import TrainParams


def common_arguments(recipe: TrainParams, model: Any, folder: Path, autocast: bool = True) -> dict[str, Any]:
    """Return the arguments that all trainers share: schedule, optimizer, precision, and that TRL saves nothing itself.

    Autocast is only for a base in half precision on a GPU, and without `autocast`, where the adapter's layers cast
    themselves, for none; on a CPU the products of PEFT's layers are few, and stay in float32. Files go to `folder`.
    """
    on_gpu = torch.cuda.is_available()
    dtype = model.get_input_embeddings().weight.dtype
    return {
        "output_dir": str(folder),
        "num_train_epochs": recipe.epochs,
        "learning_rate": recipe.lr,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "optim": recipe.optim,
        "seed": recipe.seed,
        "bf16": on_gpu and dtype == torch.bfloat16 and autocast,
        "fp16": on_gpu and dtype == torch.float16,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": False,
        "logging_nan_inf_filter": False,  # a NaN or infinite loss stops the training
        "save_strategy": "no",  # `Watch` says when
        "report_to": "none",
        "disable_tqdm": True,  # `Progress` is our bar
    }


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Have one process use one GPU, where the machine has several: those need `accelerate launch`."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
