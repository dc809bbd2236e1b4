"""Answers of models that have not seen the database: a point that learns from those of two folds, by two processes."""

import gzip
import json
import subprocess

import pytest

from testkit.project import Project
from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.training.folds import folds_of

POINTS = """
recipe: params.yaml
points:
  - {name: base, base: true}
  - {name: tuned, params: {train.lr: 2e-2, train.epochs: 60}}
  - name: pairs
    params: {train.objective: dpo, train.from: tuned, train.lr: 1e-2, train.batch_size: 2}
    answers: &apart {samples: 6, temperature: 1.0, folds: 2}
  - name: more
    params: {train.objective: rejection, train.from: tuned, train.lr: 2e-2}
    answers: *apart
"""
# Queries that are right on any of the databases: what one teaches, another asks.
ASKED = [
    ("What is one?", "SELECT 1"),
    ("What is one?", "SELECT 2 - 1"),
    ("What is two?", "SELECT 2"),
    ("What is two?", "SELECT 1 + 1"),
]
DATABASES = ("issue_tracker", "farm_market", "cycling_league")
SMALL = {
    "prompt": {"schema": "none"},
    "train": {"batch_size": 8},
    "generation": {"max_new_tokens": 16},
    "mmlu": {"limit": 1, "batch_size": 3},
}
COMMAND = ["python", "-m", "text2sql", "tradeoff", "points.yaml", "--held-out", "1"]
WORK, RESULTS = ".tradeoff/points-held-out", "results/tradeoff/points-held-out"


@pytest.fixture(scope="module")
def finished(repository, micro_model, tmp_path_factory):
    """A project whose points two processes ran at once; what they said."""
    project = Project.create(repository, tmp_path_factory.mktemp("folds") / "project", micro_model, SMALL)
    (project.folder / "points.yaml").write_text(POINTS)
    path = project.folder / "data/sample/spider/train_spider.json"
    examples = [{"db_id": db_id, "question": q, "query": sql} for db_id in DATABASES for q, sql in ASKED]
    path.write_text(json.dumps(examples))
    environment = project.environment(PYTHONPATH=str(project.folder), OMP_NUM_THREADS="1")
    processes = [
        subprocess.Popen(
            COMMAND, cwd=project.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    project.said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(project.said)
    return project


@pytest.mark.long
@pytest.mark.slow
def test_each_database_is_answered_about_by_a_model_that_has_not_seen_it(finished):
    files = [gzip.decompress(path.read_bytes()) for path in finished.folder.glob(f"{WORK}/answers/*.jsonl.gz")]
    assert len(files) == 2
    answered = [{json.loads(line)["db_id"] for line in file.splitlines()[1:]} for file in files]
    held_out = gzip.decompress((finished.folder / RESULTS / "base/predictions.jsonl.gz").read_bytes())
    asked = {json.loads(line)["db_id"] for line in held_out.splitlines()}
    assert sorted(len(part) for part in [*answered, asked]) == [1, 1, 1]
    assert set().union(*answered, asked) == set(DATABASES)
    trained = [read_json(path)["metrics"] for path in finished.folder.glob(f"{WORK}/models/*.json")]
    assert sorted(metrics["examples"] for metrics in trained if "answers" not in metrics) == [4, 4, 8]


@pytest.mark.long
@pytest.mark.slow
def test_a_fold_that_a_limit_leaves_unasked_is_not_trained(finished, tmp_path):
    other = finished.copy(tmp_path / "project")
    path = other.folder / "points.yaml"
    path.write_text(path.read_text().replace("folds: 2}", "folds: 2, limit: 4}"))
    command = [*COMMAND, "--only", "more", "--replace"]
    said = other.run(*command, PYTHONPATH=str(other.folder), OMP_NUM_THREADS="1").stdout
    run = read_json(other.folder / RESULTS / "more@3407/run.json")
    assert run["timings"]["draw"]["examples"] == run["training"]["drawn"]["questions"] == 4
    assert said.count("; 4 training questions") == 1 and "; 0 training questions" not in said


@pytest.mark.long
@pytest.mark.slow
def test_points_learn_from_all_folds_which_are_drawn_once(finished):
    pairs, more = (read_json(finished.folder / RESULTS / f"{name}@3407/run.json") for name in ("pairs", "more"))
    for run in (pairs, more):
        assert list(run["timings"])[:4] == ["train", "draw", "judge", "train_folds"]
        assert run["timings"]["draw"]["examples"] == run["training"]["drawn"]["questions"] == 8
        assert run["timings"]["train_folds"]["examples"] == 8
        assert run["training"]["drawn"]["answers"] == 8 * 6 and run["training"]["drawn"]["folds"] == 2
    assert pairs["training"]["drawn"] == more["training"]["drawn"]
    assert pairs["training"]["drawn"]["right"] > 0
    said = "".join(finished.said)
    for number in (1, 2):
        assert said.count(f"answers of tuned@3407-fold-{number}-of-2: transformers") == 1


def test_folds_are_of_about_as_many_questions_and_share_no_database():
    sizes = {"a": 50, "b": 30, "c": 20, "d": 5, "e": 5}
    folds = folds_of([name for name, size in sizes.items() for _ in range(size)], 2)
    assert [sorted(fold.databases) for fold in folds] == [["a", "d"], ["b", "c", "e"]]
    assert folds_of(["a", "b"], 1) == [None]
    with pytest.raises(UserError, match="answers.folds: got 3, takes at most 2: so many databases are trained on"):
        folds_of(["a", "a", "b"], 3)
