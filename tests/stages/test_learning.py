"""Learning from executed answers under real DVC: what params.yaml alone adds, and what a user then sees."""

import gzip
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from testkit.project import Project
from text2sql.core.digests import digest_of_tree
from text2sql.core.params import load_params
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.judged import judged, read_judged, write_judged
from text2sql.training.folds import folds_of

M3, M4 = {"title": "Model 3", "recipe": "learn.m3"}, {"title": "Model 4", "recipe": "learn.m4"}
SAMPLES = "data/samples/train/m1.jsonl.gz"


ENTRIES = {
    "models": {"m3": M3},
    "sample_train": {"m1": {"samples": 6, "temperature": 1.0}},
    "learn": {"m3": {"objective": "dpo", "from": "m1", "lr": 1e-3, "epochs": 1, "batch_size": 4, "per_question": 1}},
}


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project with a Model 3 that learns from pairs, run; its Model 1 knows the training split well."""
    project = finished_project.copy(tmp_path_factory.mktemp("learning") / "project")
    # As many tokens as its answers take, and as many epochs as give right and wrong ones.
    project.set_params({"train": {"lr": 2e-2, "epochs": 40, "batch_size": 8}, "generation": {"max_new_tokens": 40}})
    project.set_params(ENTRIES)
    project.run("dvc", "repro")
    return project


def read(project, path):
    return json.loads((project.folder / path).read_text())


def lines(project, path):
    return [json.loads(line) for line in (project.folder / path).read_text().splitlines()]


def sampled(project):
    header, *records = gzip.decompress((project.folder / SAMPLES).read_bytes()).decode().splitlines()
    return json.loads(header), [json.loads(record) for record in records]


def test_params_alone_add_what_is_new_and_nothing_else_runs(finished_project, project, tmp_path):
    added = finished_project.copy(tmp_path / "project")
    added.set_params(ENTRIES)
    changed = set(json.loads(added.run("dvc", "status", "--json").stdout))
    of_m3 = {
        f"{stage}@m3" for stage in ("predict_spider", "eval_spider", "sample_spider", "choose_spider", "eval_mmlu")
    }
    assert changed == {"sample_train@m1", "learn@m3", *of_m3, "compare"}
    assert "sample_train" not in finished_project.first_run and "learn" not in finished_project.first_run
    assert "up to date" in project.run("dvc", "status").stdout


def test_its_answers_lie_with_their_verdicts(project):
    header, records = sampled(project)
    chosen = {"samples": 6, "temperature": 1.0, "top_p": 0.95, "seed": 0, "limit": None, "folds": 1}
    assert header == {"model": "m1", "adapter": header["adapter"], **chosen}
    assert [record["index"] for record in records] == list(range(24))
    assert all(len(record["samples"]) == 6 for record in records)
    for record in records:
        assert {sample["sql"] for sample in record["samples"]} == set(record["verdicts"])
    metrics = read(project, "metrics/samples/m1.json")
    assert metrics["answers"] == 144 == metrics["right"] + metrics["wrong"] + metrics["disputed"]
    assert metrics["right_and_wrong"] > 3 and metrics["samples"] == 6


def test_the_model_has_learnt_from_pairs_and_stands_beside_the_others(project):
    metrics = read(project, "metrics/train/m3.json")
    counts, drawn = metrics["answers"], read(project, "metrics/samples/m1.json")
    assert metrics["objective"] == "dpo" and metrics["from"] == "m1"
    assert metrics["examples"] + metrics["examples_left_out"] == counts["pairs"] <= drawn["right_and_wrong"]
    assert counts["none_right"] >= drawn["none_right"] and counts["questions"] == 24
    _, first, *_ = (project.folder / "metrics/train/m3_loss.csv").read_text().splitlines()
    assert float(first.split(",")[2]) == round(math.log(2), 6)
    assert "spider_gain_pts_m3" in read(project, "metrics/compare.json")
    assert "Model 3" in (project.folder / "reports/report.md").read_text()
    card = (project.folder / "models/m3/README.md").read_text()
    assert "Model 3: a LoRA adapter" in card and "pairs of right and wrong ones of its executed answers" in card
    assert "from Model 1 on" in card


def test_no_dev_question_or_database_reaches_training(project, tmp_path):
    dev = lines(project, "data/prepared/spider/dev.jsonl")
    train = lines(project, "data/prepared/spider/train.jsonl")
    _, records = sampled(project)
    assert not {record["db_id"] for record in records} & {one["db_id"] for one in dev}
    asked = {(record["db_id"], record["question"]) for record in records}
    assert asked == {(one["db_id"], one["question"]) for one in train}
    # Without the dev split and its databases both stages write the same bytes.
    other = project.copy(tmp_path / "project")
    (other.folder / "data/prepared/spider/dev.jsonl").write_text("")
    for db_id in {one["db_id"] for one in dev}:
        path = other.folder / f"data/prepared/databases/{db_id}/{db_id}.sqlite"
        path.unlink()
        path.write_bytes(b"")
    shutil.rmtree(other.folder / "data/predictions")
    for stage, path in (("sample_train m1", SAMPLES), ("learn m3", "models/m3/adapter_model.safetensors")):
        (other.folder / path).unlink()
        other.run("python", "-m", *f"stages.{stage}".split())
        assert (other.folder / path).read_bytes() == (project.folder / path).read_bytes()


def test_answers_to_dev_questions_are_refused(project, tmp_path):
    other = project.copy(tmp_path / "project")
    header, records = sampled(project)
    dev = lines(project, "data/prepared/spider/dev.jsonl")[0]
    records[0] |= {key: dev[key] for key in ("db_id", "question")}
    text = "".join(json.dumps(line) + "\n" for line in (header, *records))
    (other.folder / SAMPLES).unlink()
    (other.folder / SAMPLES).write_bytes(gzip.compress(text.encode()))
    done = other.run("python", "-m", "stages.learn", "m3", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "line 2: found index 0" in done.stderr and "no example of the training split" in done.stderr


def test_a_draw_that_was_killed_goes_on_to_the_same_bytes(project, tmp_path):
    other = project.copy(tmp_path / "project")
    other.set_params({"generation": {"batch_size": 6}})  # a question at a time
    (other.folder / SAMPLES).unlink()
    # A process of its own: `python` there is forked from one that would go on.
    command = [sys.executable, "-m", "stages.sample_train", "m1"]
    said = subprocess.DEVNULL
    killed = subprocess.Popen(command, cwd=other.folder, env=other.environment(), stdout=said, stderr=said)
    kill_once(killed, lambda: journaled(other))
    assert 0 < journaled(other) < 24 and not (other.folder / SAMPLES).exists()
    other.run("python", *command[1:])
    assert (other.folder / SAMPLES).read_bytes() == (project.folder / SAMPLES).read_bytes()
    assert not journaled(other)


def kill_once(process, is_so):
    """Kill the process as soon as it is so."""
    while process.poll() is None and not is_so():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def journaled(project, of="m1"):
    files = project.folder.glob(f".journals/sample_train-{of}-*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in files)


def kept_adapters(project):
    return sorted(project.folder.glob(".checkpoints/m1_without_fold-*/adapter_model.safetensors"))


def in_folds(project, folder, count):
    """Return a copy of the project whose `sample_train` has so many folds: few steps, a question at a time."""
    other = project.copy(folder)
    other.set_params({"sample_train": {"m1": {"samples": 2, "temperature": 1.0, "folds": count}}})
    other.set_params({"train": {"epochs": 1}, "generation": {"max_new_tokens": 4, "batch_size": 2}})
    return other


def test_folds_are_answered_by_models_that_were_trained_without_them(project, tmp_path):
    other = in_folds(project, tmp_path / "project", 3)
    said = other.run("python", "-m", "stages.sample_train", "m1").stdout
    assert re.findall(r"train_m1_without_(fold-.-of-3): .* on (\d+) examples", said) == [
        (f"fold-{number}-of-3", "16") for number in (1, 2, 3)
    ]
    assert re.findall(r"sample_train m1, (fold-.-of-3): .*; (\d+) questions", said) == [
        (f"fold-{number}-of-3", "8") for number in (1, 2, 3)
    ]
    header, records = sampled(other)
    assert [record["index"] for record in records] == list(range(24))
    # It is the model's own, whose answers these are taken for; `learn` may go on from it.
    assert header["folds"] == 3 and header["adapter"] == digest_of_tree(other.folder / "models/m1")
    metrics, timing = read(other, "metrics/samples/m1.json"), read(other, "data/timings/sample_train_m1.json")
    assert metrics["folds"] == 3 and metrics["answers"] == 48
    assert 0 < timing["training_seconds"] < timing["seconds"]
    assert not list(other.folder.glob(".checkpoints/*")) and not list(other.folder.glob(".journals/*"))


@pytest.mark.long
@pytest.mark.slow
def test_folds_that_were_killed_go_on_to_the_same_bytes(project, tmp_path):
    whole, killed, trained = (in_folds(project, tmp_path / name, 2) for name in ("whole", "killed", "trained"))
    whole.run("python", "-m", "stages.sample_train", "m1")
    command = [sys.executable, "-m", "stages.sample_train", "m1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=killed.folder, env=killed.environment(), **quiet)
    kill_once(process, lambda: journaled(killed, "m1_fold-2-of-2"))
    assert journaled(killed, "m1_fold-1-of-2") == 12 and journaled(killed, "m1_fold-2-of-2") > 0
    first, second = (path.read_bytes() for path in kept_adapters(killed))
    assert "train_m1" not in killed.run("python", *command[1:]).stdout
    assert (killed.folder / SAMPLES).read_bytes() == (whole.folder / SAMPLES).read_bytes()
    assert not kept_adapters(killed)

    # What answers the first fold is what Model 1 would be without its databases.
    path = trained.folder / "data/prepared/spider/qa_sharegpt.jsonl"
    conversations = [json.loads(line) for line in path.read_text().splitlines()]
    fold, _ = folds_of([one["db_id"] for one in conversations], 2)
    replaced(path, "".join(json.dumps(one) + "\n" for one in fold.without(conversations)))
    trained.run("python", "-m", "stages.train", "m1")
    assert (trained.folder / "models/m1/adapter_model.safetensors").read_bytes() == first != second


def test_another_seed_draws_others(project, tmp_path):
    other = project.copy(tmp_path / "project")
    other.set_params({"sample_train": {"m1": {"samples": 2, "temperature": 1.0, "seed": 1, "limit": 5}}})
    other.run("dvc", "repro", "sample_train@m1")
    header, records = sampled(other)
    assert header["seed"] == 1 and header["limit"] == len(records) == 5
    firsts = [[sample["raw"] for sample in record["samples"][:2]] for record in sampled(project)[1][:5]]
    assert [[sample["raw"] for sample in record["samples"]] for record in records] != firsts


def test_right_answers_of_other_texts_are_trained_beside_gold(project, tmp_path, monkeypatch):
    other = project.copy(tmp_path / "project")
    other.set_params({"models": {"m4": M4}, "learn": {"m4": {"objective": "rejection", "from": "m1", "epochs": 1}}})
    monkeypatch.chdir(other.folder)
    records = [json.loads(line) for line in open("data/prepared/spider/train.jsonl")]
    examples = [Example.from_record(record) for record in records]
    drawn, _ = read_judged(other.folder / SAMPLES, examples)
    # Micro models find no words of their own for an answer.
    said = [{"samples": [answered(f"SELECT * FROM ({one.query})"), answered(one.query)]} for one in examples]
    execution = load_params().execution.model_dump()
    found = judged(
        examples,
        said,
        lambda db_id: other.folder / f"data/prepared/databases/{db_id}/{db_id}.sqlite",
        Limits(**execution),
    )
    (other.folder / SAMPLES).unlink()
    write_judged(other.folder / SAMPLES, drawn, found)
    other.run("python", "-m", "stages.learn", "m4")
    metrics = read(other, "metrics/train/m4.json")
    counts = metrics["answers"]
    assert counts["added"] > 10 and counts["equal_texts"] == counts["all_right"] + (
        counts["added"] - counts["all_right"]
    )
    assert metrics["examples"] + metrics["examples_left_out"] == 24 + counts["added"]
    other.run("python", "-m", "stages.predict_spider", "m4")
    assert len(lines(other, "data/predictions/m4.jsonl")) == 10


def answered(sql):
    return {"raw": sql, "sql": sql, "new_tokens": 9, "log_likelihood": -1.0}


@pytest.mark.parametrize(
    ("stage", "change", "says"),
    [
        (
            "learn m3",
            lambda folder: shutil.rmtree(folder / "models/m1"),
            "learn.m3.from: m1 is not trained: models/m1: no",
        ),
        ("learn m3", lambda folder: (folder / SAMPLES).unlink(), f"{SAMPLES}: no such file"),
        (
            "learn m3",
            lambda folder: replaced(folder / "models/m1/README.md", "changed"),
            f"{SAMPLES}: answers of another m1 than models/m1 holds; run sample_train again",
        ),
        ("learn m2", lambda folder: None, "'m2'"),
        ("train m3", lambda folder: None, "train.objective: dpo: takes an entry of `learn`"),
        ("sample_train base", lambda folder: None, "'base'"),
        ("sample_train m1", lambda folder: shutil.rmtree(folder / "models/m1"), "models/m1: no such folder"),
        (
            "sample_train m1",
            lambda folder: Project(folder).set_params({"sample_train": {"m1": {"folds": 20}}}),
            "sample_train.m1.folds: got 20, takes at most 10: so many databases are trained on",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(project, tmp_path, stage, change, says):
    other = project.copy(tmp_path / "project")
    change(other.folder)
    before = sorted(path for path in other.folder.glob("metrics/**/*"))
    done = other.run("python", "-m", *f"stages.{stage}".split(), check=False)
    assert done.returncode == 2 and says in done.stderr.splitlines()[-1], done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1
    assert sorted(path for path in other.folder.glob("metrics/**/*")) == before


def replaced(path, text):
    path.unlink()
    path.write_text(text)


def test_without_entries_the_stages_say_where_to_read(finished_project):
    for stage in ("sample_train m1", "learn m3"):
        done = finished_project.run("python", "-m", *f"stages.{stage}".split(), check=False)
        assert done.returncode == 2 and "names no model: docs/learning.md" in done.stderr
