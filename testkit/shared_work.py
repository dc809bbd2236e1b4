"""A small training, and answers of what it trained, by all processes of one run together (see test_processes).

    torchrun --nproc_per_node 3 -m testkit.shared_work BASE FOLDER TASK ...

Each task writes what came of it below FOLDER.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testkit.train_once import PAIRS, model_params, recipe
from text2sql.core.dependencies import Key
from text2sql.core.errors import run
from text2sql.core.files import write_json
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams
from text2sql.core.processes import Processes, current_processes
from text2sql.data.mmlu import Question
from text2sql.model.adapters import save_adapter
from text2sql.prompts.messages import bare_messages
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

# Steps of twelve examples and of the two that are left: of three processes and more, some have none of these.
FOURTEEN = [*PAIRS, *((bare_messages(f"Name {n} ferries."), f"SELECT name FROM ferry LIMIT {n}") for n in range(7))]
RECIPE = recipe(lr=1e-3, batch_size=3, grad_accum=4, epochs=50)
# Of many lengths. They fill no whole number of batches, and these no whole rounds of several processes.
ASKED = [f"{word}? {'Please. ' * (number % 7)}" for number, word in enumerate("who what why how when".split() * 21)]
BATCH_SIZE = 4
CHOICES = ("a cat", "a long river", "the sum of both", "none")


def main(arguments: Sequence[str]) -> None:
    """Do the tasks, one after the other, in this one of the processes."""
    base, folder, *tasks = arguments
    processes, folder = current_processes(), Path(folder)
    found = _gathered(processes, {"index": processes.index, "count": processes.count, "pid": os.getpid()})
    if processes.is_main:
        write_json(folder / "processes.json", found)
    for task in tasks:
        TASKS[task](base, folder, processes)


def train(base: str, folder: Path, processes: Processes, name: str = "adapter", **changes: Any) -> None:
    """Train on fourteen examples, with a checkpoint an epoch, which is two steps."""
    params = model_params(base, loader=changes.pop("loader", "transformers"))
    job = TrainingJob("m1", params, RECIPE.model_copy(update=changes), processes)
    training = train_adapter(job, FOURTEEN, folder / "checkpoints")
    if training is not None:
        save_adapter(training.model, folder / name, model_params(base), "# card\n")
        write_json(folder / f"{name}.json", {"metrics": training.metrics, "curve": training.loss_curve})
        training.checkpoints.remove()
    processes.wait()  # for the adapter, which the next task reads


def dropped(base: str, folder: Path, processes: Processes) -> None:
    """Train, and again while one process's share counts nothing: the fault that a comparison is to find."""
    from text2sql.training.trainer import AdapterTrainer

    train(base, folder, processes, "undropped", epochs=5)
    real = AdapterTrainer.compute_loss
    if processes.index == 1:
        AdapterTrainer.compute_loss = lambda *a, **k: real(*a, **k) * 0
    train(base, folder, processes, "dropped", epochs=5)
    AdapterTrainer.compute_loss = real


def unsloth(base: str, folder: Path, processes: Processes) -> None:
    """Train with unsloth, which is refused."""
    train(base, folder, processes, loader="unsloth")


def predict(base: str, folder: Path, processes: Processes, asked: Sequence[str] = ASKED, name: str = "predict") -> None:
    """Answer questions as the stage predict_spider does, with the adapter where it is there."""
    from text2sql.evaluation import spider

    model = _model(base, folder, processes)
    examples = [{"index": i, "db_id": "x", "question": q, "query": "SELECT 1"} for i, q in enumerate(asked)]
    generation = GenerationParams(max_new_tokens=12, batch_size=BATCH_SIZE)
    prompt = spider.SpiderPrompt({}, "none", [])
    given = spider.predict(model, examples, prompt, generation, _journaled(name, folder, processes))
    if given is not None:
        write_json(folder / f"{name}.json", given)


def mmlu(base: str, folder: Path, processes: Processes, asked: Sequence[str] = ASKED, name: str = "mmlu") -> None:
    """Choose answers as the stage eval_mmlu does."""
    from text2sql.evaluation.mmlu import answer_questions

    model = _model(base, folder, processes)
    # Of two subjects, one of which fills no batch.
    questions = [Question("music" if i else "physics", i, q, CHOICES, 0) for i, q in enumerate(asked)]
    subjects = {"music": "humanities", "physics": "STEM"}
    shots = {subject: [Question(subject, 0, "Which one?", CHOICES, 2)] for subject in subjects}
    run = _journaled(name, folder, processes)
    chosen = answer_questions(model, questions, shots, subjects, BATCH_SIZE, run)
    if chosen is not None:
        write_json(folder / f"{name}.json", chosen.records)


def few(base: str, folder: Path, processes: Processes) -> None:
    """Ask fewer questions than there are processes."""
    predict(base, folder, processes, ASKED[:1], "few-predict")
    mmlu(base, folder, processes, ASKED[:1], "few-mmlu")


def _model(base: str, folder: Path, processes: Processes) -> Any:
    from text2sql.model.language_model import LanguageModel

    adapter = folder / "adapter"
    model = LanguageModel(model_params(base), adapter if adapter.exists() else None)
    processes.wait()  # so that the first to load it does not take all the work, of which there is little
    return model


def _journaled(name: str, folder: Path, processes: Processes) -> Any:
    from text2sql.evaluation.batching import JournaledRun

    return JournaledRun(Journal(name, Key.of({}), processes.index, folder / "journals"), name, processes)


def _gathered(processes: Processes, value: Any) -> list:
    if processes.count == 1:
        return [value]
    import torch

    values = [None] * processes.count
    torch.distributed.all_gather_object(values, value)
    return values


TASKS = {"train": train, "dropped": dropped, "unsloth": unsloth, "predict": predict, "mmlu": mmlu, "few": few}

if __name__ == "__main__":
    run(main)
