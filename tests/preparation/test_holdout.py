"""Training databases held out as a dev split of their own."""

import contextlib
import json
import sqlite3

import pytest

from testkit.bird_data import bird_folder
from text2sql.cli.holdout import main
from text2sql.core.errors import UserError
from text2sql.data.spider import open_spider
from text2sql.preparation.holdout import hold_out


def test_no_database_is_in_both_splits_and_none_is_of_dev(repository, tmp_path, capsys):
    sample = repository / "data/sample/spider"
    main(["--spider", str(sample), "--out", str(tmp_path / "holdout"), "--databases", "3"])
    with open_spider(sample) as source, open_spider(tmp_path / "holdout") as written:
        train, dev = written.examples("train"), written.examples("dev")
        original = source.examples("train")
        assert len({example.db_id for example in dev}) == 3
        assert not {example.db_id for example in dev} & {example.db_id for example in train}
        assert sorted((e.question, e.query) for e in train + dev) == sorted((e.question, e.query) for e in original)
        assert written.database_ids() == {example.db_id for example in original}
    assert f"{len(train)} questions to train on, {len(dev)} on 3 databases held out" in capsys.readouterr().out
    assert hold_out(sample, tmp_path / "again", 3, seed=0) == (len(train), len(dev))
    assert (tmp_path / "again" / "dev.json").read_bytes() == (tmp_path / "holdout" / "dev.json").read_bytes()
    hold_out(sample, tmp_path / "other", 3, seed=1)
    assert (tmp_path / "other" / "dev.json").read_bytes() != (tmp_path / "holdout" / "dev.json").read_bytes()


def test_what_is_held_out_of_birds_train_split_is_scored_by_its_measure(repository, tmp_path):
    with open_spider(repository / "data/sample/spider") as source:
        folder = bird_folder(source, tmp_path / "bird")
    hold_out(folder, tmp_path / "holdout", 3, 0)
    with open_spider(folder) as source, open_spider(tmp_path / "holdout") as written:
        examples = written.examples("train") + written.examples("dev")
        assert all(example.of_bird and example.difficulty is None for example in examples)
        assert sorted((e.question, e.evidence) for e in examples) == sorted(
            (e.question, e.evidence) for e in source.examples("train")
        )
    hold_out(repository / "data/sample/spider", tmp_path / "spider", 3, 0)
    assert "bird" not in (tmp_path / "spider/dev.json").read_text()


def test_what_cannot_be_held_out_is_named(repository, tmp_path):
    sample = repository / "data/sample/spider"
    with pytest.raises(UserError, match="--databases: got 10, takes a number from 1 to 9"):
        hold_out(sample, tmp_path / "all", 10, 0)
    with pytest.raises(UserError, match="is there already"):
        hold_out(sample, tmp_path, 3, 0)


def test_no_database_is_held_out_that_nothing_can_be_measured_on(tmp_path):
    """A gold query that fails, as in two of Spider's; and tables without rows, as in music_2."""
    golds = {"good": "SELECT a FROM t", "empty": "SELECT a FROM t WHERE a > 1", "failing": "SELECT b FROM t"}
    names = [f"{kind}_{number}" for kind in golds for number in range(3)]
    for name in names:
        database = tmp_path / "spider" / "database" / name / f"{name}.sqlite"
        database.parent.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
    examples = [{"db_id": name, "question": "?", "query": golds[name.split("_")[0]]} for name in names]
    for split in ("train_spider", "dev"):
        (tmp_path / "spider" / f"{split}.json").write_text(json.dumps(examples))
    said = []
    for seed in range(4):
        hold_out(tmp_path / "spider", tmp_path / f"out{seed}", 2, seed, said.append)
        with open_spider(tmp_path / f"out{seed}") as written:
            assert {example.db_id.split("_")[0] for example in written.examples("dev")} == {"good"}
            assert len(written.examples("train")) == 7
    assert any("failing_" in line and "1 of its 1 gold queries fail" in line for line in said)
    assert any("empty_" in line and "1 of its 1 gold queries return nothing" in line for line in said)
    with pytest.raises(UserError, match="--databases: got 4, only 3 can be measured on"):
        hold_out(tmp_path / "spider", tmp_path / "many", 4, 0)
    assert not (tmp_path / "many").exists()
