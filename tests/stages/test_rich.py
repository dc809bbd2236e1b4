"""The stages with `prompt.schema: rich`: prompts of training, dev and further sets hold values; what is cut is said."""

import json
import re

import pytest

from testkit.project import Project

TURNED = {"spider": "data/sample/spider", "table_order": "reversed"}
RICH = {
    "data": {"train_limit": 8, "dev_limit": 6, "also": {"turned": TURNED}},
    "prompt": {"schema": "rich", "schema_tokens": 170},
    "train": {"max_seq_len": 512, "augment": "table_order", "epochs": 2, "method": "dora"},
}


@pytest.fixture(scope="module")
def project(repository, micro_model, warm, tmp_path_factory):
    """A project of rich prompts in which a model was trained and asked, and what each stage printed."""
    project = Project.create(repository, tmp_path_factory.mktemp("rich") / "project", micro_model, RICH)
    project.python, project.said = warm, {}
    for stage in ("prepare", "prepare_also turned", "train m1", "predict_spider m1", "predict_also turned m1"):
        command = ["python", "-m", *f"stages.{stage}".split()]
        project.said[stage] = project.run(*command, PYTHONPATH=str(project.folder), OMP_NUM_THREADS="1").stdout
    return project


def first_prompt(project, path):
    lines = (project.folder / "data/predictions" / path).read_text().splitlines()
    assert len(lines) == 6
    return json.loads(lines[0])["prompt"]


def test_prompts_hold_values_and_a_further_set_its_own_order(project):
    prompt, turned = first_prompt(project, "m1.jsonl"), first_prompt(project, "also/turned/m1.jsonl")
    for text in (prompt, turned):
        assert " [" in text and " REFERENCES " in text and "CREATE TABLE" not in text
    names = [re.findall(r"^(\w+)\(.*\)$", text, re.MULTILINE) for text in (prompt, turned)]
    assert len(names[0]) > 1 and names[0] == names[1][::-1]


def test_every_stage_says_of_how_many_prompts_the_schema_was_cut(project):
    assert "train_m1: the schema was cut in " in project.said["train m1"]
    assert " of 8 prompts, to prompt.schema_tokens 170" in project.said["train m1"]
    for stage in ("predict_spider m1", "predict_also turned m1"):
        assert f"{stage}: the schema was cut in " in project.said[stage]
        assert " of 6 prompts, to prompt.schema_tokens 170" in project.said[stage]


def test_the_card_says_what_was_shown_and_how_it_was_trained(project):
    card = (project.folder / "models/m1/README.md").read_text()
    assert "a DoRA adapter" in card and "in an order drawn anew" in card
    assert "types, keys and values of its columns in 170 tokens at most" in card
