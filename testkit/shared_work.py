"""A small training, and answers of what it trained, by all processes of one run together (see test_processes).

    torchrun --nproc_per_node 3 -m testkit.shared_work BASE FOLDER TASK ...

Each task (`train`, `dropped`, `answers`) writes what came of it below FOLDER. Of `train-dies` and `answers-dies` one
process is killed in the middle.
"""

import os
import signal
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

# Steps of six examples and of the two that are left: of three processes, two have none of these.
EIGHT = [*PAIRS, (bare_messages("Name one ferry."), "SELECT name FROM ferry LIMIT 1")]
RECIPE = recipe(batch_size=3, grad_accum=2, epochs=6, checkpoint_minutes=1e-6)
DIES_AT_STEP, DIES_AT_BATCH = 7, 2
ASKED = [f"{word}? {'Please. ' * (number % 4)}" for number, word in enumerate("who what why how when".split() * 2)]
CHOICES = ("a cat", "a long river", "the sum of both", "none")


def main(arguments: Sequence[str]) -> None:
    """Do the tasks, one after the other, in this one of the processes."""
    base, folder, *tasks = arguments
    processes, folder = current_processes(), Path(folder)
    found = _gathered(processes, {"index": processes.index, "count": processes.count, "pid": os.getpid()})
    if processes.is_main:
        write_json(folder / "processes.json", found)
    for task in tasks:
        work, _, dies = task.partition("-")
        TASKS[work](base, folder, processes, bool(dies))


def train(base: str, folder: Path, processes: Processes, dies: bool, name: str = "adapter") -> None:
    """Train on eight examples. Where it `dies`, that is the main process."""
    if dies and processes.is_main:
        from text2sql.training.callbacks import Watch

        _die_at_call(Watch, "on_step_end", DIES_AT_STEP)
    training = train_adapter(TrainingJob("m1", model_params(base), RECIPE, processes), EIGHT, folder / "checkpoints")
    if training is not None:
        save_adapter(training.model, folder / name, model_params(base), "# card\n")
        write_json(folder / f"{name}.json", {"metrics": training.metrics, "curve": training.loss_curve})
        training.checkpoints.remove()
    processes.wait()  # for the adapter, which the next task reads


def dropped(base: str, folder: Path, processes: Processes, dies: bool) -> None:
    """Train while one process's share counts nothing: the fault that a comparison of adapters is to find."""
    from text2sql.training.trainer import AdapterTrainer

    real = AdapterTrainer.compute_loss
    if processes.index == 1:
        AdapterTrainer.compute_loss = lambda *a, **k: real(*a, **k) * 0
    train(base, folder, processes, dies, "dropped")
    AdapterTrainer.compute_loss = real


def answers(base: str, folder: Path, processes: Processes, dies: bool) -> None:
    """Answer questions as the two stages do. Where it `dies`, that is the last process, at its second batch."""
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.mmlu import answer_questions
    from text2sql.evaluation.spider import SpiderPrompt, predict
    from text2sql.model.language_model import LanguageModel

    model = LanguageModel(model_params(base), folder / "adapter")
    asked: list[int] = []
    real = model.generate
    model.generate = lambda prompts, most: asked.append(len(prompts)) or real(prompts, most)
    if dies and processes.index == processes.count - 1:
        _die_at_call(model, "generate", DIES_AT_BATCH)
    examples = [{"index": i, "db_id": "x", "question": q, "query": "SELECT 1"} for i, q in enumerate(ASKED)]
    runs = {
        name: JournaledRun(Journal(name, Key.of({}), processes.index, folder / "journals"), name, processes)
        for name in ("predict", "mmlu")
    }
    generation = GenerationParams(max_new_tokens=12, batch_size=2)
    given = predict(model, examples, SpiderPrompt({}, "none", []), generation, runs["predict"])
    questions = [Question("music", i, q, CHOICES, 0) for i, q in enumerate(ASKED)]
    shots, categories = {"music": [Question("music", 0, "Which one?", CHOICES, 2)]}, {"music": "humanities"}
    chosen = answer_questions(model, questions, shots, categories, 2, runs["mmlu"])
    counts = _gathered(processes, sum(asked))
    if given is not None:
        write_json(folder / "answers.json", {"predicted": given, "chosen": chosen.records, "asked": counts})


def _gathered(processes: Processes, value: Any) -> list:
    if processes.count == 1:
        return [value]
    import torch

    values = [None] * processes.count
    torch.distributed.all_gather_object(values, value)
    return values


def _die_at_call(owner: Any, name: str, number: int) -> None:
    """Have the `number`-th call of the function end this process as `kill -9` does."""
    real, calls = getattr(owner, name), []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, call)


TASKS = {"train": train, "dropped": dropped, "answers": answers}

if __name__ == "__main__":
    run(main)
