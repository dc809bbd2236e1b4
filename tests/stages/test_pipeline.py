"""The whole pipeline under real DVC in a repository of its own: what reruns, what is compared, what a user sees."""

import json
import re
import shutil

import pytest

STAGES = {
    "prepare",
    "train_m1",
    "train_m2",
    *(
        f"{stage}@{model}"
        for stage in ("predict_spider", "eval_spider", "sample_spider", "choose_spider", "eval_mmlu")
        for model in ("base", "m1", "m2")
    ),
    "compare",
}


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    return finished_project.copy(tmp_path_factory.mktemp("pipeline") / "project")


def read(project, path):
    return json.loads((project.folder / path).read_text())


def lines(project, path):
    return [json.loads(line) for line in (project.folder / path).read_text().splitlines()]


def test_the_first_run_runs_all_stages(finished_project):
    assert stages_run(finished_project.first_run) == STAGES


def test_what_was_trained_before_comes_from_dvcs_run_cache(finished_project, tmp_path):
    again = finished_project.copy(tmp_path / "project")
    (again.folder / "dvc.lock").unlink()
    shutil.rmtree(again.folder / "models/m1")
    said = again.run("dvc", "repro", "train_m1").stdout
    assert "Stage 'train_m1' is cached - skipping run" in said and "Running stage" not in said
    assert (again.folder / "models/m1/adapter_model.safetensors").is_file()


def test_all_outputs_are_there(project, finished_project):
    for model in ("base", "m1", "m2"):
        assert len(lines(project, f"data/predictions/{model}.jsonl")) == 10
        assert len(lines(project, f"data/verdicts/spider/{model}.jsonl")) == 10
        assert len(lines(project, f"data/verdicts/mmlu/{model}.jsonl")) == 12
        spider = read(project, f"metrics/spider/{model}.json")
        assert spider["successes"] + spider["failures"] == spider["total"] == 10
        assert spider["floor"]["execution_accuracy"]["total"] == 10
        assert read(project, f"metrics/mmlu/{model}.json")["total"] == 12
    for model in ("m1", "m2"):
        names = {path.name for path in (project.folder / "models" / model).iterdir()}
        assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
        assert read(project, f"metrics/train/{model}.json")["steps"] == 6
    assert "Table II" in (project.folder / "reports/report.md").read_text()
    for shown in ((project.folder / "reports/report.md").read_text(), finished_project.first_run):
        assert "The same answer to every question scores " in shown
    assert (project.folder / "reports/report.html").read_text().startswith("<!doctype html>")
    assert all(isinstance(value, (int, float, str)) for value in read(project, "metrics/compare.json").values())


def test_no_duration_is_a_metric(project):
    shown = project.run("dvc", "metrics", "show").stdout
    assert "execution_accuracy" in shown
    assert not re.search("seconds|minutes|memory", shown)


def test_work_in_progress_is_gone(project):
    for name in (".checkpoints", ".journals"):
        assert not any(path.is_file() for path in (project.folder / name).rglob("*"))


def test_a_second_repro_does_nothing_and_says_so(project):
    assert "Data and pipelines are up to date." in project.run("dvc", "repro").stdout
    assert "Data and pipelines are up to date." in project.run("dvc", "status").stdout


def test_strength_needs_no_training_and_stands_in_metrics_and_report(finished_project, tmp_path):
    scaled = finished_project.copy(tmp_path / "project")
    scaled.set_params({"model": {"strength": 0.5}})
    ran = stages_run(scaled.run("dvc", "repro").stdout)
    assert not ran & {"prepare", "train_m1", "train_m2"} and {"predict_spider@m1", "eval_mmlu@m1"} <= ran
    for task in ("spider", "mmlu"):
        assert read(scaled, f"metrics/{task}/m1.json")["strength"] == 0.5
        assert "strength" not in read(scaled, f"metrics/{task}/base.json")
        assert read(scaled, f"metrics/{task}/base.json") == read(finished_project, f"metrics/{task}/base.json")
    assert "Model 1: its adapter was scaled by 0.5" in (scaled.folder / "reports/report.md").read_text()


def test_a_whole_model_takes_the_place_of_an_adapter(finished_project, tmp_path):
    whole = finished_project.copy(tmp_path / "project")
    whole.set_params({"train": {"method": "full"}})
    ran = stages_run(whole.run("dvc", "repro").stdout)
    assert {"train_m1", "predict_spider@m1", "eval_mmlu@m1", "compare"} <= ran and "prepare" not in ran
    names = {path.name for path in (whole.folder / "models/m1").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names and "adapter_config.json" not in names
    assert read(whole, "metrics/train/m1.json")["trainable_share"] == 1
    assert "all weights" in (whole.folder / "reports/report.md").read_text()
    assert "two whole models of it" in (whole.folder / "reports/report.html").read_text()


def test_model_2_at_its_rate_answers_as_the_base_does(project):
    """2e-8 for a few steps moves no answer: what the paper reads as an effect of training cannot come from there."""
    base, m2 = (lines(project, f"data/predictions/{model}.jsonl") for model in ("base", "m2"))
    assert [line["raw"] for line in base] == [line["raw"] for line in m2]


def test_an_experiment_reruns_what_follows_from_its_change_alone(project):
    """The command exactly as docs/reviewing.md has it: DVC writes `lr: 2e-08`, which PyYAML would read as a string."""
    before = read(project, "metrics/train/m1.json")
    result = project.run("dvc", "exp", "run", "-S", "train.lr=2e-8")
    assert stages_run(result.stdout) == {
        "train_m1",
        "predict_spider@m1",
        "eval_spider@m1",
        "sample_spider@m1",
        "choose_spider@m1",
        "eval_mmlu@m1",
        "compare",
    }
    assert "lr: 2e-08" in (project.folder / "params.yaml").read_text()
    assert read(project, "metrics/train/m1.json") != before
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert "metrics/train/m1.json" in changed
    assert not any("/base.json" in path or "/m2.json" in path for path in changed)
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    assert shown
    plots = project.run("dvc", "plots", "show", "--out", "plots_shown")
    assert (project.folder / "plots_shown/index.html").is_file(), plots.stdout
    # Both now train alike but for their seeds: the sentence about a difference must not claim one.
    assert "not distinguishable" in (project.folder / "reports/report.md").read_text()


def test_params_that_are_wrong_stop_before_anything_runs(project):
    """After the experiment above: nothing else in this module relies on the params."""
    metrics = (project.folder / "metrics/compare.json").read_bytes()
    result = project.run("dvc", "exp", "run", "-S", "train.lr=foo", check=False)
    assert result.returncode != 0
    assert "train.lr: got 'foo' (str), takes a number above 0" in result.stdout + result.stderr
    assert (project.folder / "metrics/compare.json").read_bytes() == metrics
