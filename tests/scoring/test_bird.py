"""BIRD's execution accuracy: its script's verdicts, beside the other definitions, and the same in either layout."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from testkit.bird_data import bird_folder
from testkit.bird_script import cases
from text2sql.cli.score import main
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Limits, Result
from text2sql.scoring.bird import bird_equal
from text2sql.scoring.verdicts import score_examples, summarise


@pytest.fixture(scope="module")
def sample(repository, tmp_path_factory):
    """The sample in BIRD's layout."""
    with open_spider(repository / "data/sample/spider") as source:
        return bird_folder(source, tmp_path_factory.mktemp("sample") / "bird")


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE item (name TEXT, price INT); INSERT INTO item VALUES ('a', 1), ('b', 3);"
        )
        connection.execute("INSERT INTO item VALUES (CAST(x'41ff' AS TEXT), 5)")
        connection.commit()
    return path


def by_definition(database: Path, gold: str, prediction: str) -> bool:
    """The method itself: both queries on one plain connection, as they are written; what raises is wrong."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            return set(connection.execute(prediction).fetchall()) == set(connection.execute(gold).fetchall())
        except Exception:
            return False


def test_verdicts_are_those_of_the_method_on_mutated_queries(sample):
    databases = sample / "dev_20240627/dev_databases"
    with open_spider(sample) as source:
        examples, predictions = cases(source.examples("dev"), each=4, seed=1)
    verdicts = score_examples(
        examples, predictions, lambda db_id: databases / db_id / f"{db_id}.sqlite", Limits(), workers=1
    )
    assert len(verdicts) == 4 * 126 and not any(verdict.stopped for verdict in verdicts)
    expected = [
        by_definition(databases / example.db_id / f"{example.db_id}.sqlite", example.query, prediction)
        for example, prediction in zip(examples, predictions)
    ]
    assert [verdict.bird_execution_accuracy for verdict in verdicts] == expected
    assert 50 < sum(expected) < 450
    # Each pair of definitions has a query between them.
    for one in ("bird_execution_accuracy", "execution_accuracy"):
        assert any(getattr(verdict, one) is not verdict.official_execution_accuracy for verdict in verdicts)


PAIRS = [  # gold, prediction, and whether it is right: by BIRD, by the paper
    ("SELECT price FROM item WHERE 0", "", True, False),
    ("SELECT price FROM item WHERE 0", " -- I do not know", True, False),
    ("SELECT price FROM item", "", False, False),
    ("SELECT price FROM item", "SELECT price FROM item ORDER BY 1 DESC", True, True),
    ("SELECT price FROM item", "SELECT price FROM item; SELECT 1", False, False),
    ("SELECT name FROM item", "SELECT name FROM item WHERE 1", False, True),  # text that is not UTF-8
    ("SELECT name FROM item", "SELECT name FROM item", False, True),
    ("SELECT name FROM item WHERE price < 5", "SELECT 'a' UNION SELECT 'b'", True, True),
]


def test_it_differs_from_the_papers_where_it_should(shop, tmp_path):
    examples = [Example(index, "shop", "?", gold, evidence="", of_bird=True) for index, (gold, *_) in enumerate(PAIRS)]
    predictions = [prediction for _, prediction, *_ in PAIRS]
    for _ in range(2):  # the second time from what is kept of gold
        verdicts = score_examples(
            examples, predictions, lambda _: shop, Limits(), workers=1, cache_dir=tmp_path / "cache"
        )
        assert [(v.gold, v.sql, v.bird_execution_accuracy, v.execution_accuracy) for v in verdicts] == PAIRS
    for verdict in verdicts:
        assert by_definition(shop, verdict.gold, verdict.sql) is verdict.bird_execution_accuracy


def test_a_gold_that_fails_counts_as_wrong(shop):
    examples = [
        Example(0, "shop", "?", "SELECT nme FROM item", evidence="x", of_bird=True),
        Example(1, "shop", "?", "SELECT 1", evidence="", of_bird=True),
    ]
    verdicts = score_examples(
        examples, ["SELECT nme FROM item", "SELECT 1"], lambda _: shop, Limits(), failing_gold="wrong"
    )
    metrics = summarise(verdicts)
    assert (metrics["bird_successes"], metrics["bird_execution_accuracy"], metrics["total"]) == (1, 0.5, 2)
    hinted = [Example(1, "shop", "?", "SELECT 1", evidence="a hint")]  # of a user's own data
    assert "bird_successes" not in summarise(score_examples(hinted, ["SELECT 1"], lambda _: shop, Limits()))


def test_both_queries_together_have_birds_time():
    def ran(seconds, same_as=None):
        return Result(("n",), ((1,),), None, None, seconds, same_as)

    assert bird_equal(ran(12.0), ran(17.0)) and not bird_equal(ran(12.0), ran(19.0))
    # A query that is gold's to SQLite is not run again: it would take as long.
    assert bird_equal(ran(12.0), ran(0.1, "SELECT n")) and not bird_equal(ran(16.0), ran(0.1, "SELECT n"))


def test_spiders_own_files_have_nothing_of_birds(shop):
    (verdict,) = score_examples([Example(0, "shop", "?", "SELECT 1")], ["SELECT 1"], lambda _: shop, Limits())
    assert verdict.bird_execution_accuracy is None
    assert not [key for key in (*verdict.to_dict(), *summarise([verdict])) if "bird" in key or "difficulty" in key]


def _same_in_both_layouts(spider, bird, folder, each, capsys):
    with open_spider(spider) as source:
        queries = [query for _, query in zip(*cases(source.examples("dev"), each=1, seed=each))]
    write_jsonl(folder / "predictions.jsonl", ({"sql": query} for query in queries))
    lines, printed = [], []
    for path in (spider, bird):
        out = folder / "verdicts.jsonl"
        main([str(folder / "predictions.jsonl"), "--spider", str(path), "--out", str(out), "--no-cache"])
        printed.append(capsys.readouterr().out)
        lines.append(read_jsonl(out))
    for line in (line for found in lines for line in found):
        del line["seconds"]
    of_bird = [(line.pop("bird_execution_accuracy"), line.pop("difficulty")) for line in lines[1]]
    assert lines[0] == lines[1]
    return of_bird, printed


def test_the_sample_has_the_same_verdicts_in_birds_layout(repository, sample, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spider = repository / "data/sample/spider"
    of_bird, (plain, with_bird) = _same_in_both_layouts(spider, sample, tmp_path, 1, capsys)
    assert "difficulty" not in plain and "BIRD" not in plain
    heads = [line.split() for line in with_bird.splitlines() if line.startswith(("hardness", "difficulty"))]
    assert [head[0] for head in heads] == ["hardness", "difficulty"] and all("BIRD's" in head for head in heads)
    for level in ("simple", "moderate", "challenging"):
        (row,) = (line.split() for line in with_bird.splitlines() if line.startswith(level))
        verdicts = [right for right, difficulty in of_bird if difficulty == level]
        assert row[1] == str(len(verdicts)) and row[-4] == str(sum(verdicts))


def test_the_train_split_without_difficulties_is_scored_so_too(sample, tmp_path, capsys):
    with open_spider(sample) as source:
        examples = source.examples("train")
    queries = [example.query for example in examples[:-1]] + ["SELECT 'another row'"]
    (tmp_path / "predictions.json").write_text(json.dumps(queries))
    out = tmp_path / "verdicts.jsonl"
    main(
        [
            str(tmp_path / "predictions.json"),
            "--spider",
            str(sample),
            "--split",
            "train",
            "--out",
            str(out),
            "--no-cache",
        ]
    )
    lines, printed = read_jsonl(out), capsys.readouterr().out
    assert [line["bird_execution_accuracy"] for line in lines] == [True] * (len(examples) - 1) + [False]
    assert "BIRD's" in printed and "difficulty" not in printed and "difficulty" not in lines[0]


@pytest.mark.long
def test_spider_has_the_same_verdicts_in_birds_layout(spider_zip, tmp_path, capsys):
    with open_spider(spider_zip) as source:
        bird = bird_folder(source, tmp_path / "bird", train=False)
    of_bird, _ = _same_in_both_layouts(spider_zip, bird, tmp_path, 1, capsys)
    assert len(of_bird) == 1034
