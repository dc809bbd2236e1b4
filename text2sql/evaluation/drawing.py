"""Answers drawn from one model to a split's questions: what the stages that sample share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams, ModelParams, Params
from text2sql.core.paths import DATABASES, SCHEMAS
from text2sql.core.processes import current_processes
from text2sql.data.schema import read_schemas
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.sampling import sample_answers
from text2sql.evaluation.spider import Predictor, SpiderPrompt
from text2sql.model.language_model import LanguageModel
from text2sql.model.run_key import as_measured, run_key
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders


@dataclass(frozen=True)
class Draw:
    """What is asked: by which of dvc.yaml's stages that are repeated a model, of which model, and how."""

    stage: str
    name: str
    model: ModelParams
    adapter: Path | None
    generation: GenerationParams


@dataclass(frozen=True)
class Drawn:
    """The samples of a question each, what a timing says of the model, and the journal, to be removed at the end."""

    samples: list[dict]
    loaded: dict[str, Any]
    journal: Journal

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        return sum(sample["new_tokens"] for line in self.samples for sample in line["samples"])


def draw_answers(draw: Draw, examples: Sequence[dict], params: Params) -> Drawn | None:
    """Draw answers to `examples` (records of a split) with the prompt of evaluation; going on where a run was cut.

    Returns None in all processes but the main one. Raises UserError where a prompt does not fit the model.
    """
    processes = current_processes()
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    prompt = SpiderPrompt.of(params.prompt, schemas, few_shot, in_folders(DATABASES))
    texts = partial(prompt.texts, examples)
    model = LanguageModel(draw.model, draw.adapter, template=params.prompt.template, texts=texts)
    called = f"{draw.stage} {draw.name}"
    print(f"{called}: {model.description}; {len(examples)} questions", flush=True)
    key = run_key(f"{draw.stage}@{draw.name}", draw.model, model.model, draw.generation.grammar)
    journal = Journal(f"{draw.stage}-{draw.name}", key, processes.index)
    predictor = Predictor(model, prompt, draw.generation.max_new_tokens, draw.generation.grammar)
    samples = sample_answers(predictor, examples, draw.generation, JournaledRun(journal, called, processes))
    if samples is None:
        return None
    return Drawn(samples, as_measured(draw.model, model.model), journal)
