"""The pull request's comment, on a real git and DVC repository of two commits made on the fly."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit import report_page, synthetic
from text2sql.comparison.flat import flatten, limit_keys
from text2sql.core.files import read_json, write_json
from text2sql.core.models import PAPER_MODELS
from text2sql.core.params import load_params
from text2sql.report import review
from text2sql.report.numbers import number
from text2sql.report.sentences import sentences

WORKFLOWS = Path(__file__).parents[2] / ".github/workflows"
ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Ana", "GIT_AUTHOR_EMAIL": "ana@example.com",
    "GIT_COMMITTER_NAME": "Ana", "GIT_COMMITTER_EMAIL": "ana@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "DVC_NO_ANALYTICS": "true",
}  # fmt: skip


def shell(folder, *command, code=0):
    done = subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def reviewed(folder, base="main", code=0):
    # The code under test is this repository's, the project reviewed is the folder's.
    command = [sys.executable, "-m", "text2sql", "review", "--base", base]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(WORKFLOWS.parent.parent)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def invented(seed, models=PAPER_MODELS):
    return synthetic.results(seed=seed, examples=60, questions=12, models=models)


def write_metrics(folder, made):
    """Write what a run commits to git: metrics alone, no data, no reports."""
    for model in made.models.names:
        write_json(folder / f"metrics/spider/{model}.json", made.spider_metrics[model])
        write_json(folder / f"metrics/mmlu/{model}.json", made.mmlu_metrics[model])
    write_json(folder / "metrics/compare.json", flatten(report_page.compared(made)))


@pytest.fixture(scope="module")
def project(tmp_path_factory, repository):
    """The project's own pipeline and params at two commits: `main`, and a branch that changes Model 1's rate."""
    folder = tmp_path_factory.mktemp("review")
    shell(folder, "git", "init", "-q", "-b", "main")
    shell(folder, sys.executable, "-m", "dvc", "init", "-q")
    shutil.copy(repository / "dvc.yaml", folder)
    shutil.copy(repository / "params.yaml", folder)
    write_metrics(folder, invented(seed=0))
    shell(folder, "git", "add", "-A")
    shell(folder, "git", "commit", "-q", "-m", "The experiment")
    shell(folder, "git", "checkout", "-q", "-b", "slower")
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    # As `dvc exp run -S train.lr=2e-8` writes it.
    (folder / "params.yaml").write_text(re.sub(r"\n  lr: \S+", "\n  lr: 2e-08", params, count=1), encoding="utf-8")
    write_metrics(folder, invented(seed=5))
    shell(folder, "git", "commit", "-q", "-a", "-m", "A far lower learning rate")
    return folder


@pytest.fixture(scope="module")
def comment(project):
    return reviewed(project).stdout


def test_it_shows_the_changed_param(comment, repository):
    table = comment.partition("### Params")[2].partition("###")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    before = load_params(repository / "params.yaml").train.lr
    assert cells == [["`train.lr`", number(before), "2e-8", f"{2e-8 - before:+.6g}"]]


def metric_rows(table):
    """{metric: (before, now)} of a table of the comment; metrics of other files are named with theirs."""
    found = {}
    for line in table.strip().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 4 and "`" in line:
            *name, before, now, _ = cells
            found[" ".join(name).removeprefix("compare.json ").replace("`", "")] = (float(before), float(now))
    return found


def test_every_number_of_the_comparison_that_changed_is_there_with_all_its_digits(project, comment):
    old = json.loads(shell(project, "git", "show", "main:metrics/compare.json").stdout)
    new = read_json(project / "metrics/compare.json")
    shown = metric_rows(comment.partition("### Metrics")[2])
    changed = {key: (old[key], new[key]) for key in new if old[key] != new[key]}
    assert {key: values for key, values in shown.items() if key in new} == changed


def test_the_gates_numbers_and_what_moved_beyond_its_interval_are_not_folded(project, comment):
    old = json.loads(shell(project, "git", "show", "main:metrics/compare.json").stdout)
    new = read_json(project / "metrics/compare.json")
    shown = metric_rows(comment.partition("### Metrics")[2].partition("<details>")[0])
    gate = [key for key in new if key in limit_keys(PAPER_MODELS) and old[key] != new[key]]
    assert [key for key in shown if key in gate] == gate
    for key in ("spider_p_holm_m1", "agreement_identical_outputs_m1", "spider_smallest_detectable_pts_m1"):
        assert key not in shown
    moved = {}
    before, now = (invented(seed).spider_metrics["m1"]["by_hardness"] for seed in (0, 5))
    for level, metrics in before.items():
        after = now[level]["execution_accuracy"]
        within = metrics["execution_accuracy_low"] <= after <= metrics["execution_accuracy_high"]
        moved[f"spider/m1.json by_hardness.{level}.execution_accuracy"] = not within
    assert {name: name in shown for name in moved} == moved
    pair = "spider_gain_pts_m1_m2"
    within = old["spider_gain_pts_low_m1_m2"] <= new[pair] <= old["spider_gain_pts_high_m1_m2"]
    assert (pair in shown) == (not within)


def test_a_metric_moves_beyond_the_interval_that_it_had_whether_or_not_that_changed():
    path = "metrics/spider/m1.json"

    def moved(now, low=0.1, high=0.2, low_now=0.1):
        rows = [(path, "accuracy", 0.15, now), (path, "accuracy_low", low, low_now), (path, "accuracy_high", high, 0.9)]
        return [row.key for row in review.moved_beyond_interval([review.Row(*row) for row in rows])]

    assert moved(0.21) == moved(0.09) == ["accuracy"]
    assert moved(0.2) == moved(0.1) == moved(None) == moved(0.5, low=None) == []
    points = [("spider_gain_pts_m1", 2, 9), ("spider_gain_pts_low_m1", 1, 8), ("spider_gain_pts_high_m1", 3, 10)]
    rows = [review.Row("metrics/compare.json", *row) for row in points]
    assert [row.key for row in review.moved_beyond_interval(rows)] == ["spider_gain_pts_m1"]


def test_a_third_tuned_model_of_the_params_has_its_verdict_and_its_limits(project, tmp_path):
    folder = tmp_path / "four"
    shutil.copytree(project, folder)
    made = invented(seed=5, models=synthetic.FOUR_MODELS)
    synthetic.write_params(folder / "params.yaml", made.models)
    write_metrics(folder, made)
    text = reviewed(folder).stdout
    for sentence in sentences(report_page.compared(made).summary).values():
        assert f"- {sentence}" in text
    assert text.count(" wanted\n") == 6 and ": Third, loss on MMLU: " in text
    assert "`models.m3.title`" in text
    table = text.partition("### Metrics")[2].partition("<details>")[0]
    assert "| `mmlu_loss_pts_m3`" in table and "| `spider_gain_pts_low_m3`" in table


def test_all_other_metrics_are_folded_away(comment):
    folded = comment.partition("<details>")[2]
    assert "other metrics changed</summary>" in folded
    assert "| spider/m1.json " in folded and "`by_hardness.medium.successes`" in folded
    assert folded.rstrip().endswith("</details>")


def test_it_has_the_verdicts_and_the_limits(project, comment):
    for sentence in sentences(report_page.compared(invented(seed=5)).summary).values():
        assert f"- {sentence}" in comment
    assert re.search(r"### Limits: (kept|inconclusive|broken)\n", comment)
    assert comment.count(" wanted\n") == 4


def test_it_starts_with_the_marker_and_fits_into_a_comment(comment):
    assert comment.startswith(review.MARKER)
    assert len(comment) < 65_536


def test_later_commits_on_the_base_are_not_changes(project, comment):
    shell(project, "git", "checkout", "-q", "main")
    params = project / "params.yaml"
    text = re.sub(r"bootstrap_samples: \d+", "bootstrap_samples: 512", params.read_text(encoding="utf-8"))
    params.write_text(text, encoding="utf-8")
    shell(project, "git", "commit", "-q", "-a", "-m", "Fewer samples, after the branch left")
    shell(project, "git", "checkout", "-q", "slower")
    assert reviewed(project).stdout == comment


def test_nothing_changed_says_so_and_stale_metrics_stand_above_the_verdict(project):
    lock = project / "dvc.lock"
    lock.write_text("schema: '2.0'\nstages:\n  x:\n    cmd: x\n    params:\n      params.yaml:\n        train.lr: 1\n")
    text = reviewed(project, base="slower").stdout
    lock.unlink()
    assert "No param changed." in text and "No number in metrics/compare.json changed." in text
    assert "<details>" not in text
    assert text.index("do not belong to this commit") < text.index("### Verdict")


@pytest.mark.parametrize("base", ["nowhere", "--unknown", ""])
def test_an_unknown_base_is_the_users_mistake(project, base):
    done = reviewed(project, base=base, code=2)
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert "--base" in done.stderr


def test_too_many_metrics_are_cut_and_counted():
    rows = [("metrics/mmlu/m1.json", f"by_subject.subject_{place}.accuracy", 0.25, 0.5) for place in range(3000)]
    text = review._details(rows, room=50_000)
    shown = text.count("by_subject")
    assert len(text) < 50_000 and 100 < shown < 3000
    assert f"{3000 - shown} more do not fit here" in text


def test_a_metric_that_is_new_or_gone_has_a_dash():
    assert review._values(None, 0.5) == ("-", "0.5", "")
    assert review._values(3, None) == ("3", "-", "")
    assert review._values("3.45", "3.46") == ("3.45", "3.46", "")


def test_it_names_spiders_floor_and_versions_of_sqlite_that_differ(tmp_path, monkeypatch):
    made = invented(seed=0)
    monkeypatch.chdir(tmp_path)
    write_metrics(tmp_path, made)
    assert review.spider_notes(PAPER_MODELS) == []  # metrics of an older run, one version
    entry = {"successes": 3, "total": 60, "query": "SELECT 1 WHERE 0"}
    for model in PAPER_MODELS.names:
        made.spider_metrics[model]["floor"] = {"execution_accuracy": entry, "official_execution_accuracy": entry}
    made.spider_metrics["m2"]["sqlite_version"] = "3.40.1"
    write_metrics(tmp_path, made)
    floor, versions = review.spider_notes(PAPER_MODELS)
    assert "5.00 % (3 of 60, by SELECT 1 WHERE 0)" in floor and "Model 2 with 3.40.1" in versions
