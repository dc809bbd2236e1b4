"""Training databases held out as a dev split of their own."""

import pytest

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


def test_what_cannot_be_held_out_is_named(repository, tmp_path):
    sample = repository / "data/sample/spider"
    with pytest.raises(UserError, match="--databases: got 10, takes a number from 1 to 9"):
        hold_out(sample, tmp_path / "all", 10, 0)
    with pytest.raises(UserError, match="is there already"):
        hold_out(sample, tmp_path, 3, 0)
