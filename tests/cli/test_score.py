"""The command that scores any system's predictions."""

import contextlib
import dataclasses
import gzip
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile

import pytest

from testkit.own_data import own_folder
from text2sql.cli.score import main
from text2sql.core.errors import UserError
from text2sql.core.files import read_jsonl
from text2sql.data.sources import open_source
from text2sql.execution.executor import Limits

SCHEMA = "CREATE TABLE singer (name TEXT, age INT); INSERT INTO singer VALUES ('Ana', 30), ('Bia', 41), ('Caio', 41);"
DEV = [
    ("How many singers are there?", "SELECT count(*) FROM singer"),
    ("Who are they?", "SELECT name FROM singer"),
    ("How old are they?", "SELECT DISTINCT age FROM singer"),
    ("Who is the oldest?", "SELECT name , age FROM singer ORDER BY age DESC LIMIT 1"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def spider(tmp_path):
    """A folder in the official layout."""
    root = tmp_path / "spider"
    folder = root / "database" / "concert"
    folder.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "concert.sqlite")) as connection:
        connection.executescript(SCHEMA)
    dev = [{"db_id": "concert", "question": question, "query": query} for question, query in DEV]
    (root / "dev.json").write_text(json.dumps(dev))
    return root


@pytest.fixture
def write(tmp_path):
    def write(text, name="predictions.sql"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def run_main(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


PREDICTIONS = """SELECT COUNT(*) FROM singer\tconcert
SELECT first_name FROM singer\tconcert
SELECT age FROM singer
DROP TABLE singer
"""


def test_tables_and_verdicts(capsys, spider, write, tmp_path):
    out = tmp_path / "made" / "verdicts.jsonl"
    printed = run_main(capsys, write(PREDICTIONS), "--spider", spider, "--out", out, "--workers", 1)
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "easy 3 66.67 % 2 20.77 - 93.85 66.67 % 2 20.77 - 93.85" in lines
    assert "hard 0 - 0 0.00 - 100.00 - 0 0.00 - 100.00" in lines
    assert "all 4 50.00 % 2 15.00 - 85.00 50.00 % 2 15.00 - 85.00" in lines
    assert "unknown column 1 0 0 0 1" in lines
    assert "schema hallucination 1 0 0 0 1" in lines
    assert "other 0 1 0 0 1" in lines
    assert f"SQLite {sqlite3.sqlite_version}; official definition with DISTINCT removed from both queries." in lines
    assert "The sandbox stopped 1 predictions" in printed
    assert lines[-1] == "3 concert DROP is not allowed DROP TABLE singer"

    verdicts = read_jsonl(out)
    outcomes = ["correct", "unknown_column", "correct", "forbidden_operation"]
    assert [verdict["outcome"] for verdict in verdicts] == outcomes
    assert {"index", "db_id", "hardness", "execution_accuracy", "official_execution_accuracy", "outcome", "error",
            "seconds", "stopped", "sql", "gold", "question"} == set(verdicts[1])  # fmt: skip
    assert verdicts[1]["error"] == "no such column: first_name"
    assert verdicts[1]["hardness"] == "easy"
    assert verdicts[0]["seconds"] >= 0


def test_a_zip_a_second_run_and_distinct_kept(capsys, spider, write, tmp_path):
    archive = tmp_path / "spider.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in spider.rglob("*"):
            file.write(path, "spider_data" / path.relative_to(spider))
    predictions = write(PREDICTIONS)
    first = run_main(capsys, predictions, "--spider", archive)
    assert list((tmp_path / "cache").rglob("*.json"))
    assert run_main(capsys, predictions, "--spider", archive) == first
    assert run_main(capsys, predictions, "--spider", archive, "--no-cache") == first
    kept = run_main(capsys, predictions, "--spider", archive, "--keep-distinct")
    assert "DISTINCT kept." in kept
    assert "wrong duplicates" in kept and "wrong duplicates" not in first


def test_limits_are_options(capsys, spider, write):
    predictions = write("SELECT count(*) FROM singer\n" * 3 + "SELECT * FROM singer a, singer b, singer c\n")
    assert "The sandbox" not in run_main(capsys, predictions, "--spider", spider)
    assert "more than 10 rows" in run_main(capsys, predictions, "--spider", spider, "--max-rows", 10)


def test_output_is_safe_to_print(capsys, spider, write):
    predictions = write("SELECT 1\nSELECT 1\nSELECT 1\nDROP TABLE \x1b[31m'x'\u202e\n")
    assert "\x1b" not in run_main(capsys, predictions, "--spider", spider)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\nc\n", "found 3 predictions, wanted 4, one a line"),
        ("a\nb\nc\nd\ne\n", "found 5 predictions, wanted 4"),
        ("", "found 0 predictions, wanted 4"),
        (b"a\nb\xff\nc\nd\n", "not UTF-8"),
        ('{"sql": "a"}\n{"sql": 1}\n', "line 2: found no text as 'sql'"),
        ('{"sql": "a"}\n{"sq', "line 2: not valid JSON"),
        ('{"sql": "a"}\n', "found 1 predictions, wanted 4"),
        ('{"sql": "a", "index": 1}\n', "line 1: found index 1, wanted 0"),
        ('{"sql": "a", "db_id": "other"}\n', "line 1: found db_id 'other', wanted 'concert'"),
    ],
)
def test_a_file_that_does_not_fit_is_the_users_mistake(spider, write, text, message):
    path = write(text)
    with pytest.raises(UserError) as caught:
        main([str(path), "--spider", str(spider)])
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_not_there(spider, write, tmp_path):
    with pytest.raises(UserError, match="no-such-file: no such file"):
        main([str(tmp_path / "no-such-file"), "--spider", str(spider)])
    with pytest.raises(UserError, match="is a directory"):
        main([str(tmp_path), "--spider", str(spider)])
    with pytest.raises(UserError, match="no-such-folder"):
        main([str(write(PREDICTIONS)), "--spider", str(tmp_path / "no-such-folder")])


def test_a_database_that_is_not_there(spider, write):
    (spider / "database" / "concert" / "concert.sqlite").unlink()
    with pytest.raises(UserError, match="database/concert/concert.sqlite: no such file"):
        main([str(write(PREDICTIONS)), "--spider", str(spider)])


def test_nothing_is_written_where_scoring_stops(spider, write, tmp_path):
    dev = [{"db_id": "concert", "question": "?", "query": "SELECT nobody FROM x"}]
    (spider / "dev.json").write_text(json.dumps(dev))
    out = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="its gold query fails"):
        main([str(write("SELECT 1\n")), "--spider", str(spider), "--out", str(out)])
    assert not out.exists()


def test_golds_that_fail_are_left_out_or_wrong(capsys, spider, write):
    dev = json.loads((spider / "dev.json").read_text())
    dev[1]["query"] = "SELECT nme FROM singer"
    (spider / "dev.json").write_text(json.dumps(dev))
    predictions = write("".join(f"{query}\n" for _, query in DEV))
    out = run_main(capsys, predictions, "--spider", spider, "--failing-gold", "skip")
    assert "Left out, for their gold query fails: 1 (1)." in out and "100.00 %" in out
    assert "75.00 %" in run_main(capsys, predictions, "--spider", spider, "--failing-gold", "wrong")


def test_the_floor_is_named(capsys, spider, write):
    out = run_main(capsys, write("SELECT 1\n" * 4), "--spider", spider)
    found = "25.00 % (1 of 4, by SELECT 3)"
    assert f"The same answer to every question scores {found}, official {found}." in out


def test_kept_answers_are_read_anew_by_another_rule(capsys, spider, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    for name, raw in (("base", "Sure:\n\n{}\n\nThis is it."), ("m1", "{}")):
        lines = [{"raw": raw.format(query), "sql": raw.format(query)} for _, query in DEV]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Compressed, as a result set keeps it.
    (folder / "m1.jsonl.gz").write_bytes(gzip.compress((folder / "m1.jsonl").read_bytes()))
    (folder / "m1.jsonl").unlink()
    out = run_main(capsys, folder, "--spider", spider, "--answer", "standard")
    base, tuned = out.split(f"{folder / 'm1.jsonl.gz'}\n")
    assert "The standard rule takes other SQL than the file's from 4 of 4 answers." in base and "100.00 %" in base
    assert "from 0 of 4 answers" in tuned and "100.00 %" in tuned
    assert "100.00 %" not in run_main(capsys, folder / "base.jsonl", "--spider", spider, "--answer", "paper")
    with pytest.raises(UserError, match="--out: takes the verdicts of one file"):
        main([str(folder), "--spider", str(spider), "--out", str(tmp_path / "out.jsonl")])


def test_the_command_imports_nothing_slow(repository, spider, write):
    code = (
        "import sys; from text2sql.cli.score import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'deepeval', 'pandas', 'scipy', 'numpy', 'pyarrow', 'dvc', 'pydantic'}; "
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, write(PREDICTIONS), "--spider", spider],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.endswith("heavy: []\n"), done.stdout + done.stderr
    assert done.stderr == ""


def test_exit_codes(repository, spider, write):
    def run(*arguments):
        command = [sys.executable, "-m", "text2sql", "score", *map(str, arguments)]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True)

    wrong = run(write("SELECT 1\n"), "--spider", spider)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
    assert wrong.stdout == ""
    assert run(write(PREDICTIONS), "--spider", spider, "--workers", "0").returncode == 2
    right = run(write(PREDICTIONS), "--spider", spider)
    assert right.returncode == 0 and right.stderr == ""


def test_the_sample_scores_its_own_gold(repository, capsys, write):
    sample = repository / "data" / "sample" / "spider"
    dev = json.loads((sample / "dev.json").read_text(encoding="utf-8"))
    printed = run_main(capsys, write("".join(f"{example['query']}\n" for example in dev)), "--spider", sample)
    total = next(line.split() for line in printed.splitlines() if line.startswith("all"))
    assert total[1:4] == [str(len(dev)), "100.00", "%"] and total[4] == str(len(dev))


def test_spiders_own_gold(capsys, spider_zip, write):
    with zipfile.ZipFile(spider_zip) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/dev_gold.sql"))
        gold = archive.read(name)
    printed = run_main(capsys, write(gold), "--spider", spider_zip)
    rows = {line.split()[0]: line.split() for line in printed.splitlines()[2:7]}
    assert {level: row[4] for level, row in rows.items()} == {
        "easy": "248", "medium": "446", "hard": "174", "extra": "166", "all": "1034",
    }  # fmt: skip


def test_spider_dk_as_published(capsys, spider, write, tmp_path):
    """Four fields, its own database beside Spider's, and one gold that fails."""
    databases = tmp_path / "spider-dk" / "database"
    shutil.copytree(spider / "database", databases)
    shutil.copytree(databases / "concert", databases / "new_concert")
    (databases / "new_concert" / "concert.sqlite").rename(databases / "new_concert" / "new_concert.sqlite")
    fields = [{"question": question, "query": query, "type": "1"} for question, query in DEV]
    dk = [{"db_id": db_id, **line} for db_id in ("concert", "new_concert") for line in fields]
    dk[5]["query"] = "SELECT name age FORM singer"
    (databases.parent / "Spider-DK.json").write_text(json.dumps(dk))
    predictions = write("\n".join([query for _, query in DEV] * 2))
    out = run_main(
        capsys, predictions, "--spider", databases.parent, "--split", "dk", "--failing-gold", "skip", "--no-cache"
    )
    assert re.search(r"^all +7 +100.00 %", out, re.MULTILINE)


def test_its_document_names_options_that_exist(repository):
    docs = (repository / "docs/scoring.md").read_text(encoding="utf-8")
    options = set(re.findall(r"`(--[a-z-]+)`", docs))
    assert {"--split", "--max-steps"} <= options
    for option in options:
        assert option in (repository / "text2sql/cli/score.py").read_text() or option[2:].replace("-", "_") in {
            limit.name for limit in dataclasses.fields(Limits)
        }


def test_own_data_are_scored_with_the_share_that_is_held_out(capsys, write, tmp_path):
    own = own_folder(tmp_path / "pets")
    with open_source(own, 0.4) as source:
        held = source.examples("dev")
    golds = write("".join(f"{' '.join(example.query.split())}\n" for example in held))
    printed = run_main(capsys, golds, "--spider", own, "--holdout", "0.4", "--workers", 1)
    assert re.search(rf"^all +{len(held)} +100.00 %", printed, re.MULTILINE)
    with pytest.raises(UserError, match="name no split"):
        run_main(capsys, golds, "--spider", own)
    with pytest.raises(UserError, match="own data, without a split 'dk'"):
        run_main(capsys, golds, "--spider", own, "--holdout", "0.4", "--split", "dk")
