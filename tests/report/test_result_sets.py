"""Result sets: what `export` copies from a real run and what it refuses, and what `check` finds."""

import csv
import gzip
import io
import re
from pathlib import Path

import pytest

from text2sql.cli.results import main
from text2sql.comparison.flat import read_numbers, read_summary
from text2sql.comparison.gate import trade_off
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, read_jsonl
from text2sql.core.models import PAPER_MODELS
from text2sql.core.params import load_params
from text2sql.report import result_sets as results
from text2sql.report.markdown import accuracy
from text2sql.report.read_sets import read_sets, spreads
from text2sql.report.results_table import blocks
from text2sql.report.sentences import gate_lines, sentences

pytestmark = pytest.mark.usefixtures("finished_project")  # one of the processes has it

MODELS, NAMES = PAPER_MODELS.names, PAPER_MODELS.titles


def parts(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- export and check


def test_a_real_run_is_exported_byte_for_byte_and_checked(project, capsys):
    assert main(["export", "micro"]) == 0
    assert re.fullmatch(r"results/micro: \d+ files, 0\.\d MB; now: .*table --write\n", capsys.readouterr().out)
    folder = Path("results/micro")
    for copy, source in (
        ("params.yaml", "params.yaml"),
        ("dvc.lock", "dvc.lock"),
        ("report.md", "reports/report.md"),
        ("metrics/compare.json", "metrics/compare.json"),
        ("metrics/train/m1_loss.csv", "metrics/train/m1_loss.csv"),
        ("timings/eval_mmlu_base.json", "data/timings/eval_mmlu_base.json"),
    ):
        assert (folder / copy).read_bytes() == Path(source).read_bytes()
    for model in MODELS:
        packed = (folder / f"predictions/{model}.jsonl.gz").read_bytes()
        assert gzip.decompress(packed) == Path(f"data/predictions/{model}.jsonl").read_bytes()
    top = {name.partition("/")[0] for name in parts(folder)}
    assert top == {"params.yaml", "dvc.lock", "report.md", "choices.csv.gz", "metrics", "predictions", "timings"}
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "results/micro: whole, and its recipe's\n1 sets\n"
    figures_agree(folder)
    with pytest.raises(UserError, match=r"results/micro: is there already; --replace"):
        results.export("micro")
    before = {name: (folder / name).read_bytes() for name in parts(folder)}
    assert results.export("micro", replace=True) == folder
    # A second export changes nothing that git would show.
    assert {name: (folder / name).read_bytes() for name in parts(folder)} == before


def choices_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress((folder / "choices.csv.gz").read_bytes()).decode())))


def test_choices_are_the_verdicts_letters_and_give_the_pairs_again(project):
    results.export("micro")
    lines = choices_of(Path("results/micro"))
    for model in MODELS:
        verdicts = read_jsonl(f"data/verdicts/mmlu/{model}.jsonl")
        assert [(line["subject"], line["index"], "ABCD".index(line["answer"])) for line in lines] == [
            (verdict["subject"], str(verdict["index"]), verdict["answer"]) for verdict in verdicts
        ]
        assert ["ABCD".index(line[model]) for line in lines] == [verdict["choice"] for verdict in verdicts]
    flat = read_numbers("results/micro/metrics/compare.json", PAPER_MODELS)
    same = sum(line["m1"] == line["base"] for line in lines) / len(lines)
    assert flat["agreement_identical_choices_m1"] == pytest.approx(same, abs=1e-6)
    gained = sum((line["m1"] == line["answer"]) - (line["base"] == line["answer"]) for line in lines)
    assert flat["mmlu_loss_pts_m1"] == pytest.approx(-100 * gained / len(lines), abs=1e-3)


def test_all_of_mmlu_goes_beside_the_set_whose_adapters_it_asked(project, capsys):
    with pytest.raises(UserError, match=r"results/micro: no such set; export the whole run first"):
        results.export("micro", mmlu_all=True)
    results.export("micro")
    project.set_params({"mmlu": {"limit": 6}})
    with pytest.raises(UserError, match=r"stage eval_mmlu@base ran with another mmlu.limit than params.yaml has"):
        results.export("micro", mmlu_all=True)
    project.run("dvc", "repro")
    assert main(["export", "micro", "--mmlu-all"]) == 0
    second = Path("results/micro/mmlu_all")
    assert "predictions" not in "".join(parts(second)) and "metrics/spider/m1.json" not in parts(second)
    assert len(choices_of(second)) == 18
    assert read_json(second / "metrics/mmlu/m1.json")["total"] == 18
    assert read_json("results/micro/metrics/mmlu/m1.json")["total"] == 12
    results.check()
    (one,) = read_sets(Path("results"))
    assert one.metrics["mmlu_all"]["m1"]["total"] == 18
    assert "12 and 18 questions" in blocks([one])[Path("docs/results.md")]["results"]
    # Of other adapters, or of another prompt, it would be no part of this set.
    lock = second / "dvc.lock"
    whole = lock.read_text()
    adapter = re.search(r"- path: models/m1\n.*\n\s*md5: (\w+)", whole)[1]
    lock.write_text(whole.replace(adapter, "0" * 32))
    assert "mmlu_all: models/m1 is not the adapter of results/micro" in results.set_problems(second.parent)
    lock.write_text(whole)
    params = (second / "params.yaml").read_text()
    (second / "params.yaml").write_text(params.replace("shots: 4", "shots: 3"))
    found = results.set_problems(second.parent)
    assert any("mmlu.shots is 4 in results/micro/params.yaml and 3 in" in problem for problem in found)
    (second / "params.yaml").write_text(params)
    # A second export of the committed set keeps it.
    project.run("git", "checkout", "--", ".")
    project.run("dvc", "checkout")
    main(["export", "micro", "--replace"])
    results.check()
    assert read_json(second / "metrics/mmlu/m1.json")["total"] == 18
    # Of another Model 1 it is no part of the new set.
    lock.write_text(whole.replace(adapter, "0" * 32))
    capsys.readouterr()
    main(["export", "micro", "--replace"])
    line = "results/micro/mmlu_all: not kept, of another run: models/m1 is not the adapter of results/micro\n"
    assert capsys.readouterr().out.startswith(line)
    assert not second.exists()
    results.check()


SPOILT = {
    "stage train_m1 ran with another train.lr than params.yaml has":
        lambda project: project.set_params({"train": {"lr": 0.001}}),
    "metrics/spider/m1.json is not what stage eval_spider@m1 wrote": lambda _: append("metrics/spider/m1.json"),
    "metrics/plots is not what stage compare wrote": lambda _: append("metrics/plots/accuracy.csv"),
    "data/predictions/m2.jsonl is not what stage predict_spider@m2 wrote":
        lambda _: append("data/predictions/m2.jsonl"),
    "data/timings/train_m1.json: no such file; stage train_m1 wrote it":
        lambda _: Path("data/timings/train_m1.json").unlink(),
    "dvc.lock has no stage compare: `dvc repro` has not come to its end": lambda _: forget_stage("compare"),
    "stage predict_spider@m1 ran on an older models/m1": lambda _: another_adapter(),
}  # fmt: skip


@pytest.mark.parametrize("problem", SPOILT)
def test_what_is_not_one_whole_run_is_refused_and_nothing_is_left(project, problem):
    SPOILT[problem](project)
    with pytest.raises(UserError) as raised:
        results.export("micro")
    assert str(raised.value).startswith("this project: not one whole run: ") and problem in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in Path("results").iterdir()] == ["tradeoff"]  # which was there before


def append(path):
    # The file is a link to DVC's cache, or may be one: put a changed copy in its place.
    text = Path(path).read_text() + "\n"
    Path(path).unlink()
    Path(path).write_text(text)


def forget_stage(name):
    text = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(re.sub(rf"(?m)^  {name}:\n(    .*\n)*", "", text))


def another_adapter():
    """As if train_m1 had run again, and nothing after it."""
    text = Path("dvc.lock").read_text()
    stage = re.search(r"(?m)^  train_m1:\n(    .*\n)*", text)[0]
    changed = re.sub(r"(- path: models/m1\n\s*hash: md5\n\s*md5: )\w+", r"\g<1>" + "0" * 32, stage)
    Path("dvc.lock").write_text(text.replace(stage, changed))


@pytest.mark.parametrize("key", ["spider", "mmlu"])
def test_an_absolute_path_of_the_data_is_refused(project, key):
    project.set_params({"data": {key: "/data/archive.zip"}})
    with pytest.raises(UserError, match=rf"data\.{key}: got /data/archive.zip, wanted a path below the project"):
        results.export("micro")
    assert not Path("results/micro").exists()


def test_without_a_run_there_is_nothing_to_export(project):
    Path("dvc.lock").unlink()
    with pytest.raises(UserError, match=r"dvc.lock: no such file"):
        results.export("micro")


DAMAGED = {
    "data/predictions/m1.jsonl is not what stage predict_spider@m1 wrote":
        lambda folder: repack(folder / "predictions/m1.jsonl.gz", b"\n"),
    "choices.csv.gz does not give the counts of metrics/mmlu/m2.json":
        lambda folder: repack(folder / "choices.csv.gz", b"philosophy,3,A,A,A,B\n"),
    "choices.csv.gz: found the columns": lambda folder: (folder / "choices.csv.gz").write_bytes(gzip.compress(b"a,b")),
    "choices.csv.gz: no such file": lambda folder: (folder / "choices.csv.gz").unlink(),
    "choices.csv.gz: damaged: ": lambda folder: (folder / "choices.csv.gz").write_bytes(b"\x1f\x8b\x08no"),
    "predictions/base.jsonl.gz: damaged: ":
        lambda folder: cut(folder / "predictions/base.jsonl.gz"),
}  # fmt: skip


@pytest.mark.parametrize("problem", DAMAGED)
def test_check_finds_damage_in_what_is_compressed(project, problem):
    results.export("micro")
    DAMAGED[problem](Path("results/micro"))
    with pytest.raises(UserError) as raised:
        results.check()
    assert problem in str(raised.value) and "results/micro" in str(raised.value)


def repack(path, more):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + more))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.long
@pytest.mark.slow
def test_model_1_of_another_seed_goes_into_the_set(project, capsys):
    with pytest.raises(UserError, match=r"results/micro: no such set; export the whole run first"):
        results.export("micro", seed_run=True)
    results.export("micro")
    with pytest.raises(UserError, match=r"train.seed is 3407, that of results/micro itself"):
        results.export("micro", seed_run=True)
    project.set_params({"train": {"seed": 7}})
    with pytest.raises(UserError, match=r"stage train_m1 ran with another train.seed than params.yaml has"):
        results.export("micro", seed_run=True)
    project.run("dvc", "repro", "eval_spider@m1", "eval_mmlu@m1")  # no more than that
    assert main(["export", "micro", "--seed-run"]) == 0
    run = Path("results/micro/seeds/7")
    assert parts(run) == {
        "params.yaml", "dvc.lock", "metrics/spider/m1.json", "metrics/mmlu/m1.json", "metrics/train/m1.json",
    }  # fmt: skip
    results.check()
    (one,) = read_sets(Path("results"))
    accuracies = [read_json(root / "metrics/mmlu/m1.json")["accuracy"] for root in (Path("results/micro"), run)]
    base = read_json("results/micro/metrics/mmlu/base.json")["accuracy"]
    found = spreads(one)["mmlu"]
    wanted = [2, 100 * (min(accuracies) - base), 100 * (max(accuracies) - base)]
    assert [found.seeds, found.low, found.high] == pytest.approx(wanted, abs=1e-3)
    # Whatever else differs makes it another experiment.
    params = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(params.replace("r: 16", "r: 8"))
    assert any("train.lora.r is 16 in results/micro/params" in one for one in results.set_problems(run.parents[1]))
    (run / "params.yaml").write_text(params)
    lock = (run / "dvc.lock").read_text()
    stage = re.search(r"(?m)^  eval_mmlu@base:\n(    .*\n)*", lock)[0]
    (run / "dvc.lock").write_text(lock.replace(stage, re.sub(r"(base\.json\n.*\n\s*md5: )\w+", r"\g<1>0", stage)))
    (problem,) = results.set_problems(run.parents[1])
    assert problem == "seeds/7: metrics/mmlu/base.json is not that of results/micro: another base"
    (run / "dvc.lock").write_text(lock)
    # All of MMLU: the set's own first.
    with pytest.raises(UserError, match=r"micro/mmlu_all: no such set; export that on all of MMLU first"):
        results.export("micro", seed_run=True, mmlu_all=True)
    project.set_params({"train": {"seed": 3407}, "mmlu": {"limit": 6}})
    project.run("dvc", "repro")
    results.export("micro", mmlu_all=True)
    project.set_params({"train": {"seed": 7}})
    project.run("dvc", "repro", "eval_mmlu@m1")
    results.export("micro", seed_run=True, mmlu_all=True)
    assert parts(run / "mmlu_all") == {"params.yaml", "dvc.lock", "metrics/mmlu/m1.json"}
    results.check()
    (one,) = read_sets(Path("results"))
    assert spreads(one)["mmlu_all"].seeds == 2 and one.seeds[7]["mmlu_all"]["m1"]["total"] == 18
    # The set exported again, of the same run, keeps all of it.
    project.run("git", "checkout", "--", ".")
    project.run("dvc", "checkout")
    capsys.readouterr()
    before = parts(Path("results/micro"))
    assert main(["export", "micro", "--replace"]) == 0
    assert "not kept" not in capsys.readouterr().out and parts(Path("results/micro")) == before
    results.check()


def test_check_finds_an_edited_set_and_another_recipe(project):
    results.export("micro")
    append("results/micro/report.md")
    with pytest.raises(UserError, match=r"results/micro: .* reports/report.md is not what stage compare wrote"):
        results.check()
    results.export("micro", replace=True)
    Path("data/elsewhere.zip").touch()
    recipe = Path("recipes/micro.yaml").read_text()
    Path("recipes/micro.yaml").write_text(recipe.replace(" data/sample/spider", " data/elsewhere.zip"))
    results.check()  # where the data lie is not part of the experiment
    Path("recipes/micro.yaml").write_text(recipe.replace("seed: 3407", "seed: 1"))
    with pytest.raises(UserError, match=r"train.seed is 1 in recipes/micro.yaml and 3407 in results/"):
        results.check()
    Path("recipes/micro.yaml").unlink()
    with pytest.raises(UserError, match=r"recipes/micro.yaml: no such recipe"):
        results.check()


def test_committed_sets_are_whole_and_their_figures_are_their_reports(repository, monkeypatch):
    monkeypatch.chdir(repository)
    results.check()
    for folder in results.set_folders(Path("results")):
        figures_agree(folder)


def test_committed_sets_stay_small(repository):
    # Sets and curves: with them a clone still takes seconds.
    assert sum(path.stat().st_size for path in (repository / "results").rglob("*") if path.is_file()) < 30_000_000


def figures_agree(folder: Path) -> None:
    """Hold each figure of metrics/ that the headline names against report.md beside it."""
    report = (folder / "report.md").read_text(encoding="utf-8")
    params = load_params(folder / "params.yaml", older=True)
    summary = read_summary(folder / "metrics/compare.json", params.model_table)
    gate = trade_off(summary, params.compare)
    for line in [*sentences(summary).values(), *gate_lines(gate, params.model_table)]:
        assert f"- {line}\n" in report
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]
    for model in MODELS:
        spider, mmlu = (read_json(folder / f"metrics/{task}/{model}.json") for task in ("spider", "mmlu"))
        assert spider["successes"] == sum(counts["successes"] for counts in spider["by_database"].values())
        shown = [str(spider[key]) for key in ("total", "successes", "failures")]
        shown += [accuracy(spider, measure) for measure in ("execution_accuracy", "official_execution_accuracy")]
        assert [NAMES[model], *shown] in [row[:-1] for row in rows]
        assert [NAMES[model], f"{mmlu['correct']} of {mmlu['total']}", accuracy(mmlu, "accuracy")] in [
            row[1:4] for row in rows
        ]
