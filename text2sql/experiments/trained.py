"""Adapters that runs of a curve or a search train, each once, below their work folder."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_json, read_jsonl, write_json
from text2sql.core.params import ModelEntry, Params
from text2sql.data.schema import read_schemas
from text2sql.experiments.answers import TrainingAnswers
from text2sql.experiments.asking import database_below, measure_anew, verifier_prompt
from text2sql.experiments.claims import claim
from text2sql.experiments.inputs import training_key
from text2sql.experiments.points import Run, Verifier
from text2sql.model.loading import KeptBase, free_memory
from text2sql.model.model_card import model_card, verifier_card
from text2sql.model.run_key import as_measured
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders, rich_schemas
from text2sql.scoring.contrasts import contrasts
from text2sql.scoring.judged import JudgedQuestion
from text2sql.training.examples import training_pairs
from text2sql.training.fine_tune import Training, train_adapter
from text2sql.training.folds import Fold
from text2sql.training.job import TrainingJob
from text2sql.training.judged_answers import lessons
from text2sql.training.rewards import asked_for_reward, reward_for, train_by_reward
from text2sql.training.snapshots import Snapshots, steps_along
from text2sql.training.verifier import verifier_pairs


class Trainings:
    """The adapters of runs that share the prepared benchmarks in `data`, the key `shared` and a base.

    Those that one of `runs` is asked along are kept along, whichever run trains them.
    """

    def __init__(self, data: Path, work: Path, shared: Key, load: KeptBase, runs: Sequence[Run] = ()) -> None:
        self._data, self._work, self._shared, self._load = data, work, shared, load
        self._answers = TrainingAnswers(data, work, shared, load, self.adapter)
        self._places: dict[Path, int] = {}
        for run in (run for run in runs if run.along):
            folder = self.folder(run)  # of several runs where all that differs is how they are asked
            self._places[folder] = math.lcm(self._places.get(folder, 1), run.along)

    def folder(self, run: Run, fold: Fold | None = None) -> Path:
        """Return where the adapter of `run` lies, or will; with `fold`, the one that leaves out its databases."""
        key = Key({**self._shared.parts, **training_key(run, fold).parts})
        return self._work / "models" / key.digest

    def is_there(self, run: Run, fold: Fold | None = None) -> bool:
        """Whether that adapter was trained, and kept along where that is wanted."""
        folder = self.folder(run, fold)
        if not (folder.is_dir() and folder.with_suffix(".json").is_file()):
            return False
        snapshots = self._snapshots(folder)
        return snapshots is None or snapshots.are_there(read_json(folder.with_suffix(".json"))["metrics"]["steps"])

    def _snapshots(self, folder: Path) -> Snapshots | None:
        """Return where the adapter that lies in `folder` is kept along its training, None where it is not."""
        places = self._places.get(folder)
        return Snapshots(folder.with_name(f"{folder.name}-at"), places) if places else None

    def to_come(self, run: Run) -> list[Path]:
        """Return the folders of adapters that `run` takes and that are not there yet, each once.

        First its own, then that of its teacher, then likewise of its verifier.
        """
        found = self.to_come(run.verifier) if run.verifier else []
        if run.trains and not self.is_there(run):
            teachers = self.to_come(run.learns.teacher) if run.learns and _takes_teacher(run) else []
            found = [self.folder(run), *teachers, *found]
        return list(dict.fromkeys(found))

    def adapter(self, run: Run, fold: Fold | None = None) -> tuple[Path, dict[str, Any]]:
        """Return the adapter of `run`, and its `metrics` and `timings`; other runs may have trained it before.

        With `fold`, that of the same recipe without the fold's databases. A verifier's has the `databases` that it was
        trained on, too. Raises as `train_adapter` does, and RunError where the answers that it learns from have nothing
        to teach.
        """
        folder = self.folder(run, fold)
        # A run's own is claimed by whoever is at the run; that of a fold is wanted by several.
        with claim(self._work, f"train-{folder.name}", wait=True) if fold else nullcontext():
            if not self.is_there(run, fold):
                self._train(run, folder, fold)
                free_memory()
        return folder, read_json(folder.with_suffix(".json"))

    def along(self, run: Run) -> "list[Place]":
        """Return the places of its training where `run` is asked, the end last. Raises as `adapter` does."""
        folder, training = self.adapter(run)
        total, examples = training["metrics"]["steps"], training["metrics"]["examples"]
        step_size, snapshots = run.params.train.batch_size * run.params.train.grad_accum, self._snapshots(folder)
        assert snapshots is not None, "it is kept at the places of all runs"
        found = []
        for step in steps_along(total, run.along):
            epochs, further = divmod(step, math.ceil(examples / step_size))
            seen = epochs * examples + further * step_size
            found.append(Place(step, total, seen, folder if step == total else snapshots.at(step)))
        return found

    def _train(self, run: Run, folder: Path, fold: Fold | None) -> None:
        params, name = run.params, str(run.trained_as)
        if fold:
            name += f"-without-{fold.name}"
        taught = self._contrasted(run) if isinstance(run, Verifier) else self._taught(run, fold)
        job = TrainingJob(
            name,
            params.model,
            params.train,
            template=params.prompt.template,
            inputs=dict(self._shared.parts),
            start=taught.start,
            snapshots=self._snapshots(folder),
        )
        measure_anew()
        train = taught.train or partial(train_adapter, checkpoints=self._work / "checkpoints", load=self._load)
        training = train(job, taught.pairs)
        assert training is not None  # one process trains
        metrics = training.metrics | taught.counts
        loaded = as_measured(params.model, training.model)
        path = self._work / "timings" / f"{name}-train.json"
        timing = training.stopwatch.write(path, "train", name, metrics["examples"], metrics["tokens"], loaded)
        card = verifier_card(params, params.train, metrics) if isinstance(run, Verifier) else _card(params, metrics)
        training.save(folder, card)
        about = {"metrics": metrics, "timings": {"train": timing} | taught.timings, **taught.about}
        write_json(folder.with_suffix(".json"), about)
        training.checkpoints.remove()

    def _taught(self, run: Run, fold: Fold | None) -> "_Taught":
        """Return what `run` is trained on: gold, or what `lessons` makes of it and of another's answers."""
        recipe = run.params.train
        if recipe.objective != "sft" and run.learns is None:
            raise UserError(f"train.objective: {recipe.objective}: not among a search's trials, which have no answers")
        conversations = read_jsonl(self._data / "spider/qa_sharegpt.jsonl")
        if run.learns is None:
            return _Taught(self._pairs(run, fold.without(conversations) if fold else conversations))
        assert fold is None  # `points` refuses folds of what learns from answers
        teacher = self.adapter(run.learns.teacher)[0] if _takes_teacher(run) else None
        questions, about = self._answers.of(run.learns)
        free_memory()
        try:
            taught = self._by_answers(run, conversations, questions)
        except UserError as error:  # of this point: the others go on
            raise RunError(str(error)) from None
        counts = ", ".join(f"{key} {count}" for key, count in taught.counts.items())
        print(f"train_{run.trained_as}: answers of {run.learns.teacher.trained_as}: {counts}", flush=True)
        said = {"objective": recipe.objective, "from": run.learns.teacher.trained_as, "answers": taught.counts}
        return replace(
            taught,
            start=None if recipe.objective == "rejection" else teacher,
            counts=said | {"drawn": about["drawn"]},
            timings=about["timings"],
        )

    def _pairs(self, run: Run, conversations: Sequence[dict]) -> list[tuple[list[dict], str]]:
        """Return chat messages and the answer to learn for each of `conversations`."""
        shown = run.params.prompt
        few_shot = load_few_shot(shown.few_shot_file, shown.few_shot)
        schemas = read_schemas(self._data / "spider/schemas.json", shown.descriptions)
        rich = rich_schemas(shown, in_folders(self._data / "databases"))
        pairs = training_pairs(conversations, schemas, shown, few_shot, rich, run.params.train)
        for line in rich.lines() if rich else ():
            print(f"train_{run.trained_as}: {line}", flush=True)
        return pairs

    def _contrasted(self, run: Verifier) -> "_Taught":
        """Return what a verifier is trained on: right and wrong answers to the same questions."""
        assert run.learns is not None
        questions, about = self._answers.of(run.learns)
        free_memory()
        recipe, teacher = run.params.train, run.learns.teacher.trained_as
        chosen = contrasts(questions, recipe.per_question)
        if not chosen.picked:  # of the points that it would judge: the others go on
            count = len(questions)
            raise RunError(f"verifier {run.name}: none of {count} questions has right and wrong answers that run")
        prompt = verifier_prompt(run, self._data)
        pairs = verifier_pairs(chosen, prompt)
        print(f"train_{run.trained_as}: {len(pairs)} answers of {teacher}, as many right as wrong", flush=True)
        for line in prompt.rich.lines() if prompt.rich else ():
            print(f"train_{run.trained_as}: {line}", flush=True)
        return _Taught(
            pairs,
            counts={"from": teacher, "per_question": recipe.per_question, **chosen.counts, "drawn": about["drawn"]},
            timings=about["timings"],
            about={"databases": sorted({question.db_id for question, _ in chosen.picked})},
        )

    def _by_answers(self, run: Run, conversations: Sequence[dict], questions: Sequence[JudgedQuestion]) -> "_Taught":
        """Return what `questions` teach, and how many; of grpo, those that it draws answers to as it goes on."""
        recipe = run.params.train
        if recipe.objective != "grpo":
            learnt = lessons(recipe, conversations, questions)
            pairs = self._pairs(run, [*learnt.conversations, *learnt.rejected])
            return _Taught(pairs, counts=dict(learnt.counts))
        asked, left_out = asked_for_reward(questions)
        reward = reward_for(asked, self._answers.examples(), run.params, recipe, partial(database_below, self._data))
        return _Taught(
            self._pairs(run, [conversations[question.index] for question in asked]),
            counts=left_out,
            train=partial(train_by_reward, reward=reward, load=self._load),
        )


def _takes_teacher(run: Run) -> bool:
    """Whether a run that learns from answers needs the very adapter: to go on from, or to answer."""
    assert run.learns
    return run.params.train.objective in ("dpo", "grpo") or run.learns.answers.folds == 1


@dataclass(frozen=True)
class Place:
    """A place of a training: after `step` of its `total` steps, when so many examples were seen; its adapter."""

    step: int
    total: int
    examples: int
    adapter: Path


@dataclass(frozen=True)
class _Taught:
    """What is trained on, the adapter to go on from, and what metrics and timings say of it besides the training's.

    `train` trains by rewards, None by examples. `about`: what else is kept beside the adapter.
    """

    pairs: Sequence[tuple[list[dict], str]]
    start: Path | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    train: Callable[[TrainingJob, Sequence[tuple[list[dict], str]]], Training | None] | None = None


def _card(params: Params, metrics: dict[str, Any]) -> str:
    """Return the card of the model whose recipe is the section `train`, under that model's title."""
    name = next(name for name, entry in params.models.items() if entry.recipe == "train")
    if of := params.train.from_:  # a point, which `models` does not name
        params = params.model_copy(update={"models": {**params.models, of: ModelEntry(title=of)}})
    return model_card(name, params, metrics)
