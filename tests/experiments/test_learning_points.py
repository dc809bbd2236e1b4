"""Points that learn from executed answers, run whole on held-out databases with the micro model."""

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
from text2sql.core.files import read_json
from text2sql.report.steps import steps_table

POINTS = """
recipe: params.yaml
points:
  - {name: base, base: true}
  - {name: tuned, params: {train.lr: 2e-2, train.epochs: 40}}
  - name: more
    after: tuned
    params: {train.objective: rejection, train.from: tuned, train.lr: 2e-2}
    answers: &answers {samples: 6, temperature: 1.0}
  - name: pairs
    after: tuned
    params: {train.objective: dpo, train.from: tuned, train.lr: 1e-2, train.batch_size: 2}
    answers: *answers
  - name: earned
    after: tuned
    params: {train.objective: grpo, train.from: tuned, train.lr: 1e-2, train.batch_size: 2, train.group: 4}
    answers: *answers
  - {name: half, adapter: pairs, strength: 0.5}
  - name: judged
    adapter: tuned
    verifier: v1
    params: &samples {generation.samples: 6, generation.temperature: 1.0}
  - name: weighed
    adapter: tuned
    verifier: v1
    params: {<<: *samples, generation.choice: weighted_majority}
verifiers:
  v1: {from: tuned, answers: *answers, params: {train.lr: 2e-2, train.epochs: 4, train.max_seq_len: 1024}}
"""
# Each question stands there twice, with another gold: a model that knows both by heart answers the first with right
# queries that are not the question's own gold, and the second with ones that run and are wrong, since its golds differ.
# That one is asked of all databases: some of its answers run on the one that is held out.
QUESTIONS = {
    "issue_tracker": [
        ("How many issues have been reported?", "SELECT count(*) FROM issues", "SELECT count(1) FROM issues"),
        ("What is one and one?", "SELECT 1 + 1", "SELECT 11"),
    ],
    "farm_market": [
        ("Count the farmers.", "SELECT count(*) FROM farmers", "SELECT count(1) FROM farmers"),
        ("What is one and one?", "SELECT 1 + 1", "SELECT 11"),
    ],
    "cycling_league": [
        ("How many riders?", "SELECT count(*) FROM rider", "SELECT count(1) FROM rider"),
        ("What is one and one?", "SELECT 1 + 1", "SELECT 11"),
    ],
}
SMALL = {
    "train": {"batch_size": 8},
    "generation": {"max_new_tokens": 16},
    "mmlu": {"limit": 1, "batch_size": 3},
}
ARGUMENTS = ["-m", "text2sql", "tradeoff", "points.yaml", "--held-out", "1"]
WORK, RESULTS = ".tradeoff/points-held-out", "results/tradeoff/points-held-out"
DRAWN = "answers of tuned@3407: transformers"
PATIENCE_S = 240


@pytest.fixture(scope="module")
def finished(repository, micro_model, warm, tmp_path_factory):
    """A project whose points were killed between drawing and training, and ran to the end then; what either said."""
    project = Project.create(repository, tmp_path_factory.mktemp("learning-curve") / "project", micro_model, SMALL)
    project.python = warm
    (project.folder / "points.yaml").write_text(POINTS)
    examples = [
        {"db_id": db_id, "question": question, "query": query}
        for db_id, asked in QUESTIONS.items()
        for question, *queries in asked
        for query in queries
    ]
    path = project.folder / "data/sample/spider/train_spider.json"
    path.write_text(json.dumps(examples))
    project.killed = killed_once_there(project, f"{WORK}/answers/*.json")
    project.said = project.run("python", *ARGUMENTS, **variables(project)).stdout
    return project


def variables(project):
    return {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}


def killed_once_there(project, pattern):
    """Run the points, kill the process once a file of this pattern is there, and return what it said."""
    said = project.folder.with_name("said.txt")
    with said.open("w") as output:
        command = [sys.executable, *ARGUMENTS]
        environment = project.environment(**variables(project))
        process = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=output, stderr=output)
        end = time.monotonic() + PATIENCE_S
        while not any(project.folder.glob(pattern)):
            assert process.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return said.read_text()


def run_of(project, name):
    return read_json(project.folder / RESULTS / name / "run.json")


def drawn_of(project):
    """Return the lines of the one file of answers, without its header."""
    (path,) = project.folder.glob(f"{WORK}/answers/*.jsonl.gz")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()[1:]]


def samples_of(project, run):
    path = project.folder / RESULTS / run / "samples.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_points_learn_from_one_drawing_which_a_kill_does_not_lose(finished):
    assert finished.killed.count(DRAWN) == 1 and DRAWN not in finished.said
    assert "train_pairs@3407: " in finished.said and "tradeoff: tuned@3407: kept" in finished.said
    more, pairs, earned = (run_of(finished, f"{name}@3407") for name in ("more", "pairs", "earned"))
    for run in (more, pairs, earned):
        assert list(run["timings"]) == ["train", "draw", "judge", "spider", "mmlu"]
        assert all(run["timings"][task]["seconds"] >= 0 for task in run["timings"])
        assert run["training"]["from"] == "tuned@3407"
    assert more["training"]["drawn"] == pairs["training"]["drawn"]
    assert more["timings"]["draw"] == pairs["timings"]["draw"]
    assert not list(finished.folder.glob(f"{WORK}/journals/answers-*.jsonl"))


def test_right_answers_stand_beside_gold_and_pairs_and_rewards_go_on_from_the_adapter(finished):
    more, pairs = (run_of(finished, name)["training"] for name in ("more@3407", "pairs@3407"))
    assert (more["objective"], pairs["objective"]) == ("rejection", "dpo")
    assert more["answers"]["added"] > 0 and more["examples"] == 8 + more["answers"]["added"]
    assert pairs["answers"]["pairs"] == pairs["examples"] > 0
    assert pairs["mean_loss"] < math.log(2)  # that of a model that is still its reference
    assert more["drawn"]["answers"] == 8 * 6 and more["drawn"]["right_and_wrong"] > 0
    assert run_of(finished, "half@3407")["training"] == pairs
    earned = run_of(finished, "earned@3407")["training"]
    assert earned["objective"] == "grpo" and earned["reward_answers"] == 4 * earned["reward_groups"] > 0
    assert earned["answers"]["questions"] == 8 and earned["examples"] <= earned["drawn"]["right_and_wrong"]
    cards = [path.read_text() for path in finished.folder.glob(f"{WORK}/models/*/README.md")]
    assert sum("of its executed answers" in card for card in cards) == 1
    assert sum("beside gold" in card for card in cards) == 1


def test_no_held_out_question_is_among_those_drawn(finished):
    lines = drawn_of(finished)
    held_out = gzip.decompress((finished.folder / RESULTS / "base/predictions.jsonl.gz").read_bytes())
    asked = {json.loads(line)["db_id"] for line in held_out.splitlines()}
    answered = {line["db_id"] for line in lines}
    assert len(asked) == 1 and asked | answered == set(QUESTIONS) and not asked & answered
    assert len(lines) == 8 and all(len(line["samples"]) == 6 for line in lines)


def test_one_verifier_judges_the_samples_of_two_points(finished):
    assert finished.said.count("train_verifier-v1: ") == 2  # from how many answers, and with how many parameters
    judged, weighed = (run_of(finished, f"{name}@3407") for name in ("judged", "weighed"))
    found = judged["choice"]["verifier"]
    assert found["name"] == "v1" and found["training"] == weighed["choice"]["verifier"]["training"]
    assert found["training"]["right_answers"] == found["training"]["wrong_answers"] > 0
    assert found["training"]["from"] == "tuned@3407"
    assert found["answers"] > 0 == found["unjudged"] and 0 <= found["accuracy"] <= 1
    tasks = ["train", "spider", "samples", "mmlu", "verify", "verifier_train", "verifier_draw", "verifier_judge"]
    assert list(judged["timings"]) == tasks and judged["timings"]["verify"]["examples"] == found["answers"]
    assert judged["timings"]["verifier_train"] == weighed["timings"]["verifier_train"]
    assert {"verifier", "verifier_where_greedy_fails", "weighted_majority"} <= set(judged["choice"]["by_samples"]["6"])
    assert (judged["choice"]["choice"], weighed["choice"]["choice"]) == ("majority", "weighted_majority")
    by_weight = judged["choice"]["by_samples"]["6"]["weighted_majority"]
    assert all(weighed["choice"][name] == by_weight[name] for name in ("successes", "changed", "none_ran"))
    (about,) = (
        about for path in finished.folder.glob(f"{WORK}/models/*.json") if "databases" in (about := read_json(path))
    )
    asked = {line["db_id"] for line in samples_of(finished, "judged@3407")}
    assert about["databases"] and not asked & set(about["databases"])


def test_rules_are_tried_again_on_the_kept_samples_without_a_model(finished):
    lines = samples_of(finished, "judged@3407")
    odds = {(line["index"], sample["sql"].strip()): sample["log_odds"] for line in lines for sample in line["samples"]}
    found = run_of(finished, "judged@3407")["choice"]
    judged = [value for value in odds.values() if value is not None]
    assert len(judged) == found["verifier"]["answers"] and all(value == round(value, 4) for value in judged)
    kept = f"{RESULTS}/judged@3407"
    files = ["--samples", f"{kept}/samples.jsonl.gz", "--predictions", f"{kept}/predictions.jsonl.gz"]
    # The held-out split, as the points were asked it.
    command = ["python", "-m", "text2sql", "choose", *files, "--spider", f"{WORK}/split", "--json", "figures.json"]
    said = finished.run(*command, "--choice", "weighted_majority", "--out", "chosen.jsonl", **variables(finished))
    assert "Wrote chosen.jsonl: weighted majority of 6." in said.stdout
    assert read_json(finished.folder / "figures.json")["by_samples"] == found["by_samples"]


@pytest.mark.long
@pytest.mark.slow
def test_a_verifier_is_not_asked_about_databases_that_it_was_trained_on(finished, tmp_path):
    other = finished.copy(tmp_path / "project")
    asked = samples_of(finished, "judged@3407")[0]["db_id"]
    (path,) = (path for path in other.folder.glob(f"{WORK}/models/*.json") if "databases" in read_json(path))
    path.write_text(json.dumps(read_json(path) | {"databases": [asked]}))
    shutil.rmtree(other.folder / RESULTS / "judged@3407")
    done = other.run("python", *ARGUMENTS, "--only", "judged", **variables(other), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    why = f"verifier v1: was trained on 1 of the databases that it shall judge answers about: {asked}"
    assert f"judged@3407: {why}" in done.stderr and not (other.folder / RESULTS / "judged@3407").exists()


def test_tables_and_figure_show_what_was_drawn_and_learnt(finished):
    curve = read_json(finished.folder / RESULTS / "curve.json")
    kinds = {"base": "base", "tuned": "lora", "half": "strength"}
    kinds |= dict.fromkeys(("more", "pairs", "earned"), "answers") | dict.fromkeys(("judged", "weighed"), "decoding")
    assert {point["name"]: point["kind"] for point in curve["points"]} == kinds
    shown = {
        line.split("|")[1].strip(): line
        for line in (finished.folder / RESULTS / "curve.md").read_text().splitlines()
        if line.startswith("|")
    }
    assert "drawing" in shown["more"] and "drawing" in shown["pairs"] and "drawing" not in shown["tuned"]
    assert "train.from tuned" in shown["more"] and "answers.samples 6" in shown["more"]
    steps = {line.split("|")[1].strip(): line for line in steps_table(curve, None).splitlines() if line.startswith("|")}
    assert " s drawing, " in steps["more"] and "drawing" not in steps["tuned"]
    assert "verifier v1" in shown["judged"] and re.search(r"\d verifier \|", shown["judged"])
    assert "generation.choice weighted_majority" in shown["weighed"] and "verifier" not in shown["half"]
    assert "majority weighted by a verifier" in steps["Point"]
    assert "judged: v1 judged" in steps_table(curve, None)
    assert ">majority weighted by a verifier</text>" in (finished.folder / RESULTS / "samples.svg").read_text()
    assert ">trained on answers</text>" in (finished.folder / RESULTS / "curve.svg").read_text()
