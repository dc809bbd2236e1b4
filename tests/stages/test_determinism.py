"""Same params, same data, same machine: same bytes, whatever the hash seed, the workers and the batch size."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from testkit.forked import OUTPUTS, SETTINGS, Stage, contents
from testkit.project import Project
from text2sql.core.files import read_jsonl
from text2sql.core.params import load_params
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.verdicts import score_examples

# All stages in one process, which spares most of the time that imports take.
PIPELINE = """
import sys
from stages import choose_spider, eval_mmlu, eval_mmlu_chat, eval_spider, predict_spider, prepare, sample_spider, train
prepare.main([])
for model in ("m1", "m2"):
    train.main([model])
for model in ("base", "m1", "m2"):
    for stage in (predict_spider, eval_spider, eval_mmlu):
        stage.main([model])
sample_spider.main(["m1"])
choose_spider.main(["m1"])
eval_mmlu_chat.main(["base"])
"""
long = pytest.mark.long
WHOLE_FOLDERS = {"data/verdicts", "data/predictions", "reports"}
ALL = sorted({output for outputs in OUTPUTS.values() for output in outputs} | WHOLE_FOLDERS)


@long
def test_another_hash_seed_and_other_processes_leave_the_same_bytes(run_stages, repository, micro_model, tmp_path):
    project = Project.create(repository, tmp_path / "project", micro_model, SETTINGS)
    project.run("python", "-c", PIPELINE, PYTHONHASHSEED="4242", OMP_NUM_THREADS="1")
    # How long each stage took is told in the reports, and is the one thing that may differ.
    shutil.copytree(run_stages[0] / "data/timings", project.folder / "data/timings", dirs_exist_ok=True)
    project.run("python", "-m", "stages.compare", PYTHONHASHSEED="4242")
    first, second = contents(run_stages[0], ALL), contents(project.folder, ALL)
    assert {"models/m1/adapter_model.safetensors", "metrics/compare.json", "reports/report.html"} <= set(first)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []


@long
def test_the_batch_size_changes_no_prediction_no_sample_and_no_choice(copy):
    """In float32; bfloat16 may move a logit."""
    found = []
    for size in (1, 3, 8):
        Project(copy).set_params({"generation": {"batch_size": size}, "mmlu": {"batch_size": size}})
        for name in ("predict_spider m1", "sample_spider m1", "eval_mmlu m1"):
            stage = Stage(name, copy)
            assert stage.wait() == 0, stage.output.read_text()
        verdicts = read_jsonl(copy / "data/verdicts/mmlu/m1.jsonl")
        choices = [(one["subject"], one["index"], one["choice"]) for one in verdicts]
        lines = read_jsonl(copy / "data/samples/m1.jsonl")
        samples = [[sample["raw"] for sample in line["samples"]] for line in lines]
        found.append(((copy / "data/predictions/m1.jsonl").read_bytes(), samples, choices))
    assert found[0] == found[1] == found[2]


@long
def test_the_number_of_workers_changes_no_verdict(run_stages):
    folder = run_stages[0]
    examples = [
        Example(one["index"], one["db_id"], one["question"], one["query"])
        for one in read_jsonl(folder / "data/prepared/spider/dev.jsonl")
    ]
    # Right, wrong, slow, and not SQL at all, in turn.
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n"
    answers = [(example.query, "SELECT 1", slow, "Hi")[example.index % 4] for example in examples]
    limits = Limits(**load_params(folder / "params.yaml").execution.model_dump() | {"max_steps": 200_000})

    def database_of(db_id):
        return folder / f"data/prepared/databases/{db_id}/{db_id}.sqlite"

    verdicts = [
        [json.dumps(verdict.to_dict()) for verdict in score_examples(examples, answers, database_of, limits, workers)]
        for workers in (1, 2)
    ]
    assert verdicts[0] == verdicts[1]
    assert len({json.loads(verdict)["outcome"] for verdict in verdicts[0]}) >= 4


def test_the_hash_seed_does_not_reach_a_journals_name(repository):
    """Work in progress is found again by another process."""
    code = "from text2sql.core.digests import digest_of; print(digest_of([{'b': 1, 'a': {'y': 2, 'x': 3}}, 'text']))"
    names = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=repository, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(names) == 1
