"""What the user gets wrong: one line that names it, an exit code, and nothing changed on disk.

Each case damages a small project and runs one command by the same path as `python -m …`: `errors.run` on the module's
`main`, in this process, which spares the start of an interpreter. A few run as real processes as well.
"""

import importlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass

import pytest

from testkit import synthetic
from testkit.project import Project
from text2sql.core import errors
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.data import archives

SPIDER, MMLU = "data/raw/spider", "data/raw/mmlu"
USERS, FAILURE = 2, 1


@dataclass(frozen=True)
class Case:
    """A mistake, the command that meets it, and what its one line has to say."""

    id: str
    command: str
    damage: object
    says: tuple[str, ...]
    code: int = USERS


CASES: list[Case] = []


def mistake(id, command, damage, *says, code=USERS):
    """Add a case. `damage` is a function of the project's folder, or None."""
    CASES.append(Case(id, command, damage or (lambda folder: None), says, code))


# ---------------------------------------------------------------- damage


def write(name, content):
    """Write text or bytes, or anything else as JSON."""

    def damage(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        data = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return damage


def replace(name, old, new):
    """Replace a text that occurs in a file."""

    def damage(folder):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def remove(name):
    """Remove a file or folder."""

    def damage(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def truncate(name, share=0.5):
    """Keep the first part of a file alone."""

    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def line(name, number, changes):
    """Change one line, counted from 0, of a file of JSON lines: an object's fields, or all of it by a text."""

    def damage(folder):
        lines = (folder / name).read_text().splitlines()
        lines[number] = changes if isinstance(changes, str) else json.dumps(json.loads(lines[number]) | changes)
        (folder / name).write_text("\n".join(lines) + "\n")

    return damage


def without_field(name, number, field):
    """Take one field out of one line of a file of JSON lines."""

    def damage(folder):
        records = read_jsonl(folder / name)
        del records[number][field]
        write_jsonl(folder / name, records)

    return damage


def together(*damages):
    """Do all of `damages`."""

    def damage(folder):
        for one in damages:
            one(folder)

    return damage


def param(section, key, value):
    """Set a param to `value`, as YAML text."""

    def damage(folder):
        path = folder / "params.yaml"
        head, start, rest = ("\n" + path.read_text()).partition(f"\n{section}:")
        rest, count = re.subn(
            rf"(?m)^( +){key}:[^\n]*(\n\1 +[^\n]*)*", lambda found: f"{found[1]}{key}: {value}", rest, count=1
        )
        assert start and count
        path.write_text((head + start + rest)[1:])

    return damage


def zipped(change=None):
    """Make data/raw/spider a zip, `change(zip file)` having added what does not belong there, and name it in params."""

    def damage(folder):
        with zipfile.ZipFile(folder / "spider.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted((folder / SPIDER).rglob("*")):
                if path.is_file():
                    file.write(path, path.relative_to(folder / SPIDER))
            if change is not None:
                change(file)
        param("data", "spider", "spider.zip")(folder)

    return damage


def link(file):
    """Add a symbolic link to a zip."""
    member = zipfile.ZipInfo("database/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    file.writestr(member, "/etc/passwd")


def examples(*changes, **first):
    """Change fields of the dev split's first example."""

    def damage(folder):
        path = folder / SPIDER / "dev.json"
        records = json.loads(path.read_text())
        for name, value in first.items():
            if value is ...:
                del records[0][name]
            else:
                records[0][name] = value
        path.write_text(json.dumps(records))

    return damage


def question(row):
    """Make the first line of MMLU's philosophy test another one."""

    def damage(folder):
        path = folder / MMLU / "test/philosophy_test.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([row, *lines[1:]]) + "\n")

    return damage


def parquet(change):
    """Give MMLU's philosophy as Parquet, its bytes passed through `change`, beside nothing else."""

    def damage(folder):
        import pyarrow
        import pyarrow.parquet

        param("mmlu", "subjects", "{humanities: [philosophy]}")(folder)
        shutil.rmtree(folder / MMLU)
        table = pyarrow.table(
            {"question": ["Why?"], "subject": ["philosophy"], "choices": [["a", "b", "c", "d"]], "answer": [0]}
        )
        for split in ("dev", "test"):
            buffer = io.BytesIO()
            pyarrow.parquet.write_table(table, buffer)
            write(f"{MMLU}/philosophy/{split}-00000-of-00001.parquet", change(buffer.getvalue()))(folder)

    return damage


# ---------------------------------------------------------------- params

CHECK = "text2sql check"
for id_, section, key, value, *says in [
    ("a-text-for-a-number", "train", "lr", "foo", "train.lr: got 'foo' (str)", "takes a number above 0 and at most 1"),
    ("a-bool-for-a-number", "train", "epochs", "true", "train.epochs: got True (bool)", "takes a number above 0"),
    ("a-list-for-a-number", "train", "seed", "[1]", "train.seed: got [1] (list)", "takes a whole number from 0"),
    ("a-fraction-for-a-whole", "generation", "batch_size", "2.5", "generation.batch_size: got 2.5 (float)", "takes"),
    ("a-text-for-a-grammar", "generation", "grammar", "sql", "generation.grammar: got 'sql' (str)", "takes"),
    ("nothing-for-a-number", "mmlu", "batch_size", "", "mmlu.batch_size: got null", "takes a whole number from 1"),
    ("nan", "train_m2", "lr", ".nan", "train_m2.lr: got nan (float)", "takes a number above 0"),
    ("below-the-range", "mmlu", "shots", "-1", "mmlu.shots: got -1 (int)", "takes a whole number from 0 to 5"),
    ("three-rotations", "mmlu", "rotations", "3", "mmlu.rotations: got 3 (int)", "takes 1 or 4"),
    ("chat-with-nobody", "mmlu", "chat", "[base, m9]", "mmlu: chat: got 'm9' (str)", "takes names of"),
    ("above-the-range", "train", "lr", "3", "train.lr: got 3 (int)", "at most 1"),
    ("strength-below-0", "model", "strength", "-1", "model.strength: got -1 (int)", "takes a number from 0 to 100"),
    ("not-a-choice", "model", "dtype", "int8", "model.dtype: got 'int8' (str)", "takes 'auto', 'float32'"),
    ("empty-text", "data", "spider", "''", "data.spider: got '' (str)", "takes one line of text"),
    ("a-number-for-a-section", "train", "lora", "3", "train.lora: got 3 (int)", "takes a mapping of r, alpha"),
    ("unknown-subject", "mmlu", "subjects", "{stem: [alchemy]}", "mmlu.subjects: stem: 'alchemy'", "none of MMLU's"),
    ("subject-elsewhere", "mmlu", "subjects", "{stem: [virology]}", "mmlu.subjects: stem: 'virology'", "belongs to"),
    (
        "unknown-key",
        "train",
        "scheduler",
        "linear\n  rate: 1",
        "train.rate: unknown key",
        "the keys here are method, lr",
    ),
    ("doubled-key", "compare", "seed", "0\n  seed: 1", "line ", 'found duplicate key "seed"'),
    ("python-object", "compare", "seed", "!!python/object/apply:os.getcwd []", "line ", "constructor for the tag"),
    ("python-name", "model", "base", "!!python/name:os.system", "line ", "constructor for the tag"),
    ("undefined-alias", "model", "base", "*base", "line ", "found undefined alias 'base'"),
]:
    mistake(f"params-{id_}", CHECK, param(section, key, value), "params.yaml", *says)

mistake("params-syntax", CHECK, write("params.yaml", "model: {base: [\n"), "params.yaml, line 2", "not valid YAML")
mistake("params-tab", CHECK, write("params.yaml", "model:\n\tbase: x\n"), "params.yaml, line 2", "not valid YAML")
mistake("params-empty", CHECK, write("params.yaml", ""), "params.yaml", "found null", "wanted a mapping")
mistake("params-a-list", CHECK, write("params.yaml", "- model\n"), "params.yaml", "found ['model'] (list)", "wanted")
mistake("params-not-utf8", CHECK, write("params.yaml", b"model: \xff"), "params.yaml", "not valid YAML", "utf-8")
mistake(
    "params-a-section-missing", CHECK, replace("params.yaml", "\ncompare:", "\nother:"), "compare: missing", "other"
)
mistake("params-missing", "stages.prepare", remove("params.yaml"), "params.yaml: no such file")
mistake("params-a-folder", "stages.prepare", together(remove("params.yaml"), write("params.yaml/x", "")), "is a folder")
mistake("params-in-every-stage", "stages.train m1", param("train", "lr", "foo"), "params.yaml: train.lr: got 'foo'")
mistake("params-named-on-the-command-line", "text2sql check none.yaml", None, "none.yaml: no such file")

# ---------------------------------------------------------------- Spider

PREPARE = "stages.prepare"
mistake(
    "spider-missing", PREPARE, param("data", "spider", "nowhere"), "data.spider", "found no nowhere", "wanted `hub`"
)
mistake("spider-empty", PREPARE, remove(f"{SPIDER}/dev.json"), SPIDER, "found no dev.json")
mistake("spider-no-train", PREPARE, remove(f"{SPIDER}/train_spider.json"), "train_spider.json: no such file")
mistake("spider-bad-json", PREPARE, truncate(f"{SPIDER}/dev.json", 0.02), "dev.json, example ", "not valid JSON")
mistake(
    "spider-object", PREPARE, write(f"{SPIDER}/dev.json", {}), "dev.json", "found text that begins with '{'", "array"
)
mistake("spider-no-example", PREPARE, write(f"{SPIDER}/dev.json", []), "dev.json", "holds no examples", "at least one")
mistake(
    "spider-empty-file", PREPARE, write(f"{SPIDER}/dev.json", ""), "dev.json", "found an empty file", "wanted a JSON"
)
mistake("spider-not-utf8", PREPARE, write(f"{SPIDER}/dev.json", b'[{"db_id": "\xff"}]'), "dev.json", "not UTF-8")
mistake("spider-no-field", PREPARE, examples(query=...), "dev.json, example 0", "no field 'query'", "wanted db_id")
mistake("spider-wrong-type", PREPARE, examples(question=3), "dev.json, example 0", "found a number", "wanted a text")
mistake(
    "spider-path-as-id", PREPARE, examples(db_id="../../etc"), "dev.json, example 0", "'../../etc'", "plain file name"
)
mistake("spider-unknown-database", PREPARE, examples(db_id="atlantis"), "databases that are not there", "atlantis")
mistake("spider-gold-fails", PREPARE, examples(query="SELECT x FROM y"), "dev example 0", "gold query fails", "no such")
mistake("spider-gold-writes", PREPARE, examples(query="DROP TABLE t"), "dev example 0", "gold query fails")
mistake("spider-bad-parse", PREPARE, examples(sql={"from": 3}), "dev example 0", "'sql'")
mistake("spider-not-sqlite", PREPARE, lambda folder: write(f"{first_database(folder)}ite", "text" * 99)(folder),
        ".sqlite: not a valid SQLite file")  # fmt: skip
mistake("spider-bad-sql", PREPARE, lambda folder: write(first_database(folder), "CREATE TABL t (a);")(folder),
        ".sql: SQLite refuses this text", "syntax error")  # fmt: skip
mistake("spider-sql-reaches-out", PREPARE,
        lambda folder: write(first_database(folder), "CREATE TABLE t (a); ATTACH 'out.db' AS out;")(folder),
        ".sql: SQLite refuses this text", "attached")  # fmt: skip


def first_database(folder):
    """Return the name of the SQL text of the database that the dev split's first example asks."""
    db_id = json.loads((folder / SPIDER / "dev.json").read_text())[0]["db_id"]
    return f"{SPIDER}/database/{db_id}/{db_id}.sql"


for id_, change, *says in [
    ("dots", lambda file: file.writestr("../evil", "x"), "member '../evil'", "leads out of the archive"),
    ("absolute", lambda file: file.writestr("/etc/evil", "x"), "member '/etc/evil'", "leads out of the archive"),
    ("drive", lambda file: file.writestr("C:/evil", "x"), "member 'C:/evil'", "leads out of the archive"),
    ("link", link, "member 'database/link'", "is a link"),
    ("bomb", lambda file: file.writestr("zeros", bytes(archives.RATIO_APPLIES_FROM_BYTES + 1)), "'zeros'", "bomb"),
    ("twice", lambda file: file.writestr("dev.json", "[]"), "member 'dev.json'", "appears twice"),
]:
    mistake(f"zip-{id_}", PREPARE, zipped(change), "spider.zip", *says)
mistake("zip-truncated", PREPARE, together(zipped(), truncate("spider.zip")), "spider.zip", "readable zip file")
mistake("zip-a-text", PREPARE, together(zipped(), write("spider.zip", "hello")), "spider.zip", "readable zip file")
mistake("zip-damaged", PREPARE, together(zipped(), lambda folder: flip(folder / "spider.zip")), "spider.zip", "damaged")


def flip(path):
    """Change bytes inside the first member of a zip, the dev split or a database."""
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(byte ^ 0x55 for byte in data[60:90])
    path.write_bytes(data)


# ---------------------------------------------------------------- MMLU

PHILOSOPHY = "test/philosophy_test.csv"
mistake("mmlu-missing", PREPARE, param("data", "mmlu", "nowhere"), "data.mmlu", "found no nowhere", "wanted `hub`")
mistake("mmlu-no-subject", PREPARE, remove(f"{MMLU}/{PHILOSOPHY}"), f"{PHILOSOPHY}: no such file")
mistake("mmlu-something-else", PREPARE, param("data", "mmlu", SPIDER), SPIDER, "found no test/<subject>_test.csv")
mistake("mmlu-columns", PREPARE, question("Why?,a,b,c,A"), f"{PHILOSOPHY}, line 1", "found 5 fields", "wanted 6")
mistake("mmlu-letter", PREPARE, question("Why?,a,b,c,d,E"), f"{PHILOSOPHY}, line 1", "found 'E'", "wanted A, B, C or D")
mistake("mmlu-header", PREPARE, question("question,A,B,C,D,answer"), "line 1", "found 'answer'", "wanted A, B, C or D")
mistake("mmlu-empty-choice", PREPARE, question("Why?,a,b,,d,A"), "line 1", "found ''", "wanted a text")
mistake("mmlu-open-quote", PREPARE, question('"Why?,a,b,c,d,A'), f"{PHILOSOPHY}, line ", "not valid CSV")
mistake("mmlu-empty-file", PREPARE, write(f"{MMLU}/{PHILOSOPHY}", ""), PHILOSOPHY, "holds no questions")
mistake("mmlu-not-utf8", PREPARE, write(f"{MMLU}/{PHILOSOPHY}", b"caf\xe9,a,b,c,d,A\n"), PHILOSOPHY, "not UTF-8")
mistake("parquet-truncated", PREPARE, parquet(lambda data: data[:-20]), "-00001.parquet", "not a valid Parquet file")
mistake("parquet-a-text", PREPARE, parquet(lambda data: b"hello"), "-00001.parquet", "not a valid Parquet file")
mistake("parquet-damaged", "stages.eval_mmlu base", truncate("data/prepared/mmlu/philosophy.parquet"),
        "data/prepared/mmlu/philosophy.parquet", "not a valid Parquet file")  # fmt: skip
mistake("parquet-missing", "stages.eval_mmlu base", remove("data/prepared/mmlu/philosophy.parquet"),
        "data/prepared/mmlu/philosophy.parquet: no such file")  # fmt: skip
mistake("mmlu-too-few-shots", "stages.eval_mmlu base",
        together(param("mmlu", "shots", "5"), lambda folder: few_dev_questions(folder)),
        "mmlu.shots: got 5", "philosophy has 2 dev questions")  # fmt: skip


def few_dev_questions(folder):
    """Leave two dev questions in the prepared philosophy."""
    from text2sql.data.mmlu import read_parquet, write_parquet

    path = folder / "data/prepared/mmlu/philosophy.parquet"
    write_parquet(path, {"dev": read_parquet(path, "dev", 2), "test": read_parquet(path, "test")})


# ---------------------------------------------------------------- the hub

mistake("hub-manifest", PREPARE, together(param("data", "spider", "hub"), write("hub", "spider: 3\nmmlu: {}\n")),
        "hub: spider: ")  # fmt: skip
mistake("hub-manifest-missing", PREPARE, together(param("data", "spider", "hub"), remove("hub")), "hub: no such file")

# ---------------------------------------------------------------- predictions and verdicts

DEV, PREDICTIONS = "data/prepared/spider/dev.jsonl", "data/predictions/base.jsonl"
EVALUATE = "stages.eval_spider base"
mistake("predictions-missing", EVALUATE, remove(PREDICTIONS), f"{PREDICTIONS}: no such file")
mistake(
    "predictions-bad-json", EVALUATE, line(PREDICTIONS, 2, '{"index": 2'), f"{PREDICTIONS}, line 3", "not valid JSON"
)
mistake(
    "predictions-a-list",
    EVALUATE,
    line(PREDICTIONS, 2, "[1]"),
    f"{PREDICTIONS}, line 3",
    "found an array",
    "wanted a JSON object",
)
mistake(
    "predictions-doubled",
    EVALUATE,
    line(PREDICTIONS, 2, {"index": 1}),
    f"{PREDICTIONS}, line 3",
    "found index 1",
    "wanted 2",
)
mistake("predictions-too-few", EVALUATE, truncate(PREDICTIONS, 0), PREDICTIONS, "found 0 predictions", "wanted 10")
mistake(
    "predictions-no-index",
    EVALUATE,
    without_field(PREDICTIONS, 2, "index"),
    f"{PREDICTIONS}, line 3",
    "no field 'index'",
    "wanted a whole number",
)
mistake(
    "predictions-no-sql",
    EVALUATE,
    without_field(PREDICTIONS, 2, "sql"),
    f"{PREDICTIONS}, line 3",
    "no field 'sql'",
    "wanted a text",
)
mistake(
    "predictions-wrong-type",
    EVALUATE,
    line(PREDICTIONS, 2, {"sql": 3}),
    f"{PREDICTIONS}, line 3",
    "found a whole number as 'sql'",
    "wanted",
)
mistake("predictions-not-utf8", EVALUATE, write(PREDICTIONS, b"\xff\n"), PREDICTIONS, "not UTF-8")
mistake("dev-missing", EVALUATE, remove(DEV), f"{DEV}: no such file")
mistake("dev-no-query", EVALUATE, without_field(DEV, 1, "query"), f"{DEV}, line 2", "no field 'query'", "wanted a text")
mistake("databases-missing", EVALUATE, remove("data/prepared/databases"), ".sqlite: no such file", "run prepare")

COMPARE = "stages.compare"
SPIDER_M1, MMLU_M2 = "data/verdicts/spider/m1.jsonl", "data/verdicts/mmlu/m2.jsonl"
mistake("verdicts-missing", COMPARE, remove(SPIDER_M1), f"{SPIDER_M1}: no such file")
mistake("verdicts-bad-json", COMPARE, line(MMLU_M2, 0, "{"), f"{MMLU_M2}, line 1", "not valid JSON")
mistake(
    "verdicts-no-key",
    COMPARE,
    without_field(SPIDER_M1, 1, "db_id"),
    f"{SPIDER_M1}, line 2",
    "no field 'db_id'",
    "wanted a text",
)
mistake("verdicts-other-examples", COMPARE, line(SPIDER_M1, 1, {"index": 0}), "m1", "not of the same examples")
mistake("verdicts-other-questions", COMPARE, line(MMLU_M2, 1, {"index": 77}), "m2", "different questions")
mistake(
    "verdicts-against-metrics",
    COMPARE,
    replace("metrics/mmlu/m2.json", '"total": 12', '"total": 13'),
    "m2",
    "MMLU total 12",
)
mistake("metrics-bad-json", COMPARE, write("metrics/spider/base.json", "{"), "metrics/spider/base.json: not valid JSON")
mistake("metrics-a-list", COMPARE, write("metrics/spider/base.json", "[]"), "metrics/spider/base.json: found an array")
mistake(
    "metrics-no-key",
    COMPARE,
    write("metrics/spider/base.json", "{}"),
    "metrics/spider/base.json: has no field",
    "wanted a number",
)
mistake("timings-bad-json", COMPARE, write("data/timings/train_m1.json", "{"), "train_m1.json: not valid JSON")
mistake(
    "timings-no-key",
    COMPARE,
    write("data/timings/train_m1.json", "{}"),
    "data/timings/train_m1.json: has no field 'stage'",
    "wanted a text",
)
mistake(
    "loss-curve-a-text",
    COMPARE,
    write("metrics/train/m1_loss.csv", "step,loss\n1,high\n"),
    "metrics/train/m1_loss.csv, line 2",
    "wanted numbers",
    "high",
)
mistake("loss-curve-missing", COMPARE, remove("metrics/train/m1_loss.csv"), "metrics/train/m1_loss.csv: no such file")
mistake(
    "gate-no-metrics", "stages.compare --gate", remove("metrics/compare.json"), "metrics/compare.json: no such file"
)
mistake("gate-no-number", "stages.compare --gate", write("metrics/compare.json", {"spider_total": "ten"}),
        "metrics/compare.json: spider_total", "found 'ten'", "wanted a number")  # fmt: skip
mistake("show-no-report", "stages.compare --show", remove("reports"), "reports/report.md: no such file")

SCORE = f"text2sql score predictions.sql --spider {SPIDER}"
mistake(
    "score-too-few", SCORE, write("predictions.sql", "SELECT 1\n"), "predictions.sql", "found 1 predictions", "wanted"
)
mistake("score-no-sql", SCORE, write("predictions.sql", '{"query": "SELECT 1"}\n'), "predictions.sql, line 1", "'sql'")
mistake(
    "score-index", SCORE, write("predictions.sql", '{"sql": "", "index": 7}\n'), "line 1", "found index 7", "wanted 0"
)
mistake("score-missing", SCORE, None, "predictions.sql: no such file")
mistake("score-a-folder", SCORE, write("predictions.sql/x", ""), "predictions.sql: is a directory")
mistake("score-no-spider", "text2sql score predictions.sql --spider nowhere", None, "nowhere: no such folder or zip")
mistake("score-no-argument", "text2sql score predictions.sql", None, "arguments are required: --spider")
mistake("score-bad-number", f"{SCORE} --workers two", None, "argument --workers", "found two", "wanted a whole number")
mistake(
    "score-zero", f"{SCORE} --max-rows 0", None, "argument --max-rows", "found 0", "wanted a whole number of at least 1"
)

# ---------------------------------------------------------------- command lines

mistake("stage-unknown-model", "stages.eval_spider m3", None, "argument model", "'m3'", "choose from", "m1")
mistake("stage-no-model", "stages.train", None, "arguments are required: model")
mistake("stage-base-has-no-training", "stages.train base", None, "argument model", "'base'", "choose from", "m1")
mistake("stage-too-many", "stages.prepare now", None, "unrecognized arguments: now")
mistake("stage-unknown-option", "stages.compare --sho", None, "unrecognized arguments: --sho")
mistake("stage-both-options", "stages.compare --show --gate", None, "--gate: not allowed with argument --show")
mistake("recipe-unknown", "text2sql recipe dream", None, "recipe dream: no such file below recipes/", "there are paper")
mistake("recipe-wrong", "text2sql recipe other.yaml", write("other.yaml", "model: 3\n"), "other.yaml: ", "model: got 3")
mistake("recipe-over-edits", "text2sql recipe paper", None, "params.yaml: has edits that git does not hold")
mistake("review-unknown-base", "text2sql review --base nowhere", None, "--base: found 'nowhere'", "wanted a branch")
mistake("review-no-base", "text2sql review", None, "arguments are required: --base")
mistake(
    "strength-of-nothing", "text2sql ask How? --db a.sqlite --strength 2", None, "--strength: scales an adapter, and"
)

POINTS = "recipe: params.yaml\npoints:\n  - {name: base, base: true}\n  - {name: a, params: {train.lr: 1e-3}}\n"
for id_, arguments, point, *says in [
    ("nothing", "", "", "wanted a points file, or --draw and a curve's name"),
    ("no-file", "none.yaml", "", "none.yaml: no such file"),
    ("unknown-param", "points.yaml", "{name: b, params: {train.rate: 1}}", "points.yaml: point b: train.rate: unknown"),
    ("repeated", "points.yaml", "{name: b, adapter: a, strength: 1}", "points.yaml: point b: repeats a"),
    ("another-base", "points.yaml", "{name: b, params: {model.base: c}}", "point b: model.base: this point may change"),
    ("unknown-point", "points.yaml --only aa", "{name: b}", "--only: ", "'aa'"),
    ("no-curve", "--draw nope", "", "results/tradeoff/nope/curve.json: no such file"),
]:
    points = write("points.yaml", f"{POINTS}  - {point}\n") if point else None
    mistake(f"tradeoff-{id_}", f"text2sql tradeoff {arguments}", points, *says)

mistake("ask-no-database", "text2sql ask How? --db none.sqlite", None, "--db: none.sqlite: no such file")
mistake("ask-a-text", "text2sql ask How? --db a.sqlite", write("a.sqlite", "hello" * 99), "a.sqlite", "not a database")
mistake("ask-a-folder", "text2sql ask How? --db data", None, "--db: data: is a folder", "wanted an SQLite file")
mistake("ask-no-argument", "text2sql ask How?", None, "arguments are required: --db")
mistake(
    "ask-no-adapter",
    "text2sql ask How? --db a.sqlite --model models/m9",
    write("a.sqlite", ""),
    "models/m9: no such",
)
mistake("ask-no-question", "text2sql ask  --db a.sqlite ''", write("a.sqlite", ""), "question: is empty")

# ---------------------------------------------------------------- the few-shot file

PREDICT = "stages.predict_spider m1"
SHOTS = "data/few_shot.json"
few = param("prompt", "few_shot", "3")
mistake("shots-missing", PREDICT, together(few, remove(SHOTS)), f"{SHOTS}: no such file")
mistake("shots-bad-json", PREDICT, together(few, truncate(SHOTS)), f"{SHOTS}: not valid JSON")
mistake("shots-an-object", PREDICT, together(few, write(SHOTS, {})), SHOTS, "found dict", "wanted a list")
mistake("shots-too-few", PREDICT, together(few, write(SHOTS, [])), SHOTS, "holds 0 worked examples", "wants 3")
mistake("shots-no-schema", PREDICT, together(few, write(SHOTS, [{"db_id": "a", "question": "b", "query": "c"}] * 3)),
        f"{SHOTS}, example 0", "'schema' is not a schema")  # fmt: skip
mistake(
    "shots-no-question", PREDICT, together(few, write(SHOTS, [{"db_id": "a"}] * 3)), f"{SHOTS}, example 0", "'question'"
)

# ---------------------------------------------------------------- further evaluation sets

syn = param("data", "also", "{syn: {spider: data/raw/syn}}")
mistake("also-none", "stages.prepare_also syn", None, "data.also: names no further evaluation set")
mistake("also-no-folder", "stages.prepare_also syn", syn, "data.also.syn.spider: found no data/raw/syn", "wanted `hub`")
mistake("also-no-dev", "stages.prepare_also syn", together(syn, write("data/raw/syn/a.json", [])),
        "data/raw/syn: ", "dev.json")  # fmt: skip
mistake("also-no-database", "stages.prepare_also syn",
        together(syn, write("data/raw/syn/dev.json", [{"db_id": "zoo", "question": "Who?", "query": "SELECT 1"}])),
        "data.also.syn.spider: data/raw/syn", "name 1 databases that are neither there", "zoo", "wanted database/")  # fmt: skip
mistake("also-not-prepared", "stages.eval_also syn m1", syn, "data/also/syn/dev.jsonl: no such file")

# ---------------------------------------------------------------- adapters and bases (these alone load torch)

CONFIG, WEIGHTS = "models/m1/adapter_config.json", "models/m1/adapter_model.safetensors"
mistake("adapter-missing", PREDICT, remove("models/m1"), "models/m1: no such folder", "wanted an adapter")
mistake(
    "adapter-missing-for-a-set", "stages.predict_also syn m1",
    together(syn, write("data/also/syn/schemas.json", "{}"), write("data/also/syn/dev.jsonl", ""), remove("models/m1")),
    "models/m1: no such folder", "wanted an adapter",
)  # fmt: skip
mistake("adapter-no-config", PREDICT, remove(CONFIG), "models/m1: has no adapter_config.json", "wanted an adapter")
mistake("adapter-pickle-only", PREDICT, lambda folder: (folder / WEIGHTS).rename(folder / "models/m1/adapter_model.bin"),
        "models/m1: has no adapter_model.safetensors", "wanted an adapter")  # fmt: skip
mistake("adapter-truncated", PREDICT, truncate(WEIGHTS), f"{WEIGHTS}: damaged", "wanted safetensors")
mistake("adapter-empty", PREDICT, write(WEIGHTS, b""), f"{WEIGHTS}: damaged", "wanted safetensors")
mistake("adapter-bad-json", PREDICT, write(CONFIG, "{"), f"{CONFIG}: not valid JSON")
mistake("adapter-a-list", PREDICT, write(CONFIG, "[]"), f"{CONFIG}: found an array", "wanted an object")
mistake(
    "adapter-unknown-type", PREDICT, replace(CONFIG, '"LORA"', '"WISH"'), CONFIG, "found peft_type 'WISH'", "wanted"
)
mistake("adapter-of-another-shape", PREDICT, replace(CONFIG, '"r": 4', '"r": 8'), "models/m1: does not load onto",
        "wanted an adapter that was trained on it", "size mismatch")  # fmt: skip
mistake("adapter-of-another-base", PREDICT, replace(CONFIG, '"q_proj"', '"c_attn"'), "models/m1: does not load onto",
        "wanted an adapter that was trained on it", "c_attn")  # fmt: skip
mistake("base-nowhere", PREDICT, param("model", "base", "./nowhere"), "model.base: ./nowhere is no folder", "takes")
mistake(
    "base-no-config", PREDICT, param("model", "base", "data"), "model.base: data has no config.json", "wanted a model"
)
mistake(
    "base-bad-config", PREDICT, together(param("model", "base", "./b"), write("b/config.json", "{")), "model.base: ./b"
)
mistake("base-out-of-reach", PREDICT, param("model", "base", "somebody/something"), "model.base: somebody/something",
        "could not be fetched from the hub", code=FAILURE)  # fmt: skip
mistake("gpu-missing", PREDICT, param("model", "quantization", "4bit"), "model.quantization: 4bit", "needs a GPU")
mistake("training-data-missing", "stages.train m1", remove("data/prepared/spider/qa_sharegpt.jsonl"), "no such file")
mistake("training-data-wrong", "stages.train m1", line("data/prepared/spider/qa_sharegpt.jsonl", 1, {"conversations": 3}),
        "training example 2", "found 3", "wanted two turns")  # fmt: skip


# ---------------------------------------------------------------- the project, and how a command runs


@pytest.fixture(scope="module")
def sound(repository, micro_model, tmp_path_factory):
    """A project in which all these commands have what they need: real outputs of `prepare`, invented results."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("sound")
    project = Project.create(repository, folder, micro_model, {"data": {"spider": SPIDER, "mmlu": MMLU}})
    (folder / "data/raw").mkdir()
    for name in ("spider", "mmlu"):
        (folder / "data/sample" / name).rename(folder / "data/raw" / name)
    for name in ("stages", "text2sql", "dvc.yaml", ".dvc", "data/sample"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(repository / "recipes", folder / "recipes")
    params = (folder / "params.yaml").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder.with_name("cache")))
        made = synthetic.results(examples=10, questions=4)
        made.write(folder)
        (folder / "params.yaml").write_bytes(params)
        importlib.import_module("stages.prepare").main([])
        for model in made.models.names:
            write_jsonl(
                f"data/predictions/{model}.jsonl",
                [{"index": one["index"], "db_id": one["db_id"], "question": one["question"], "gold": one["query"],
                  "raw": one["query"], "sql": one["query"], "new_tokens": 9} for one in read_jsonl(DEV)],
            )  # fmt: skip
            importlib.import_module("stages.eval_spider").main([model])
        assert importlib.import_module("stages.compare").main([]) == 0
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(micro_model)
        # As after a training: the second matrices are not zero, as a fresh adapter's are, which is refused.
        config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False)
        peft.get_peft_model(base, config).save_pretrained("models/m1")
    project.commit("sound")
    (folder / "params.yaml").write_text("# An edit.\n" + (folder / "params.yaml").read_text())
    return folder


def contents(folder):
    """Return {name: bytes} of all files in a project."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


@pytest.fixture
def project(sound, tmp_path, monkeypatch):
    """A copy of the sound project, the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(sound, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(errors.DEBUG_VARIABLE, raising=False)
    return folder


def words_of(command):
    return [part.strip("'") for part in command.split()]


def run_here(command, monkeypatch, capfd):
    """Run `python -m command` in this process; return its exit code and its standard error."""
    module, *arguments = words_of(command)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    capfd.readouterr()
    with pytest.raises(SystemExit) as leaving:
        errors.run(importlib.import_module("text2sql.cli.main" if module == "text2sql" else module).main)
    return leaving.value.code, capfd.readouterr().err


def check(case, code, said, before, folder):
    lines = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), said
    for part in case.says:
        assert any(one in lines[0] for one in part.split("|")), f"{part!r} is not in: {lines[0]}"
    assert "Traceback" not in said and errors.DEBUG_VARIABLE not in said
    assert code == case.code
    assert contents(folder) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_one_line_names_the_mistake_and_nothing_changes(case, project, monkeypatch, capfd):
    case.damage(project)
    before = contents(project)
    code, said = run_here(case.command, monkeypatch, capfd)
    check(case, code, said, before, project)


def as_process(command, repository, **environment):
    return subprocess.run(
        [sys.executable, "-m", *words_of(command)],
        env={**os.environ, "PYTHONPATH": str(repository), **environment}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "id_",
    ["params-a-text-for-a-number", "spider-bad-json", "predictions-doubled", "stage-unknown-model", "score-missing"],
)
def test_the_same_holds_for_a_process_of_its_own(id_, project, repository):
    (case,) = (case for case in CASES if case.id == id_)
    case.damage(project)
    before = contents(project)
    done = as_process(case.command, repository)
    check(case, done.returncode, done.stderr, before, project)


@pytest.mark.parametrize(
    ("command", "environment"), [("stages.prepare --debug", {}), ("stages.prepare", {"TEXT2SQL_DEBUG": "1"})]
)
def test_debug_shows_the_traceback(command, environment, project, repository):
    remove("params.yaml")(project)
    done = as_process(command, repository, **environment)
    assert done.returncode == USERS
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("params.yaml: no such file")


def test_there_are_enough_cases_and_no_two_of_one_name():
    names = [case.id for case in CASES]
    assert len(names) == len(set(names)) >= 80


def test_the_project_is_sound(project, repository, monkeypatch, capfd):
    """Without damage the same commands work: what the cases show is the damage alone."""
    for name in ("dvc.yaml", "stages", "text2sql"):  # which kept work depends on
        (project / name).symlink_to(repository / name)
    for command in (PREPARE, EVALUATE, CHECK, "stages.compare --show", PREDICT, "stages.eval_mmlu base"):
        code, said = run_here(command, monkeypatch, capfd)
        assert code == 0, said
