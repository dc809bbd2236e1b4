"""A further evaluation set: the dev split of other data in Spider's layout, in the form of `prepare`'s.

It may be questions alone, such as Spider-Syn's file: databases that its folder lacks are those that `prepare` left.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, write_json, write_jsonl
from text2sql.core.params import Params
from text2sql.data.schema import schema_from_sqlite
from text2sql.data.sources import open_source
from text2sql.data.spider import SpiderSource
from text2sql.preparation.prepare import Dev, database_file, spider_path
from text2sql.scoring.golds import refuse_failing


def prepare_also(
    params: Params,
    name: str,
    databases: Path,
    out: Path,
    counts_file: Path,
    raw: str | Path = "data/raw",
    say: Callable[[str], Any] = print,
) -> dict:
    """Write the set `name` of `data.also` into the folder `out`, then `counts_file`; return the counts.

    Below `out`: `dev.jsonl`, `schemas.json` of the databases that it names, and `databases/` with those of its own;
    the others are in the folder `databases`. Gold queries are run as `prepare` runs them, and those that fail are what
    the set's `failing_gold` says, or that of `data`. Raises UserError where data or databases are missing or malformed.
    """
    entry, key = params.data.also[name], f"data.also.{name}"
    rule = params.failing_gold_in(name)
    params = params.model_copy(update={"data": params.data.model_copy(update={"failing_gold": rule})})
    path = spider_path(entry.spider, f"{key}.spider", Path(raw), say)
    # The same data have the same dev split, and the same databases, which `prepare` has extracted.
    same = Path(entry.spider) == Path(params.data.spider)
    with open_source(path, params.data.holdout if same else None) as source, atomic_directory(out) as folder:
        say(f"{name}, from {path}: reading questions")
        named = Counter(example.db_id for example in source.iter_examples("dev", params.data.dev_limit))
        own = set() if same else source.database_ids() & set(named)
        _extract(source, own, folder / "databases", say)

        def database_of(db_id: str) -> Path:
            return database_file(folder / "databases" if db_id in own else databases, db_id)

        missing = sorted(db_id for db_id in named if not database_of(db_id).is_file())
        if missing:
            raise UserError(
                f"{key}.spider: {path}: its questions name {len(missing)} databases that are neither there nor among "
                f"those of data.spider's examples: {', '.join(missing)[:200]}; wanted {source.databases_lie_in}"
            )
        schemas = {
            db_id: schema_from_sqlite(database_of(db_id), db_id).described(source.descriptions(db_id)).to_dict()
            for db_id in sorted(named)
        }
        write_json(folder / "schemas.json", schemas)
        say(f"{name}, from {path}: running {named.total()} gold queries")
        dev = Dev(source, params, database_of)
        write_jsonl(folder / "dev.jsonl", dev.records())
        if rule == "refuse":
            refuse_failing(dev.failed, f"{key}.failing_gold:", f"{path}, ")
    counts = {
        "dev": named.total() - (len(dev.failed) if rule == "skip" else 0),
        **({} if rule == "refuse" else {"failing_gold": rule, "dev_failing_gold": len(dev.failed)}),
        **dev.counts(),
        "databases": len(named),
        "own_databases": len(own),
    }
    write_json(counts_file, counts)
    return counts


def _extract(source: SpiderSource, own: set[str], databases: Path, say: Callable[[str], Any]) -> None:
    for db_id in sorted(own):
        brought = source.extract_database(db_id, database_file(databases, db_id))
        if brought:
            say(f"database {db_id} needs its application's {', '.join(brought)}, which SQLite lacks")
