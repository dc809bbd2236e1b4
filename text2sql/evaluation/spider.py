"""From questions to SQL: the same code for the base and for tuned models, for a benchmark and for one question.

(The paper used one script for its base and another for its tuned models, section I.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.journal import HALVED, STRENGTH
from text2sql.core.params import GenerationParams, PromptParams, TableOrder
from text2sql.data.schema import Schema
from text2sql.evaluation.answering import check_no_reasoning, generate_answers
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import AnswerRule, extract_sql
from text2sql.prompts.messages import FewShot, SchemaForm, spider_messages, with_evidence
from text2sql.prompts.rich import RichSchemas, rich_schemas


@dataclass(frozen=True)
class SpiderPrompt:
    """What prompts show beside the question (schema, worked examples, evidence), and what counts as SQL in answers."""

    schemas: Mapping[str, Schema]
    form: SchemaForm
    few_shot: Sequence[FewShot]
    rule: AnswerRule = "standard"
    order: TableOrder = "given"
    evidence: bool = False
    rich: RichSchemas | None = None  # with the form `rich`: what shows the databases

    @classmethod
    def of(
        cls,
        shown: PromptParams,
        schemas: Mapping[str, Schema],
        few_shot: Sequence[FewShot],
        file_of: Callable[[str], Path | None],
        order: TableOrder | None = None,
    ) -> "SpiderPrompt":
        """Return the prompt that `shown` names; `file_of` has the databases' files, None for one that is not there.

        Tables come in `order`, where it is given, in place of that of `shown`.
        """
        rich = rich_schemas(shown, file_of)
        return cls(schemas, shown.schema_, few_shot, shown.answer, order or shown.table_order, shown.evidence, rich)

    def messages(self, question: str, db_id: str, evidence: str | None = None) -> list[dict]:
        """Return the chat messages that ask `question` about the database `db_id`; evidence only where it is shown."""
        question = with_evidence(question, evidence if self.evidence else None)
        return spider_messages(question, self.schemas.get(db_id), self.form, self.few_shot, self.order, self.rich)

    def texts(self, examples: Sequence[dict], tokens: ChatTokens) -> list[str]:
        """Return the prompts of `examples` in the chat template of `tokens`, as `predict` asks them."""
        return [
            tokens.chat_text(self.messages(example["question"], example["db_id"], example.get("evidence")))
            for example in examples
        ]


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question: its text, and the number of tokens generated (the end token included).

    The text begins with what the template opened: `<think>` where the prompt ends with it.
    """

    raw: str
    new_tokens: int
    rule: AnswerRule  # what counts as the SQL in it

    @property
    def sql(self) -> str:
        """The SQL in the answer, maybe empty."""
        return extract_sql(self.raw, self.rule)


@dataclass(frozen=True)
class Predictor:
    """A model that is asked questions greedily, by one kind of prompt."""

    model: LanguageModel
    prompt: SpiderPrompt
    max_new_tokens: int
    grammar: bool = False  # hold answers to queries over the database's tables

    def prompt_ids(self, question: str, db_id: str, evidence: str | None = None) -> list[int]:
        """Return the token ids that ask `question` about the database `db_id`."""
        return self.model.chat_ids(self.prompt.messages(question, db_id, evidence))

    def check(self, prompts: list[list[int]]) -> None:
        """Raise UserError unless all `prompts` and their answers fit the model's context, and the answers a grammar."""
        change = "prompt.schema, prompt.few_shot or generation.max_new_tokens"
        self.model.check_prompts(prompts, self.max_new_tokens, change)
        if self.grammar:
            check_no_reasoning(self.model, prompts)

    def answers(self, prompts: list[list[int]], db_ids: Sequence[str]) -> list[Answer]:
        """Return the answer to each of `prompts` (token ids) about each of `db_ids`, asked as one batch.

        Raises UserError for a database without a schema where answers are held to its grammar.
        """
        found = generate_answers(self.model, prompts, self.max_new_tokens, self.held_to(db_ids))
        return [Answer(answer.raw, answer.new_tokens, self.prompt.rule) for answer in found]

    def held_to(self, db_ids: Sequence[str]) -> list[Schema] | None:
        """Return the schemas that answers about `db_ids` are held to, whole ones, or None without `grammar`.

        Raises UserError for a database without a schema.
        """
        return [self._schema(db_id) for db_id in db_ids] if self.grammar else None

    def _schema(self, db_id: str) -> Schema:
        if db_id not in self.prompt.schemas:
            raise UserError(f"generation.grammar: needs a schema, and the database {db_id} has none")
        return self.prompt.schemas[db_id]


def predict(
    model: LanguageModel,
    examples: Sequence[dict],
    prompt: SpiderPrompt,
    generation: GenerationParams,
    run: JournaledRun,
) -> list[dict] | None:
    """Answer `examples` (records of `dev.jsonl`) greedily and return one record each, in their order.

    A record holds `index`, `db_id`, `question`, `gold` (the first of several; the others as `other_golds`), `raw` (the
    model's text), `sql` (extracted) and `new_tokens` (its end token included); the first also `prompt`, as the model
    read it: the reports' example, and `STRENGTH` where the adapter is scaled; those of a batch that was halved for lack
    of memory also `HALVED`. Finished batches are journaled and not asked again. Returns None in all processes but the
    main one.
    """
    predictor = Predictor(model, prompt, generation.max_new_tokens, generation.grammar)
    prompts = [
        predictor.prompt_ids(example["question"], example["db_id"], example.get("evidence")) for example in examples
    ]
    predictor.check(prompts)
    if run.processes.is_main:
        for line in prompt.rich.lines() if prompt.rich else ():
            print(f"{run.description}: {line}", flush=True)

    def answer(positions: list[int]) -> list[dict]:
        asked = [prompts[position] for position in positions]
        db_ids = [examples[position]["db_id"] for position in positions]
        return [asdict(found) for found in predictor.answers(asked, db_ids)]

    run_batches(list(map(len, prompts)), generation.batch_size, answer, run, halvings=lambda: model.halvings)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    records = run.journal.records()
    answers = [
        Answer(records[position]["raw"], records[position]["new_tokens"], prompt.rule)
        for position in range(len(examples))
    ]
    predictions = [_prediction(example, answer) for example, answer in zip(examples, answers, strict=True)]
    for position, prediction in enumerate(predictions):
        if HALVED in records[position]:
            prediction[HALVED] = True
    for prediction in predictions[:1]:
        prediction["prompt"] = model.decode(prompts[0])
        if model.strength != 1:
            prediction[STRENGTH] = model.strength
    return predictions


def _prediction(example: dict, answer: Answer) -> dict:
    return {
        "index": example["index"],
        "db_id": example["db_id"],
        "question": example["question"],
        "gold": example["query"],
        **({"other_golds": example["others"]} if "others" in example else {}),
        "raw": answer.raw,
        "sql": answer.sql,
        "new_tokens": answer.new_tokens,
    }
