"""Answers drawn from one model to a split's questions: what the stages that sample share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.digests import digest_of_tree
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams, ModelParams, Params
from text2sql.core.paths import DATABASES, SCHEMAS
from text2sql.core.processes import current_processes
from text2sql.data.schema import read_schemas
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.sampling import sample_answers
from text2sql.evaluation.spider import Predictor, SpiderPrompt
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import free_memory
from text2sql.model.run_key import as_measured, run_key
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders


@dataclass(frozen=True)
class Draw:
    """What is asked: by which of dvc.yaml's stages that are repeated a model, of which model, and how.

    `fold` names the part of the questions that is asked of an adapter other than the model's own.
    """

    stage: str
    name: str
    model: ModelParams
    adapter: Path | None
    generation: GenerationParams
    fold: str | None = None


@dataclass(frozen=True)
class Drawn:
    """The samples of a question each, what a timing says of the model, and the journals, to be removed at the end."""

    samples: list[dict]
    loaded: dict[str, Any]
    journals: tuple[Journal, ...]

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        return sum(sample["new_tokens"] for line in self.samples for sample in line["samples"])

    def remove_journals(self) -> None:
        """Delete the journals, once the samples are in the output."""
        for journal in self.journals:
            journal.remove()


def draw_in_turn(draws: Sequence[tuple[Draw, Sequence[dict]]], params: Params) -> Drawn | None:
    """Draw answers as `draw_answers` does, of one model after another, each to its examples; all by their `index`."""
    found = []
    for draw, examples in draws:
        found.append(draw_answers(draw, examples, params))
        free_memory()
    drawn = [one for one in found if one is not None]
    if not drawn:
        return None
    samples = sorted((line for one in drawn for line in one.samples), key=lambda line: line["index"])
    return Drawn(samples, drawn[0].loaded, tuple(journal for one in drawn for journal in one.journals))


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
    called = f"{draw.stage} {draw.name}{f', {draw.fold}' if draw.fold else ''}"
    print(f"{called}: {model.description}; {len(examples)} questions", flush=True)
    key = run_key(f"{draw.stage}@{draw.name}", draw.model, model.model, draw.generation.grammar)
    name = f"{draw.stage}-{draw.name}"
    if draw.fold and draw.adapter:  # which the stage does not depend on, but made
        name += f"_{draw.fold}"
        key = Key({**key.parts, **Key.of({"the fold's adapter": digest_of_tree(draw.adapter)}).parts})
    journal = Journal(name, key, processes.index)
    predictor = Predictor(model, prompt, draw.generation.max_new_tokens, draw.generation.grammar)
    samples = sample_answers(predictor, examples, draw.generation, JournaledRun(journal, called, processes))
    if samples is None:
        return None
    return Drawn(samples, as_measured(draw.model, model.model), (journal,))
