"""Adapters that runs of a curve or a search train, each once, below their work folder."""

import gc
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, read_jsonl, write_json
from text2sql.core.params import Params
from text2sql.data.schema import read_schemas
from text2sql.experiments.asking import measure_anew
from text2sql.experiments.inputs import training_key
from text2sql.experiments.points import Run
from text2sql.model.loading import KeptBase
from text2sql.model.model_card import model_card
from text2sql.model.run_key import as_measured
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders, rich_schemas
from text2sql.training.examples import training_pairs
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob


class Trainings:
    """The adapters of runs that share the prepared benchmarks in `data`, the key `shared` and a base."""

    def __init__(self, data: Path, work: Path, shared: Key, load: KeptBase) -> None:
        self._data, self._work, self._shared, self._load = data, work, shared, load

    def folder(self, run: Run) -> Path:
        """Return where the adapter of `run` lies, or will."""
        key = Key({**self._shared.parts, **training_key(run.params).parts})
        return self._work / "models" / key.digest

    def is_there(self, run: Run) -> bool:
        """Whether the adapter of `run` was trained."""
        folder = self.folder(run)
        return folder.is_dir() and folder.with_suffix(".json").is_file()

    def adapter(self, run: Run) -> tuple[Path, dict[str, Any]]:
        """Return the adapter of `run` and what is known of its training; other runs may have trained it before.

        Raises as `train_adapter` does.
        """
        params, name = run.params, str(run.trained_as)
        if params.train.objective != "sft":
            raise UserError(f"train.objective: {params.train.objective}: not among a curve's or a search's points")
        folder = self.folder(run)
        about = folder.with_suffix(".json")
        if self.is_there(run):
            return folder, read_json(about)
        few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
        schemas = read_schemas(self._data / "spider/schemas.json", params.prompt.descriptions)
        rich = rich_schemas(params.prompt, in_folders(self._data / "databases"))
        conversations = read_jsonl(self._data / "spider/qa_sharegpt.jsonl")
        pairs = training_pairs(conversations, schemas, params.prompt, few_shot, rich, params.train)
        for line in rich.lines() if rich else ():
            print(f"train_{name}: {line}", flush=True)
        job = TrainingJob(
            name, params.model, params.train, template=params.prompt.template, inputs=dict(self._shared.parts)
        )
        measure_anew()
        training = train_adapter(job, pairs, self._work / "checkpoints", self._load)
        assert training is not None  # one process trains
        metrics = training.metrics
        loaded = as_measured(params.model, training.model)
        path = self._work / "timings" / f"{name}-train.json"
        timing = training.stopwatch.write(path, "train", name, metrics["examples"], metrics["tokens"], loaded)
        training.save(folder, model_card(_trained_model(params), params, metrics))
        write_json(about, {"metrics": metrics, "timing": timing})
        training.checkpoints.remove()
        del training
        free_memory()
        return folder, read_json(about)


def _trained_model(params: Params) -> str:
    """Return the model of params.yaml that the section `train` is the recipe of, whose title the card takes."""
    return next(name for name, entry in params.models.items() if entry.recipe == "train")


def free_memory() -> None:
    """Give back the memory of a model that is no longer named."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
