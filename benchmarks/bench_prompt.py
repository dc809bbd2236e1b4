"""Rich schemas (docs/prompt.md): how long a question takes, and how many tokens prompts have.

    python -m benchmarks.bench_prompt [--spider PATH] [--model BASE] [--room TOKENS] [--repeats N] [--save]

What a question takes is the time to find the values that it names and to write schema and values, once its database
was read: all questions one after another, in one process, in the processor's time. The peer looks for each text of the
database in the question, which finds no more than whole values, and writes nothing. Reading a database for the first
time, and reading what was kept of it, are timed apart. Tokens are those of whole prompts in the base's chat template.
Of the questions' queries nothing is read.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.material import SAMPLE_SPIDER
from benchmarks.measuring import OURS, Side, compared, in_turns, result
from benchmarks.results import show
from text2sql.core.errors import run
from text2sql.core.params import ModelParams, PromptParams
from text2sql.data.contents import read_contents
from text2sql.data.schema import Schema, schema_from_sqlite
from text2sql.data.spider import open_spider
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.chat_tokens import ChatTokens
from text2sql.prompts.messages import SchemaForm, spider_messages
from text2sql.prompts.rich import RichSchemas, in_folders

PEER = "each text of the database looked for in the question"
MOST_MS = 5.0  # a question may take
FORMS: tuple[SchemaForm, ...] = ("tables", "ddl", "rich")
SPLITS = ("train", "dev")


def measure(
    short: bool = False,
    spider: Path = SAMPLE_SPIDER,
    model: str = EMBEDDED_BASE,
    room: int = PromptParams.model_fields["schema_tokens"].default,
    repeats: int = 3,
) -> dict:
    """Return milliseconds a question, seconds to read databases, and tokens of prompts with each form of schema."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        databases, cache = Path(folder) / "databases", Path(folder) / "cache"
        questions = _questions(spider, databases, 40 if short else None)
        names = sorted({db_id for asked in questions.values() for db_id, _ in asked})
        schemas = {db_id: schema_from_sqlite(databases / db_id / f"{db_id}.sqlite", db_id) for db_id in names}
        first, again = (_reading(names, databases, cache) for _ in range(2))
        rich = RichSchemas(in_folders(databases), room, cache)
        asked = [pair for split in SPLITS for pair in questions[split]]
        took = _each(asked, lambda db_id, text: rich.show(text, schemas[db_id]))
        texts = {db_id: _texts(databases / db_id / f"{db_id}.sqlite", cache) for db_id in names}
        ours = Side(OURS, lambda: [rich.show(text, schemas[db_id]) for db_id, text in asked])
        peer = Side(PEER, lambda: [_named(text, texts[db_id]) for db_id, text in asked])
        in_turns([ours, peer], repeats)
        lengths = _lengths(questions, schemas, rich, model)
        cut = {split: sum((db_id, text) in rich.cut for db_id, text in questions[split]) for split in SPLITS}
    mean, median, worst = statistics.mean(took), statistics.median(took), max(took)
    most = sorted(took)[len(took) * 99 // 100]
    notes = [
        f"{mean:.2f} ms of the processor a question (median {median:.2f}, 99 % below {most:.2f}, the "
        f"slowest {worst:.2f}), of at most {MOST_MS:g}: {'met' if most <= MOST_MS else 'missed'}.",
        f"Reading {len(names)} databases for the first time: {sum(first):.2f} s, the slowest {max(first):.2f} s; what "
        f"was kept of them: {sum(again):.2f} s, the slowest {max(again):.2f} s.",
        *(
            f"{split}, {len(questions[split]):,} questions, tokens of {model}'s tokenizer: "
            + "; ".join(f"{form} {mean:.0f} on average, {most:,} at most" for form, (mean, most) in found.items())
            + f"; rich is cut in {cut[split]:,}."
            for split, found in lengths.items()
        ),
    ]
    return result(
        "prompt",
        f"rich schemas of {len(asked):,} questions about {len(names)} databases of {spider.name}, in {room:,} tokens",
        {"questions": len(asked), "databases": len(names), "room": room},
        [ours, peer],
        [compared(ours, peer, None, None)],
        ms_a_question={"mean": mean, "median": median, "slowest": worst},
        tokens={split: {form: list(pair) for form, pair in found.items()} for split, found in lengths.items()},
        cut=cut,
        notes=notes,
    )


def _questions(spider: Path, databases: Path, most: int | None) -> dict[str, list[tuple[str, str]]]:
    """Extract the databases that are asked about; return {split: [(db_id, question), …]}."""
    questions = {}
    with open_spider(spider) as source:
        there = source.database_ids()
        for split in SPLITS:
            pairs = [(example.db_id, example.question) for example in source.iter_examples(split, most)]  # type: ignore
            questions[split] = [pair for pair in pairs if pair[0] in there]
        for db_id in {db_id for asked in questions.values() for db_id, _ in asked}:
            source.extract_database(db_id, databases / db_id / f"{db_id}.sqlite")
    return questions


def _reading(names: Sequence[str], databases: Path, cache: Path) -> list[float]:
    """Return the seconds that reading each database takes."""
    found = []
    for db_id in names:
        started = time.perf_counter()
        read_contents(databases / db_id / f"{db_id}.sqlite", cache)
        found.append(time.perf_counter() - started)
    return found


def _each(asked: Sequence[tuple[str, str]], work: Callable[[str, str], Any]) -> list[float]:
    """Return the processor's milliseconds for each question, each database having been asked about before."""
    for db_id in {db_id for db_id, _ in asked}:
        work(db_id, "")
    found = []
    for db_id, text in asked:
        started = time.process_time()
        work(db_id, text)
        found.append(1000 * (time.process_time() - started))
    return found


def _texts(database: Path, cache: Path) -> list[str]:
    columns = read_contents(database, cache).columns.values()
    return sorted({text.lower() for column in columns for text in column.texts})


def _named(question: str, texts: Sequence[str]) -> list[str]:
    question = question.lower()
    return [text for text in texts if text in question]


def _lengths(
    questions: dict[str, list[tuple[str, str]]], schemas: dict[str, Schema], rich: RichSchemas, model: str
) -> dict[str, dict[str, tuple[float, int]]]:
    """Return {split: {form: (mean, most)}} of the tokens of prompts."""
    params = ModelParams(base=model, loader="transformers", quantization="none", dtype="float32")
    tokens = ChatTokens.of(params, None)
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for split, asked in questions.items():
        for form in FORMS:
            counts = [
                len(tokens.chat_ids(spider_messages(text, schemas[db_id], form, rich=rich))) for db_id, text in asked
            ]
            found.setdefault(split, {})[form] = (statistics.mean(counts), max(counts))
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep the result where `--save` asks for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spider", type=Path, default=SAMPLE_SPIDER, metavar="PATH", help="a folder or zip")
    parser.add_argument("--model", default=EMBEDDED_BASE, metavar="BASE", help="whose tokenizer counts")
    parser.add_argument("--room", type=int, default=PromptParams.model_fields["schema_tokens"].default)
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--save", action="store_true")
    options = vars(parser.parse_args(arguments))
    save = options.pop("save")
    show(measure(**options), save)


if __name__ == "__main__":
    run(main)
