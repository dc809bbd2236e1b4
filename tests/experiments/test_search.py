"""A search run whole, with the micro model: what is drawn, kept and gone on from, and that dev is never read."""

import json
import signal
import subprocess
import sys
import time

import pytest

from testkit.project import Project
from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.experiments.search_space import read_search
from text2sql.report.search import search_table

HEAD = "recipe: params.yaml\n"
SEARCH = """
recipe: params.yaml
params: {train.checkpoint_minutes: 0.000001}
held_out: {databases: 2, seed: 1}
space:
  train.method: [lora, dora]
  prompt.schema: [tables, rich]
  rates: [{train.lr: 2e-3}, {train.lr: 1, train.weight_decay: 1.0e+30}]
"""
SMALL = {"data": {"train_limit": 12, "dev_limit": 6}}
TRIALS = 4
PATIENCE_S = 240
# Runs the command, and prints the files that its process opened.
WATCHED = """
import json, sys
opened = set()
sys.addaudithook(lambda event, found: opened.add(str(found[0])) if event in ("open", "sqlite3.connect") else None)
from text2sql.cli.main import main
code = main(sys.argv[1:])
print("opened: " + json.dumps(sorted(opened)))
sys.exit(code)
"""


def command(*arguments, python="python"):
    return [python, "-m", "text2sql", "search", *arguments]


def variables(project):
    return {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}


def search(project, *arguments, check=True):
    return project.run(*command(*arguments), check=check, **variables(project))


@pytest.fixture(scope="module")
def fresh(repository, micro_model, warm, tmp_path_factory):
    """A project with a search that was not run yet."""
    project = Project.create(repository, tmp_path_factory.mktemp("search") / "project", micro_model, SMALL)
    project.python = warm
    (project.folder / "small.yaml").write_text(SEARCH)
    return project


@pytest.fixture(scope="module")
def finished(fresh, tmp_path_factory):
    """A copy in which the search ran undisturbed, where dev is no JSON and its databases no SQL."""
    project = fresh.copy(tmp_path_factory.mktemp("finished-search") / "project")
    spider = project.folder / "data/sample/spider"
    project.of_dev = sorted({example["db_id"] for example in json.loads((spider / "dev.json").read_text())})
    for file in [spider / "dev.json", *(spider / f"database/{name}/{name}.sql" for name in project.of_dev)]:
        file.unlink()  # it may be a link to the first copy's
        file.write_text("no JSON, and no SQL")
    watched = ["python", "-c", WATCHED, "search", "small.yaml", "--trials", str(TRIALS)]
    *lines, opened = project.run(*watched, **variables(project)).stdout.splitlines()
    project.said, project.opened = "\n".join(lines), json.loads(opened.removeprefix("opened: "))
    return project


@pytest.fixture
def project(finished, tmp_path):
    copy = finished.copy(tmp_path / "project")
    return copy


def folder_of(project):
    return project.folder / "results/search/small"


def trials_of(project):
    """Return what is known of the trials but for seconds and memory: the same whether it was killed or not."""
    trials = read_json(folder_of(project) / "search.json")["trials"]
    return [{key: value for key, value in t.items() if key not in ("seconds", "peak_memory_gb")} for t in trials]


def test_no_question_and_no_database_of_dev_is_read(finished):
    raw = str(finished.folder / "data/sample/spider")
    assert any(path.endswith("train_spider.json") for path in finished.opened)
    assert not [path for path in finished.opened if path.endswith("dev.json") and ".search" not in path]
    assert not [path for path in finished.opened for name in finished.of_dev if f"/{name}" in path.removeprefix(raw)]
    prepared = finished.folder / ".search/small/prepared"
    asked = {json.loads(line)["db_id"] for line in (prepared / "spider/dev.jsonl").read_text().splitlines()}
    trained = {json.loads(line)["db_id"] for line in (prepared / "spider/train.jsonl").read_text().splitlines()}
    assert asked and trained and not asked & trained and not (asked | trained) & set(finished.of_dev)


def test_each_trial_is_trained_asked_and_scored_or_says_why_not(finished):
    trials = trials_of(finished)
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    assert len({json.dumps(trial["changes"], sort_keys=True) for trial in trials}) == TRIALS
    failed = [trial for trial in trials if trial["failed"]]
    assert 0 < len(failed) < TRIALS
    for trial in failed:
        assert "learning rate (lr)" in trial["failed"] and trial["changes"]["train.lr"] == 1 and "spider" not in trial
        assert f"search: trial {trial['number']}: failed: " in finished.said
    for trial in trials:
        if not trial["failed"]:
            assert trial["spider"]["total"] == 6 and trial["final_loss"] > 0
            assert (folder_of(finished) / trial["run"] / "predictions.jsonl.gz").is_file()
    assert not any((finished.folder / name).exists() for name in ("dvc.lock", "models/m1", "data/predictions"))


def test_the_first_trial_is_the_recipe_as_it_stands(finished):
    assert trials_of(finished)[0]["changes"] == {
        "train.method": "lora", "prompt.schema": "tables", "train.lr": 2e-3
    }  # fmt: skip


def test_the_table_has_every_trial_and_is_made_of_the_json_alone(finished):
    content = read_json(folder_of(finished) / "search.json")
    text = (folder_of(finished) / "search.md").read_text()
    assert text == search_table(content)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    failed = [bool(trial["failed"]) for trial in content["trials"]]
    assert ["failed" in row for row in rows] == failed and len(failed) == TRIALS
    assert f"Best: trial {content['best']}." in text and "6 questions on 2 training databases" in text


def test_finished_trials_are_not_run_again_and_more_go_on_from_them(project):
    before = trials_of(project)
    said = search(project, "small.yaml", "--trials", str(TRIALS)).stdout
    assert "search: trial" not in said and "train_" not in said and trials_of(project) == before
    said = search(project, "small.yaml", "--trials", str(TRIALS + 1)).stdout
    assert trials_of(project)[:TRIALS] == before and len(trials_of(project)) == TRIALS + 1
    assert f"search: trial {TRIALS}: " in said and "search: trial 0" not in said


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_search_goes_on_and_finds_the_same(fresh, finished, tmp_path):
    project = fresh.copy(tmp_path / "project")
    for pattern in (".search/small/checkpoints/*/step-*/manifest.json", "results/search/small/trial-*/run.json"):
        process = subprocess.Popen(
            command("small.yaml", "--trials", str(TRIALS), python=sys.executable),
            cwd=project.folder,
            env=project.environment(**variables(project)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE_S
        while not any(project.folder.glob(pattern)):
            assert process.poll() is None and time.monotonic() < end, f"ended before {pattern} was there"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    search(project, "small.yaml", "--trials", str(TRIALS))
    assert trials_of(project) == trials_of(finished)


def test_trials_of_another_space_or_recipe_are_never_compared(project):
    path = project.folder / "small.yaml"
    for old, new, changed in (
        ("[tables, rich]", "[ddl, rich]", "space"),
        ("0.000001", "0.00001, train.warmup: 3", "recipe"),
    ):
        text = path.read_text()
        path.write_text(text.replace(old, new))
        done = search(project, "small.yaml", check=False)
        assert done.returncode == 2 and f"its trials come from another {changed}: never compared" in done.stderr
        path.write_text(text)
    path.write_text(text.replace("[tables, rich]", "[tables, ddl]"))
    search(project, "small.yaml", "--trials", "1", "--replace")
    assert len(trials_of(project)) == 1


def test_a_base_that_does_not_load_is_no_trials_failure(project):
    project.set_params({"model": {"base": "./nowhere", "files": "./nowhere"}})
    done = search(project, "small.yaml", "--replace", check=False)
    assert done.returncode == 2 and "model.base: ./nowhere" in done.stderr and "search: trial" not in done.stdout


BAD = {
    "no space": (HEAD, "space: missing"),
    "an empty space": (HEAD + "space: {}", "space: got {}"),
    "one value": (HEAD + "space: {train.lr: [1e-3]}", "space.train.lr: got [0.001], takes a list of two values"),
    "a value twice": (HEAD + "space: {train.lr: [1e-3, 1e-3]}", "space.train.lr: has 0.001 twice"),
    "a range upside down": (HEAD + "space: {train.lr: {low: 2, high: 1}}", "got 2 to 1, takes a lower and a higher"),
    "a logarithm of 0": (HEAD + "space: {train.lr: {low: 0, high: 1, log: true}}", "and a higher number above 0"),
    "a value out of bounds": (HEAD + "space: {train.lr: {low: 0.1, high: 2}}", "train.lr: got 2.0 (float), takes a n"),
    "an unknown param": (HEAD + "space: {train.rate: [1, 2]}", "train.rate: unknown key; the keys here are method"),
    "another section": (HEAD + "space: {data.dev_limit: [1, 2]}", "data.dev_limit: a search varies train and prompt"),
    "a seed": (HEAD + "space: {train.seed: [1, 2]}", "train.seed: a search varies train and prompt, and no seed"),
    "a param varied twice": (
        HEAD + "space: {train.lora.r: [4, 8], rank: [{train.lora.r: 4}, {train.lora.r: 8}]}",
        "train.lora.r: is varied by train.lora.r and by rank",
    ),
    "no databases": (HEAD + "held_out: {databases: 0}\nspace: {train.lr: [1e-3, 2e-3]}", "held_out.databases: got 0"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_search_file_that_is_not_right_is_named_in_one_line(repository, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(repository)
    (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_search(tmp_path / "search.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_repositorys_searches_are_right_and_begin_with_the_recipe(repository, monkeypatch):
    monkeypatch.chdir(repository)
    files = sorted((repository / "search").glob("*.yaml"))
    assert files
    for file in files:
        assert read_search(file).recipes_own() is not None
