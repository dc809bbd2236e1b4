"""What one run left for the reports: metrics, verdicts, timings, loss curves and provenance, read and compared."""

import csv
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.comparison.choice import ChoiceGain
from text2sql.comparison.compare import ModelResults, compare
from text2sql.comparison.gate import TradeOff, trade_off
from text2sql.comparison.result import Comparison
from text2sql.core import paths
from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl, read_json, read_object
from text2sql.core.models import ModelTable
from text2sql.core.params import Params
from text2sql.report import lock
from text2sql.report.choices import choice_lines, read_choices
from text2sql.report.curve import curves_of
from text2sql.report.explorer import MOST_EXAMPLES, Outcomes, draw
from text2sql.report.exports import read_exports, sentence
from text2sql.report.sentences import (
    also_lines,
    chat_lines,
    floor_lines,
    memory_lines,
    rotation_lines,
    sqlite_lines,
    strength_lines,
    tie_lines,
)

# What is read here of each line and file. The rest of them is their own stage's affair.
VERDICT = {
    "index": int, "db_id": str, "hardness": str, "question": str, "gold": str, "sql": str,
    "execution_accuracy": bool, "official_execution_accuracy": bool, "outcome": str,
}  # fmt: skip
CHOICE = {"subject": str, "category": str, "index": int, "choice": int, "correct": bool}
CHAT = {"subject": str, "index": int, "kind": str, "correct": bool, "at_limit": bool}
PREDICTION = {"index": int, "db_id": str, "raw": str}
SPIDER_METRICS = {
    "execution_accuracy": float, "official_execution_accuracy": float, "successes": int, "official_successes": int,
    "total": int, "by_hardness": dict, "causes": dict, "causes_by_hardness": dict, "sqlite_version": str,
}  # fmt: skip
SET_VERDICT = {"index": int, "db_id": str, "execution_accuracy": bool, "official_execution_accuracy": bool}
MMLU_METRICS = {"accuracy": float, "correct": int, "total": int, "by_category": dict, "by_subject": dict}
TRAINING = {"final_loss": float, "steps": int, "examples": int, "trainable_parameters": int}
TIMING = {"stage": str, "seconds": float, "versions": dict}
TIMED_STAGES = (
    "prepare", "train", "sample_train", "predict_spider", "eval_spider", "sample_spider", "train_verifier",
    "judge_spider", "choose_spider", "eval_mmlu", "eval_mmlu_chat", "predict_also", "eval_also", "export", "verify",
    "compare",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What the reports show.

    training: {tuned model: the content of metrics/train/<model>.json}.
    timings: {file name without its ending, such as "train_m1": the content of data/timings/<name>.json}, in the order
        in which they shall be listed; what is missing shows as a dash.
    loss_curves: {tuned model: the rows of metrics/train/<model>_loss.csv, with numbers as numbers}.
    verdicts: {model: lines of data/verdicts/spider/<model>.jsonl}, the same examples in the same order for all; all of
        them or, where they are many, those that `explorer.draw` draws.
    outcomes: of all examples; None where `verdicts` has all of them.
    schemas: {db_id: schema} as in data/prepared/spider/schemas.json; more than the verdicts name are fine.
    example_prompt: the first question's prompt as the base read it, with all that its chat template adds; None for a
        run that did not keep it.
    exports: {name: the content of metrics/export/<name>.json}, of those that the params list.
    provenance: {heading: value, or a mapping of any depth}, such as {"git": {"revision": …}, "data": {path: md5}}.
    curves: the contents of curve.json of trade-off curves of the same base.
    choices: {model: what choosing among samples gained}, where the params have samples.
    """

    params: Params
    comparison: Comparison
    training: Mapping[str, Mapping[str, Any]]
    timings: Mapping[str, Mapping[str, Any]]
    loss_curves: Mapping[str, Sequence[Mapping[str, Any]]]
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]]
    schemas: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    example_prompt: str | None = None
    outcomes: Outcomes | None = None
    curves: Sequence[Mapping[str, Any]] = ()
    exports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    choices: Mapping[str, ChoiceGain] = field(default_factory=dict)

    @property
    def models(self) -> ModelTable:
        """The models that are compared."""
        return self.comparison.models

    @property
    def trade_off(self) -> tuple[TradeOff, ...]:
        """How each tuned model stands against the limits of the params."""
        return trade_off(self.comparison.summary, self.params.compare)

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures has to know besides.

        What choosing among samples gains, how far scores carry, MMLU asked in other ways, what one answer to all
        questions scores, ties, versions of SQLite that differ, memory.
        """
        found = self.comparison
        by_task = {
            "training": self.training,
            self.models.questions: found.spider,
            "MMLU": found.mmlu,
            "MMLU in chat": found.chat,
        }
        return [
            *choice_lines(self.choices, self.models),
            *also_lines(found, self.params.data.also),
            *rotation_lines(found),
            *chat_lines(found),
            *floor_lines(found.spider, self.models),
            *tie_lines(found.spider, self.models),
            *sqlite_lines(found.spider, self.models),
            *memory_lines(by_task, self.models),
            *strength_lines(by_task, self.models),
            *(sentence(name, one) for name, one in self.exports.items()),
        ]


def read_run(params: Params) -> Run:
    """Read what the stages before `compare` left in the current folder, and compare the models.

    Raises UserError that names the file that is missing, damaged or of another run than the others.
    """
    models = params.model_table
    verdict_lines = {model: paths.VERDICTS / f"spider/{model}.jsonl" for model in models.names}
    found = compare(
        {model: _read_results(model, verdict_lines[model], params) for model in models.names},
        params.compare,
        models,
    )
    training = {model: read_object(paths.METRICS / f"train/{model}.json", TRAINING) for model in models.tuned}
    timings = read_timings(paths.TIMINGS, models)
    # Read again, since the explorer shows not all of a great many.
    outcomes = Outcomes.of(iter_jsonl(path, VERDICT) for path in verdict_lines.values())
    places = frozenset(draw(outcomes.flips, MOST_EXAMPLES, params.compare.seed))
    return Run(
        params=params,
        comparison=found,
        training=training,
        timings=timings,
        loss_curves={model: read_loss_curve(paths.METRICS / f"train/{model}_loss.csv") for model in models.tuned},
        verdicts={
            model: [line for place, line in enumerate(iter_jsonl(path)) if place in places]
            for model, path in verdict_lines.items()
        },
        schemas=read_json(paths.SCHEMAS),
        provenance=provenance(timings, found),
        example_prompt=_example_prompt(paths.PREDICTIONS / f"{models.base}.jsonl"),
        outcomes=outcomes,
        curves=curves_of_run(timings),
        exports=read_exports(params),
        choices=read_choices(params),
    )


def curves_of_run(timings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the committed trade-off curves of the base that these stages loaded."""
    bases = [timing["base"] for timing in timings.values() if "base" in timing]
    return curves_of(bases[0]) if bases else []


def _example_prompt(predictions: Path) -> str | None:
    first = next(iter_jsonl(predictions, PREDICTION), {})
    return first["prompt"] if isinstance(first.get("prompt"), str) else None


def _read_results(model: str, spider_verdicts: Path, params: Params) -> ModelResults:
    # A result set keeps neither. Those of a model that is no longer asked may still lie here.
    chat = paths.VERDICTS / f"mmlu_chat/{model}.jsonl"
    sets = {name: paths.VERDICTS / f"also/{name}/{model}.jsonl" for name in params.data.also}
    return ModelResults(
        spider_metrics=read_object(paths.METRICS / f"spider/{model}.json", SPIDER_METRICS),
        mmlu_metrics=read_object(paths.METRICS / f"mmlu/{model}.json", MMLU_METRICS),
        spider_verdicts=iter_jsonl(spider_verdicts, VERDICT),
        mmlu_verdicts=iter_jsonl(paths.VERDICTS / f"mmlu/{model}.jsonl", CHOICE),
        predictions=iter_jsonl(paths.PREDICTIONS / f"{model}.jsonl", PREDICTION),
        chat_verdicts=iter_jsonl(chat, CHAT) if model in params.mmlu.chat and chat.exists() else None,
        also={name: iter_jsonl(path, SET_VERDICT) for name, path in sets.items() if path.exists()},
    )


def read_timings(folder: Path, models: ModelTable) -> dict[str, dict[str, Any]]:
    """Return {file's stem: its content} in the pipeline's order, and within a stage in that of `models`.

    Those of a stage that had nothing to do are left out.
    """
    timings = {path.stem: read_object(path, TIMING) for path in folder.glob("*.json")}
    timings = {stem: timing for stem, timing in timings.items() if timing.get("examples") != 0}

    def place(stem: str) -> tuple[int, int, str]:
        # That of a further evaluation set is `predict_also@syn`.
        stage, model = timings[stem]["stage"].partition("@")[0], timings[stem].get("model")
        return (
            TIMED_STAGES.index(stage) if stage in TIMED_STAGES else len(TIMED_STAGES),
            models.names.index(model) if model in models.names else len(models.names),
            stem,
        )

    return {stem: timings[stem] for stem in sorted(timings, key=place)}


def read_loss_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of a loss curve as numbers."""
    rows = []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                rows.append({name: float(value) for name, value in row.items()})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}, line {reader.line_num}: wanted numbers alone: {error}") from None
    return rows


def provenance(timings: Mapping[str, Mapping[str, Any]], found: Comparison) -> dict[str, Any]:
    """Return what the run was made of: git's revision, base, device, libraries, and the raw data's checksums by DVC."""
    versions = {"sqlite": found.spider[found.models.base]["sqlite_version"]}
    for timing in timings.values():
        versions |= timing["versions"]
    return {
        "git": _git_revision(),
        **_measured(timings),
        "versions": versions,
        "data": _data_checksums(Path("dvc.lock")),
    }


def _measured(timings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the base, the dtype and the device of the stages that loaded a model; where they differ, all of them."""
    base: dict[str, list[str]] = {}
    run: dict[str, list[str]] = {}
    for timing in timings.values():
        if "dtype" not in timing:
            continue
        for name, value in timing["base"].items():
            base.setdefault(name, []).append(value)
        run.setdefault("dtype", []).append(timing["dtype"])
        run.setdefault("device", []).append(machine(timing))
    return {
        heading: {name: "; ".join(dict.fromkeys(values)) for name, values in found.items()}
        for heading, found in (("base", base), ("run", run))
        if found
    }


def machine(timing: Mapping[str, Any]) -> str:
    """Return what a stage ran on: a GPU's name, or the number of cores."""
    return timing.get("gpu") or f"{timing.get('device', 'cpu')}, {timing.get('cpus', '?')} cores"


def _git_revision() -> dict[str, str]:
    try:
        revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "not in a git repository"}
    return {"revision": revision.stdout.strip()}


def _data_checksums(lock_file: Path) -> dict[str, str]:
    """Return {raw data path: md5} as `prepare` found it: DVC writes its lock after each stage."""
    if not lock_file.is_file():
        return {}
    dependencies = lock.read(lock.read_stages(lock_file, own=True))
    return {path: md5 for stage, path, md5 in dependencies if stage == "prepare" and not path.endswith(".py")}
