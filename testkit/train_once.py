"""A small training in a process of its own: `python -m testkit.train_once BASE CHECKPOINTS OUT`."""

import os
import sys
from pathlib import Path

from text2sql.core.params import LoraParams, ModelParams, TrainParams
from text2sql.model.adapters import save_adapter
from text2sql.prompts.messages import bare_messages
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

os.environ["HF_HUB_OFFLINE"] = "1"

PAIRS = [
    (bare_messages(question), query)
    for question, query in (
        ("How many singers are there?", "SELECT count(*) FROM singer"),
        ("List all names of ferries, newest first.", "SELECT name FROM ferry ORDER BY built DESC"),
        ("What is the average age?", "SELECT avg(age) FROM person"),
        ("Which cities have more than ten stations?", "SELECT city FROM station GROUP BY city HAVING count(*) > 10"),
        ("Show the title of every film that no cinema has shown.", "SELECT title FROM film WHERE id NOT IN (1, 2)"),
        ("Count the dogs.", "SELECT count(*) FROM dog"),
        ("Hi", "SELECT 1"),
    )
]


def model_params(base, **changes) -> ModelParams:
    """Return params of the model in the folder `base`."""
    settings = {"base": str(base), "loader": "transformers", "quantization": "none", "dtype": "float32"}
    return ModelParams(**{**settings, **changes})


def recipe(**changes) -> TrainParams:
    """Return a small recipe: two epochs of four steps, the second step of the last epoch partly filled up."""
    settings = {
        "lr": 1e-2,
        "epochs": 2,
        "batch_size": 2,
        "grad_accum": 1,
        "optim": "adamw_torch",
        "seed": 3407,
        "scheduler": "linear",
        "warmup": 0.1,
        "weight_decay": 0.01,
        "max_seq_len": 128,
        "checkpoint_minutes": 60,
        "lora": LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "v_proj", "down_proj"]),
    }
    return TrainParams(**{**settings, **changes})


# With dropout, so that a resumed run needs the random numbers' state as well; a checkpoint after every step.
INTERRUPTED = {
    "checkpoint_minutes": 1e-6,
    "lora": LoraParams(r=4, alpha=8, dropout=0.2, target_modules=["q_proj", "v_proj"]),
}


def main(base: str, checkpoints: str, out: str) -> None:
    """Train on `base`, and write the adapter to `out`."""
    job = TrainingJob("m1", model_params(base), recipe(**INTERRUPTED))
    training = train_adapter(job, PAIRS, Path(checkpoints))
    save_adapter(training.model, out, model_params(base), "# card\n")
    training.checkpoints.remove()


if __name__ == "__main__":
    main(*sys.argv[1:])
