"""What was evaluated of an export's model: its questions, prompts as token ids, scored answers, and on what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.digests import file_sha256
from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl, read_jsonl, read_object
from text2sql.core.params import ModelParams, Params
from text2sql.core.paths import DATABASES, DEV, PREDICTIONS, QUESTIONS, SCHEMAS, TIMINGS, VERDICTS
from text2sql.data.mmlu import read_questions
from text2sql.data.schema import read_schemas
from text2sql.data.spider import Example
from text2sql.evaluation.mmlu import prompts_that_fit
from text2sql.experiments.export.record import Record, read_record
from text2sql.experiments.export.source import is_of_last_run
from text2sql.model.adapters import WEIGHTS
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.context import context_of_config
from text2sql.model.loading import base_folder
from text2sql.model.whole_model import CHECKPOINT
from text2sql.prompts.messages import OPTIONS, spider_messages
from text2sql.prompts.prompt_file import PromptFile, read_prompt_file
from text2sql.prompts.rich import in_folders
from text2sql.report.set_files import read_gzip

EXAMPLE = {"index": int, "db_id": str, "question": str, "query": str}
PREDICTION = {"index": int, "db_id": str, "raw": str, "sql": str}
CHOICE = {"subject": str, "index": int, "choice": int, "answer": int, "correct": bool}


@dataclass(frozen=True)
class Asked:
    """One question: the example, its messages for an engine, the evaluated token ids, and the scored answer."""

    example: Example
    messages: list[dict]
    ids: list[int]
    raw: str
    sql: str


@dataclass(frozen=True)
class Machine:
    """What answers were computed on: the dtype and the device, `cpu` or a GPU's name; None where it is not known."""

    dtype: str | None
    device: str | None

    def __str__(self) -> str:
        return f"{self.dtype or 'an unknown dtype'} on {self.device or 'an unknown device'}"


@dataclass(frozen=True)
class Mmlu:
    """The evaluated questions of MMLU: prompts and options as token ids, the right option and the scored choice."""

    prompts: list[list[int]]
    options: list[int]
    answers: list[int]
    choices: list[int]


@dataclass(frozen=True)
class Options:
    """How an export is asked.

    engine: its name, None for the format's own. predictions: the scored answers, None for the project's own. questions:
    how many, evenly spread, None for all. mmlu: whether MMLU is asked too. base: another base under an adapter.
    """

    engine: str | None = None
    predictions: Path | None = None
    questions: int | None = None
    mmlu: bool = True
    base: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """An export with what was evaluated of its model, by `params`; `asked` are the questions, `scored` on what machine.

    `model` and `adapter` load it as evaluation does; `mmlu` is None where it is not asked.
    """

    folder: Path
    record: Record
    prompt: PromptFile
    params: Params
    model: ModelParams
    adapter: Path | None
    tokens: ChatTokens
    asked: list[Asked]
    scored: Machine
    mmlu: Mmlu | None


def read_evaluated(folder: Path, params: Params, options: Options, with_mmlu: bool) -> Evaluated:
    """Return what was evaluated of the model that the export in `folder` is of.

    Raises UserError for what is no finished export, and where the scored answers are of another adapter, prompt or set
    of questions.
    """
    if params.generation.grammar:
        raise UserError("generation.grammar: no engine holds an export to it; verify compares answers made without")
    record, prompt = read_record(folder), read_prompt_file(folder)
    model, adapter = ModelParams(**record.loaded), _adapter_folder(record)
    # A date that stands still is a variable in the file, and none in evaluation, where the clock does.
    variables = {name: value for name, value in prompt.variables.items() if name in params.prompt.template}
    tokens = ChatTokens.of(model, adapter, variables)
    asked = _read_asked(record, prompt, tokens, options)
    # MMLU's choices lie beside the project's own answers alone.
    mmlu = _read_mmlu(record, params, tokens) if with_mmlu and options.predictions is None else None
    scored = _scored_on(record, options.predictions)
    return Evaluated(folder, record, prompt, params, model, adapter, tokens, asked, scored, mmlu)


def _adapter_folder(record: Record) -> Path | None:
    """Return the folder of what was exported, None for the base.

    Raises UserError where it is no longer there, or other weights lie in it.
    """
    if record.source is None:
        return None
    folder = Path(record.source)
    weights = next((folder / name for name in (WEIGHTS, CHECKPOINT) if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"{folder}: has no weights; they were exported, and are needed to tell what was evaluated")
    if record.adapter is not None and file_sha256(weights) != record.adapter:
        raise UserError(f"{folder}: holds other weights than were exported; export it again")
    return folder


def _read_asked(record: Record, prompt: PromptFile, tokens: ChatTokens, options: Options) -> list[Asked]:
    """Return the evaluated questions in order, with the answers that were scored."""
    path = options.predictions or PREDICTIONS / f"{record.model}.jsonl"
    if options.predictions is None and record.source:
        if not is_of_last_run(f"predict_spider@{record.model}", Path(record.source)):
            raise UserError(f"{path}: is not of the adapter in {record.source}; `dvc repro` asks it")
    found = _read_predictions(path)
    lines, schemas = read_jsonl(DEV, EXAMPLE), read_schemas(SCHEMAS)
    if [line["index"] for line in lines] != [line["index"] for line in found]:
        raise UserError(f"{path}: holds other questions than {DEV}; run prepare and predict_spider again")
    limit = len(lines) if options.questions is None else options.questions
    chosen = sorted({number * len(lines) // limit for number in range(limit)})
    asked, rich = [], prompt.rich(in_folders(DATABASES))
    for position in chosen:
        line, prediction = lines[position], found[position]
        schema = schemas.get(line["db_id"])
        ids = tokens.chat_ids(spider_messages(line["question"], schema, prompt.form, prompt.few_shot, rich=rich))
        example = Example(*(line[field] for field in EXAMPLE))
        read = prediction.get("prompt")
        if isinstance(read, str) and read != tokens.tokenizer.decode(ids):
            raise UserError(f"{path}: were asked with another prompt than the export holds; export again")
        messages = prompt.messages(line["question"], schema, rich)
        asked.append(Asked(example, messages, ids, prediction["raw"], prediction["sql"]))
    return asked


def _read_predictions(path: Path) -> list[dict]:
    if path.suffix != ".gz":
        return read_jsonl(path, PREDICTION)
    return [json.loads(line) for line in read_gzip(path).decode("utf-8").splitlines()]


def _scored_on(record: Record, predictions: Path | None) -> Machine:
    """Return what the scored predictions were computed on, by the timing that their stage left."""
    folder = TIMINGS if predictions is None else predictions.parent.parent / TIMINGS.name
    path = folder / f"predict_spider_{record.model}.json"
    if not path.is_file():
        return Machine(None, None)
    timing = read_object(path, {"stage": str})
    return Machine(timing.get("dtype"), timing.get("gpu") or timing.get("device"))


class _Reader:
    """What makes MMLU's prompts fit, without the model."""

    def __init__(self, tokens: ChatTokens, context: int | None) -> None:
        self.text_ids, self._context = tokens.text_ids, context

    @property
    def context(self) -> int | None:
        return self._context

    def check_prompts(self, prompts: Sequence[list[int]], new_tokens: int, change: str) -> None:
        """They were checked when they were evaluated."""


def _read_mmlu(record: Record, params: Params, tokens: ChatTokens) -> Mmlu | None:
    """Return the questions of MMLU that the model was asked, None where there are no verdicts of it."""
    path = VERDICTS / f"mmlu/{record.model}.jsonl"
    if not path.is_file():
        return None
    from transformers import AutoConfig

    verdicts = list(iter_jsonl(path, CHOICE))
    asked = read_questions(QUESTIONS, params.mmlu.subjects, params.mmlu.limit, params.mmlu.shots)
    if [(one.subject, one.index) for one in asked.test] != [(line["subject"], line["index"]) for line in verdicts]:
        raise UserError(f"{path}: holds other questions than {QUESTIONS}; run prepare and eval_mmlu again")
    config: Any = AutoConfig.from_pretrained(base_folder(ModelParams(**record.loaded)))
    prompts, _ = prompts_that_fit(_Reader(tokens, context_of_config(config)), asked.test, asked.shots)
    return Mmlu(
        prompts,
        tokens.option_ids(OPTIONS),
        [line["answer"] for line in verdicts],
        [line["choice"] for line in verdicts],
    )
