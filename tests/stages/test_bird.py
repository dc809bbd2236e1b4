"""A benchmark in BIRD's layout through real DVC: its evidence in prompts, its accuracy beside the others."""

import json

import pytest

from testkit.bird_data import bird_folder
from text2sql.core.files import read_jsonl
from text2sql.data.spider import open_spider

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def project(finished_project, repository, tmp_path_factory):
    """The finished project on the sample in BIRD's layout, asked with its evidence and descriptions."""
    project = finished_project.copy(tmp_path_factory.mktemp("bird") / "project")
    with open_spider(repository / "data/sample/spider") as source:
        bird_folder(source, project.folder / "bird")
    prompt = {"schema": "ddl", "evidence": True, "descriptions": True}
    project.set_params({"data": {"spider": "bird", "failing_gold": "wrong"}, "prompt": prompt})
    project.asked = project.run("dvc", "repro").stdout
    return project


def test_prompts_show_evidence_and_descriptions(project):
    first = read_jsonl(project.folder / "data/predictions/m1.jsonl")[0]
    assert "\nHint: the question is about " in first["prompt"] and ", described\n" in first["prompt"]


def test_metrics_and_reports_have_birds_accuracy_by_difficulty(project):
    metrics = json.loads((project.folder / "metrics/spider/m1.json").read_text())
    lines = read_jsonl(project.folder / "data/verdicts/spider/m1.jsonl")
    assert metrics["bird_successes"] == sum(line["bird_execution_accuracy"] for line in lines)
    assert sum(entry["total"] for entry in metrics["by_difficulty"].values()) == metrics["total"] == len(lines)
    report = (project.folder / "reports/report.md").read_text()
    page = (project.folder / "reports/report.html").read_text()
    assert "### BIRD's execution accuracy, by difficulty" in report and 'id="bird"' in page
    flat = json.loads((project.folder / "metrics/compare.json").read_text())
    base = json.loads((project.folder / "metrics/spider/base.json").read_text())
    gained = 100 * (metrics["bird_successes"] - base["bird_successes"]) / metrics["total"]
    assert flat["spider_bird_gain_pts_m1"] == pytest.approx(gained, abs=1e-4)
    assert flat["spider_bird_gain_p_holm_m1"] <= 1


def test_another_prompt_alone_asks_again_and_prepares_nothing(project, tmp_path):
    again = project.copy(tmp_path / "project")
    again.set_params({"prompt": {"evidence": False}})
    stages = again.run("dvc", "status").stdout
    assert "predict_spider@base" in stages and "prepare" not in stages and "eval_mmlu@base" not in stages
