"""Exports and their proof: an engine asked what was evaluated, under DVC and by the commands."""

import json
import re
import shutil
import sys

import pytest

from text2sql.cli import export as export_verb
from text2sql.cli import verify as verify_verb
from text2sql.core.errors import RunError, UserError
from text2sql.experiments.export import engines

pytestmark = pytest.mark.long

RUN = re.compile(r"Running stage '([^']+)'")
ENTRIES = {
    "m1_adapter": {"model": "m1", "format": "adapter"},
    "m1_merged": {"model": "m1", "format": "merged", "dtype": "float32", "questions": 6, "mmlu": False},
}


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """The finished project with two exports, verified: what `dvc repro` printed is `proved`."""
    project = finished_project.copy(tmp_path_factory.mktemp("exports") / "project")
    project.set_params({"export": ENTRIES})
    project.proved = project.run("dvc", "repro").stdout
    return project


@pytest.fixture
def here(project, tmp_path, monkeypatch):
    """A copy of that project as the current folder, whose engines have the libraries loaded already."""
    copy = project.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy.cache))
    monkeypatch.setattr(sys, "executable", str(copy.python / "python"))
    return copy.folder


def proof(folder, name):
    return json.loads((folder / f"metrics/export/{name}.json").read_text())


def verify(capsys, *arguments):
    """Run the command; return its exit code and what it printed."""
    code = verify_verb.main(list(map(str, arguments)))
    return code, capsys.readouterr().out


def test_what_is_listed_is_exported_and_verified_and_nothing_else_runs(project, finished_project):
    ran = RUN.findall(project.proved)
    assert set(ran) == {*(f"{stage}@{name}" for name in ENTRIES for stage in ("export", "verify")), "compare"}
    assert ran[-1] == "compare"
    assert "export" not in finished_project.first_run and "up to date" in project.run("dvc", "status").stdout


def test_float32_on_one_machine_loses_nothing(project):
    found = proof(project.folder, "m1_adapter")
    assert (found["questions"], found["identical_answers"], found["flipped"]) == (10, 1.0, [])
    assert found["spider"]["loss_pts"] == 0 and found["verdict"] == "kept" and found["engine"] == "transformers"
    assert found["mmlu"]["total"] == 12 and found["mmlu"]["identical_choices"] == 1.0
    assert "by_dtype" not in found  # the scored answers' dtype and device
    merged = proof(project.folder, "m1_merged")
    assert (merged["questions"], merged["identical_answers"]) == (6, 1.0) and "mmlu" not in merged
    lines = (project.folder / "data/verdicts/export/m1_merged.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 3, 5, 6, 8]  # evenly spread


def test_reports_gate_and_metrics_show_it(project):
    report = (project.folder / "reports/report.md").read_text()
    assert "## Exports, against what was evaluated" in report
    said = (
        "m1_adapter, m1 as adapter float32 by transformers: 0.00 points (95 % interval 0.00 to 0.00, p = 1), not dist"
    )
    assert said in report and said in project.proved and said in (project.folder / "reports/report.html").read_text()
    gate = project.run("python", "-m", "stages.compare", "--gate", check=False)
    assert said in gate.stdout
    assert "metrics/export/m1_merged.json" in project.run("dvc", "metrics", "show").stdout
    path = project.folder / "metrics/export/m1_merged.json"
    whole = path.read_text()
    path.write_text(whole.replace('"verdict": "kept"', '"verdict": "broken"'))
    edited = project.run("python", "-m", "stages.compare", "--gate", check=False)
    path.write_text(whole)
    assert edited.returncode == 1 and "is not what stage verify@m1_merged wrote" in edited.stdout


def test_no_longer_listed_it_is_gone_from_reports(project, finished_project, tmp_path):
    off = project.copy(tmp_path / "project")
    off.set_params({"export": {}})
    path = off.folder / "params.yaml"
    path.write_text(re.sub(r"(?s)\nexport:.*", "\nexport: {}\n", path.read_text()))
    assert RUN.findall(off.run("dvc", "repro").stdout) == ["compare"]
    assert "Exports" not in (off.folder / "reports/report.md").read_text()
    same = "metrics/compare.json"
    assert (off.folder / same).read_text() == (finished_project.folder / same).read_text()


def test_an_export_that_loses_for_certain_is_exit_1_and_names_what_flipped(here, capsys):
    """Scored answers that are all right, which the model does not give again."""
    path = here / "data/predictions/m1.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record | {"sql": record["gold"]}) + "\n" for record in records))
    code, said = verify(capsys, "data/exports/m1_adapter", "--no-mmlu")
    found = proof(here, "m1_adapter")
    assert code == 1 and found["verdict"] == "broken" and found["distinguishable"] == "worse"
    assert found["spider"]["loss_pts"] == 100 and found["spider"]["p"] == pytest.approx(2 * 0.5**10)
    assert found["flipped"] == [record["index"] for record in records]
    assert "right as scored and wrong here" in said and "and 5 more questions that flipped" in said
    # Two questions of ten: an interval from nothing to a half straddles the limit.
    lost = [record | ({"sql": record["gold"]} if number < 2 else {}) for number, record in enumerate(records)]
    path.write_text("".join(json.dumps(record) + "\n" for record in lost))
    code, said = verify(capsys, "data/exports/m1_adapter", "--no-mmlu")
    assert code == 0 and said.splitlines()[-2].endswith("at most 1 may be lost: inconclusive")


def test_in_another_dtype_the_loss_by_export_stands_apart(here, capsys):
    export_verb.main(["m1", "--to", "merged", "--out", "exports/bf16"])
    code, said = verify(capsys, "exports/bf16", "--no-mmlu")
    found = proof(here, "bf16")
    assert code == 0 and found["computed_in"]["dtype"] == "bfloat16" and found["scored_in"]["dtype"] == "float32"
    assert {"identical_answers", "loss_pts", "p"} <= found["by_dtype"].keys() & found["by_export"].keys()
    assert "by dtype and device alone: " in said and "asking the adapter itself, in bfloat16" in said
    line = json.loads((here / "data/verdicts/export/bf16.jsonl").read_text().splitlines()[0])
    assert {"raw", "scored_raw", "own_sql"} <= line.keys()


def test_the_adapter_is_asked_once_for_all_exports(here, capsys):
    export_verb.main(["m1", "--to", "merged", "--out", "exports/first"])
    shutil.copytree(here / "exports/first", here / "exports/second")
    _, said = verify(capsys, "exports/first", "--no-mmlu", "--questions", 4)
    assert "asking the adapter itself, in bfloat16" in said
    _, said = verify(capsys, "exports/second", "--no-mmlu", "--questions", 4)
    assert "the adapter itself was asked before, in bfloat16" in said and "asking the adapter itself" not in said
    assert proof(here, "second") == proof(here, "first")
    _, said = verify(capsys, "exports/second", "--no-mmlu", "--questions", 5)
    assert "asking the adapter itself, in bfloat16" in said


def edited_export(here, name, file, change):
    """Copy an export, and change one of its files; return the copy."""
    copy = here / f"data/exports/{name}"
    shutil.copytree(here / "data/exports/m1_merged", copy)
    path = copy / file
    path.write_text(change(path.read_text()))
    return copy


def test_another_template_or_end_token_is_found_before_anything_is_asked(here):
    other = edited_export(here, "template", "chat_template.jinja", lambda text: text.replace("assistant", "assistant "))
    wanted = "it reads 10 of 10 prompts otherwise than they were evaluated, first question .* nothing was asked"
    with pytest.raises(RunError, match=wanted):
        verify_verb.main([str(other), "--no-mmlu"])
    end = edited_export(here, "end", "generation_config.json", lambda text: text.replace(": 2,", ": 0,"))
    with pytest.raises(RunError, match="it stops at token 0, and what was evaluated at 2; nothing was asked"):
        verify_verb.main([str(end), "--no-mmlu"])
    assert not (here / "metrics/export/end.json").exists()


def test_an_engine_that_ends_is_one_line(here):
    cut = here / "data/exports/cut"
    shutil.copytree(here / "data/exports/m1_merged", cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match="--engine transformers: its process ended with exit code 1: ") as error:
        verify_verb.main([str(cut), "--no-mmlu"])
    assert "\n" not in str(error.value)


def test_what_is_of_another_run_or_engine_is_one_line(here, monkeypatch):
    folder = "data/exports/m1_merged"
    with pytest.raises(
        UserError, match="--engine llama.cpp: does not read a merged export, takes transformers or vllm"
    ):
        verify_verb.main([folder, "--engine", "llama.cpp"])
    with pytest.raises(UserError, match="--base: is for an adapter"):
        verify_verb.main([folder, "--base", "somewhere"])
    monkeypatch.setattr(engines.Engine, "python", property(lambda engine: "/usr/bin/false"))
    with pytest.raises(UserError, match="--engine vllm: the package vllm is not installed; TEXT2SQL_VLLM_PYTHON names"):
        verify_verb.main([folder, "--engine", "vllm"])
    monkeypatch.undo()
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match="models: no such folder|models: has no export.json"):
        verify_verb.main(["models"])
    lines = (here / "data/predictions/m1.jsonl").read_text().splitlines()
    (here / "data/predictions/m1.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="m1.jsonl: holds other questions than data/prepared/spider/dev.jsonl"):
        verify_verb.main([folder])
    first = json.loads(lines[0]) | {"prompt": "something else"}
    (here / "data/predictions/m1.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    with pytest.raises(UserError, match="were asked with another prompt than the export holds"):
        verify_verb.main([folder])
    shutil.copyfile(here / "models/m2/adapter_model.safetensors", here / "models/m1/adapter_model.safetensors")
    with pytest.raises(UserError, match="models/m1: holds other weights than were exported; export it again"):
        verify_verb.main([folder])


def test_the_messages_of_the_command_are_those_of_the_proof(here, capsys):
    from text2sql.cli import prompt

    example = json.loads((here / "data/prepared/spider/dev.jsonl").read_text().splitlines()[0])
    database = here / f"data/prepared/databases/{example['db_id']}/{example['db_id']}.sqlite"
    printed = []
    for source in (["--export", "data/exports/m1_merged"], []):
        prompt.main([example["question"], "--db", str(database), *source])
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1] and [message["role"] for message in printed[0]] == ["system", "user"]
    read = json.loads((here / "data/predictions/m1.jsonl").read_text().splitlines()[0])["prompt"]
    assert all(message["content"] in read for message in printed[0])
    prompt.main([example["question"], "--db", str(database), "--request"])
    request = json.loads(capsys.readouterr().out)
    assert request["messages"] == printed[0] and request["max_tokens"] == 6 and request["stop"] == ["<|im_end|>"]
    with pytest.raises(UserError, match="--db: nowhere.sqlite: no such file"):
        prompt.main(["How many?", "--db", "nowhere.sqlite"])
