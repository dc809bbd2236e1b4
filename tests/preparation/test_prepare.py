"""The prepare stage: what it writes, and that what is not right stops it with nothing half-written."""

import errno
import json
import os
import subprocess
import sys

import pytest

from testkit.own_data import own_folder, questions, write_questions
from testkit.raw_data import GOOD, ROWS, mmlu_folder, spider_folder
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_jsonl
from text2sql.core.params import load_params
from text2sql.data.mmlu import read_parquet
from text2sql.data.schema import Schema
from text2sql.preparation import prepare as preparation
from text2sql.preparation.prepare import prepare


@pytest.fixture
def params(repository):
    """Return the committed params with other data."""
    committed = load_params(repository / "params.yaml")

    def with_data(spider, mmlu, subjects="all", **limits):
        everything = {"train_limit": None, "dev_limit": None}
        data = committed.data.model_copy(update={"spider": str(spider), "mmlu": str(mmlu), **everything, **limits})
        subjects = committed.mmlu.model_copy(update={"subjects": subjects})
        return committed.model_copy(update={"data": data, "mmlu": subjects})

    return with_data


@pytest.fixture
def raw(tmp_path):
    """A small Spider and a small MMLU."""
    return spider_folder(tmp_path / "spider"), mmlu_folder(tmp_path / "mmlu")


PHILOSOPHY = {"humanities": ["philosophy"]}


def run(params, folder):
    said = []
    counts = prepare(params, folder / "prepared", folder / "metrics.json", folder / "raw", said.append)
    assert json.loads((folder / "metrics.json").read_text()) == counts
    return counts, said


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sample_is_prepared_whole_and_twice_alike(repository, params, tmp_path):
    sample = repository / "data/sample"
    subjects = load_params(repository / "params.yaml").mmlu.subjects
    chosen = params(sample / "spider", sample / "mmlu", subjects)
    counts, _ = run(chosen, tmp_path)
    prepared = tmp_path / "prepared"
    official = {name: json.loads((sample / f"spider/{name}.json").read_text()) for name in ("train_spider", "dev")}
    train, dev = read_jsonl(prepared / "spider/train.jsonl"), read_jsonl(prepared / "spider/dev.jsonl")
    for records, examples in ((train, official["train_spider"]), (dev, official["dev"])):
        assert [record["index"] for record in records] == list(range(len(examples)))
        fields = ("db_id", "question", "query")
        assert [[r[f] for f in fields] for r in records] == [[e[f] for f in fields] for e in examples]
    assert set(train[0]) == {"index", "db_id", "question", "query"}
    assert {record["hardness"] for record in dev} == {"easy", "medium", "hard", "extra"}
    conversations = read_jsonl(prepared / "spider/qa_sharegpt.jsonl")
    assert conversations[0] == {
        "db_id": train[0]["db_id"],
        "conversations": [
            {"from": "human", "value": train[0]["question"]},
            {"from": "gpt", "value": train[0]["query"]},
        ],
    }
    schemas = json.loads((prepared / "spider/schemas.json").read_text())
    used = {record["db_id"] for record in train + dev}
    assert set(schemas) == used
    assert all(Schema.from_dict(schema).tables for schema in schemas.values())
    databases = {path.relative_to(prepared / "databases").as_posix() for path in prepared.rglob("*.sqlite")}
    assert databases == {f"{db_id}/{db_id}.sqlite" for db_id in used}
    assert len(conversations) == len(train) == counts["train"] and len(dev) == counts["dev"]
    assert sum(counts["dev_by_hardness"].values()) == counts["dev"]
    assert (counts["databases"], counts["train_missing_database"]) == (len(used), 0)
    assert counts["dev_gold_without_rows"] == 0
    for subject, splits in counts["mmlu"].items():
        for split, count in splits.items():
            assert len(read_parquet(prepared / f"mmlu/{subject}.parquet", split)) == count

    first = tree(prepared)
    run(chosen, tmp_path)
    assert tree(prepared) == first
    assert {path.name for path in tmp_path.iterdir()} == {"prepared", "metrics.json"}


def test_limits_take_the_first_examples_and_only_their_databases(raw, params, tmp_path):
    spider, mmlu = raw
    (spider / "train_spider.json").write_text(json.dumps([{**GOOD, "question": f"{n}?"} for n in range(9)]))
    counts, _ = run(params(spider, mmlu, PHILOSOPHY, train_limit=4, dev_limit=1), tmp_path)
    assert (counts["train"], counts["dev"], counts["databases"]) == (4, 1, 1)
    assert [record["question"] for record in read_jsonl(tmp_path / "prepared/spider/train.jsonl")] == [
        f"{n}?" for n in range(4)
    ]


ENTRY = {
    "db_id": "listed",
    "table_names_original": ["t"],
    "column_names_original": [[-1, "*"], [0, "a"]],
    "column_types": ["text", "number"],
    "primary_keys": [],
    "foreign_keys": [],
}


def test_train_examples_without_a_database_are_counted_and_their_schema_comes_from_tables_json(raw, params, tmp_path):
    """Spider's own archive lacks two databases of its train split; train SQL is never run."""
    spider, mmlu = raw
    gone = [{**GOOD, "db_id": "listed", "query": "SELECT nonsense FROM nowhere"}, {**GOOD, "db_id": "unheard"}]
    (spider / "train_spider.json").write_text(json.dumps([GOOD, *gone, gone[0]]))
    (spider / "tables.json").write_text(json.dumps([ENTRY]))
    counts, said = run(params(spider, mmlu, PHILOSOPHY), tmp_path)
    assert (counts["train"], counts["train_missing_database"], counts["train_missing_schema"]) == (4, 3, 1)
    assert set(json.loads((tmp_path / "prepared/spider/schemas.json").read_text())) == {"league", "listed"}
    assert any("3 train examples name a database that is not there (listed, unheard)" in line for line in said)


def test_golds_that_fail_are_refused_together_left_out_or_kept(raw, params, tmp_path):
    spider, mmlu = raw
    failing = {**GOOD, "query": "SELECT nonsense FROM team"}
    (spider / "dev.json").write_text(json.dumps([failing, GOOD, failing]))
    with pytest.raises(UserError, match="dev example 0 .*; 2 gold queries fail in all: example 2 .*data.failing_gold"):
        run(params(spider, mmlu, PHILOSOPHY), tmp_path)
    for rule, kept in (("skip", [1]), ("wrong", [0, 1, 2])):
        counts, _ = run(params(spider, mmlu, PHILOSOPHY, failing_gold=rule), tmp_path)
        assert (counts["dev"], counts["failing_gold"], counts["dev_failing_gold"]) == (len(kept), rule, 2)
        assert [record["index"] for record in read_jsonl(tmp_path / "prepared/spider/dev.jsonl")] == kept


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ([GOOD, {**GOOD, "query": "SELECT nonsense FROM team"}], "dev example 1 (database league): its gold query "
         "fails: no such column: nonsense: SELECT nonsense FROM team"),
        ([{**GOOD, "query": "DELETE FROM team"}], "dev example 0 (database league): its gold query fails: "),
        ([{**GOOD, "query": "SELECT 1; SELECT 2"}], "its gold query fails: "),
        ([{**GOOD, "query": "How many?"}], "its gold query fails: "),
        ([{**GOOD, "db_id": "other"}], "dev examples name 1 databases that are not there: other; wanted database/"),
        ([{**GOOD, "sql": {"from": 3}}], "dev example 0 (database league): 'sql' is not a query parsed"),
        ([], "dev.json: holds no examples"),
        ([{**GOOD, "question": None}], "dev.json, example 0: found null as 'question'"),
    ],
)  # fmt: skip
def test_a_dev_split_that_is_not_right_stops_it_and_leaves_what_was_there(raw, params, tmp_path, dev, message):
    spider, mmlu = raw
    chosen = params(spider, mmlu, PHILOSOPHY)
    run(chosen, tmp_path)
    before = tree(tmp_path / "prepared")
    (spider / "dev.json").write_text(json.dumps(dev))
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError) as error:
        run(chosen, tmp_path)
    assert message in str(error.value)
    assert str(spider) in str(error.value)
    assert tree(tmp_path / "prepared") == before
    assert (tmp_path / "metrics.json").read_text() == "{}"
    assert {path.name for path in tmp_path.iterdir()} == {"spider", "mmlu", "prepared", "metrics.json"}


def test_mmlu_that_is_not_right_stops_it_before_anything_is_written(raw, params, tmp_path):
    spider, mmlu = raw
    with pytest.raises(UserError, match="mmlu/dev/abstract_algebra_dev.csv: no such file"):
        run(params(spider, mmlu), tmp_path)
    (mmlu / "dev/philosophy_dev.csv").write_text(",".join(ROWS[1][:5]))
    with pytest.raises(UserError, match="philosophy_dev.csv, line 1: found 5 fields, wanted 6"):
        run(params(spider, mmlu, PHILOSOPHY), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"spider", "mmlu"}


def test_data_that_is_nowhere_is_named_with_its_key(raw, params, tmp_path):
    spider, mmlu = raw
    with pytest.raises(UserError, match="data.spider: found no nowhere, wanted `hub`, or the path of a folder or zip"):
        run(params("nowhere", mmlu), tmp_path)
    with pytest.raises(UserError, match="data.mmlu: found no nowhere.zip, wanted"):
        run(params(spider, "nowhere.zip"), tmp_path)


def test_hub_is_fetched_below_the_raw_folder(raw, params, tmp_path, monkeypatch, repository):
    spider, mmlu = raw
    asked = []
    monkeypatch.chdir(repository)
    monkeypatch.setattr(preparation, "fetch_spider", lambda manifest, raw, say: asked.append(raw) or spider)
    monkeypatch.setattr(
        preparation, "fetch_mmlu", lambda manifest, subjects, raw, say: asked.append((subjects, raw)) or mmlu
    )
    counts, _ = run(params("hub", "hub", PHILOSOPHY), tmp_path)
    assert counts["train"] == 1
    assert asked == [tmp_path / "raw", (["philosophy"], tmp_path / "raw")]


def test_a_full_disk_is_a_failure_that_leaves_what_was_there(raw, params, tmp_path, monkeypatch):
    spider, mmlu = raw
    chosen = params(spider, mmlu, PHILOSOPHY)
    run(chosen, tmp_path)
    before = tree(tmp_path / "prepared")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="prepared: not enough disk space"):
        run(chosen, tmp_path)
    monkeypatch.undo()
    assert tree(tmp_path / "prepared") == before
    assert {path.name for path in tmp_path.iterdir()} == {"spider", "mmlu", "prepared", "metrics.json"}


def test_the_stage_says_what_it_does_and_exits_with_2_in_one_line(raw, repository, tmp_path):
    spider, mmlu = raw
    text = (repository / "params.yaml").read_text()
    text = text.replace("data/sample/spider", str(spider)).replace("data/sample/mmlu", str(mmlu))
    for subject in ("stem: [high_school_computer_science]", "social_sciences: [high_school_macroeconomics]"):
        text = text.replace(f"    {subject}\n", "")
    (tmp_path / "params.yaml").write_text(text)

    def stage():
        return subprocess.run(
            [sys.executable, "-m", "stages.prepare"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
        )

    good = stage()
    assert good.returncode == 0, good.stderr
    assert "prepare: 1 train and 1 dev examples over 1 databases, 2 multiple-choice questions" in good.stdout
    assert json.loads((tmp_path / "metrics/prepare.json").read_text())["mmlu"] == {"philosophy": {"dev": 2, "test": 2}}
    before = tree(tmp_path / "data")
    (spider / "dev.json").write_bytes(b"\xff[]")
    bad = stage()
    assert bad.returncode == 2
    (line,) = bad.stderr.splitlines()
    assert line.startswith(f"error: {spider}/dev.json: not UTF-8")
    assert tree(tmp_path / "data") == before


def test_the_real_archives_are_prepared(spider_zip, mmlu_zip, params, tmp_path):
    counts, _ = run(params(spider_zip, mmlu_zip, PHILOSOPHY, train_limit=300, dev_limit=100), tmp_path)
    assert (counts["train"], counts["dev"]) == (300, 100)
    assert counts["mmlu"] == {"philosophy": {"dev": 5, "test": 311}}
    assert counts["dev_by_hardness"]["easy"] > 10


def test_own_data_are_prepared_as_spider_is(params, tmp_path):
    own = own_folder(tmp_path / "pets")
    records = questions(["pet_shelter", "bakery", "farm_market"])
    write_questions(own, [records[0] | {"evidence": "A dog barks."}, *records[1:]])
    before = tree(own)
    chosen = params(own, mmlu_folder(tmp_path / "mmlu"), PHILOSOPHY, holdout=0.4, name="pets")
    counts, said = run(chosen, tmp_path)
    assert tree(own) == before
    assert counts["train"] + counts["dev"] == len(records) and counts["databases"] == 3
    prepared = tmp_path / "prepared"
    splits = {split: read_jsonl(prepared / f"spider/{split}.jsonl") for split in ("train", "dev")}
    assert {split: len(found) for split, found in splits.items()} == {split: counts[split] for split in splits}
    told = [line for found in splits.values() for line in found if "evidence" in line]
    assert [line["evidence"] for line in told] == ["A dog barks."]
    assert not {line["db_id"] for line in splits["train"]} & {line["db_id"] for line in splits["dev"]}
    assert set(json.loads((prepared / "spider/schemas.json").read_text())) == {"pet_shelter", "bakery", "farm_market"}
    assert all(line.startswith(("pets from", "MMLU from")) for line in said)


def test_own_data_that_are_not_right_leave_nothing(params, tmp_path):
    own, mmlu = own_folder(tmp_path / "pets"), mmlu_folder(tmp_path / "mmlu")
    (own / "bakery.sqlite").write_bytes(os.urandom(5000))
    with pytest.raises(UserError, match=r"bakery.sqlite: not a valid SQLite file: .*encrypted"):
        run(params(own, mmlu, PHILOSOPHY, holdout=0.4), tmp_path)
    write_questions(own, [{"question": "", "query": "SELECT 1", "db_id": "bakery"}] * 2)
    with pytest.raises(UserError, match=r"line 1: found an empty text as 'question'.*and 1 more: `text2sql init`"):
        run(params(own, mmlu, PHILOSOPHY, holdout=0.4), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mmlu", "pets"]
