"""What a verifier is asked: question, schema, a query and what it returned. It answers Yes, it is right, or No.

A generative verifier (Zhang et al. 2024, arXiv 2408.15240): the verdict is the model's own next token, trained as any
answer is, and its log-odds of Yes against No are the score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.params import PromptParams, TableOrder
from text2sql.data.schema import Schema
from text2sql.prompts.messages import SchemaForm, in_order, render_schema, with_evidence
from text2sql.prompts.rich import CONTROL, RichSchemas, rich_schemas

RIGHT, WRONG = "Yes", "No"
INSTRUCTION = f"Does this SQLite query answer the question? {RIGHT} or {WRONG}?"
ROWS = 3  # shown of a result
CHARACTERS = 40  # of a cell or a column's name


@dataclass(frozen=True)
class VerifierPrompt:
    """What a verifier is shown beside the query and its result: the schema as answers are asked for with it."""

    schemas: Mapping[str, Schema]
    form: SchemaForm
    order: TableOrder = "given"
    evidence: bool = False
    rich: RichSchemas | None = None  # with the form `rich`: what shows the databases

    @classmethod
    def of(
        cls, shown: PromptParams, schemas: Mapping[str, Schema], file_of: Callable[[str], Path | None]
    ) -> "VerifierPrompt":
        """Return the prompt that `shown` names; `file_of` has the databases' files, None for one that is not there."""
        rich = rich_schemas(shown, file_of)
        return cls(schemas, shown.schema_, shown.table_order, shown.evidence, rich)

    def messages(self, question: str, db_id: str, sql: str, result: str, evidence: str | None = None) -> list[dict]:
        """Return the chat messages that ask whether `sql` answers `question`; `result` is of `shown_result`.

        What a question's answers share stands first. Raises UserError for a database without a schema.
        """
        question = with_evidence(question, evidence if self.evidence else None)
        parts = [
            INSTRUCTION,
            self._schema(question, db_id),
            f"Question: {question.strip()}",
            f"SQL: {_plain(sql)}",
            result,
        ]
        return [{"role": "user", "content": "\n".join(part for part in parts if part)}]

    def _schema(self, question: str, db_id: str) -> str:
        if self.form == "none":
            return ""
        schema = self.schemas.get(db_id)
        if schema is None:
            raise UserError(f"database {db_id!r} has no schema, which prompt.schema wants")
        if self.form == "rich":
            assert self.rich is not None, "whoever asks with rich schemas has the databases"
            return self.rich.show(question, in_order(schema, self.order))
        return render_schema(schema, self.form, self.order)


def shown_result(result: Mapping[str, Any]) -> str:
    """Return what a verifier sees of a result: `columns`, `rows` and `row_count`, as a verdict keeps it.

    The first `ROWS` rows, a line each, cells cut to `CHARACTERS`.
    """
    count = result["row_count"]
    lines = [f"Result, {count:,} {'row' if count == 1 else 'rows'}:", result["columns"], *result["rows"][:ROWS]]
    return "\n".join(line if isinstance(line, str) else " | ".join(map(_cell, line)) for line in lines)


def _cell(value: object) -> str:
    return "NULL" if value is None else _line(str(value), CHARACTERS)


def _plain(text: str) -> str:
    """Return `text` without what a chat template might take for its own: a model or a database wrote it."""
    return CONTROL.sub(" ", text)


def _line(text: str, most: int) -> str:
    text = " ".join(_plain(text).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
