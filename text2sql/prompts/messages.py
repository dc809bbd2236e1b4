"""Records in, chat messages and prompts out: the same functions for training and for evaluation.

Spider's prompt is one user message, kept short: a small model on a CPU reads 950 tokens a second. The paper's prompt:
the bare question in training; in evaluation three fixed pairs of question and SQL before it, no schema.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from text2sql.core.digests import digest_of
from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.core.params import TableOrder
from text2sql.data.mmlu import Question
from text2sql.data.schema import Schema, Table
from text2sql.prompts.names import quoted
from text2sql.prompts.rich import RichSchemas

SchemaForm = Literal["none", "name", "tables", "ddl", "rich"]

INSTRUCTION = "Answer with one SQLite query."
CHOICE_INSTRUCTION = "Answer with the letter of the right option."

# The four answers whose log-likelihoods are compared, with the space that follows "Answer:".
OPTIONS = (" A", " B", " C", " D")


@dataclass(frozen=True)
class FewShot:
    """A worked example: a question about a train database, and the SQL that answers it."""

    db_id: str
    question: str
    query: str
    schema: Schema


def load_few_shot(path: str | Path, count: int) -> list[FewShot]:
    """Return the first `count` worked examples of a JSON file, `[{db_id, question, query, schema}, …]`.

    The schema, as `Schema.to_dict` writes it, is part of the file: evaluation needs no train database. With a
    `count` of 0 the file is not read. Raises UserError if it holds fewer, or an invalid one.
    """
    if count == 0:
        return []
    records = read_json(path)
    if not isinstance(records, list):
        raise UserError(f"{path}: found {type(records).__name__}, wanted a list of worked examples")
    if len(records) < count:
        raise UserError(f"{path}: holds {len(records)} worked examples, prompt.few_shot wants {count}")
    shots = []
    for index, record in enumerate(records[:count]):
        place = f"{path}, example {index}"
        if not isinstance(record, dict):
            raise UserError(f"{place}: found {type(record).__name__}, wanted an object")
        for field in ("db_id", "question", "query"):
            if not isinstance(record.get(field), str) or not record[field].strip():
                raise UserError(f"{place}: found {record.get(field)!r:.60} as {field!r}, wanted a text")
        try:
            schema = Schema.from_dict(record.get("schema"))
        except UserError as error:
            raise UserError(f"{place}: 'schema' is {error}") from None
        shots.append(FewShot(record["db_id"], record["question"], record["query"], schema))
    return shots


def in_order(schema: Schema, order: TableOrder) -> Schema:
    """Return `schema` with its tables in another order: what the prompt says of each stays the same.

    `shuffled` depends on the names of the database and of its tables alone, so that it is the same for every question,
    in training and in evaluation, on any machine. With three tables or more it is neither of the two other orders.
    """
    if order == "given":
        return schema
    backwards = schema.tables[::-1]
    if order == "reversed":
        return replace(schema, tables=backwards)
    shuffles = (_shuffled(schema, seed) for seed in itertools.count())
    others = (tables for tables in shuffles if len(tables) < 3 or tables not in (schema.tables, backwards))
    return replace(schema, tables=next(others))


def in_drawn_order(schema: Schema, draw: str) -> Schema:
    """Return `schema` with its tables in an order that the text `draw` decides: any of them, the given one too."""
    tables = list(schema.tables)
    random.Random(draw).shuffle(tables)
    return replace(schema, tables=tuple(tables))


def _shuffled(schema: Schema, seed: int) -> tuple[Table, ...]:
    return tuple(sorted(schema.tables, key=lambda table: digest_of([seed, schema.db_id, table.name])))


def render_schema(schema: Schema | None, form: SchemaForm, order: TableOrder = "given") -> str:
    """Return what the prompt shows of a database.

    `none`: nothing (the paper's runs); `name`: its name (the paper's own proposal, section III.D); `tables`: one
    line a table with its columns; `ddl`: CREATE TABLE statements with types, primary and foreign keys, and columns'
    descriptions as comments, where the schema has them. (`rich` depends on the question: `text2sql.prompts.rich`.)
    Tables come in `order`. Names are quoted if SQLite needs it. Raises UserError if the form needs a schema and
    `schema` is None.
    """
    if form == "none":
        return ""
    schema = _needed(schema, form)
    if form == "name":
        return f"Database: {schema.db_id}"
    schema = in_order(schema, order)
    if form == "tables":
        return "\n".join(
            f"{quoted(table.name)}({', '.join(quoted(column.name) for column in table.columns)})"
            for table in schema.tables
        )
    return "\n".join(_create_table(schema, position) for position in range(len(schema.tables)))


def spider_messages(
    question: str,
    schema: Schema | None,
    form: SchemaForm,
    few_shot: Sequence[FewShot] = (),
    order: TableOrder = "given",
    rich: RichSchemas | None = None,
) -> list[dict]:
    """Return the chat messages that ask `question`: one message of the user's, none of the system's.

    Without worked examples and without a schema that is the bare question; each worked example is shown with its own
    schema, in the same form and order. The form `rich` needs `rich`, which has the databases.
    """
    if form == "rich":
        assert rich is not None, "whoever asks with rich schemas has the databases"
        shown = rich.show(question, in_order(_needed(schema, form), order))
        shots = [rich.show_without(shot.question, in_order(shot.schema, order)) for shot in few_shot]
    else:
        shown = render_schema(schema, form, order)
        shots = [render_schema(shot.schema, form, order) for shot in few_shot]
    if not few_shot:
        if not shown:
            return bare_messages(question)
        return _user_message(f"{INSTRUCTION}\n{shown}\n{question.strip()}")
    blocks = [_block(shot.question, text) + f" {shot.query.strip()}" for shot, text in zip(few_shot, shots)]
    return _user_message("\n\n".join([INSTRUCTION, *blocks, _block(question, shown)]))


def _needed(schema: Schema | None, form: SchemaForm) -> Schema:
    if schema is None:
        raise UserError(f"prompt.schema: {form} needs a schema, and the database has none")
    return schema


def with_evidence(question: str, evidence: str | None) -> str:
    """Return the question with what a reader has to know besides, BIRD's evidence, on a line after it; maybe none."""
    known = " ".join((evidence or "").split())
    return f"{question.strip()}\nHint: {known}" if known else question


def bare_messages(question: str) -> list[dict]:
    """Return the chat messages that hold the question alone, as the paper trains."""
    return _user_message(question.strip())


def mmlu_prompt(question: Question, shots: Sequence[Question]) -> str:
    """Return the plain text (no chat template) after which one of OPTIONS is the answer.

    Header and layout of Hendrycks et al.'s `evaluate.py`, character for character: two spaces stand before the
    subject, and an empty line ends each worked example.
    """
    subject = question.subject.replace("_", " ")
    header = f"The following are multiple choice questions (with answers) about  {subject}.\n\n"
    examples = "".join(f"{_mmlu_example(shot)}{OPTIONS[shot.answer]}\n\n" for shot in shots)
    return header + examples + _mmlu_example(question)


def mmlu_chat_messages(question: Question) -> list[dict]:
    """Return the chat messages that ask a multiple-choice question, without examples."""
    return _user_message(f"{question.question}{_choices(question)}\n{CHOICE_INSTRUCTION}")


def _user_message(content: str) -> list[dict]:
    return [{"role": "user", "content": content}]


def _block(question: str, schema: str) -> str:
    return (f"{schema}\n" if schema else "") + f"Question: {question.strip()}\nSQL:"


def _mmlu_example(question: Question) -> str:
    return f"{question.question}{_choices(question)}\nAnswer:"


def _choices(question: Question) -> str:
    options = zip(OPTIONS, question.choices, strict=True)
    return "".join(f"\n{letter.strip()}. {choice}" for letter, choice in options)


def _create_table(schema: Schema, position: int) -> str:
    table = schema.tables[position]
    lines: list[str] = []
    comments = [f" -- {column.description}" if column.description else "" for column in table.columns]
    for column in table.columns:
        line = f"{quoted(column.name)} {column.type}".rstrip()
        if table.primary_key == (column.name,):
            line += " PRIMARY KEY"
        lines.append(line)
    if len(table.primary_key) > 1:
        lines.append(f"PRIMARY KEY ({', '.join(map(quoted, table.primary_key))})")
    for key in schema.foreign_keys:
        if key.table == table.name:
            lines.append(
                f"FOREIGN KEY ({quoted(key.column)}) REFERENCES {quoted(key.ref_table)} ({quoted(key.ref_column)})"
            )
    comments += [""] * (len(lines) - len(comments))
    commas = [","] * (len(lines) - 1) + [""]
    shown = [f"  {line}{comma}{comment}" for line, comma, comment in zip(lines, commas, comments, strict=True)]
    return f"CREATE TABLE {quoted(table.name)} (\n" + "\n".join(shown) + "\n);"
