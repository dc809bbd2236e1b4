"""Run the points of a curve one after another, in one process and without DVC: what specialising gains and costs.

Each run trains (or takes an adapter that is there), answers Spider and MMLU, and is kept, see `kept_runs`. What a kill
leaves unfinished lies below `.tradeoff/`: checkpoints, adapters and answers, all of which the next call goes on from.
"""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_json, read_jsonl, user_cache, write_json, write_jsonl
from text2sql.core.journal import HALVED, Journal
from text2sql.core.timing import Stopwatch
from text2sql.data.mmlu import read_questions
from text2sql.data.schema import read_schemas
from text2sql.data.spider import Example
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions
from text2sql.evaluation.spider import SpiderPrompt, predict
from text2sql.execution.executor import Limits
from text2sql.experiments.curve import write_curve
from text2sql.experiments.inputs import own_key, prepared, shared_key, training_key
from text2sql.experiments.kept_runs import changed_since, keep_run, read_run
from text2sql.experiments.points import Curve, Run
from text2sql.model.base_identity import base_identity
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase, check_hardware
from text2sql.model.model_card import model_card
from text2sql.model.run_key import as_measured
from text2sql.prompts.messages import load_few_shot
from text2sql.report.curve import CURVES
from text2sql.scoring.golds import Gold
from text2sql.scoring.verdicts import Verdict, score_examples, summarise
from text2sql.training.examples import training_pairs
from text2sql.training.fine_tune import Interrupted, train_adapter
from text2sql.training.job import TrainingJob
from text2sql.training.reproducible import fix_workspace

WORK = Path(".tradeoff")
EXAMPLE = {"index": int, "db_id": str, "question": str, "query": str}


def run_curve(curve: Curve, only: Sequence[str] = (), replace: bool = False) -> Path:
    """Run what is not kept of the points of `curve`, or of those named `only`, the base in any case; return the folder.

    A point whose training fails is said and passed over: RunError at the end names all of them. Raises UserError where
    kept points come from another base, other data or other code, unless `replace`, which runs those again; Interrupted
    as `train_adapter` does.
    """
    fix_workspace()  # before anything is computed on a GPU, as training wants it
    check_hardware(curve.params.model, curve.params.train.optim)
    folder = CURVES / curve.name
    # Further seeds last: a curve that is cut short has its points all the same.
    runs = [point.runs[0] for point in curve.points]
    runs += [run for point in curve.points for run in point.runs[1:]]
    if not replace:
        _refuse_another_base(folder, runs, curve)
    runner = _Runner(curve, folder)
    if not replace:
        runner.refuse_others(runs)
    failed = {}
    for number, run in enumerate(runs):
        if number and only and run.point not in only:
            continue
        try:
            runner.finish(run)
        except Interrupted:
            raise
        except RunError as error:
            failed[run.name] = str(error)
            print(f"tradeoff: {run.name}: failed: {error}", flush=True)
        write_curve(curve, folder, runner.shared)
    if failed:
        raise RunError(f"{curve.file}: failed: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))
    return folder


def _refuse_another_base(folder: Path, runs: Sequence[Run], curve: Curve) -> None:
    """Raise UserError where kept runs are of another base: before anything is prepared, which may take minutes."""
    ours = base_identity(curve.params.model).known()
    for run in runs:
        kept = read_run(folder / run.name)
        if kept and kept.get("base") != ours:
            theirs = kept.get("base", {}).get("name", "another base")
            raise UserError(
                f"{folder / run.name}: is of {theirs}, and {curve.file} of {ours['name']}: never drawn together; give "
                "the file another name, or --replace runs its points again"
            )


class _Runner:
    """Finishes the runs of one curve, with one base in memory."""

    def __init__(self, curve: Curve, folder: Path) -> None:
        self._curve, self._folder, self._work = curve, folder, WORK / curve.name
        self._data = prepared(curve.params, self._work)
        self.shared = shared_key(curve.params, self._data)
        self._load = KeptBase()

    def refuse_others(self, runs: Sequence[Run]) -> None:
        """Raise UserError where a kept run comes from other data, code or params than it would now."""
        for run in runs:
            kept = read_run(self._folder / run.name)
            changed = changed_since(kept, self.shared, own_key(run)) if kept else []
            if changed:
                raise UserError(
                    f"{self._folder / run.name}: comes from another {', '.join(changed)}: never drawn together with "
                    f"what {self._curve.file} gives now; --replace runs such points again"
                )

    def finish(self, run: Run) -> None:
        """Train, answer and keep `run`, unless it is kept already."""
        folder, own = self._folder / run.name, own_key(run)
        kept = read_run(folder)
        if kept and not changed_since(kept, self.shared, own):
            print(f"tradeoff: {run.name}: kept", flush=True)
            return
        key = Key({**self.shared.parts, **own.parts})
        adapter, training = self._adapter(run) if run.trains else (None, None)
        model = LanguageModel(run.params.model, adapter, template=run.params.prompt.template, load=self._load)
        print(f"tradeoff: {run.name}: {model.description}", flush=True)
        timings = {"train": training["timing"]} if training else {}
        predictions, spider = self._spider(run, model, key, timings)
        mmlu = self._mmlu(run, model, key, timings)
        content = {
            "point": run.point,
            "seed": run.seed,
            "base": base_identity(run.params.model).known(),
            "spider": spider,
            "mmlu": mmlu,
            "training": training and training["metrics"],
            "timings": timings,
            "shared": dict(self.shared.parts),
            "own": dict(own.parts),
        }
        keep_run(folder, content, predictions, self._choices(run))
        for task in ("spider", "mmlu"):
            self._journal(run, task, key).remove()
        del model
        _free()

    def _adapter(self, run: Run) -> tuple[Path, dict[str, Any]]:
        """Return the adapter of `run` and what is known of its training; other runs may have trained it before."""
        params, name = run.params, str(run.trained_as)
        key = Key({**self.shared.parts, **training_key(params).parts})
        folder = self._work / "models" / key.digest
        about = folder.with_suffix(".json")
        if folder.is_dir() and about.is_file():
            return folder, read_json(about)
        few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
        schemas = read_schemas(self._data / "spider/schemas.json")
        pairs = training_pairs(read_jsonl(self._data / "spider/qa_sharegpt.jsonl"), schemas, params.prompt, few_shot)
        job = TrainingJob(
            name, params.model, params.train, template=params.prompt.template, inputs=dict(self.shared.parts)
        )
        _measure_anew()
        training = train_adapter(job, pairs, self._work / "checkpoints", self._load)
        assert training is not None  # one process trains
        metrics = training.metrics
        timing = self._time(training.stopwatch, "train", run, metrics["examples"], metrics["tokens"], training.model)
        training.save(folder, model_card(_trained_model(params), params, metrics))
        write_json(about, {"metrics": metrics, "timing": timing})
        training.checkpoints.remove()
        del training
        _free()
        return folder, read_json(about)

    def _spider(self, run: Run, model: LanguageModel, key: Key, timings: dict) -> tuple[list[dict], dict]:
        """Return the answers to Spider with their verdicts, and their metrics."""
        params = run.params
        examples = read_jsonl(self._data / "spider/dev.jsonl", EXAMPLE)
        few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
        schemas = read_schemas(self._data / "spider/schemas.json")
        prompt = SpiderPrompt(schemas, params.prompt.schema_, few_shot, params.prompt.answer)
        _measure_anew()
        stopwatch, journal = Stopwatch(), self._journal(run, "spider", key)
        begun = bool(journal.records())
        journaled = JournaledRun(journal, f"Spider, {run.name}")
        predictions = predict(model, examples, prompt, params.generation, journaled)
        assert predictions is not None
        tokens = sum(prediction["new_tokens"] for prediction in predictions)
        timings["spider"] = self._time(stopwatch, "spider", run, len(predictions), tokens, model.model, begun)
        golds: list[Gold] = []
        verdicts = score_examples(
            [Example(*(line[name] for name in EXAMPLE)) for line in examples],
            [prediction["sql"].strip() for prediction in predictions],
            lambda db_id: self._data / "databases" / db_id / f"{db_id}.sqlite",
            Limits(**params.execution.model_dump()),
            cache_dir=user_cache() / "gold",
            failing_gold=params.data.failing_gold,
            on_golds=golds.extend,
        )
        halved = sum(HALVED in prediction for prediction in predictions)
        return list(map(_judged, predictions, verdicts)), summarise(verdicts, golds, halved)

    def _mmlu(self, run: Run, model: LanguageModel, key: Key, timings: dict) -> dict:
        """Answer MMLU, leave the choices in `_choices(run)`, and return their metrics."""
        mmlu = run.params.mmlu
        asked = read_questions(self._data / "mmlu", mmlu.subjects, mmlu.limit, mmlu.shots)
        _measure_anew()
        stopwatch, journal = Stopwatch(), self._journal(run, "mmlu", key)
        begun = bool(journal.records())
        journaled = JournaledRun(journal, f"MMLU, {run.name}")
        choices = answer_questions(
            model, asked.test, asked.shots, asked.categories, mmlu.batch_size, journaled, mmlu.rotations
        )
        assert choices is not None
        count, tokens = len(choices.records), choices.prompt_tokens
        timings["mmlu"] = self._time(stopwatch, "mmlu", run, count, tokens, model.model, begun)
        write_jsonl(self._choices(run), choices.records)
        return choices.metrics()

    def _choices(self, run: Run) -> Path:
        return self._work / "choices" / f"{run.name}.jsonl"

    def _journal(self, run: Run, task: str, key: Key) -> Journal:
        return Journal(f"{run.name}-{task}", key, folder=self._work / "journals")

    def _time(
        self, stopwatch: Stopwatch, task: str, run: Run, count: int, tokens: int, model: Any, begun: bool = False
    ) -> dict:
        """Return the timing of a task; one whose answers were partly there already says so."""
        loaded = as_measured(run.params.model, model) | ({"went_on": True} if begun else {})
        path = self._work / "timings" / f"{run.name}-{task}.json"
        return stopwatch.write(path, task, run.name, count, tokens, loaded)


def _trained_model(params: Any) -> str:
    """Return the model of params.yaml that the section `train` is the recipe of, whose title the card takes."""
    return next(name for name, entry in params.models.items() if entry.recipe == "train")


def _judged(prediction: dict, verdict: Verdict) -> dict:
    judged = verdict.to_dict()
    return prediction | {
        name: judged[name] for name in ("execution_accuracy", "official_execution_accuracy", "outcome")
    }


def _measure_anew() -> None:
    """Have the GPU's peak memory counted from now on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _free() -> None:
    """Give back the memory of a model that is no longer named."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
