"""MMLU in chat and over rotations under real DVC: what runs where the params ask for it, and what a user then sees."""

import json
import re

import pytest

RUN = re.compile(r"Running stage '([^']+)'")


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project, asked otherwise: its output of `dvc repro` is `asked`."""
    project = finished_project.copy(tmp_path_factory.mktemp("asked") / "project")
    project.set_params({"mmlu": {"rotations": 4, "chat": ["base", "m1"], "chat_limit": 8}})
    project.asked = project.run("dvc", "repro").stdout
    return project


def read(project, path):
    return json.loads((project.folder / path).read_text())


def test_only_what_is_asked_for_runs(project, finished_project):
    assert set(RUN.findall(project.asked)) == {
        *(f"eval_mmlu@{model}" for model in ("base", "m1", "m2")),
        "eval_mmlu_chat@base",
        "eval_mmlu_chat@m1",
        "compare",
    }
    assert "chat" not in finished_project.first_run
    assert "up to date" in project.run("dvc", "status").stdout
    assert "mmlu_chat" not in finished_project.run("dvc", "metrics", "show").stdout


def test_rotations_leave_the_ordinary_figures_as_they_were(project, finished_project):
    for model in ("base", "m1", "m2"):
        metrics = read(project, f"metrics/mmlu/{model}.json")
        rotated = metrics.pop("rotated")
        assert metrics == read(finished_project, f"metrics/mmlu/{model}.json")
        assert rotated["questions"] == 12 and rotated["total"] == 48
        assert sum(metrics["letters"].values()) == pytest.approx(1, abs=1e-5)


def test_chat_counts_letters_sql_and_the_rest_of_a_drawn_few(project):
    for model in ("base", "m1"):
        metrics = read(project, f"metrics/mmlu_chat/{model}.json")
        assert (metrics["total"], metrics["drawn_from"], metrics["draw_seed"]) == (8, 12, 0)
        shares = [metrics[f"{kind}_share"] for kind in ("letter", "sql", "other")]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        lines = (project.folder / f"data/verdicts/mmlu_chat/{model}.jsonl").read_text().splitlines()
        assert len(lines) == 8
        assert sum(json.loads(line)["at_limit"] for line in lines) == metrics["at_token_limit"]


def test_reports_print_and_metrics_diff_have_both(project):
    report = (project.folder / "reports/report.md").read_text()
    page = (project.folder / "reports/report.html").read_text()
    assert "### In chat" in report and "### Each question in the four rotations of its options" in report
    assert 'id="chat"' in page and 'id="rotations"' in page and 'id="letters"' in page
    assert "MMLU in chat, 8 questions drawn at random from 12: Base answers " in project.asked
    assert "MMLU over the four rotations of its options: Base " in project.asked
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert {"metrics/mmlu_chat/base.json", "metrics/mmlu_chat/m1.json", "metrics/mmlu/m1.json"} <= set(changed)
    for key in ("mmlu_chat_sql_share_m1", "mmlu_chat_loss_pts_m1", "mmlu_rotated_loss_pts_low_m1_m2"):
        assert key in changed["metrics/compare.json"]


def test_a_model_trained_anew_is_asked_anew_and_the_base_is_not(project, tmp_path):
    again = project.copy(tmp_path / "project")
    again.set_params({"train": {"lr": 1e-3}})
    assert "eval_mmlu_chat@base" not in RUN.findall(again.run("dvc", "repro", "--dry").stdout)
    ran = RUN.findall(again.run("dvc", "repro", "eval_mmlu_chat@m1").stdout)
    assert ran == ["train_m1", "eval_mmlu_chat@m1"]


def test_asked_no_longer_it_is_gone_from_reports_and_from_what_may_be_stale(project, finished_project, tmp_path):
    off = project.copy(tmp_path / "project")
    off.set_params({"mmlu": {"rotations": 1, "chat": []}})
    assert "eval_mmlu_chat" not in off.run("dvc", "repro").stdout
    assert read(off, "metrics/compare.json") == read(finished_project, "metrics/compare.json")
    assert "In chat" not in (off.folder / "reports/report.md").read_text()
    off.set_params({"mmlu": {"chat_limit": None}})  # DVC's lock still has what the stage ran with
    assert "stale" not in off.run("python", "-m", "stages.compare", "--gate", check=False).stdout


def test_a_set_of_it_is_whole(project, tmp_path):
    kept = project.copy(tmp_path / "project")
    (kept.folder / "recipes").mkdir()
    (kept.folder / "recipes/micro.yaml").write_bytes((kept.folder / "params.yaml").read_bytes())
    kept.run("python", "-m", "text2sql", "results", "export", "micro")
    assert (kept.folder / "results/micro/metrics/mmlu_chat/m1.json").is_file()
    assert "whole" in kept.run("python", "-m", "text2sql", "results", "check").stdout


def test_a_model_that_is_none_is_one_line(project):
    done = project.run("python", "-m", "stages.eval_mmlu_chat", "m9", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "'m9'" in done.stderr
