"""A further evaluation set: questions with or without databases of their own, in the form of the dev split's."""

import json
from pathlib import Path

import pytest

from testkit.own_data import own_folder
from testkit.raw_data import GOOD, SQL, spider_folder
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, read_jsonl, read_yaml
from text2sql.core.params import validate
from text2sql.preparation.also import prepare_also
from text2sql.preparation.prepare import database_file, prepare

SYN = {"db_id": "league", "SpiderQuestion": "How many teams?", "SpiderSynQuestion": "How many squads?"}


@pytest.fixture
def ask(repository, tmp_path):
    """Prepare a set beside the prepared database `league`, and return its counts and folder."""
    spider = spider_folder(tmp_path / "spider")
    values = read_yaml(repository / "params.yaml")
    values["data"] |= {"spider": str(spider), "mmlu": str(repository / "data/sample/mmlu")}
    prepare(validate(values, "params.yaml"), tmp_path / "prepared", tmp_path / "prepared.json", say=lambda text: None)

    def run(name, **entry):
        values["data"]["also"] = {name: {"spider": str(spider), **entry}}
        out, counts = tmp_path / "also" / name, tmp_path / "metrics.json"
        databases = tmp_path / "prepared/databases"
        found = prepare_also(validate(values, "params.yaml"), name, databases, out, counts, say=lambda text: None)
        assert read_json(counts) == found
        return found, out

    return run


def folder_of(path: Path, name: str, examples) -> Path:
    path.mkdir(exist_ok=True)
    (path / name).write_text(json.dumps(examples))
    return path


def test_questions_alone_are_asked_of_the_databases_that_are_there(ask, tmp_path):
    syn = folder_of(tmp_path / "syn", "dev.json", [{**SYN, "query": GOOD["query"]}])
    counts, out = ask("syn", spider=str(syn))
    (line,) = read_jsonl(out / "dev.jsonl")
    assert line == {**GOOD, "index": 0, "question": "How many squads?", "hardness": "easy"}
    assert (counts["dev"], counts["databases"], counts["own_databases"]) == (1, 1, 0)
    assert list(read_json(out / "schemas.json")) == ["league"] and not (out / "databases").exists()


def test_databases_of_its_own_come_first_and_failing_golds_are_the_sets_own_rule(ask, tmp_path):
    bad = {"db_id": "league", "question": "Who?", "query": "SELECT nobody FROM team"}
    dk = folder_of(tmp_path / "dk", "Spider-DK.json", [{**GOOD, "db_id": "new_league"}, GOOD, bad])
    (dk / "database/new_league").mkdir(parents=True)
    (dk / "database/new_league/new_league.sql").write_text(SQL.replace("Brno", "Oslo"))
    with pytest.raises(UserError, match=r"dk, example 2 .*no such column: nobody.*data.also.dk.failing_gold: skip or"):
        ask("dk", spider=str(dk))
    assert not (tmp_path / "also/dk").exists()
    counts, out = ask("dk", spider=str(dk), failing_gold="skip")
    assert (counts["dev"], counts["dev_failing_gold"], counts["own_databases"]) == (2, 1, 1)
    assert [line["index"] for line in read_jsonl(out / "dev.jsonl")] == [0, 1]
    assert database_file(out / "databases", "new_league").is_file()
    assert sorted(read_json(out / "schemas.json")) == ["league", "new_league"]


def test_the_same_data_in_another_order_needs_no_second_copy_of_its_databases(ask):
    counts, out = ask("reversed", table_order="reversed")
    assert counts["own_databases"] == 0 and {path.name for path in out.iterdir()} == {"dev.jsonl", "schemas.json"}


def test_own_data_that_are_held_out_have_the_same_dev_split_again(repository, tmp_path):
    own = own_folder(tmp_path / "pets")
    values = read_yaml(repository / "params.yaml")
    values["data"] |= {"spider": str(own), "holdout": 0.4, "mmlu": str(repository / "data/sample/mmlu")}
    values["data"]["also"] = {"reversed": {"spider": f"{own}/", "table_order": "reversed"}}
    params, quiet = validate(values, "params.yaml"), lambda text: None
    prepare(params, tmp_path / "prepared", tmp_path / "prepared.json", say=quiet)
    out, databases = tmp_path / "reversed", tmp_path / "prepared/databases"
    counts = prepare_also(params, "reversed", databases, out, tmp_path / "reversed.json", say=quiet)
    assert counts["own_databases"] == 0
    assert (out / "dev.jsonl").read_text() == (tmp_path / "prepared/spider/dev.jsonl").read_text()
    # Other own data may be a dev split alone; without a split, nothing says what to ask.
    other = own_folder(tmp_path / "other")
    values["data"]["also"] = {"other": {"spider": str(other)}}
    params = validate(values, "params.yaml")
    with pytest.raises(UserError, match=r"other: its questions name no split; wanted .* a file a split"):
        prepare_also(params, "other", databases, out, tmp_path / "other.json", say=quiet)
    (other / "questions.jsonl").rename(other / "test.jsonl")
    counts = prepare_also(params, "other", databases, out, tmp_path / "other.json", say=quiet)
    assert counts["dev"] == len(read_jsonl(out / "dev.jsonl")) > 0 and counts["own_databases"] == 3


def test_what_is_not_there_is_named(ask, tmp_path):
    with pytest.raises(UserError, match=r"data.also.syn.spider: found no \S*nowhere, wanted `hub`, or the path"):
        ask("syn", spider=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"empty.*dev.json"):
        ask("syn", spider=str(folder_of(tmp_path / "empty", "train.json", [])))
    other = folder_of(tmp_path / "other", "dev.json", [{**GOOD, "db_id": "zoo"}])
    with pytest.raises(UserError, match=r"syn.spider: .*other: its questions name 1 databases .*: zoo; wanted"):
        ask("syn", spider=str(other))
