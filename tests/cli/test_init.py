"""`text2sql init`: what it says of a folder, its recipe, and that faults stop it with nothing written."""

import contextlib
import os
import shutil
import sqlite3
import sys

import pytest

from testkit.own_data import own_folder, questions, write_questions
from text2sql.cli.main import main
from text2sql.core.errors import run
from text2sql.core.params import load_params
from text2sql.experiments import own_data

DATABASES = ("pet_shelter", "bakery", "farm_market")


@pytest.fixture
def project(repository, tmp_path, monkeypatch):
    """A folder with params.yaml and a user's data in `pets`."""
    shutil.copy(repository / "params.yaml", tmp_path)
    own_folder(tmp_path / "pets", DATABASES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXT2SQL_DEBUG", raising=False)
    return tmp_path


def init(monkeypatch, capsys, *arguments):
    """Run the command; return exit code, lines of output and lines of errors."""
    monkeypatch.setattr(sys, "argv", ["text2sql", "init", *arguments])
    with pytest.raises(SystemExit) as leaving:
        run(main)
    printed, said = capsys.readouterr()
    return leaving.value.code or 0, printed.splitlines(), said.splitlines()


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_folder_is_told_and_gets_a_recipe(project, monkeypatch, capsys):
    records = questions(DATABASES)
    records.append(records[0] | {"query": "SELECT name FROM nowhere"})
    records.append(next(one for one in records if one["db_id"] == "bakery") | {"query": "SELECT 1 WHERE 0"})
    write_questions(project / "pets", records)
    before = state(project / "pets")
    code, printed, said = init(monkeypatch, capsys, "pets", "--holdout", "0.4")
    assert (code, said) == (0, []) and state(project / "pets") == before
    told = [line for line in printed if not line.startswith("init: ")]
    assert told[0] == "pets: 3 databases; questions.jsonl"
    counts = {line.split(":")[0]: line for line in told[1:3]}
    assert sum(int(line.split()[1]) for line in counts.values()) == len(records)
    assert sum(int(line.split("queries: ")[1].split()[0]) for line in counts.values()) == 1
    assert sum(int(line.split("fail, ")[1].split()[0]) for line in counts.values()) == 1
    assert any("its gold query fails: no such table: nowhere" in line for line in told)
    assert "dev is held out by database: data.holdout 0.4" in told
    assert any(line.startswith("longest prompt: ") for line in told)
    assert told[-1] == "recipes/pets.yaml: written; to train and measure: make repro RECIPE=pets"

    text = (project / "recipes/pets.yaml").read_text()
    params, whole = load_params(project / "recipes/pets.yaml"), load_params(project / "params.yaml")
    assert params.data.model_dump(include={"spider", "name", "holdout", "train_limit"}) == {
        "spider": "pets", "name": "pets", "holdout": 0.4, "train_limit": None,
    }  # fmt: skip
    assert params.train == whole.train and params.mmlu == whole.mmlu and "null" in text
    assert "make repro RECIPE=pets" in text and text.count("#") > 30


def test_failing_golds_of_dev_are_left_out_and_long_queries_have_room(project, monkeypatch, capsys):
    records = [
        {**record, "split": "dev" if record["db_id"] == "bakery" else "train"} for record in questions(DATABASES)
    ]
    records.append({**records[0], "query": f"SELECT {'1 + ' * 2000} 1", "hint": "Add."})
    records.append({**next(one for one in records if one["split"] == "dev"), "query": "SELECT FROM", "hint": "None."})
    equal = next(one for one in records if one["split"] == "dev")  # and the last one's
    records.append({**equal, "split": "train", "question": f"  {equal['question'].upper()}"})
    write_questions(project / "pets", records)
    code, printed, _ = init(monkeypatch, capsys, "pets", "--name", "own")
    assert code == 0 and any(line.startswith("equal questions across splits: 2, the first: pets/") for line in printed)
    assert any(line.startswith("evidence: 2 questions of ") for line in printed)
    params = load_params(project / "recipes/own.yaml")
    assert params.data.failing_gold == "skip" and params.data.holdout is None and params.data.name == "own"
    assert params.generation.max_new_tokens >= 4000 and params.train.max_seq_len >= 4000


def test_a_recipe_says_nothing_of_the_data_that_params_were_of_before(project, monkeypatch, capsys):
    records = [{**one, "split": "dev" if one["db_id"] == "bakery" else "train"} for one in questions(DATABASES)]
    long = {**records[0], "query": f"SELECT {'1 + ' * 2000} 1", "hint": "Add."}
    failing = {**next(one for one in records if one["split"] == "dev"), "query": "SELECT FROM"}
    reasons = ("1 gold queries of dev fail", "1 questions have some", f"the longest query has {len(long['query']):,}")
    write_questions(project / "pets", [*records, long, failing])
    assert init(monkeypatch, capsys, "pets")[0] == 0
    text = (project / "recipes/pets.yaml").read_text()
    assert all(reason in text for reason in reasons)
    shutil.copy(project / "recipes/pets.yaml", project / "params.yaml")
    write_questions(project / "pets", records)
    assert init(monkeypatch, capsys, "pets", "--name", "other")[0] == 0
    text = (project / "recipes/other.yaml").read_text()
    assert not any(reason in text for reason in reasons) and "0 gold queries of dev fail" in text
    assert load_params(project / "recipes/other.yaml").prompt.evidence is False


def test_a_file_that_is_there_stays(project, monkeypatch, capsys):
    (project / "recipes").mkdir()
    (project / "recipes/pets.yaml").write_text("mine\n")
    code, printed, said = init(monkeypatch, capsys, "pets")
    assert (code, printed) == (2, [])
    assert said == ["error: recipes/pets.yaml: is there already; wanted another --name, or that file gone"]
    assert (project / "recipes/pets.yaml").read_text() == "mine\n"


def remove_text(folder):
    write_questions(folder, [*questions(DATABASES), {"question": "", "query": "SELECT 1", "db_id": "bakery"}])


def break_two(folder):
    (folder / "bakery.sqlite").write_bytes(os.urandom(8192))
    path = folder / "farm_market.sqlite"
    path.write_bytes(path.read_bytes()[:5000])


def test_of_several_queries_to_a_question_none_may_fail(project, monkeypatch, capsys):
    first, *others = questions(DATABASES)
    write_questions(project / "pets", [{**first, "query": [first["query"], "SELECT name FROM nowhere"]}, *others])
    code, printed, _ = init(monkeypatch, capsys, "pets")
    assert code == 0 and sum(": 1 fail, 0 return nothing" in line for line in printed) == 1
    assert any("its gold query fails: no such table: nowhere" in line for line in printed)


FAULTS = {
    "questions of one split alone": (
        lambda folder: (folder / "questions.jsonl").rename(folder / "dev.jsonl"),
        ["no question is of the train split"],
    ),
    "a question without text": (remove_text, ["found an empty text as 'question'"]),
    "two files": (
        lambda folder: shutil.copy(folder / "questions.jsonl", folder / "dev.jsonl"),
        ["name a split (dev.jsonl: dev) and others none"],
    ),
    "a missing database": (lambda folder: (folder / "bakery.sqlite").unlink(), ["no database 'bakery'"]),
    "databases that are none": (break_two, ["bakery.sqlite: not a valid", "farm_market.sqlite: "]),
    "no folder": (shutil.rmtree, ["pets: no such folder or zip file"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_and_nothing_is_written(project, monkeypatch, capsys, fault):
    damage, parts = FAULTS[fault]
    damage(project / "pets")
    code, printed, said = init(monkeypatch, capsys, "pets")
    assert code == 2 and not (project / "recipes").exists()
    assert all(line.startswith("error: ") for line in said) and all(line.startswith("init: ") for line in printed)
    for part in parts:
        assert any(part in line for line in said), said


def test_spiders_layout_and_other_names_are_refused(repository, project, monkeypatch, capsys):
    _, _, said = init(monkeypatch, capsys, str(repository / "data/sample/spider"))
    assert "is in Spider's layout, and needs no recipe of its own" in said[0]
    _, _, said = init(monkeypatch, capsys, "pets", "--name", "../pets")
    assert said == ["error: --name: found '../pets', wanted letters, digits, '-', '_' and '.' alone"]
    (project / "pets").rename(project / "my pets")
    _, _, said = init(monkeypatch, capsys, "my pets")
    assert said[0].startswith("error: the folder's name (--name gives another): found 'my pets', wanted letters")
    assert init(monkeypatch, capsys, "my pets", "--name", "pets")[0] == 0
    _, _, said = init(monkeypatch, capsys, "my pets", "--name", "others", "--holdout", "1.5")
    assert "--holdout: found 1.5, wanted a share above 0 and below 1" in said[0]


def test_a_database_that_changes_meanwhile_is_named(project, monkeypatch, capsys):
    look = own_data.Executor.run_each

    def change_and_run(executor, queries):
        with contextlib.closing(sqlite3.connect("pets/bakery.sqlite")) as connection:
            connection.execute("CREATE TABLE late (x)")
        return look(executor, queries)

    monkeypatch.setattr(own_data.Executor, "run_each", change_and_run)
    code, _, said = init(monkeypatch, capsys, "pets")
    assert (code, said) == (2, ["error: pets/bakery.sqlite: changed while it was read; run it again"])
    assert not (project / "recipes").exists()


@pytest.mark.parametrize("now", ["", "half a li", "fewer", "more"])
def test_questions_that_change_meanwhile_are_named_whatever_fails_of_it(project, monkeypatch, capsys, now):
    records = questions(DATABASES)
    look = own_data.Executor.run_each

    def change_and_run(executor, queries):
        write_questions(project / "pets", {"fewer": records[:9], "more": records * 2}.get(now, []))
        with open("pets/questions.jsonl", "a") as file:
            file.write(now if now == "half a li" else "")
        return look(executor, queries)

    monkeypatch.setattr(own_data.Executor, "run_each", change_and_run)
    code, _, said = init(monkeypatch, capsys, "pets")
    assert (code, said) == (2, ["error: pets/questions.jsonl: changed while it was read; run it again"])
    assert not (project / "recipes").exists()


def test_a_zip_is_looked_at_as_its_folder(project, monkeypatch, capsys):
    shutil.make_archive("packed/pets", "zip", ".", "pets")
    _, of_folder, _ = init(monkeypatch, capsys, "pets")
    code, of_zip, _ = init(monkeypatch, capsys, "packed/pets.zip", "--name", "packed")
    assert code == 0 and [line.split(": ", 1)[1] for line in of_zip[2:6]] == [
        line.split(": ", 1)[1] for line in of_folder[2:6]
    ]
    assert load_params("recipes/packed.yaml").data.spider == "packed/pets.zip"
