"""Points that learn from executed answers, run whole on held-out databases with the micro model."""

import gzip
import json
import math
import signal
import subprocess
import time

import pytest

from testkit.project import Project
from text2sql.core.files import read_json

POINTS = """
recipe: params.yaml
points:
  - {name: base, base: true}
  - {name: tuned, params: {train.lr: 2e-2, train.epochs: 60}}
  - name: more
    after: tuned
    params: {train.objective: rejection, train.from: tuned, train.lr: 2e-2}
    answers: &answers {samples: 6, temperature: 1.0}
  - name: pairs
    after: tuned
    params: {train.objective: dpo, train.from: tuned, train.lr: 1e-3}
    answers: *answers
  - {name: half, adapter: pairs, strength: 0.5}
"""
# Each question stands there twice, with another gold of the same result: a model that knows both by heart answers with
# right queries that are not the question's own gold, and with wrong ones.
QUESTIONS = {
    "issue_tracker": [
        ("How many issues have been reported?", "SELECT count(*) FROM issues", "SELECT count(1) FROM issues"),
        ("How many projects?", "SELECT count(*) FROM projects", "SELECT count(1) FROM projects"),
    ],
    "farm_market": [
        ("Count the farmers.", "SELECT count(*) FROM farmers", "SELECT count(1) FROM farmers"),
        ("Count the produce.", "SELECT count(*) FROM produce", "SELECT count(1) FROM produce"),
    ],
    "cycling_league": [
        ("How many riders?", "SELECT count(*) FROM rider", "SELECT count(1) FROM rider"),
        ("How many teams?", "SELECT count(*) FROM team", "SELECT count(1) FROM team"),
    ],
}
SMALL = {
    "train": {"batch_size": 8},
    "generation": {"max_new_tokens": 16},
    "mmlu": {"limit": 1, "batch_size": 3},
}
COMMAND = ["python", "-m", "text2sql", "tradeoff", "points.yaml", "--held-out", "1"]
PATIENCE_S = 240


def environment(project):
    return {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}


def tradeoff(project):
    return project.run(*COMMAND, **environment(project)).stdout


@pytest.fixture(scope="module")
def fresh(repository, micro_model, tmp_path_factory):
    project = Project.create(repository, tmp_path_factory.mktemp("learning-curve") / "project", micro_model, SMALL)
    (project.folder / "points.yaml").write_text(POINTS)
    examples = [
        {"db_id": db_id, "question": question, "query": query}
        for db_id, asked in QUESTIONS.items()
        for question, *queries in asked
        for query in queries
    ]
    path = project.folder / "data/sample/spider/train_spider.json"
    path.write_text(json.dumps(examples))
    return project


@pytest.fixture(scope="module")
def finished(fresh, tmp_path_factory):
    project = fresh.copy(tmp_path_factory.mktemp("finished-learning-curve") / "project")
    project.said = tradeoff(project)
    return project


def test_it(finished):
    print(finished.said)
    for name in ("more@3407", "pairs@3407"):
        print(json.dumps(read_json(finished.folder / f"results/tradeoff/points-held-out/{name}/run.json")["training"], indent=1))
    print((finished.folder / "results/tradeoff/points-held-out/curve.md").read_text())
    assert 0
