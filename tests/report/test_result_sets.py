"""Result sets: what `export` copies from a real run and what it refuses, `check`, and the README's table of them."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import compare
from testkit import synthetic
from text2sql.cli.results import main
from text2sql.comparison.flat import read_numbers, read_summary
from text2sql.comparison.gate import trade_off
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_json, write_json
from text2sql.core.intervals import wilson_interval
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.core.params import load_params
from text2sql.report import paper, results_table
from text2sql.report import result_sets as results
from text2sql.report.markdown import accuracy
from text2sql.report.numbers import points
from text2sql.report.sentences import gate_lines, sentences

MODELS, TUNED, NAMES = PAPER_MODELS.names, PAPER_MODELS.tuned, PAPER_MODELS.titles


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    """A copy of a real run in the current folder, with a recipe of its params."""
    copy = finished_project.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    Path("recipes").mkdir()
    shutil.copy("params.yaml", "recipes/micro.yaml")
    return copy


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
        ("report.html", "reports/report.html"),
        ("metrics/compare.json", "metrics/compare.json"),
        ("metrics/train/m1_loss.csv", "metrics/train/m1_loss.csv"),
        ("predictions/m2.jsonl", "data/predictions/m2.jsonl"),
        ("timings/eval_mmlu_base.json", "data/timings/eval_mmlu_base.json"),
    ):
        assert (folder / copy).read_bytes() == Path(source).read_bytes()
    top = {name.partition("/")[0] for name in parts(folder)}
    assert top == {"params.yaml", "dvc.lock", "report.md", "report.html", "metrics", "predictions", "timings"}
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "results/micro: whole, and its recipe's\n1 sets\n"
    figures_agree(folder)
    with pytest.raises(UserError, match=r"results/micro: is there already; --replace"):
        results.export("micro")
    assert results.export("micro", replace=True) == folder


def test_all_of_mmlu_goes_beside_the_set_whose_adapters_it_asked(project, capsys):
    with pytest.raises(UserError, match=r"results/micro: no such set; export the run on Spider first"):
        results.export("micro", mmlu_all=True)
    results.export("micro")
    project.set_params({"mmlu": {"limit": 6}})
    with pytest.raises(UserError, match=r"stage eval_mmlu@base ran with another mmlu.limit than params.yaml has"):
        results.export("micro", mmlu_all=True)
    project.run("dvc", "repro")
    assert main(["export", "micro", "--mmlu-all"]) == 0
    second = Path("results/micro/mmlu_all")
    assert "predictions" not in "".join(parts(second)) and "report.html" not in parts(second)
    assert read_json(second / "metrics/mmlu/m1.json")["total"] == 18
    assert read_json("results/micro/metrics/mmlu/m1.json")["total"] == 12
    results.check()
    (one,) = results_table.read_sets(Path("results"))
    assert one.mmlu_all["m1"]["total"] == 18
    assert "12 and 18 questions" in results_table.results_table([one])
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
    assert list(Path("results").rglob("*")) == []


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
    assert not Path("results").exists()


def test_without_a_run_there_is_nothing_to_export(project):
    Path("dvc.lock").unlink()
    with pytest.raises(UserError, match=r"dvc.lock: no such file"):
        results.export("micro")


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
    for folder in results_table.set_folders(Path("results")):
        figures_agree(folder)


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


# ---------------------------------------------------------------- the README's table


def make_set(
    folder: Path, form: str, seed: int = 0, mmlu_all: bool = False, models: ModelTable = PAPER_MODELS
) -> synthetic.Results:
    """Leave an invented run in `folder` as a set: its schema's form, and one database called `wta_1`."""
    made = synthetic.results(seed=seed, examples=120, questions=40 if mmlu_all else 12, models=models)
    for lines in (*made.spider_verdicts.values(), *made.predictions.values()):
        for line in lines:
            line["db_id"] = line["db_id"].replace("concert_1", "wta_1")
    for metrics in made.spider_metrics.values():
        metrics["by_database"]["wta_1"] = metrics["by_database"].pop("concert_1")
    made.schemas["wta_1"] = made.schemas["concert_1"]
    made.write(folder)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(re.sub(r"schema: \w+", f"schema: {form}", params), encoding="utf-8")
    with contextlib.chdir(folder):
        compare.main([])
    (folder / "data/timings").rename(folder / "timings")
    (folder / "reports/report.md").rename(folder / "report.md")
    shutil.rmtree(folder / "data")
    return made


@pytest.fixture(scope="module")
def made_sets(tmp_path_factory):
    """The folder of two invented sets, the second with all of MMLU, and what they were made of."""
    folder = tmp_path_factory.mktemp("sets") / "results"
    made = {
        "a-ddl": make_set(folder / "a-ddl", "ddl", seed=1),
        "z-none": make_set(folder / "z-none", "none", seed=2),
    }
    make_set(folder / "z-none/mmlu_all", "none", seed=2, mmlu_all=True)
    return folder, made


@pytest.fixture
def sets(made_sets, tmp_path, monkeypatch):
    """A copy of both sets below `results/` of the current folder, and a README."""
    folder, made = made_sets
    shutil.copytree(folder, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text(
        "before\n<!-- results: made -->\n\nold\n\n<!-- end of results -->\nbetween\n"
        "<!-- findings: made -->\n<!-- end of findings -->\nafter\n"
    )
    return made


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_the_table_has_a_row_a_set_and_model_below_the_papers(sets):
    headings, _, *rows = rows_of(results_table.results_table(results_table.read_sets(Path("results"))))
    # With less of the schema first.
    assert [row[0] for row in rows if row[0]] == ["the paper", "z-none", "a-ddl"]
    assert [row[1] for row in rows] == [NAMES[model] for model in MODELS] * 3
    places = {heading: place for place, heading in enumerate(headings)}

    def cell(name, model, heading):
        return rows[3 * ["paper", "z-none", "a-ddl"].index(name) + MODELS.index(model)][places[heading]]

    assert cell("paper", "base", "Spider") == "3.48 (2.5 to 4.8)"
    assert cell("paper", "m1", "Spider").startswith("7.25 ") and cell("paper", "m2", "Spider").startswith("6.00 ")
    assert cell("paper", "m1", "MMLU, 3 subjects") == "-2.00" and cell("paper", "m2", "Minutes") == "63.3"
    for name, made in sets.items():
        for model in MODELS:
            lines = made.spider_verdicts[model]
            rest = [line["execution_accuracy"] for line in lines if line["db_id"] != "wta_1"]
            right = [line["execution_accuracy"] for line in lines]
            assert 0 < len(rest) < len(right) == 120
            assert cell(name, model, "Spider").removesuffix(" *") == share(right)
            assert cell(name, model, "Without `wta_1`") == share(rest)
            official = [line["official_execution_accuracy"] for line in lines]
            assert cell(name, model, "Official") == f"{100 * sum(official) / 120:.2f}"
        for model in TUNED:
            pairs = list(zip(made.predictions[model], made.predictions["base"]))
            same = sum(ours["raw"] == theirs["raw"] for ours, theirs in pairs) / len(pairs)
            assert cell(name, model, "As Base") == f"{100 * same:.2f}"
            assert cell(name, model, "Minutes") == f"{made.timings[f'train_{model}']['seconds'] / 60:.1f}"
            ours, base = ([line["correct"] for line in made.mmlu_verdicts[which]] for which in (model, "base"))
            difference = 100 * (sum(ours) - sum(base)) / len(base)
            assert cell(name, model, "MMLU, 3 subjects").startswith(f"{points(difference)} (")
    assert cell("z-none", "m1", "MMLU, all 57") != "-" and cell("a-ddl", "m1", "MMLU, all 57") == "-"


def share(right: list[bool]) -> str:
    low, high = wilson_interval(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.2f} ({100 * low:.1f} to {100 * high:.1f})"


def test_a_star_marks_what_chance_does_not_explain(sets):
    _, _, *rows = rows_of(results_table.results_table(results_table.read_sets(Path("results"))))
    for place, name in ((3, "z-none"), (6, "a-ddl")):
        flat = read_numbers(Path("results") / name / "metrics/compare.json", PAPER_MODELS)
        for row, model in zip(rows[place + 1 : place + 3], TUNED):
            assert row[2].endswith(" *") == (flat[f"spider_p_holm_{model}"] <= 0.05)
            assert row[5].endswith(" *") == (flat[f"mmlu_p_holm_{model}"] <= 0.05)
        assert rows[place + 1][2].endswith(" *") and not rows[place + 2][2].endswith(" *")


def test_the_table_fits_into_a_terminal(sets):
    table, _, notes = results_table.results_table(results_table.read_sets(Path("results"))).partition("\n\n")
    assert max(map(len, table.splitlines())) < 160
    assert "over the 120 questions" in notes and "36 and 120 questions" in notes and "on 2 CPU cores" in notes


def test_the_notes_name_the_gpu(sets):
    path = Path("results/a-ddl/timings/train_m1.json")
    write_json(path, read_json(path) | {"gpu": "Some GPU"})
    assert "on 2 CPU cores or Some GPU;" in results_table.results_table(results_table.read_sets(Path("results")))


def test_findings_count_outputs_that_differ_and_what_remains_of_the_loss(sets):
    read = results_table.read_sets(Path("results"))
    made = sets["a-ddl"]
    differ = sum(ours["raw"] != theirs["raw"] for ours, theirs in zip(made.predictions["m2"], made.predictions["base"]))
    text = results_table.model_2_findings(read)
    assert f"a-ddl (rate 2e-8, epochs 0.5): {differ} of 120 outputs differ ({100 * differ / 120:.2f} %); " in text
    assert "6.00 %" in text and ": not distinguishable.\n" in text
    text = results_table.mmlu_findings(read)
    (line,) = [line for line in text.splitlines() if line.startswith("- z-none, Model 1")]
    for part, folder, total in zip(line.partition(": ")[2].split("; "), ("", "mmlu_all"), (36, 120)):
        flat = read_numbers(Path("results/z-none") / folder / "metrics/compare.json", PAPER_MODELS)
        assert f"{total} questions: {points(-flat['mmlu_loss_pts_m1'])} points" in part


def test_table_writes_and_checks_the_readme(sets, capsys):
    with pytest.raises(RunError, match=r"README.md: is not current; `.* table --write`"):
        main(["table", "--check"])
    assert "old" in Path("README.md").read_text()
    main(["table", "--write"])
    text = Path("README.md").read_text()
    assert text.startswith("before\n<!-- results: made -->\n\n| Set")
    assert text.endswith("\n<!-- end of findings -->\nafter\n")
    assert "old" not in text and "<!-- end of results -->\nbetween\n<!-- findings: made -->\n\n**What" in text
    assert main(["table", "--check"]) == 0
    capsys.readouterr()
    main(["table"])
    printed = capsys.readouterr().out
    assert all(line in text for line in printed.splitlines())
    Path("README.md").write_text(text.replace("<!-- end of results -->", ""))
    with pytest.raises(UserError, match=r"README.md: wanted one block from <!-- results: "):
        main(["table", "--write"])


def test_a_set_has_a_row_for_each_of_its_own_models(tmp_path):
    made = make_set(tmp_path / "results/four", "tables", models=synthetic.FOUR_MODELS)
    _, _, *rows = rows_of(results_table.results_table(results_table.read_sets(tmp_path / "results")))
    assert [row[1] for row in rows] == [*NAMES.values(), *synthetic.FOUR_MODELS.titles.values()]
    right = [line["execution_accuracy"] for line in made.spider_verdicts["m3"]]
    assert rows[-1][2].removesuffix(" *") == share(right)
    assert rows[-1][8] == f"{made.timings['train_m3']['seconds'] / 60:.1f}"
    assert "- four, Third: 36 questions: " in results_table.mmlu_findings(results_table.read_sets(tmp_path / "results"))


def test_without_sets_only_the_paper_is_there(tmp_path):
    blocks = results_table.blocks(results_table.read_sets(tmp_path / "results"))
    assert len(rows_of(blocks["results"])) == 5 and blocks["findings"] == "No set is there yet."
    assert f"{100 * paper.SPIDER_SUCCESSES['m1'] / 1034:.2f}" in blocks["results"]


def test_the_readmes_table_is_that_of_the_committed_sets(repository):
    done = subprocess.run(
        [sys.executable, "-m", "text2sql", "results", "table", "--check"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "README.md: is current\n"
