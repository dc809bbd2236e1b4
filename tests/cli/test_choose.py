"""`text2sql choose`: a samples file beside greedy answers, on the sample's real databases."""

import gzip
import json

import pytest

from text2sql.cli.choose import main
from text2sql.core.errors import UserError

FAILS = "SELECT nothing FROM nowhere"


@pytest.fixture(scope="module")
def golds(repository):
    return json.loads((repository / "data/sample/spider/dev.json").read_text())


@pytest.fixture
def files(golds, tmp_path):
    """Greedy answers, right at even places and failing at odd ones, and four samples each, the last two right."""

    def write(samples=4, asked=lambda index: True):
        predictions, drawn = tmp_path / "predictions.jsonl", tmp_path / "samples.jsonl.gz"
        greedy = [gold["query"] if index % 2 == 0 else FAILS for index, gold in enumerate(golds)]
        predictions.write_text("".join(json.dumps({"sql": sql}) + "\n" for sql in greedy))
        lines = []
        for index, gold in enumerate(golds):
            queries = [FAILS, "SELECT 'wrong'", gold["query"], f"{gold['query']} "][:samples]
            answers = [{"sql": sql, "log_likelihood": -1.0} for sql in queries]
            if asked(index):
                lines.append(json.dumps({"index": index, "db_id": gold["db_id"], "samples": answers}) + "\n")
        drawn.write_bytes(gzip.compress("".join(lines).encode()))
        return ["--samples", str(drawn), "--predictions", str(predictions)]

    return write


@pytest.fixture
def choose(repository, capsys):
    def choose(*arguments):
        main([*arguments, "--spider", str(repository / "data/sample/spider")])
        return capsys.readouterr().out

    return choose


def cells(text, number, way):
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [number] and f" {way}  " in line]
    return line.split(way)[1].replace(" %", "").split()


def test_all_rules_and_numbers_come_from_one_draw(files, choose, golds, tmp_path):
    figures = tmp_path / "figures.json"
    said = choose(*files(), "--json", str(figures))
    written = json.loads(figures.read_text())
    assert list(written["by_samples"]) == ["1", "2", "4"]
    assert written["by_samples"]["4"]["majority"]["official_successes"] == written["questions"] == len(golds)
    odd = len(golds) // 2
    assert cells(said, "4", "majority")[0] == "100.00" and cells(said, "4", "majority")[3:] == [str(odd), "0", "0"]
    assert cells(said, "1", "majority")[3:] == ["0", "0", str(odd)]
    lost = int(cells(said, "2", "majority")[4])
    assert lost > 0 and cells(said, "2", "majority where greedy fails")[4] == "0"
    assert cells(said, "2", "oracle")[0] == cells(said, "1", "oracle")[0] != "100.00"
    assert cells(said, "4", "oracle")[0] == "100.00" and cells(said, "4", "one sample")[0].startswith("5")
    assert f"{len(golds)} questions, {len(golds)} with samples." in said


def test_what_a_rule_chooses_is_written_as_score_reads_it(files, choose, golds, tmp_path):
    out = tmp_path / "chosen.jsonl"
    assert "first executable of 3." in choose(*files(), "--n", "3", "--choice", "first_executable", "--out", str(out))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["sql"] for line in lines] == [
        gold["query"].strip() if index % 2 == 0 else "SELECT 'wrong'" for index, gold in enumerate(golds)
    ]
    assert [line["sample"] for line in lines[:2]] == [None, 1] and lines[1]["samples"] == 3


def test_a_draw_where_the_greedy_answer_fails_alone(files, choose, tmp_path):
    few = files(asked=lambda index: index % 2 == 1)
    said = choose(*few)
    assert cells(said, "4", "majority where greedy fails")[0] == "100.00" and " majority  " not in said
    with pytest.raises(UserError, match="--when: got always, and .* questions alone: takes failed"):
        choose(*few, "--out", str(tmp_path / "chosen.jsonl"))
    choose(*few, "--when", "failed", "--out", str(tmp_path / "chosen.jsonl"))


def test_more_samples_than_there_are_is_one_line(files, choose):
    with pytest.raises(UserError, match="--n: got 9, takes at most 4: so many samples a question has "):
        choose(*files(), "--n", "9")
    with pytest.raises(UserError, match="holds no samples; they are drawn with generation.samples of 2 or more"):
        choose(*files(asked=lambda index: False))
