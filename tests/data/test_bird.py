"""BIRD's layout: found as it is published, told from Spider's, and prepared as Spider's files are."""

import json
import shutil
import zipfile

import pytest

from testkit.bird_data import EVIDENCE, bird_folder
from testkit.raw_data import GOOD, mmlu_folder, spider_folder
from text2sql.core.errors import UserError
from text2sql.core.files import read_jsonl
from text2sql.core.params import changed, load_params
from text2sql.data.schema import Column, Schema, Table, read_schemas
from text2sql.data.spider import Example, open_spider
from text2sql.preparation.prepare import prepare


@pytest.fixture
def bird(tmp_path):
    """A small benchmark as both archives of BIRD's unpack, side by side."""
    examples = [GOOD, {**GOOD, "query": [GOOD["query"], "SELECT 1"]}]
    with open_spider(spider_folder(tmp_path / "spider", dev=examples)) as source:
        return bird_folder(source, tmp_path / "bird")


def together(bird):
    for folder in ("dev_20240627", "train"):
        for path in (bird / folder).iterdir():
            shutil.move(path, bird)
        (bird / folder).rmdir()
    return bird


def in_a_top_folder(bird):
    shutil.move(bird, bird.with_name("within"))
    shutil.move(bird.with_name("within"), bird / "published")
    return bird


def in_a_zip(bird):
    with zipfile.ZipFile(bird.with_suffix(".zip"), "w") as archive:
        for path in bird.rglob("*"):
            archive.write(path, path.relative_to(bird))
    return bird.with_suffix(".zip")


@pytest.mark.parametrize("laid_out", [lambda bird: bird, together, in_a_top_folder, in_a_zip])
def test_it_is_read_as_published(bird, tmp_path, laid_out):
    with open_spider(laid_out(bird)) as source:
        plain = (0, "league", GOOD["question"], GOOD["query"])
        evidence = EVIDENCE.format("league")
        assert source.examples("train") == [Example(*plain, evidence=evidence, of_bird=True)]
        first, second = source.examples("dev")
        assert first == Example(*plain, evidence=evidence, difficulty="simple", of_bird=True)
        assert second.queries == (GOOD["query"], "SELECT 1") and second.evidence == ""
        assert source.database_ids() == {"league"}
        assert source.extract_database("league", tmp_path / "league.sqlite") == []
        with pytest.raises(UserError, match="has no split dk; takes dev, train"):
            source.examples("dk")
        with pytest.raises(UserError, match="dev_databases/no/no.sqlite: no such file"):
            source.extract_database("no", tmp_path / "no.sqlite")


def test_the_dev_split_alone_and_mini_dev_will_do_for_scoring(bird):
    shutil.rmtree(bird / "train")
    (bird / "dev_20240627/dev.json").rename(bird / "dev_20240627/mini_dev_sqlite.json")
    with open_spider(bird) as source:
        assert len(source.examples("dev")) == 2
        with pytest.raises(UserError, match=r"bird/train.json: no such file"):
            source.examples("train")


def test_databases_that_are_still_packed_are_named(bird):
    shutil.rmtree(bird / "dev_20240627/dev_databases")
    (bird / "dev_20240627/dev_databases.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"dev_20240627/dev_databases.zip: holds the databases; unpack it there"):
        with open_spider(bird):
            pass


def test_a_bird_beside_spiders_own_files_is_not_read_for_spider(bird, tmp_path):
    spider = tmp_path / "spider"
    shutil.move(bird, spider / "bird")
    with open_spider(spider) as source:
        assert source.examples("dev")[0] == Example(0, "league", GOOD["question"], GOOD["query"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SQL": ""}, "example 1: found an empty text as 'SQL', wanted a text that is not empty"),
        ({"evidence": ["a"]}, "example 1: found an array as 'evidence', wanted a text"),
        ({"difficulty": 1}, "example 1: found a number as 'difficulty', wanted a text"),
    ],
)
def test_an_example_that_is_not_right_is_named(bird, change, message):
    file = bird / "dev_20240627/dev.json"
    records = json.loads(file.read_text())
    file.write_text(json.dumps([records[0], records[1] | change]))
    with open_spider(bird) as source, pytest.raises(UserError, match=message):
        source.examples("dev")


def test_what_it_says_of_columns_is_read_however_it_was_saved(bird):
    folder = bird / "dev_20240627/dev_databases/league/database_description"
    heading = "original_column_name,column_name,column_description,data_format,value_description\n"
    (folder / "team.csv").unlink()
    (folder / "Team.csv").write_bytes(
        (heading + 'ID ,,"the team\'s\nnumber",integer,caf\xe9\nhome town,,,text,\n').encode("cp1252")
    )
    (folder / ".DS_Store").write_bytes(b"\0")
    with open_spider(bird) as source:
        found = source.descriptions("league")
        assert source.descriptions("unknown") == {}
    assert {column: text for (table, column), text in found.items() if table == "team"} == {
        "id": "the team's number; caf\xe9"
    }
    assert found["player", "goals"] == "goals, described"
    schema = Schema("league", (Table("team", (Column("id", "INT"), Column("home town", "TEXT"))),)).described(found)
    assert [column.description for column in schema.tables[0].columns] == ["the team's number; caf\xe9", ""]
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.to_dict()["tables"][0]["columns"][1] == {"name": "home town", "type": "TEXT"}


def test_a_description_that_is_no_csv_is_named(bird):
    file = bird / "dev_20240627/dev_databases/league/database_description/team.csv"
    file.write_text("original_column_name,column_description\nid," + "x" * 200_000)
    with open_spider(bird) as source, pytest.raises(UserError, match=r"team.csv: not valid CSV: field larger than"):
        source.descriptions("league")


def test_the_sample_in_birds_layout_is_prepared_as_in_spiders(repository, tmp_path):
    """Its records and schemas are Spider's with what BIRD's have besides."""
    sample, mmlu = repository / "data/sample/spider", mmlu_folder(tmp_path / "mmlu")
    with open_spider(sample) as source:
        bird = bird_folder(source, tmp_path / "bird")
    committed = load_params(repository / "params.yaml")
    found = {}
    for name, path in (("spider", sample), ("bird", bird)):
        data = {"data.spider": str(path), "data.mmlu": str(mmlu), "mmlu.subjects": {"humanities": ["philosophy"]}}
        params = changed(committed, data, "test")
        counts = prepare(params, tmp_path / name / "out", tmp_path / name / "metrics.json", say=lambda text: None)
        files = ("train", "dev", "qa_sharegpt")
        found[name] = {file: read_jsonl(tmp_path / name / f"out/spider/{file}.jsonl") for file in files}
        found[name]["counts"] = counts
        schemas = tmp_path / name / "out/spider/schemas.json"
        found[name]["schemas"] = read_schemas(schemas)
        assert ("described" in schemas.read_text()) is (read_schemas(schemas, True) != read_schemas(schemas))
        assert ("described" in schemas.read_text()) is (name == "bird")
    ours, theirs = found["spider"], found["bird"]
    assert {record["difficulty"] for record in theirs["dev"]} == {"simple", "moderate", "challenging"}
    assert {bool(record["evidence"]) for record in theirs["train"]} == {True, False}
    assert [line["evidence"] for line in theirs["qa_sharegpt"]] == [line["evidence"] for line in theirs["train"]]
    assert all(record["of_bird"] for split in ("train", "dev") for record in theirs[split])
    assert not {"evidence", "difficulty", "of_bird"} & {
        key for file in files for record in ours[file] for key in record
    }
    for file in files:
        for record in theirs[file]:
            del record["evidence"]
            record.pop("difficulty", None)
            record.pop("of_bird", None)
    assert theirs == ours
