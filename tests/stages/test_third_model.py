"""A third tuned model is a section and an entry in params.yaml, and the stage that trains it, and nothing else."""

import copy
import json

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project with a Model 3, run."""
    project = finished_project.copy(tmp_path_factory.mktemp("third") / "project")
    yaml = YAML()

    def edit(name, change):
        path = project.folder / name
        value = yaml.load(path.read_text())
        change(value)
        with path.open("w") as file:
            yaml.dump(value, file)

    def params(value):
        value["models"]["m3"] = {"title": "Model 3", "recipe": "train_m3"}
        value["train_m3"] = {"lr": 1e-2, "epochs": 2}

    def pipeline(value):
        stages = value["stages"]
        stage = copy.deepcopy(stages["train_m2"])
        text = json.dumps(stage).replace("m2", "m3").replace("Model 2", "Model 3")
        # What Model 3 does not change comes from Model 1's recipe: the stage depends on that too.
        stage = json.loads(text)
        stage["params"] += [key for key in ("train.batch_size", "train.seed") if key not in stage["params"]]
        stages.insert(list(stages).index("predict_spider"), "train_m3", stage)

    edit("params.yaml", params)
    edit("dvc.yaml", pipeline)
    project.output = project.run("dvc", "repro").stdout
    return project


def read(project, path):
    return json.loads((project.folder / path).read_text())


def test_only_what_is_new_runs(project):
    ran = {line.split("'")[1] for line in project.output.splitlines() if line.startswith("Running stage")}
    of_model = {f"{stage}_spider@m3" for stage in ("predict", "eval", "sample", "choose")}
    assert ran == {"train_m3", *of_model, "eval_mmlu@m3", "compare"}


def test_its_recipe_is_model_1s_with_its_changes(project):
    m1, m3 = (read(project, f"metrics/train/{model}.json") for model in ("m1", "m3"))
    assert m3["steps"] == 2 * m1["steps"]
    card = (project.folder / "models/m3/README.md").read_text()
    assert card.partition("# ")[2].startswith("Model 3: a LoRA adapter") and "| learning rate | 0.01" in card


def test_it_stands_in_metrics_comparison_and_reports(project):
    assert read(project, "metrics/spider/m3.json")["total"] == 10
    flat = read(project, "metrics/compare.json")
    for key in ("spider_execution_accuracy_m3", "spider_gain_pts_m3", "mmlu_loss_pts_m3", "spider_p_holm_m1_m3"):
        assert key in flat
    assert "spider_p_holm_m1_m2" in flat and "spider_p_holm_m2" in flat
    report = (project.folder / "reports/report.md").read_text()
    page = (project.folder / "reports/report.html").read_text()
    assert report.count("Model 3") >= 3 and page.count("Model 3") >= 3
    accuracy = (project.folder / "metrics/plots/accuracy.csv").read_text()
    assert "Model 3" in accuracy or "m3" in accuracy


def test_it_stands_in_the_review(project):
    said = project.run("python", "-m", "text2sql", "review", "--base", "HEAD").stdout
    assert "Model 3" in said and "spider_execution_accuracy_m3" in said


def test_it_stands_in_the_evaluation(project, repository):
    import shutil

    shutil.copytree(repository / "evaluation", project.folder / "evaluation")
    done = project.run("python", "-m", "pytest", "evaluation", "-q", "-p", "no:cacheprovider", check=False)
    assert "m3: " in done.stdout and "of 10 right" in done.stdout, done.stdout + done.stderr


def test_a_model_of_no_such_name_is_one_line(project):
    done = project.run("python", "-m", "stages.train", "m4", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "'m4'" in done.stderr
