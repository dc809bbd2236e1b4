"""Ask the model of one run what all runs of a curve are asked: Spider, MMLU, and where the point says so MMLU in chat.

Finished batches are journaled below the curve's work folder, from where a killed run goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.files import read_json, read_jsonl, user_cache, write_json
from text2sql.core.journal import HALVED, Journal
from text2sql.core.params import Params
from text2sql.core.timing import Stopwatch
from text2sql.data.mmlu import draw, read_questions
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD, Example
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions
from text2sql.evaluation.mmlu_chat import DRAW_SEED, ask_in_chat
from text2sql.evaluation.sampling import sample_answers
from text2sql.evaluation.spider import Predictor, SpiderPrompt, predict
from text2sql.evaluation.verifier import judge, judgings
from text2sql.execution.executor import Limits
from text2sql.experiments.points import Run, Verifier
from text2sql.model.language_model import LanguageModel
from text2sql.model.run_key import as_measured
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders
from text2sql.prompts.verifier import VerifierPrompt
from text2sql.scoring.choice import run_answers
from text2sql.scoring.chosen import score_answers
from text2sql.scoring.golds import Gold
from text2sql.scoring.samples import questions_of
from text2sql.scoring.verdicts import Verdict, score_examples, summarise

TASKS = ("spider", "samples", "mmlu", "chat", "verify")


@dataclass
class Asking:
    """One run's questions, from the prepared benchmarks in `data`, and how long each task took, in `timings`.

    `key`: all that the answers depend on; `mmlu_key`: likewise, those to MMLU, which several runs may share. `work`:
    where journals and timings lie.
    """

    run: Run
    model: LanguageModel
    data: Path
    work: Path
    key: Key
    mmlu_key: Key
    timings: dict[str, Any] = field(default_factory=dict)

    def spider(self) -> tuple[list[dict], dict[str, Any]]:
        """Return the answers to Spider with their verdicts, and the content of `metrics/spider/<model>.json`."""
        params, examples = self.run.params, self._records()
        task = _Task(self, "spider")
        predictions = predict(self.model, examples, prompt_of(params, self.data), params.generation, task.journaled)
        assert predictions is not None
        task.time(len(predictions), sum(prediction["new_tokens"] for prediction in predictions))
        golds: list[Gold] = []
        verdicts = score_examples(
            [Example.from_record(line) for line in examples],
            [prediction["sql"].strip() for prediction in predictions],
            self._database_of,
            Limits(**params.execution.model_dump()),
            cache_dir=user_cache() / "gold",
            failing_gold=params.data.failing_gold,
            on_golds=golds.extend,
        )
        halved = sum(HALVED in prediction for prediction in predictions)
        return list(map(_judged, predictions, verdicts)), summarise(verdicts, golds, halved)

    def samples(self) -> list[dict]:
        """Return samples of Spider's questions, as `sample_answers` does."""
        params = self.run.params
        task = _Task(self, "samples")
        generation = params.generation.model_copy(update={"when": "always"})
        predictor = Predictor(self.model, prompt_of(params, self.data), generation.max_new_tokens, generation.grammar)
        lines = sample_answers(predictor, self._records(), generation, task.journaled)
        assert lines is not None
        task.time(len(lines), sum(sample["new_tokens"] for line in lines for sample in line["samples"]))
        return lines

    def verify(self, lines: Sequence[dict], verifier: Verifier) -> list[dict]:
        """Return what `verifier`, whose model is `model` by now, says of the samples in `lines`, as `judge` does."""
        params = self.run.params
        task = _Task(self, "verify")
        texts = {line["index"]: [sample["sql"].strip() for sample in line["samples"]] for line in lines}
        limits = Limits(**params.execution.model_dump())
        records = self._records()
        asked = judgings(records, texts, verifier_prompt(verifier, self.data), self._database_of, limits)
        judged = judge(self.model, asked, records, params.generation.batch_size, task.journaled)
        assert judged is not None
        task.time(len(asked), None)
        unjudged = sum(one["log_odds"] is None for line in judged for one in line["judged"])
        left_out = f" ({unjudged} whose prompts do not fit left out)" if unjudged else ""
        print(f"verify, {self.run.name}: {len(asked)} answers judged{left_out}", flush=True)
        return judged

    def chosen(
        self, lines: Sequence[dict], predictions: Sequence[dict], judged: Sequence[dict] | None = None
    ) -> tuple[list[dict], dict[str, Any]]:
        """Return samples with their verdicts and the choice, and the content of `metrics/spider_choice/<model>.json`.

        `predictions`: the greedy answers. `judged`: what a verifier says of the samples, None where there is none.
        """
        params = self.run.params
        generation = params.generation.model_copy(update={"when": "always", "choice": self.run.rule})
        examples = [Example.from_record(record) for record in self._records()]
        greedy = [prediction["sql"].strip() for prediction in predictions]
        questions = questions_of(lines, greedy, examples, judged)
        limits = Limits(**params.execution.model_dump())
        golds: list[Gold] = []
        scored = score_answers(
            examples,
            questions,
            run_answers(questions, self._database_of, limits),
            self._database_of,
            limits,
            cache_dir=user_cache() / "gold",
            failing_gold=params.data.failing_gold,
            on_golds=golds.extend,
        )
        chosen = scored.chosen(generation.samples, generation.rule, generation.when)
        halved = {line["index"] for line in [*lines, *(judged or ())] if HALVED in line}
        metrics = scored.metrics(chosen, generation, golds, len(halved))
        return scored.records(lines, chosen), metrics

    def mmlu(self) -> tuple[list[dict], dict[str, Any]]:
        """Return the choices by log-likelihood, and the content of `metrics/mmlu/<model>.json`.

        Those of another run are taken where it has the same adapter and differs in how it answers Spider alone.
        """
        kept = self.work / "mmlu" / f"{self.mmlu_key.digest}.json"
        if kept.is_file():
            content = read_json(kept)
            self.timings["mmlu"] = content["timing"]
            return content["choices"], content["metrics"]
        mmlu = self.run.params.mmlu
        asked = read_questions(self.data / "mmlu", mmlu.subjects, mmlu.limit, mmlu.shots)
        task = _Task(self, "mmlu")
        choices = answer_questions(
            self.model, asked.test, asked.shots, asked.categories, mmlu.batch_size, task.journaled, self.run.rotations
        )
        assert choices is not None
        task.time(len(choices.records), choices.prompt_tokens)
        metrics = choices.metrics()
        write_json(kept, {"choices": choices.records, "metrics": metrics, "timing": self.timings["mmlu"]})
        return choices.records, metrics

    def chat(self) -> tuple[list[dict], dict[str, Any]]:
        """Return the answers in chat, and the content of `metrics/mmlu_chat/<model>.json`."""
        params = self.run.params
        asked = read_questions(self.data / "mmlu", params.mmlu.subjects, params.mmlu.limit, shots=0)
        drawn = draw(asked.test, params.mmlu.chat_limit, DRAW_SEED)
        task = _Task(self, "chat")
        answers = ask_in_chat(
            self.model, drawn, asked.categories, params.generation.batch_size, task.journaled, len(asked.test)
        )
        assert answers is not None
        task.time(len(answers.records), answers.new_tokens)
        return answers.records, answers.metrics()

    def _records(self) -> list[dict]:
        return read_jsonl(self.data / "spider/dev.jsonl", RECORD)

    def _database_of(self, db_id: str) -> Path:
        return database_below(self.data, db_id)

    def finished(self) -> None:
        """Remove the journals: the answers are kept elsewhere."""
        for task in TASKS:
            self.journal(task).remove()

    def journal(self, task: str) -> Journal:
        """Return the journal of one of `TASKS`."""
        return Journal(f"{self.run.name}-{task}", self.key, folder=self.work / "journals")


class _Task:
    """One task's journal, and its time from now on."""

    def __init__(self, asking: Asking, name: str) -> None:
        measure_anew()
        self._asking, self._name, self._stopwatch = asking, name, Stopwatch()
        journal = asking.journal(name)
        self._begun = bool(journal.records())
        self.journaled = JournaledRun(journal, f"{name}, {asking.run.name}")

    def time(self, count: int, tokens: int | None) -> None:
        """Keep how long it took; where some of its answers were there already, the timing says so."""
        asking, name = self._asking, self._name
        loaded = as_measured(asking.run.params.model, asking.model.model) | ({"went_on": True} if self._begun else {})
        path = asking.work / "timings" / f"{asking.run.name}-{name}.json"
        asking.timings[name] = self._stopwatch.write(path, name, asking.run.name, count, tokens, loaded)


def prompt_of(params: Params, data: Path) -> SpiderPrompt:
    """Return the prompt of evaluation about the databases below the prepared folder `data`."""
    shown = params.prompt
    few_shot = load_few_shot(shown.few_shot_file, shown.few_shot)
    schemas = read_schemas(data / "spider/schemas.json", shown.descriptions)
    return SpiderPrompt.of(shown, schemas, few_shot, in_folders(data / "databases"))


def verifier_prompt(verifier: Verifier, data: Path) -> VerifierPrompt:
    """Return what a verifier is shown of the databases below the prepared folder `data`."""
    shown = verifier.params.prompt
    schemas = read_schemas(data / "spider/schemas.json", shown.descriptions)
    return VerifierPrompt.of(shown, schemas, in_folders(data / "databases"))


def database_below(data: Path, db_id: str) -> Path:
    """Return the file of a database below the prepared folder `data`."""
    return data / "databases" / db_id / f"{db_id}.sqlite"


def _judged(prediction: dict, verdict: Verdict) -> dict:
    judged = verdict.to_dict()
    return prediction | {
        name: judged[name] for name in ("execution_accuracy", "official_execution_accuracy", "outcome")
    }


def measure_anew() -> None:
    """Have the GPU's peak memory counted from now on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
