"""Further evaluation sets under real DVC: what runs where the params name them, and what a user then sees."""

import gzip
import json
import re
import shutil

import pytest

from text2sql.core.files import read_json, read_jsonl

RUN = re.compile(r"Running stage '([^']+)'")
MODELS = ("base", "m1", "m2")
SETS = {"syn": {"spider": "data/raw/syn", "table_order": "reversed"}}


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project with a set: its dev split reworded, tables in another order. `asked` is `dvc repro`'s."""
    project = finished_project.copy(tmp_path_factory.mktemp("asked") / "project")
    dev = json.loads((project.folder / "data/sample/spider/dev.json").read_text())
    for one in dev:
        one["SpiderSynQuestion"] = f"Say: {one.pop('question')}"
    (project.folder / "data/raw/syn").mkdir(parents=True)
    (project.folder / "data/raw/syn/dev.json").write_text(json.dumps(dev))
    project.set_params({"data": {"also": SETS}})
    project.asked = project.run("dvc", "repro").stdout
    return project


def read(project, path):
    return read_json(project.folder / path)


def test_only_what_is_asked_for_runs(project, finished_project):
    assert set(RUN.findall(project.asked)) == {
        *(f"prepare_also@{name}" for name in SETS),
        *(f"{stage}_also@{name}-{model}" for stage in ("predict", "eval") for name in SETS for model in MODELS),
        "compare",
    }
    assert "also" not in finished_project.first_run
    assert "up to date" in project.run("dvc", "status").stdout
    # What the sets' stages write leaves the dev split's figures as they were.
    ours, theirs = (read(one, "metrics/compare.json") for one in (project, finished_project))
    assert {key: ours[key] for key in theirs} == theirs
    assert all(key.startswith("also_") for key in ours.keys() - theirs.keys())


def test_each_set_is_asked_as_it_says(project):
    def prompts(name):
        return read_jsonl(project.folder / f"data/predictions/{name}base.jsonl")[0]["prompt"]

    asked, turned = prompts(""), prompts("also/syn/")
    question = read_jsonl(project.folder / "data/prepared/spider/dev.jsonl")[0]["question"]
    lines = [line for line in asked.splitlines() if re.fullmatch(r"\w+\(.*\)", line)]
    given, backwards = "\n".join(lines), "\n".join(reversed(lines))
    assert len(lines) > 1 and given in asked
    assert turned == asked.replace(given, backwards).replace(question, f"Say: {question}")


def test_metrics_reports_and_print_say_how_far_scores_carry(project):
    flat = read(project, "metrics/compare.json")
    for name in SETS:
        counts = read(project, f"metrics/also/{name}.json")
        assert counts["dev"] == 10 and counts["own_databases"] == 0
        for model in MODELS:
            metrics = read(project, f"metrics/also/{name}/{model}.json")
            assert flat[f"also_{name}_execution_accuracy_{model}"] == metrics["execution_accuracy"]
            lines = read_jsonl(project.folder / f"data/verdicts/also/{name}/{model}.jsonl")
            on_dev = read_jsonl(project.folder / f"data/verdicts/spider/{model}.jsonl")
            flips = sum(a["execution_accuracy"] != b["execution_accuracy"] for a, b in zip(lines, on_dev))
            assert flat[f"also_{name}_flips_{model}"] == flips / 10
    report = (project.folder / "reports/report.md").read_text()
    page = (project.folder / "reports/report.html").read_text()
    assert "### syn (data/raw/syn, tables reversed)" in report and 'id="also-syn"' in page
    assert (
        "- syn (data/raw/syn, tables reversed), 10 questions: Base " in project.asked
        and "of verdicts flip" in project.asked
    )
    assert "predict_also_syn_m1" in report
    assert "metrics/also/syn/m1.json" in json.loads(project.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]


def test_reworded_once_more_the_set_is_asked_again_and_nothing_else(project, tmp_path):
    again = project.copy(tmp_path / "project")
    path = again.folder / "data/raw/syn/dev.json"
    path.write_text(path.read_text().replace("Say: ", "Tell: "))
    planned = RUN.findall(again.run("dvc", "repro", "--dry").stdout)
    assert planned[0] == "prepare_also@syn" and "predict_spider@base" not in planned


def test_asked_no_longer_it_is_gone_from_reports_and_from_what_may_be_stale(project, finished_project, tmp_path):
    off = project.copy(tmp_path / "project")
    off.set_params({"data": {"also": {}}})
    assert "also@" not in off.run("dvc", "repro").stdout
    assert "syn (" not in (off.folder / "reports/report.md").read_text()
    assert read(off, "metrics/compare.json") == read(finished_project, "metrics/compare.json")
    assert "stale" not in off.run("python", "-m", "stages.compare", "--gate", check=False).stdout
    # Its outputs are left where compare reads: a result set would not be what its lock says.
    export = ("python", "-m", "text2sql", "results", "export", "micro")
    refused = off.run(*export, check=False)
    left = r"no stage of params\.yaml writes data/predictions/also/syn/base\.jsonl and \d+ more: remove "
    assert refused.returncode == 2 and re.search(left, refused.stderr) and len(refused.stderr.splitlines()) == 1
    for gone in ("predictions/also", "verdicts/also"):
        shutil.rmtree(off.folder / "data" / gone)
    for gone in (off.folder / "data/timings").glob("*_also_*"):
        gone.unlink()
    off.run("dvc", "repro")
    off.run(*export)


def test_its_run_is_kept_beside_the_set_whose_adapters_it_asked(project, finished_project, tmp_path):
    kept = finished_project.copy(tmp_path / "project")
    (kept.folder / "recipes").mkdir()
    (kept.folder / "recipes/micro.yaml").write_bytes((kept.folder / "params.yaml").read_bytes())
    results = ("python", "-m", "text2sql", "results")
    kept.run(*results, "export", "micro")
    further = project.copy(tmp_path / "further")
    for name in ("recipes", "results"):
        shutil.rmtree(further.folder / name, ignore_errors=True)
        (kept.folder / name).rename(further.folder / name)
    further.run(*results, "export", "micro", "--also")
    folder = further.folder / "results/micro/also"
    for name in ("metrics/also/syn/m1.json", "metrics/also/syn.json", "predictions/also/syn/base.jsonl.gz"):
        assert (folder / name).is_file()
    # The answers are kept, and nothing of the data that were asked.
    packed = folder / "predictions/also/syn/m1.jsonl.gz"
    answers = [json.loads(line) for line in gzip.decompress(packed.read_bytes()).decode().splitlines()]
    predicted = read_jsonl(further.folder / "data/predictions/also/syn/m1.jsonl")
    assert [(one["index"], one["sql"]) for one in answers] == [(one["index"], one["sql"]) for one in predicted]
    assert all(not {"question", "gold", "prompt"} & one.keys() for one in answers)
    assert not (folder / "predictions/base.jsonl.gz").exists() and not (folder / "metrics/spider").exists()
    assert "whole" in further.run(*results, "check").stdout
    shown = further.run(*results, "table").stdout
    assert re.search(r"\| micro +\| syn \(data/raw/syn, tables reversed\) +\| Model 1 ", shown)
    whole = packed.read_bytes()
    for damaged, says in (
        (whole[:60], "is damaged"),
        (gzip.compress("".join(f"{json.dumps(one)}\n" for one in answers[:9]).encode()), "has answers to 9 questions"),
    ):
        packed.write_bytes(damaged)
        assert says in further.run(*results, "check", check=False).stderr
    packed.write_bytes(whole)
    # A recipe that names the sets itself makes a set that has them.
    (further.folder / "recipes/whole.yaml").write_bytes((further.folder / "params.yaml").read_bytes())
    further.run(*results, "export", "whole")
    assert (further.folder / "results/whole/predictions/also/syn/m1.jsonl.gz").is_file()
    assert "results/whole: whole, and its recipe's" in further.run(*results, "check").stdout
    assert re.search(r"\| whole +\| syn \(data/raw/syn, tables reversed\) +\|", further.run(*results, "table").stdout)
    # Of other verdicts on the dev split it is no part of the set.
    lock = folder / "dvc.lock"
    lock.write_text(re.sub(r"(verdicts/spider/m1.jsonl\n.*\n +md5: )\w+", r"\g<1>" + "0" * 32, lock.read_text()))
    found = further.run(*results, "check", check=False)
    assert found.returncode == 2 and "data/verdicts/spider/m1.jsonl is not that of results/micro" in found.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("stages.predict_also syn m9", "argument model: "),
        ("stages.eval_also dk m1", "argument set: "),
        ("stages.prepare_also", "required: set"),
        ("text2sql results export micro --also --mmlu-all", "--also: is a run of its own"),
    ],
)
def test_a_set_or_model_that_is_none_is_one_line(project, command, says):
    done = project.run("python", "-m", *command.split(), check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and says in done.stderr
