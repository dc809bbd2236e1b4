"""From the raw benchmarks to the one form that every later stage reads."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from text2sql.core.errors import DISK_FULL, RunError, UserError
from text2sql.core.files import atomic_directory, iter_jsonl, write_json, write_jsonl
from text2sql.core.params import Params
from text2sql.data.mmlu import open_mmlu, subject_categories, write_parquet
from text2sql.data.schema import schema_from_sqlite, schema_from_tables_entry
from text2sql.data.sources import open_source
from text2sql.data.spider import Example, SpiderSource
from text2sql.execution.executor import Executor, Limits
from text2sql.preparation.hub import fetch_mmlu, fetch_spider, load_manifest
from text2sql.scoring.golds import Gold, refuse_failing
from text2sql.scoring.hardness import HARDNESS_LEVELS, hardness_of_example

HUB = "hub"


def prepare(
    params: Params,
    out: str | Path,
    counts_file: str | Path,
    raw: str | Path = "data/raw",
    say: Callable[[str], Any] = print,
) -> dict:
    """Write the folder `out`, then `counts_file`, each whole or not at all; return the counts.

    Below `out`: `spider/{train,dev}.jsonl`, `spider/schemas.json`, `spider/qa_sharegpt.jsonl` (the question and the
    SQL as a conversation), `databases/<db_id>/<db_id>.sqlite` of every database that an example names, and
    `mmlu/<subject>.parquet`. The examples stream through: memory grows with the number of databases, not of examples.

    Every gold query of the dev split is run: those that fail are an error of the data, left out, or kept and counted as
    wrong by scoring, as `data.failing_gold` has it. SQL of the train split is never executed. Raises UserError where a
    benchmark is malformed, RunError where a download or the disk fails.
    """
    out = Path(out)
    try:
        spider = spider_path(params.data.spider, "data.spider", Path(raw), say)
        mmlu = _mmlu_path(params, Path(raw), say)
        with atomic_directory(out) as folder:
            counts = prepare_spider(params, folder, spider, say)
            counts["mmlu"] = _prepare_mmlu(params, folder, mmlu, say)
        write_json(counts_file, counts)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise RunError(f"{out}: not enough disk space") from None
    return counts


def spider_path(value: str, key: str, raw: Path, say: Callable[[str], Any]) -> Path:
    """Return the folder or zip that `value`, that of the param `key`, stands for; `hub` is downloaded to `raw`."""
    if value == HUB:
        return fetch_spider(load_manifest(), raw, say)
    return _existing(value, key)


def _mmlu_path(params: Params, raw: Path, say: Callable[[str], Any]) -> Path:
    if params.data.mmlu == HUB:
        return fetch_mmlu(load_manifest(), list(subject_categories(params.mmlu.subjects)), raw, say)
    return _existing(params.data.mmlu, "data.mmlu")


def _existing(value: str, key: str) -> Path:
    path = Path(value)
    if not path.exists():
        raise UserError(f"{key}: found no {value}, wanted `{HUB}`, or the path of a folder or zip file")
    return path


def prepare_spider(params: Params, out: Path, path: Path, say: Callable[[str], Any]) -> dict:
    """Write Spider's part of what `prepare` writes to the folder `out`, from the folder or zip `path`.

    Returns its counts. Raises as `prepare` does.
    """
    called = f"{params.data.name} from {path}"
    with open_source(path, params.data.holdout) as source:
        say(f"{called}: reading examples")
        train_databases: Counter[str] = Counter()
        spider = out / "spider"
        write_jsonl(spider / "train.jsonl", _train_records(source, params.data.train_limit, train_databases))
        write_jsonl(spider / "qa_sharegpt.jsonl", map(_conversation, iter_jsonl(spider / "train.jsonl")))
        dev_databases = Counter(example.db_id for example in source.iter_examples("dev", params.data.dev_limit))

        available = source.database_ids()
        missing = sorted(set(dev_databases) - available)
        if missing:
            raise UserError(
                f"{path}: dev examples name {len(missing)} databases that are not there: {', '.join(missing)[:200]}; "
                f"wanted {source.databases_lie_in}"
            )
        used = sorted({*train_databases, *dev_databases} & available)
        say(f"{called}: extracting {len(used)} databases")
        databases = out / "databases"
        for db_id in used:
            brought = source.extract_database(db_id, database_file(databases, db_id))
            if brought:
                lacking = ", ".join(brought)
                say(f"{called}: database {db_id} needs its application's {lacking}, which SQLite lacks")
        schemas = {
            db_id: schema_from_sqlite(database_file(databases, db_id), db_id).described(source.descriptions(db_id))
            for db_id in used
        }
        without = sorted(set(train_databases) - available)
        if without:
            entries = source.tables_json()
            schemas |= {db_id: schema_from_tables_entry(entries[db_id]) for db_id in without if db_id in entries}
            say(
                f"{called}: {sum(train_databases[db_id] for db_id in without)} train examples name a "
                f"database that is not there ({', '.join(without)[:200]})"
            )
        write_json(spider / "schemas.json", {db_id: schemas[db_id].to_dict() for db_id in sorted(schemas)})

        say(f"{called}: running {dev_databases.total()} gold queries of the dev split")
        dev = Dev(source, params, partial(database_file, databases))
        write_jsonl(spider / "dev.jsonl", dev.records())
        if params.data.failing_gold == "refuse":
            refuse_failing(dev.failed, "data.failing_gold:", f"{path}, dev ")
    rule = params.data.failing_gold
    return {
        "train": train_databases.total(),
        "dev": dev_databases.total() - (len(dev.failed) if rule == "skip" else 0),
        **({} if rule == "refuse" else {"failing_gold": rule, "dev_failing_gold": len(dev.failed)}),
        **dev.counts(),
        "databases": len(used),
        "train_missing_database": sum(train_databases[db_id] for db_id in without),
        "train_missing_schema": sum(count for db_id, count in train_databases.items() if db_id not in schemas),
    }


def _train_records(source: SpiderSource, limit: int | None, databases: Counter) -> Iterator[dict]:
    for example in source.iter_examples("train", limit):
        databases[example.db_id] += 1
        yield example.to_record()


def _conversation(record: dict) -> dict:
    evidence = {"evidence": record["evidence"]} if "evidence" in record else {}
    return {
        "db_id": record["db_id"],
        **evidence,
        "conversations": [
            {"from": "human", "value": record["question"]},
            {"from": "gpt", "value": record["query"]},
        ],
    }


class Dev:
    """Writes the dev split: runs each gold query, classifies each example's hardness, and counts both."""

    def __init__(self, source: SpiderSource, params: Params, database_of: Callable[[str], Path]) -> None:
        self._source = source
        self._params = params
        self._database_of = database_of
        self.hardness: Counter[str] = Counter()
        self.without_rows = 0
        self.failed: list[Gold] = []

    def records(self) -> Iterator[dict]:
        queries = (
            (self._database_of(example.db_id), query) for example in self._examples() for query in example.queries
        )
        with Executor(Limits(**self._params.execution.model_dump())) as executor:
            results = executor.run_each(queries)
            for example in self._examples():
                place = f"{self._source.path}, dev example {example.index} (database {example.db_id})"
                found = [next(results) for _ in example.queries]
                failed = next((pair for pair in zip(example.queries, found) if pair[1].error is not None), None)
                if failed:
                    self.failed.append(Gold(example.index, example.db_id, failed[0], failed[1].error))
                    if self._params.data.failing_gold != "wrong":
                        continue
                self.without_rows += not failed and not found[0].rows
                hardness = hardness_of_example(example, place)
                self.hardness[hardness] += 1
                yield {**example.to_record(), "hardness": hardness}

    def counts(self) -> dict[str, Any]:
        """Return what was counted of the examples written."""
        return {
            "dev_by_hardness": {level: self.hardness[level] for level in HARDNESS_LEVELS},
            "dev_gold_without_rows": self.without_rows,
        }

    def _examples(self) -> Iterator[Example]:
        return self._source.iter_examples("dev", self._params.data.dev_limit)


def database_file(databases: Path, db_id: str) -> Path:
    """Return where a folder of databases has that of `db_id`."""
    return databases / db_id / f"{db_id}.sqlite"


def _prepare_mmlu(params: Params, out: Path, path: Path, say: Callable[[str], Any]) -> dict:
    subjects = subject_categories(params.mmlu.subjects)
    say(f"MMLU from {path}: reading {len(subjects)} subjects")
    counts = {}
    with open_mmlu(path) as source:
        for subject in subjects:
            splits = {split: source.questions(subject, split) for split in ("dev", "test")}
            write_parquet(out / "mmlu" / f"{subject}.parquet", splits)
            counts[subject] = {split: len(questions) for split, questions in splits.items()}
    return counts
