"""A set's HTML report, made again from the set and the user's own copy of Spider.

A set keeps predictions, choices and metrics. What the page shows beside them, the rows that gold and predicted queries
return and the databases' schemas, comes from scoring the predictions again on Spider: some seconds, no model, no GPU.
"""

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from text2sql.core import paths
from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl, read_json, user_cache, write_json, write_jsonl, write_text
from text2sql.core.params import Params, load_params
from text2sql.data.mmlu import LETTERS, subject_categories
from text2sql.data.schema import schema_from_sqlite
from text2sql.data.sources import open_source
from text2sql.execution.executor import Limits
from text2sql.report.result_sets import PREDICTIONS, RESULTS, VERDICTS
from text2sql.report.set_files import CHOICES, read_choices, read_gzip
from text2sql.scoring.golds import Gold
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.verdicts import score_examples, summarise

INDEX = {"index": int}


def write_page(name: str, spider: Path, out: Path | None = None) -> str:
    """Write the HTML report of `results/<name>` to `out`, by default reports/<name>.html; return a line about it.

    `spider`: a folder or zip in Spider's layout, or of own data, that of the set. Raises UserError where the set keeps
    no choices, or its predictions are not of these questions.
    """
    from text2sql.report.html import html
    from text2sql.report.run import curves_of_run, read_run

    folder = (RESULTS / name).resolve()
    if not folder.is_dir():
        raise UserError(f"{RESULTS / name}: no such set; there are {', '.join(_known()) or 'none'}")
    if not (folder / CHOICES).is_file():
        raise UserError(f"{RESULTS / name}: was made before sets kept {CHOICES}, which the page shows too")
    params = load_params(folder / "params.yaml", older=True)
    with tempfile.TemporaryDirectory(prefix="text2sql-") as temporary:
        project = Path(temporary)
        _lay_out(folder, params, project)
        moved = _score_again(params, spider, project)
        with contextlib.chdir(project):
            run = read_run(params)
    origin = {**run.provenance, "git": {"revision": f"made from {RESULTS / name}"}}
    page = html(replace(run, provenance=origin, curves=curves_of_run(run.timings)))
    out = out or Path("reports", f"{name}.html")
    write_text(out, page)
    return "\n".join([*moved, f"{out}: {len(page.encode()) / 1e6:.1f} MB"])


def _known() -> list[str]:
    return [path.parent.name for path in sorted(RESULTS.glob("*/params.yaml"))]


def _lay_out(folder: Path, params: Params, project: Path) -> None:
    """Put the set's files where the pipeline has them."""
    models = params.model_table.names
    shutil.copytree(folder / "metrics", project / paths.METRICS)
    shutil.copytree(folder / "timings", project / paths.TIMINGS)
    shutil.copyfile(folder / "dvc.lock", project / "dvc.lock")
    (project / PREDICTIONS).mkdir(parents=True)
    for model in models:
        (project / PREDICTIONS / f"{model}.jsonl").write_bytes(read_gzip(folder / f"predictions/{model}.jsonl.gz"))
    categories = subject_categories(params.mmlu.subjects)
    lines = read_choices(folder / CHOICES, models)
    for model in models:
        records = (
            {
                "subject": line["subject"],
                "category": categories[line["subject"]],
                "index": int(line["index"]),
                "choice": LETTERS.index(line[model]),
                "correct": line[model] == line["answer"],
            }
            for line in lines
        )
        write_jsonl(project / VERDICTS / f"{model}.jsonl", records)


def _score_again(params: Params, spider: Path, project: Path) -> list[str]:
    """Write verdicts and schemas; return a line for each model whose count of right answers is no longer the set's."""
    moved = []
    with open_source(spider, params.data.holdout) as source:
        # Those that were asked: fewer than Spider's where its failing gold queries were left out.
        first = project / PREDICTIONS / f"{params.model_table.base}.jsonl"
        asked = {line["index"] for line in iter_jsonl(first, INDEX)}
        examples = [example for example in source.iter_examples("dev", params.data.dev_limit) if example.index in asked]

        def database_of(db_id: str) -> Path:
            path = project / f"{db_id}.sqlite"
            if not path.is_file():
                source.extract_database(db_id, path)
            return path

        for model in params.model_table.names:
            golds: list[Gold] = []
            verdicts = score_examples(
                examples,
                read_predictions(project / PREDICTIONS / f"{model}.jsonl", examples),
                database_of,
                Limits(**params.execution.model_dump()),
                cache_dir=user_cache() / "gold",
                failing_gold=params.data.failing_gold,
                on_golds=golds.extend,
            )
            write_jsonl(project / paths.VERDICTS / f"spider/{model}.jsonl", (found.to_dict() for found in verdicts))
            file = project / paths.METRICS / f"spider/{model}.json"
            before = read_json(file)
            now = summarise(verdicts, golds, before.get("questions_in_halved_batches", 0))
            for count in ("successes", "official_successes"):
                if before[count] != now[count]:
                    versions = f"SQLite {now['sqlite_version']}, {before['sqlite_version']} in the set"
                    moved.append(f"{model}: {count} {now[count]}, {before[count]} in the set ({versions})")
            write_json(file, now)
        schemas = {db_id: schema_from_sqlite(database_of(db_id), db_id) for db_id in {one.db_id for one in examples}}
        write_json(project / paths.SCHEMAS, {db_id: schema.to_dict() for db_id, schema in schemas.items()})
    return moved
