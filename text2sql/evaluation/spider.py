"""Predictions on Spider: the same code for the base and for tuned models.

(The paper used one script for its base and another for its tuned models, section I.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from text2sql.core.params import GenerationParams
from text2sql.data.schema import Schema
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import extract_sql
from text2sql.prompts.messages import FewShot, SchemaForm, spider_messages


@dataclass(frozen=True)
class SpiderPrompt:
    """What prompts show beside the question: each database's schema in a form, and worked examples."""

    schemas: Mapping[str, Schema]
    form: SchemaForm
    few_shot: Sequence[FewShot]

    def messages(self, example: dict) -> list[dict]:
        """Return the chat messages that ask the question of `example`, a record of `dev.jsonl`."""
        schema = self.schemas.get(example["db_id"])
        return spider_messages(example["question"], schema, self.form, self.few_shot)


def predict(
    model: LanguageModel,
    examples: Sequence[dict],
    prompt: SpiderPrompt,
    generation: GenerationParams,
    run: JournaledRun,
) -> list[dict] | None:
    """Answer `examples` (records of `dev.jsonl`) greedily and return one record each, in their order.

    A record holds `index`, `db_id`, `question`, `gold`, `raw` (the model's text), `sql` (extracted) and `new_tokens`
    (its end token included). Finished batches are journaled and not asked again. Returns None in all processes but the
    main one.
    """
    prompts = [model.chat_ids(prompt.messages(example)) for example in examples]

    def answer(positions: list[int]) -> list[dict]:
        outputs = model.generate([prompts[position] for position in positions], generation.max_new_tokens)
        return [{"raw": model.decode(output), "new_tokens": len(output)} for output in outputs]

    run_batches(list(map(len, prompts)), generation.batch_size, answer, run)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    answers = run.journal.records()
    return [_prediction(example, answers[position]) for position, example in enumerate(examples)]


def _prediction(example: dict, answer: dict) -> dict:
    return {
        "index": example["index"],
        "db_id": example["db_id"],
        "question": example["question"],
        "gold": example["query"],
        "raw": answer["raw"],
        "sql": extract_sql(answer["raw"]),
        "new_tokens": answer["new_tokens"],
    }
