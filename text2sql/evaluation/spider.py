"""From prompts to predictions on Spider: the same code for the base and for tuned models.

(The paper used one script for its base and another for its tuned models, section I.)
"""

from collections.abc import Sequence

from text2sql.core.journal import Journal
from text2sql.core.processes import Processes
from text2sql.data.schema import Schema
from text2sql.evaluation.batching import run_batches
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import extract_sql
from text2sql.prompts.messages import FewShot, spider_messages


def predict(
    model: LanguageModel,
    examples: Sequence[dict],
    schemas: dict[str, Schema],
    form: str,
    few_shot: Sequence[FewShot],
    max_new_tokens: int,
    batch_size: int,
    journal: Journal,
    processes: Processes,
    description: str,
) -> list[dict] | None:
    """Answer `examples` (records of `dev.jsonl`) greedily and return one record each, in their order.

    A record holds `index`, `db_id`, `question`, `gold`, `raw` (the model's text), `sql` (extracted) and `new_tokens`
    (its end token included). Finished batches go to `journal` and are not asked again. Returns None in all processes
    but the main one.
    """
    prompts = [
        model.chat_ids(spider_messages(example["question"], schemas.get(example["db_id"]), form, few_shot))
        for example in examples
    ]

    def answer(positions: list[int]) -> list[dict]:
        outputs = model.generate([prompts[position] for position in positions], max_new_tokens)
        return [{"raw": model.decode(output), "new_tokens": len(output)} for output in outputs]

    lengths = [len(prompt) for prompt in prompts]
    run_batches(lengths, batch_size, answer, journal, description, processes.index, processes.count)
    processes.wait()
    if not processes.is_main:
        return None
    answers = journal.records()
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
