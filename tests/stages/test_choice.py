"""A choice among samples under real DVC: what runs where the params ask for it, and what a user then sees."""

import gzip
import json
import re

import pytest

RUN = re.compile(r"Running stage '([^']+)'")
MODELS = ("base", "m1", "m2")


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project, with 5 samples a question: its output of `dvc repro` is `asked`."""
    project = finished_project.copy(tmp_path_factory.mktemp("choice") / "project")
    project.set_params({"generation": {"samples": 5}})
    project.asked = project.run("dvc", "repro").stdout
    return project


def read(project, path):
    return json.loads((project.folder / path).read_text())


def lines(project, path):
    return [json.loads(line) for line in (project.folder / path).read_text().splitlines()]


def test_samples_alone_are_drawn_and_greedy_answers_stand(project, finished_project):
    drawn = {f"{stage}@{model}" for stage in ("sample_spider", "choose_spider") for model in MODELS}
    assert set(RUN.findall(project.asked)) == {*drawn, "compare"}
    for model in MODELS:
        for path in (f"data/predictions/{model}.jsonl", f"metrics/spider/{model}.json"):
            assert (project.folder / path).read_bytes() == (finished_project.folder / path).read_bytes()
    assert "up to date" in project.run("dvc", "status").stdout


def test_without_samples_nothing_is_drawn(finished_project):
    for model in MODELS:
        assert read(finished_project, f"metrics/spider_choice/{model}.json") == {"samples": 1}
        assert not lines(finished_project, f"data/samples/{model}.jsonl")


def test_metrics_say_how_the_chosen_came_about(project):
    greedy, chosen = read(project, "metrics/spider/m1.json"), read(project, "metrics/spider_choice/m1.json")
    assert greedy.keys() <= chosen.keys()
    assert chosen["samples"] == 5 and chosen["choice"] == "majority" and chosen["questions_sampled"] == 10
    assert chosen["official_successes"] == greedy["official_successes"] + chosen["rescued"] - chosen["lost"]
    assert list(chosen["by_samples"]) == ["1", "2", "4", "5"]
    assert chosen["by_samples"]["5"]["majority"]["successes"] == chosen["successes"]
    assert chosen["oracle"]["successes"] >= max(chosen["successes"], greedy["successes"])
    picked = lines(project, "data/chosen/m1.jsonl")
    samples = {line["index"]: line["samples"] for line in lines(project, "data/samples/m1.jsonl")}
    for line in picked:
        assert line["sample"] is None or samples[line["index"]][line["sample"]]["sql"] == line["sql"]


def test_drawn_again_they_are_the_same_bytes_and_other_by_another_seed(project, tmp_path):
    again = project.copy(tmp_path / "project")
    path = again.folder / "data/samples/m1.jsonl"
    before = path.read_bytes()
    again.run("dvc", "repro", "--force", "--single-item", "sample_spider@m1")
    assert path.read_bytes() == before
    again.set_params({"generation": {"seed": 1}})
    again.run("dvc", "repro", "sample_spider@m1")
    assert path.read_bytes() != before


def test_another_rule_draws_nothing_anew(project, tmp_path):
    other = project.copy(tmp_path / "project")
    other.set_params({"generation": {"choice": "first_executable"}})
    ran = RUN.findall(other.run("dvc", "repro").stdout)
    assert set(ran) == {*(f"choose_spider@{model}" for model in MODELS), "compare"}
    assert read(other, "metrics/spider_choice/m1.json")["lost"] == 0


def test_samples_only_where_the_greedy_answer_fails(project, tmp_path):
    few = project.copy(tmp_path / "project")
    few.set_params({"generation": {"when": "failed"}})
    path = few.folder / "data/predictions/m1.jsonl"
    greedy = [json.loads(line) for line in path.read_text().splitlines()]
    for line in greedy[::2]:
        line["sql"] = line["gold"]
    for line in greedy[1::2]:
        line["sql"] = "SELECT nothing FROM nowhere"
    path.write_text("".join(json.dumps(line) + "\n" for line in greedy))
    few.run("python", "-m", "stages.sample_spider", "m1")
    whole = {line["index"]: line for line in lines(project, "data/samples/m1.jsonl")}
    assert lines(few, "data/samples/m1.jsonl") == [whole[line["index"]] for line in greedy[1::2]]
    few.run("python", "-m", "stages.choose_spider", "m1")
    metrics = read(few, "metrics/spider_choice/m1.json")
    assert metrics["questions_sampled"] == 5 and metrics["lost"] == 0
    assert "majority" not in metrics["by_samples"]["5"]
    # Where every greedy answer runs, there is nothing to draw, and the greedy answers stand.
    path.write_text("".join(json.dumps(line | {"sql": line["gold"]}) + "\n" for line in greedy))
    few.run("python", "-m", "stages.sample_spider", "m1")
    few.run("python", "-m", "stages.choose_spider", "m1")
    metrics = read(few, "metrics/spider_choice/m1.json")
    assert lines(few, "data/samples/m1.jsonl") == [] and metrics["questions_sampled"] == metrics["changed"] == 0
    assert metrics["official_successes"] == metrics["total"] == 10


def test_the_choice_is_the_same_with_other_golds(project, tmp_path):
    """Every gold query is replaced by one that returns nothing of use: what is chosen stays."""
    other = project.copy(tmp_path / "project")
    dev = other.folder / "data/prepared/spider/dev.jsonl"
    records = [json.loads(line) | {"query": "SELECT 'no such answer'"} for line in dev.read_text().splitlines()]
    dev.write_text("".join(json.dumps(record) + "\n" for record in records))
    other.run("python", "-m", "stages.choose_spider", "m1")
    chosen = "data/chosen/m1.jsonl"
    assert (other.folder / chosen).read_bytes() == (project.folder / chosen).read_bytes()
    assert read(other, "metrics/spider_choice/m1.json")["successes"] == 0


def test_params_that_contradict_each_other_are_one_line(finished_project, tmp_path):
    project = finished_project.copy(tmp_path / "project")
    project.set_params({"generation": {"choice": "majority"}})
    done = project.run("python", "-m", "stages.sample_spider", "m1", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "generation.choice: got majority, which chooses among samples, and generation.samples is 1" in done.stderr


def test_a_result_set_holds_the_samples_and_what_was_chosen(project, tmp_path):
    kept = project.copy(tmp_path / "project")
    (kept.folder / "recipes").mkdir()
    (kept.folder / "recipes/micro.yaml").write_bytes((kept.folder / "params.yaml").read_bytes())
    kept.run("python", "-m", "text2sql", "results", "export", "micro")
    packed = kept.folder / "results/micro/samples/m1.jsonl.gz"
    assert gzip.decompress(packed.read_bytes()) == (project.folder / "data/samples/m1.jsonl").read_bytes()
    assert (kept.folder / "results/micro/chosen/m1.jsonl.gz").is_file()
    assert "whole" in kept.run("python", "-m", "text2sql", "results", "check").stdout
    packed.write_bytes(gzip.compress(b""))
    done = kept.run("python", "-m", "text2sql", "results", "check", check=False)
    assert "data/samples/m1.jsonl is not what stage sample_spider@m1 wrote" in done.stderr


def test_reports_show_what_the_choice_gained(project, finished_project):
    report = (project.folder / "reports/report.md").read_text()
    assert "## Chosen among samples, official execution accuracy" in report
    assert "Model 1, chosen among 5 samples by majority: " in report
    assert "Model 1, chosen among 5 samples by majority: " in (project.folder / "reports/report.html").read_text()
    assert "sample_spider_m1" in report
    before = (finished_project.folder / "reports/report.md").read_text()
    assert "among" not in before and "sample_spider" not in before and "choose_spider" not in before
