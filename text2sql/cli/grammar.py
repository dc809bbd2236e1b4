"""Say what constrained decoding (generation.grammar) lets through: golds, predictions that fail, wrong and right ones.

    text2sql grammar --spider spider_data.zip
    text2sql grammar --spider spider_data.zip results/qwen05-ddl/predictions/m1.jsonl.gz …

PATH is a folder or zip in Spider's official layout, in BIRD's, or of own data. Without PREDICTIONS (files as `text2sql
score` takes them) it prints the share of golds that the grammar accepts, and which database's grammar takes longest to
make, with the tokens of the base that `--base` names or without any.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from text2sql.core.errors import ArgumentParser
from text2sql.core.files import user_cache
from text2sql.core.params import ModelParams
from text2sql.data.layouts import SPIDER
from text2sql.data.sources import open_source
from text2sql.data.spider import Example, SpiderSource, Split
from text2sql.execution.executor import Limits
from text2sql.report.numbers import percent
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.verdicts import score_examples

if TYPE_CHECKING:
    from text2sql.experiments.grammar import Schemas
    from text2sql.model.constrained import Constraints


def main(arguments: Sequence[str]) -> None:
    """Print what the constraint accepts of golds, or of the predictions that `arguments` name."""
    options = _parse(arguments)
    with (
        open_source(options.spider) as source,
        tempfile.TemporaryDirectory(prefix="text2sql-") as folder,
    ):

        def database_of(db_id: str) -> Path:
            path = Path(folder) / f"{db_id}.sqlite"
            if not path.is_file():
                source.extract_database(db_id, path)
            return path

        from text2sql.experiments.grammar import Schemas
        from text2sql.model.constrained import Constraints

        constraints, schemas = Constraints.of_texts(), Schemas(source, database_of)
        for path in options.predictions:
            examples = source.examples(options.split or "dev")
            print(_of_predictions(path, examples, constraints, schemas, database_of), flush=True)
        if not options.predictions:
            for split in [options.split] if options.split else ("train", "dev"):
                print(_of_golds(split, source, constraints, schemas), flush=True)
            print(_compiled(_with_tokens_of(options.base) if options.base else Constraints.of_texts(), schemas))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="text2sql grammar", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, nargs="*", help="files of queries")
    parser.add_argument("--spider", metavar="PATH", type=Path, required=True, help="as `text2sql score` takes it")
    parser.add_argument("--split", choices=sorted(SPIDER.splits), help="default: dev of predictions, each of golds")
    parser.add_argument("--base", help="a folder with a tokenizer, or a carried base; default: bytes for tokens")
    return parser.parse_args(arguments)


def _of_golds(split: Split, source: SpiderSource, constraints: "Constraints", schemas: "Schemas") -> str:
    from text2sql.experiments.grammar import golds, refused

    queries = golds(source.examples(split))
    right = len(queries) - sum(refused(constraints, schemas, queries))
    return f"{split}: {right:,} of {len(queries):,} golds accepted ({percent(right / len(queries))})"


def _of_predictions(
    path: Path,
    examples: Sequence[Example],
    constraints: "Constraints",
    schemas: "Schemas",
    database_of: Callable[[str], Path],
) -> str:
    from text2sql.experiments.grammar import Refusals, refused

    queries = read_predictions(path, examples)
    verdicts = score_examples(
        examples, queries, database_of, Limits(), cache_dir=user_cache() / "gold", failing_gold="wrong"
    )
    asked = [(example.db_id, query) for example, query in zip(examples, queries, strict=True)]
    found = Refusals.of(verdicts, list(refused(constraints, schemas, asked)))
    counts = {"that fail": found.failing, "that run and are wrong": found.wrong, "that are right": found.right}
    return f"{path}: of {len(queries):,} answers refuses " + ", ".join(
        f"{refusals:,} of {count:,} {what}" for what, (count, refusals) in counts.items()
    )


def _compiled(constraints: "Constraints", schemas: "Schemas") -> str:
    from text2sql.experiments.grammar import seconds_to_compile

    seconds = seconds_to_compile(constraints, schemas)
    slowest = max(seconds, key=seconds.__getitem__)
    return (
        f"{len(seconds)} databases' grammars made in {sum(seconds.values()):.2f} s; "
        f"the slowest: {slowest}, {seconds[slowest]:.3f} s"
    )


def _with_tokens_of(base: str) -> "Constraints":
    from transformers import AutoConfig, AutoTokenizer

    from text2sql.model.constrained import Constraints
    from text2sql.model.loading import base_folder
    from text2sql.model.token_bytes import Vocabulary

    folder = base_folder(ModelParams(base=base, loader="transformers", quantization="none", dtype="auto"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    size = AutoConfig.from_pretrained(folder).vocab_size
    return Constraints(Vocabulary.of(tokenizer, size, tokenizer.eos_token_id))
