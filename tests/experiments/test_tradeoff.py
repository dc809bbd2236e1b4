"""A points file run whole, with the micro model: what is kept, what goes on, what is never drawn together."""

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from testkit.project import Project
from text2sql.core.digests import file_sha256
from text2sql.core.files import read_json

POINTS = """
recipe: params.yaml
params: {train.checkpoint_minutes: 0.000001}
points:
  - {name: base, base: true, also: [rotations, chat]}
  - {name: lora, params: {train.lr: 1e-2, train.epochs: 2}, seeds: [1, 2], along: 4}
  - {name: half, adapter: lora, strength: 0.5, also: [rotations, chat]}
  - {name: held, adapter: lora, after: lora, params: {generation.grammar: true, generation.samples: 4}}
  - {name: whole, params: {train.method: full}}
"""
SMALL = {"data": {"train_limit": 8, "dev_limit": 4}, "mmlu": {"limit": 2, "batch_size": 2, "chat_limit": 3}}
RUNS = ["base", "half@1", "held@1", "lora@1", "lora@2", "whole@3407"]
MEASURES = {"execution_accuracy", "official_execution_accuracy", "accuracy"}
MORE = {"rotated_accuracy", "chat_accuracy"}  # of the points that are asked them
PATIENCE_S = 240
HELD_OUT = "points-held-out"


def tradeoff(project, *arguments, check=True):
    python = ("python", "-m", "text2sql", "tradeoff")
    return project.run(*python, *arguments, check=check, PYTHONPATH=str(project.folder), OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def fresh(repository, micro_model, warm, tmp_path_factory):
    """A project with a points file that was not run yet."""
    project = Project.create(repository, tmp_path_factory.mktemp("curve") / "project", micro_model, SMALL)
    project.python = warm
    (project.folder / "points.yaml").write_text(POINTS)
    return project


@pytest.fixture(scope="module")
def finished(fresh, tmp_path_factory):
    """A copy in which the points ran undisturbed, and what was printed."""
    project = fresh.copy(tmp_path_factory.mktemp("finished-curve") / "project")
    project.said = tradeoff(project, "points.yaml").stdout
    return project


@pytest.fixture(scope="module")
def held_out(fresh, tmp_path_factory):
    """A copy in which a trained point ran on held-out databases, killed as it trained, and what was printed then."""
    project = fresh.copy(tmp_path_factory.mktemp("held-out-curve") / "project")
    arguments = ("--held-out", "1", "--only", "lora")
    kill_when(project, f".tradeoff/{HELD_OUT}/checkpoints/train_lora@1-*/step-*/manifest.json", *arguments)
    project.said = tradeoff(project, "points.yaml", *arguments).stdout
    return project


@pytest.fixture
def project(finished, tmp_path):
    copy = finished.copy(tmp_path / "project")
    return copy


def folder_of(project, name="points"):
    return project.folder / "results/tradeoff" / name


def curve_of(project, name="points"):
    return read_json(folder_of(project, name) / "curve.json")


def answers_of(project):
    """Return what a run keeps but for its timings: the same whether it was killed or not."""
    found = {}
    for run in sorted(path.parent for path in folder_of(project).glob("*/run.json")):
        content = read_json(run / "run.json")
        del content["timings"]
        files = {path.name: path.read_bytes() for path in run.glob("*.gz")}
        found[run.name] = (content, files)
    return found


def test_all_points_are_run_and_measured_against_the_base(finished):
    assert list(answers_of(finished)) == RUNS
    curve = curve_of(finished)
    points = {point["name"]: point for point in curve["points"]}
    kinds = {"base": "base", "lora": "lora", "half": "strength", "held": "decoding", "whole": "full"}
    assert {name: point["kind"] for name, point in points.items()} == kinds
    assert curve["questions"] == {"spider": 4, "mmlu": 6} and curve["missing"] == []
    assert [run["seed"] for run in points["lora"]["runs"]] == [1, 2]
    for name, point in points.items():
        for run in point["runs"]:
            assert set(run["against_base"]) == MEASURES | (MORE if name in ("base", "half") else set())
            assert sum(run["letters"].values()) == pytest.approx(1, abs=1e-5)
            tasks = {"spider", "mmlu"} | ({"train"} if name != "base" else set())
            asked = {"base": {"chat"}, "half": {"chat"}, "held": {"samples"}}.get(name, set())
            assert set(run["seconds"]) == tasks | asked  # and not along its training
            assert all(value > 0 for value in run["peak_memory_gb"].values())
    assert points["base"]["runs"][0]["base_choices_kept"] == 1
    assert points["whole"]["runs"][0]["trained_parameters"] > points["lora"]["runs"][0]["trained_parameters"] > 0
    assert not any((finished.folder / name).exists() for name in ("dvc.lock", "models/m1", "data/predictions"))


def test_an_adapter_is_trained_once_and_scaled_for_another_point(finished):
    assert [finished.said.count(f"train_{run}: ") for run in ("lora@1", "lora@2", "whole@3407")] == [1, 1, 1]
    assert "train_half" not in finished.said and "half@1: transformers, float32 on cpu, strength 0.5" in finished.said
    half, lora = (answers_of(finished)[run][0] for run in ("half@1", "lora@1"))
    assert half["training"] == lora["training"] and half["mmlu"]["strength"] == 0.5 and "strength" not in lora["mmlu"]


def test_a_point_that_answers_spider_otherwise_is_not_asked_mmlu_again(finished):
    asked = {run: read_json(folder_of(finished) / run / "run.json")["timings"]["mmlu"]["model"] for run in RUNS}
    assert asked == {run: run for run in RUNS} | {"held@1": "lora@1"}


def test_a_point_draws_samples_held_to_a_grammar_and_every_way_to_choose_is_measured(finished):
    found, files = answers_of(finished)["held@1"]
    choice, lines = (
        found["choice"],
        [json.loads(line) for line in gzip.decompress(files["samples.jsonl.gz"]).splitlines()],
    )
    assert [len(line["samples"]) for line in lines] == [4] * 4 and choice["samples"] == 4
    assert set(choice["by_samples"]) == {"1", "2", "4"}
    measures = ("execution_accuracy", "official_execution_accuracy")
    for line in lines:
        sample = line["chosen"]["sample"]
        if sample is not None:
            assert [line["chosen"][name] for name in measures] == [line["samples"][sample][name] for name in measures]
    assert choice["successes"] == sum(line["chosen"]["execution_accuracy"] for line in lines)
    assert found["own"]["generation.grammar"] != answers_of(finished)["lora@1"][0]["own"]["generation.grammar"]
    point = next(point for point in curve_of(finished)["points"] if point["name"] == "held")
    trained, asked = {"train.lr": 0.01, "train.epochs": 2}, {"generation.grammar": True, "generation.samples": 4}
    assert point["changes"] == trained | asked
    (run,) = point["runs"]
    assert run["choice"].items() <= choice.items() and run["choice"]["by_samples"] == choice["by_samples"]
    greedy = [
        json.loads(line)["execution_accuracy"] for line in gzip.decompress(files["predictions.jsonl.gz"]).splitlines()
    ]
    gained = run["against_greedy"]["execution_accuracy"]["difference_pts"]
    assert gained == pytest.approx(25 * (choice["successes"] - sum(greedy)))
    assert (folder_of(finished) / "samples.svg").read_text().count("<polyline") == 5


@pytest.mark.long
@pytest.mark.slow
def test_a_point_is_asked_along_its_training_and_the_last_place_is_the_point(held_out):
    points = {point["name"]: point for point in curve_of(held_out, HELD_OUT)["points"]}
    found = {(name, run["seed"]): run["along"] for name in points for run in points[name]["runs"] if "along" in run}
    assert list(found) == [("lora", 1)]
    places = found["lora", 1]
    assert [(place["step"], place["of"], place["examples"]) for place in places] == [
        (1, 4, 4), (2, 4, 8), (3, 4, 12), (4, 4, 16)
    ]  # fmt: skip
    asked = read_json(folder_of(held_out, HELD_OUT) / "lora@1/run.json")["spider"]
    figures = set(places[-1]) - {"step", "of", "examples", "adapter"}
    assert {"successes", "official_execution_accuracy"} <= figures and all(
        set(place) == set(places[0]) for place in places
    )
    assert {name: places[-1][name] for name in figures} == {name: asked[name] for name in figures}
    models = held_out.folder / f".tradeoff/{HELD_OUT}/models"
    digests = {file_sha256(path) for path in models.glob("*/adapter_model.safetensors")}
    assert places[-1]["adapter"] in digests
    kept = {path.parent.name: file_sha256(path) for path in models.glob("*-at/*/adapter_model.safetensors")}
    assert kept == {str(place["step"]): place["adapter"] for place in places[:-1]}
    assert len({place["adapter"] for place in places}) == 4
    assert [held_out.said.count(f"tradeoff: lora@1: after step {step} of 4: ") for step in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.long
@pytest.mark.slow
def test_accuracy_over_training_is_drawn_from_the_base_on(held_out):
    point = next(point for point in curve_of(held_out, HELD_OUT)["points"] if point["name"] == "lora")
    assert point["along_from"] == "base"
    drawn = (folder_of(held_out, HELD_OUT) / "along.svg").read_text()
    (line,) = re.findall(r'<polyline[^>]* points="([^"]*)"', drawn)
    assert [place.partition(",")[0] for place in line.split()] == ["0.0", "130.0", "260.0", "390.0", "520.0"]
    assert "<title>points-held-out: official execution accuracy on Spider, held out over training</title>" in drawn
    shown = (folder_of(held_out, HELD_OUT) / "curve.md").read_text().partition("## Over training")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line.startswith("|")]
    assert [row[:4] for row in rows[2:4]] == [["lora", "base", "0", "0"], ["", "", "4", "25"]] and len(rows) == 7


def test_a_step_is_held_against_the_point_before_it(finished):
    points = {point["name"]: point for point in curve_of(finished)["points"]}
    right = {}
    for name in ("held@1", "lora@1"):
        lines = gzip.decompress(answers_of(finished)[name][1]["predictions.jsonl.gz"]).splitlines()
        right[name] = sum(json.loads(line)["official_execution_accuracy"] for line in lines)
    (run,) = points["held"]["runs"]
    assert points["held"]["after"] == "lora" and "step" not in points["half"]["runs"][0]
    step = run["step"]
    assert step["official_execution_accuracy"]["difference_pts"] == 25 * (right["held@1"] - right["lora@1"])
    assert step["accuracy"]["difference_pts"] == 0  # MMLU is asked of the same adapter


@pytest.mark.long
@pytest.mark.slow
def test_on_held_out_databases_the_points_have_a_curve_of_their_own_and_dev_is_not_asked(held_out):
    curve = curve_of(held_out, HELD_OUT)
    assert curve["held_out"] == {"databases": 1, "seed": 0} and curve["data"] == "Spider, held out"
    train = read_json(held_out.folder / "data/sample/spider/train_spider.json")
    lines = gzip.decompress((folder_of(held_out, HELD_OUT) / "base/predictions.jsonl.gz").read_bytes())
    asked = [json.loads(line) for line in lines.splitlines()]
    assert len({line["db_id"] for line in asked}) == 1
    assert {line["question"] for line in asked} <= {example["question"] for example in train}
    assert not folder_of(held_out).exists()


def test_the_points_that_are_asked_more_say_how_they_answer(finished):
    points = {point["name"]: point["runs"][0] for point in curve_of(finished)["points"]}
    asked = {name: run for name, run in points.items() if "chat" in run}
    assert list(asked) == ["base", "half"] and all("rotated" in run for run in asked.values())
    for name, run in asked.items():
        rotated, chat = run["rotated"], run["chat"]
        lines = [json.loads(line) for line in read_kept(finished, name, "rotations.jsonl.gz")]
        assert (rotated["questions"], rotated["total"]) == (6, 24) == (len(lines), 4 * len(lines))
        assert rotated["correct"] == sum(line["rotations_right"] for line in lines)
        answers = [json.loads(line) for line in read_kept(finished, name, "chat.jsonl.gz")]
        assert (chat["total"], chat["drawn_from"]) == (3, 6) == (len(answers), 6)
        assert sum(chat[f"{kind}_answers"] for kind in ("letter", "sql", "other")) == 3
    shown = (folder_of(finished) / "curve.md").read_text().partition("## How it answers")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("|")]
    assert rows[2:] == ["base", "half"]
    assert "3 questions, drawn at random from 6" in shown and "ran to 64 tokens: base " in shown


def read_kept(project, point, file):
    (path,) = folder_of(project).glob(f"{point}*/{file}")
    return gzip.decompress(path.read_bytes()).splitlines()


def test_processes_share_a_curve_and_no_run_is_made_twice(fresh, finished, tmp_path):
    project = fresh.copy(tmp_path / "project")
    command = ["python", "-m", "text2sql", "tradeoff", "points.yaml"]
    environment = project.environment(PYTHONPATH=str(project.folder), OMP_NUM_THREADS="1")
    processes = [
        subprocess.Popen(command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for run in RUNS:
        assert sum(text.count(f"tradeoff: {run}: transformers") for text in said) == 1
    assert all(": transformers, float32" in text for text in said)  # both had a part
    assert answers_of(project) == answers_of(finished)
    assert [point["name"] for point in curve_of(project)["points"]] == ["base", "lora", "half", "held", "whole"]


@pytest.mark.parametrize("decay", ["1.0e+30", "1.0e+300"])  # the model's numbers overflow, or its weights do
def test_a_training_that_fails_is_said_and_the_others_go_on(project, decay):
    points = project.folder / "points.yaml"
    points.write_text(
        points.read_text() + f"  - {{name: torn, params: {{train.lr: 1, train.weight_decay: {decay}}}}}\n"
    )
    done = tradeoff(project, "points.yaml", check=False)
    assert done.returncode == 1, done.stderr
    assert "tradeoff: torn@3407: failed: " in done.stdout and "not finite" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "points.yaml: failed: torn@3407: " in line
    assert curve_of(project)["missing"] == ["torn@3407"] and len(curve_of(project)["points"]) == 5


def test_figure_and_table_show_every_point_and_are_made_again_from_the_json_alone(project):
    made = {name: (folder_of(project) / name).read_text() for name in ("curve.svg", "curve.md", "samples.svg")}
    for point in ("base", "lora", "half", "held", "whole"):
        assert f">{point}</text>" in made["curve.svg"] and f"| {point} " in made["curve.md"]
    for run in folder_of(project).glob("*/"):
        shutil.rmtree(run)
    for name in made:
        (folder_of(project) / name).unlink()
    tradeoff(project, "--draw", "points")
    assert {name: (folder_of(project) / name).read_text() for name in made} == made


def test_what_is_kept_is_not_run_again(project):
    shutil.rmtree(folder_of(project) / "half@1")
    shutil.rmtree(project.folder / ".tradeoff/points/checkpoints", ignore_errors=True)
    said = tradeoff(project, "points.yaml").stdout
    assert [line for line in said.splitlines() if line.endswith(": kept")] == [
        f"tradeoff: {run}: kept" for run in ("base", "lora@1", "held@1", "whole@3407", "lora@2")
    ]
    assert "train_" not in said and "prepare" not in said
    assert (folder_of(project) / "half@1/run.json").is_file()


def kill_when(project, pattern, *arguments):
    """Run the points, and kill the process once a file of this pattern is there."""
    command = [sys.executable, "-m", "text2sql", "tradeoff", "points.yaml", *arguments]
    environment = project.environment(PYTHONPATH=str(project.folder), OMP_NUM_THREADS="1")
    process = subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + PATIENCE_S
    while not any(project.folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < end, f"ended before {pattern} was there"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_kill_loses_no_training_and_no_answers(fresh, finished, tmp_path):
    project = fresh.copy(tmp_path / "project")
    kill_when(project, ".tradeoff/points/checkpoints/train_lora@1-*/step-*/manifest.json")
    kill_when(project, ".tradeoff/points/journals/whole@3407-spider-*.jsonl")
    said = tradeoff(project, "points.yaml").stdout
    assert "tradeoff: lora@1: kept" in said and "train_whole" not in said and "train_lora@1" not in said
    assert answers_of(project) == answers_of(finished)
    drawn, undisturbed = curve_of(project), curve_of(finished)
    for curve in (drawn, undisturbed):
        for point in curve["points"]:
            for run in point["runs"]:
                del run["seconds"], run["peak_memory_gb"]
    assert drawn == undisturbed


def refused(project, *arguments):
    """Return the one line that is said, and see that nothing of the results changed."""
    before = {path: path.read_bytes() for path in folder_of(project).rglob("*") if path.is_file()}
    done = tradeoff(project, *arguments, check=False)
    assert done.returncode == 2, done.stderr
    assert {path: path.read_bytes() for path in folder_of(project).rglob("*") if path.is_file()} == before
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def append(path):
    with path.open("a") as file:
        file.write("\n")


def test_points_of_other_code_are_never_drawn_together(project):
    append(project.folder / "text2sql/evaluation/batching.py")
    said = refused(project, "points.yaml")
    assert "results/tradeoff/points/base: comes from another text2sql/evaluation: never drawn together" in said
    tradeoff(project, "points.yaml", "--replace", "--only", "base")
    assert [point["name"] for point in curve_of(project)["points"]] == ["base"]
    assert curve_of(project)["missing"] == ["lora@1", "lora@2", "half@1", "held@1", "whole@3407"]
    assert "Not run yet: lora@1, lora@2, half@1, held@1, whole@3407." in (folder_of(project) / "curve.md").read_text()


def test_a_point_whose_recipe_changed_is_never_drawn_as_what_it_was(project):
    points = project.folder / "points.yaml"
    points.write_text(points.read_text().replace("1e-2", "2e-2"))
    assert "results/tradeoff/points/lora@1: comes from another train.lr" in refused(project, "points.yaml")
    assert "--only: invalid choice: 'lroa' (did you mean lora?)" in refused(project, "points.yaml", "--only", "lroa")
    tradeoff(project, "points.yaml", "--replace", "--only", "base")
    assert [point["name"] for point in curve_of(project)["points"]] == ["base", "whole"]


def test_points_of_other_data_are_never_drawn_together(project):
    path = project.folder / "data/sample/spider/dev.json"
    questions = json.loads(path.read_text())
    questions[0]["question"] += " Please."
    path.write_text(json.dumps(questions))
    assert "comes from another data/spider/dev.jsonl: never drawn together" in refused(project, "points.yaml")


def test_points_of_another_base_are_never_drawn_together(project, tmp_path):
    from testkit.tiny_models import write_tiny_model

    other = str(write_tiny_model(tmp_path / "other"))
    project.set_params({"model": {"base": other, "files": other}})
    assert "base: is of model, and points.yaml of other: never drawn together" in refused(project, "points.yaml")


def test_a_curve_that_was_not_run_is_not_drawn(project):
    assert "results/tradeoff/pionts/curve.json: no such file" in refused(project, "--draw", "pionts")
