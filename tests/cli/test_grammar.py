"""`text2sql grammar`: what constrained decoding lets through, by the sample."""

import json

import pytest

from text2sql.cli.grammar import main
from text2sql.core.errors import UserError
from text2sql.data.spider import open_spider


def test_golds_are_counted_and_the_slowest_database_is_named(repository, capsys):
    main(["--spider", str(repository / "data/sample/spider")])
    train, dev, compiled = capsys.readouterr().out.splitlines()
    assert train == "train: 285 of 285 golds accepted (100.00 %)"
    assert dev == "dev: 126 of 126 golds accepted (100.00 %)"
    assert compiled.startswith("15 databases' grammars made in ") and "the slowest: " in compiled


def test_predictions_are_told_apart_by_what_they_return(repository, tmp_path, capsys):
    spider = repository / "data/sample/spider"
    with open_spider(spider) as source:
        queries = [example.query for example in source.examples("dev")]
    queries[0] = "SELECT no_such_column FROM nowhere"
    queries[1] = "SELECT 1 WHERE 0"  # runs, and is wrong; WHERE takes a FROM
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps({"sql": query}) + "\n" for query in queries))
    main([str(file), "--spider", str(spider)])
    said = capsys.readouterr().out
    assert "of 126 answers refuses 1 of 1 that fail, 1 of 1 that run and are wrong, 0 of 124 that are right" in said


def test_a_base_that_is_not_there_is_one_line(repository):
    with pytest.raises(UserError, match="no-such-base"):
        main(["--spider", str(repository / "data/sample/spider"), "--base", "./no-such-base", "--split", "dev"])
