"""A verifier under real DVC: trained on executed answers to training questions, and what a user sees of its choice.

The micro model answers nothing right, so that the answers are made here: gold, another text of it, and wrong ones. All
run, and are judged, on the real databases.
"""

import json

import pytest

from text2sql.core.digests import digest_of_tree
from text2sql.core.files import read_jsonl
from text2sql.core.journal import HALVED
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.judged import Drawn, judged, write_judged

MODELS = ("base", "m1", "m2")
# As the micro model can learn it in a minute: a wrong answer returns nothing.
VERIFIER = {"v1": {"from": "m1", "lr": 3e-3, "epochs": 12, "max_seq_len": 400}}


def answers_to(query):
    """Return two right answers, each before one that returns nothing, and one that fails."""
    empty = f"SELECT * FROM ({query.rstrip(';')}) WHERE 0"
    return [query, empty, f"{query} ", f"{empty} AND 0", "SELECT nothing FROM nowhere"]


def samples_of(queries):
    return [{"raw": sql, "sql": sql, "new_tokens": 9, "log_likelihood": -1.0 - n} for n, sql in enumerate(queries)]


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project with 4 samples a question, a verifier trained, and what it says of the samples of m1."""
    project = finished_project.copy(tmp_path_factory.mktemp("verifier") / "project")
    project.set_params({"generation": {"samples": 4, "choice": "verifier"}})
    set_top(project, sample_train={"m1": {"samples": 5}}, verifier=VERIFIER)
    write_train_samples(project)
    for model in MODELS:
        write_samples(project, model)
    project.trained = repro(project, "train_verifier@v1").stdout
    project.judged = repro(project, "judge_spider@v1-m1").stdout
    repro(project, "choose_spider@m1")
    return project


def set_top(project, **tables):
    from ruamel.yaml import YAML

    path = project.folder / "params.yaml"
    params = YAML().load(path.read_text()) | tables
    with path.open("w") as file:
        YAML().dump(params, file)


def repro(project, stage, check=True):
    return project.run("dvc", "repro", "--single-item", stage, check=check)


def database_of(project):
    return lambda db_id: project.folder / f"data/prepared/databases/{db_id}/{db_id}.sqlite"


def write_train_samples(project, records=None):
    records = records or read_jsonl(project.folder / "data/prepared/spider/train.jsonl")
    examples = [Example.from_record(record) for record in records]
    drawn = [{"samples": samples_of(answers_to(example.query))} for example in examples]
    lines = judged(examples, drawn, database_of(project), Limits())
    write_judged(project.folder / "data/samples/train/m1.jsonl.gz", drawn_from(project), lines)


def drawn_from(project):
    return Drawn("m1", digest_of_tree(project.folder / "models/m1"), 5, 0.8, 0.95, 0)


def write_samples(project, model):
    """Write samples of which the third is the likeliest of what runs, and wrong."""
    dev = read_jsonl(project.folder / "data/prepared/spider/dev.jsonl")
    lines = []
    for record in dev:
        gold, empty, _, also_empty, fails = answers_to(record["query"])
        samples = samples_of([fails, also_empty, empty, gold])
        samples[2]["log_likelihood"] = -0.1
        lines.append({"index": record["index"], "db_id": record["db_id"], "samples": samples})
    path = project.folder / f"data/samples/{model}.jsonl"
    path.unlink(missing_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(project, path):
    return json.loads((project.folder / path).read_text())


def lines(project, path):
    return [json.loads(line) for line in (project.folder / path).read_text().splitlines()]


def test_it_is_trained_on_as_many_right_as_wrong_answers(project):
    metrics = read(project, "metrics/verifier/v1.json")
    assert metrics["right_answers"] == metrics["wrong_answers"] > 0
    assert metrics["examples"] + metrics["examples_left_out"] == 2 * metrics["right_answers"]
    assert metrics["questions"] == 24 and metrics["from"] == "m1"
    card = (project.folder / "data/verifiers/v1/README.md").read_text()
    assert f"Trained on {metrics['right_answers']} right and {metrics['wrong_answers']} wrong answers of m1" in card


def test_no_dev_database_reaches_its_training(project):
    trained_on = set(read(project, "data/verifiers/v1.json")["databases"])
    dev = {line["db_id"] for line in lines(project, "data/prepared/spider/dev.jsonl")}
    assert trained_on and dev and not trained_on & dev


def test_it_has_learnt_to_tell_what_it_was_shown(project):
    found = read(project, "metrics/spider_choice/m1.json")["verifier"]
    assert found["unjudged"] == 0 and found["pairs"] > 0
    assert found["ordered"] > 0.75  # by chance 0.5
    for line in lines(project, "data/log_odds/m1.jsonl"):
        assert len(line["judged"]) == 3 and HALVED not in line  # without the one that fails


def test_the_choice_is_the_highest_log_odds_of_what_runs(project):
    metrics = read(project, "metrics/spider_choice/m1.json")
    assert metrics["choice"] == "verifier"
    judged = {line["index"]: line["judged"] for line in lines(project, "data/log_odds/m1.jsonl")}
    for line in lines(project, "data/chosen/m1.jsonl"):
        best = max(one["log_odds"] for one in judged[line["index"]])
        assert line["runs"] and {"sql": line["sql"], "log_odds": best} in judged[line["index"]]
    by = metrics["by_samples"]["4"]
    assert by["verifier"]["official_successes"] == metrics["official_successes"]
    assert by["majority"].keys() == by["verifier"].keys() and "first_executable" in by
    assert by["oracle"]["official_successes"] >= by["verifier"]["official_successes"]


def test_the_same_bytes_again_and_another_rule_judges_nothing_anew(project, tmp_path):
    again = project.copy(tmp_path / "project")
    path = again.folder / "data/log_odds/m1.jsonl"
    before = path.read_bytes()
    again.run("dvc", "repro", "--force", "--single-item", "judge_spider@v1-m1")
    assert path.read_bytes() == before
    again.set_params({"generation": {"choice": "majority"}})
    assert "didn't change, skipping" in repro(again, "judge_spider@v1-m1").stdout
    repro(again, "choose_spider@m1")
    metrics = read(again, "metrics/spider_choice/m1.json")
    assert metrics["choice"] == "majority" and "verifier" in metrics["by_samples"]["4"]


def test_text2sql_choose_reads_its_log_odds_without_a_model(project):
    files = ["--samples", "data/samples/m1.jsonl", "--predictions", "data/predictions/m1.jsonl"]
    command = ["python", "-m", "text2sql", "choose", *files, "--spider", "data/sample/spider", "--limit", "10"]
    done = project.run(
        *command, "--log-odds", "data/log_odds/m1.jsonl", "--choice", "verifier", "--out", "chosen.jsonl"
    )
    assert "verifier where greedy fails" in done.stdout and "Wrote chosen.jsonl: verifier of 4." in done.stdout
    assert lines(project, "chosen.jsonl") == lines(project, "data/chosen/m1.jsonl")
    refused = project.run(*command, "--choice", "verifier", check=False)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "--choice: verifier chooses by a verifier's log-odds; wanted --log-odds as well" in refused.stderr
    assert "verifier" not in project.run(*command).stdout


def test_on_a_database_that_it_was_trained_on_it_is_refused(project, tmp_path):
    other = project.copy(tmp_path / "project")
    path = other.folder / "data/verifiers/v1.json"
    dev = lines(other, "data/prepared/spider/dev.jsonl")[0]["db_id"]
    path.unlink()
    path.write_text(json.dumps({"databases": [dev]}))
    (other.folder / "data/log_odds/m1.jsonl").unlink()
    done = other.run("python", "-m", "stages.judge_spider", "v1", "m1", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"verifier v1: was trained on 1 of the databases that it shall judge answers about: {dev}" in done.stderr
    assert not (other.folder / "data/log_odds/m1.jsonl").exists()


def test_samples_of_dev_questions_and_none_to_learn_from_are_one_line(project, tmp_path):
    other = project.copy(tmp_path / "project")
    dev = read_jsonl(other.folder / "data/prepared/spider/dev.jsonl")
    write_train_samples(other, dev)
    done = other.run("python", "-m", "stages.train_verifier", "v1", check=False)
    assert done.returncode == 2 and "which is no example of the training split" in done.stderr
    train = read_jsonl(other.folder / "data/prepared/spider/train.jsonl")
    examples = [Example.from_record(record) for record in train]
    drawn = [{"samples": samples_of([example.query])} for example in examples]
    records = judged(examples, drawn, database_of(other), Limits())
    write_judged(other.folder / "data/samples/train/m1.jsonl.gz", drawn_from(other), records)
    done = other.run("python", "-m", "stages.train_verifier", "v1", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "none of its 24 questions has right and wrong answers" in done.stderr


def test_ask_has_no_verifier_and_says_so(project):
    done = project.run("python", "-m", "text2sql", "ask", "Who?", "--db", "none.sqlite", check=False)
    assert done.returncode == 2 and "generation.choice: verifier: ask loads no verifier" in done.stderr


def test_without_samples_nothing_is_judged(project, tmp_path):
    other = project.copy(tmp_path / "project")
    other.set_params({"generation": {"samples": 1, "choice": None}})
    other.run("python", "-m", "stages.judge_spider", "v1", "base")
    assert lines(other, "data/log_odds/base.jsonl") == []


def test_a_model_is_trained_by_reward_on_answers_that_it_draws(project, tmp_path):
    """The micro model answers nothing right: what is seen is that each group earned the same, and is counted."""
    other = project.copy(tmp_path / "project")
    other.set_params({"models": {"m3": {"title": "Model 3", "recipe": "learn.m3"}}})
    set_top(other, learn={"m3": {"objective": "grpo", "from": "m1", "group": 2, "batch_size": 8, "max_seq_len": 600}})
    other.run("python", "-m", "stages.learn", "m3")
    metrics = read(other, "metrics/train/m3.json")
    assert metrics["objective"] == "grpo" and metrics["from"] == "m1"
    asked = metrics["examples"] + metrics["examples_left_out"] + metrics["examples_beyond_steps"]
    assert asked + sum(metrics["answers"][why] for why in ("not_telling", "none_right", "none_wrong")) == 24
    assert metrics["reward_groups"] == metrics["reward_groups_all_wrong"] == metrics["examples"] == 8 * metrics["steps"]
    assert "verdicts on answers that it draws" in (other.folder / "models/m3/README.md").read_text()
    losses = (other.folder / "metrics/train/m3_loss.csv").read_text().splitlines()
    assert len(losses) == 1 + metrics["steps"]
