"""The tables of the result sets: README's short one, those of docs/results.md, and the paper's claims."""

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
from text2sql.comparison.flat import read_numbers
from text2sql.comparison.result import Difference, Verdict
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_json, write_json
from text2sql.core.intervals import wilson_interval
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.report import paper, results_table
from text2sql.report.numbers import points
from text2sql.report.paper_claims import claims
from text2sql.report.read_sets import Spread, read_sets, verdict

MODELS, TUNED, NAMES = PAPER_MODELS.names, PAPER_MODELS.tuned, PAPER_MODELS.titles
RESULTS = Path("results")


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


def add_seed(whole: Path, seed: int, spider: int, mmlu: int) -> None:
    """Leave Model 1 of another seed in a set: with so many right answers more than the set's own."""
    for task, more, names in (("spider", spider, ("successes", "official_successes")), ("mmlu", mmlu, ("correct",))):
        metrics = read_json(whole / f"metrics/{task}/m1.json")
        changed = metrics | {name: metrics[name] + more for name in names}
        write_json(whole / f"seeds/{seed}/metrics/{task}/m1.json", changed)


@pytest.fixture
def sets(made_sets, tmp_path, monkeypatch):
    """A copy of both sets below `results/` of the current folder, and a README."""
    folder, made = made_sets
    shutil.copytree(folder, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("README.md").write_text("before\n<!-- summary: made -->\n\nold\n\n<!-- end of summary -->\nafter\n")
    Path("docs/results.md").write_text(
        "top\n<!-- results: made -->\n\nold\n\n<!-- end of results -->\nbetween\n"
        "<!-- carried: made -->\n<!-- end of carried -->\n"
        "<!-- details: made -->\n<!-- end of details -->\nend\n"
    )
    Path("docs/paper.md").write_text("<!-- claims: made -->\n<!-- end of claims -->\n")
    return made


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_own_data_have_tables_of_their_own_and_are_not_called_spider(sets, monkeypatch):
    both = results_table.blocks(read_sets(RESULTS))
    make_set(RESULTS / "pets-ddl", "ddl", seed=3, models=ModelTable(dict(NAMES), "pets"))
    found = results_table.blocks(read_sets(RESULTS))
    readme, before = found[Path("README.md")]["summary"], both[Path("README.md")]["summary"]
    own = readme.removeprefix(before)
    assert own != readme and "Spider" not in own and "the paper" not in own
    assert "pets, base" in own and "pets: execution accuracy in percent, over the 120 questions" in own
    docs, on_spider = found[Path("docs/results.md")], both[Path("docs/results.md")]
    (table,) = [part for part in docs["results"].split("\n\n") if "| pets " in part.splitlines()[0]]
    assert "wta_1" not in table and "the paper" not in table and "Spider" not in table
    assert "- pets: likewise, over 120 questions of its dev split (pets-ddl)." in docs["results"]
    assert on_spider["results"].split("\n\n")[0] == docs["results"].split("\n\n")[0]
    assert found[Path("docs/paper.md")] == both[Path("docs/paper.md")] and "pets-ddl" in docs["details"]
    for path in (RESULTS / "pets-ddl").rglob("*.*"):
        if path.suffix in (".md", ".csv"):
            assert "Spider" not in path.read_text(encoding="utf-8"), path


class Table:
    """A Markdown table whose rows come in sets, each named once."""

    def __init__(self, text: str) -> None:
        self.headings, _, *self.rows = rows_of(text)
        names: list[str] = []
        for row in self.rows:
            names.append(row[0] or names[-1])
        self.names = names

    def cell(self, name: str, title: str, heading: str) -> str:
        (row,) = [row for row, of in zip(self.rows, self.names) if of == name and row[1] == title]
        return row[self.headings.index(heading)]


def test_spiders_table_has_a_row_a_set_and_model_below_the_papers(sets):
    table = Table(results_table.spider_table(read_sets(RESULTS)))
    # With less of the schema first.
    assert list(dict.fromkeys(table.names)) == ["the paper", "z-none", "a-ddl"]
    assert [row[1] for row in table.rows] == [NAMES[model] for model in MODELS] * 3
    assert table.cell("the paper", "Base", "Spider") == "3.48 (2.5 to 4.8)"
    assert table.cell("the paper", "Model 1", "Gain") == "+3.77" and table.cell("the paper", "Base", "Gain") == "-"
    for name, made in sets.items():
        for model in MODELS:
            lines = made.spider_verdicts[model]
            rest = [line for line in lines if line["db_id"] != "wta_1"]
            assert 0 < len(rest) < len(lines) == 120
            for measure, all_of, others in (
                ("execution_accuracy", "Spider", "Without `wta_1`"),
                ("official_execution_accuracy", "Official", "Official, without"),
            ):
                right = [line[measure] for line in lines]
                assert table.cell(name, NAMES[model], all_of).partition(" ")[0] == f"{100 * sum(right) / 120:.2f}"
                without = 100 * sum(line[measure] for line in rest) / len(rest)
                assert table.cell(name, NAMES[model], others) == f"{without:.2f}"
            right = [line["execution_accuracy"] for line in lines]
            assert table.cell(name, NAMES[model], "Spider") == share(right)
        base = sum(line["execution_accuracy"] for line in made.spider_verdicts["base"])
        for model in TUNED:
            pairs = list(zip(made.predictions[model], made.predictions["base"]))
            same = sum(ours["raw"] == theirs["raw"] for ours, theirs in pairs) / len(pairs)
            assert table.cell(name, NAMES[model], "As Base") == f"{100 * same:.2f}"
            gain = 100 * (sum(line["execution_accuracy"] for line in made.spider_verdicts[model]) - base) / 120
            assert table.cell(name, NAMES[model], "Gain").startswith(f"{points(gain)} (")


def test_the_short_table_has_a_row_a_set_with_mmlu_on_the_most_questions(sets):
    read = read_sets(RESULTS)
    table, spider, mmlu = (
        Table(made(read))
        for made in (results_table.summary_table, results_table.spider_table, results_table.mmlu_table)
    )
    assert table.names == ["the paper", "z-none", "a-ddl"]
    assert [row[0] for row in table.rows] == table.names
    for row, name in zip(table.rows, table.names):
        cells = dict(zip(table.headings, row))
        for heading, title in (("Spider, base", "Base"), ("Model 1", "Model 1")):
            assert cells[heading] == spider.cell(name, title, "Spider").partition(" ")[0]
        assert cells["Gain"] == spider.cell(name, "Model 1", "Gain")
        of, change = (
            ("120", "Change, all 57") if name == "z-none" else ("150" if name == "the paper" else "36", "Change")
        )
        assert (cells["of questions"], cells["MMLU"]) == (of, mmlu.cell(name, "Model 1", change))
    assert "over the 120 questions" in results_table.blocks(read)[results_table.README]["summary"]


def test_mmlus_table_has_the_papers_questions_and_all(sets):
    table = Table(results_table.mmlu_table(read_sets(RESULTS)))
    assert table.cell("the paper", "Model 1", "Change") == "-2.00"
    for name, made in sets.items():
        right = {model: [line["correct"] for line in made.mmlu_verdicts[model]] for model in MODELS}
        for model in MODELS:
            share = 100 * sum(right[model]) / len(right[model])
            assert table.cell(name, NAMES[model], "MMLU, 3 subjects") == f"{share:.2f}"
        for model in TUNED:
            difference = 100 * (sum(right[model]) - sum(right["base"])) / len(right["base"])
            assert table.cell(name, NAMES[model], "Change").startswith(f"{points(difference)} (")
    assert table.cell("z-none", "Model 1", "Change, all 57") != "-"
    assert {table.cell("a-ddl", "Model 1", f"{what}, all 57") for what in ("MMLU", "Change", "Seeds")} == {"-"}


def test_the_training_table_says_how_and_what_it_took(sets):
    params = Path("results/a-ddl/params.yaml")
    params.write_text(params.read_text().replace("optim: adamw_torch ", "optim: adamw_8bit "))
    path = Path("results/a-ddl/timings/train_m1.json")
    write_json(path, read_json(path) | {"gpu": "Some GPU", "peak_gpu_memory_gb": 12.345})
    read = read_sets(RESULTS)
    table = Table(results_table.training_table(read))
    for name, made in sets.items():
        for model in TUNED:
            seconds = made.timings[f"train_{model}"]["seconds"]
            assert table.cell(name, NAMES[model], "Minutes") == f"{seconds / 60:.1f}"
    row = {heading: table.cell("a-ddl", "Model 1", heading) for heading in ("Optimizer", "GB", "Schema", "Epochs")}
    assert row == {"Optimizer": "adamw_8bit", "GB": "12.35", "Schema": "ddl", "Epochs": "1"}
    assert table.cell("a-ddl", "Model 2", "Epochs") == "0.25"
    assert table.cell("z-none", "Model 1", "Optimizer") == "adamw_torch"
    assert (
        table.cell("z-none", "Model 1", "GB")
        == f"{read_json(RESULTS / 'z-none/timings/train_m1.json')['peak_memory_gb']:.2f}"
    )
    assert "on 2 CPU cores or Some GPU;" in results_table.blocks(read)[results_table.DOCS]["results"]


def share(right: list[bool]) -> str:
    low, high = wilson_interval(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.2f} ({100 * low:.1f} to {100 * high:.1f})"


def test_a_star_marks_what_chance_does_not_explain(sets):
    read = read_sets(RESULTS)
    spider, mmlu = Table(results_table.spider_table(read)), Table(results_table.mmlu_table(read))
    for name in sets:
        flat = read_numbers(RESULTS / name / "metrics/compare.json", PAPER_MODELS)
        for model in TUNED:
            gain = spider.cell(name, NAMES[model], "Gain")
            assert gain.endswith(" *") == (flat[f"spider_p_holm_{model}"] <= 0.05)
            assert mmlu.cell(name, NAMES[model], "Change").endswith(" *") == (flat[f"mmlu_p_holm_{model}"] <= 0.05)
        assert spider.cell(name, "Model 1", "Gain").endswith(" *")
        assert not spider.cell(name, "Model 2", "Gain").endswith(" *")


def test_seeds_stand_beside_a_gain_and_it_has_to_exceed_their_spread(sets):
    whole = RESULTS / "a-ddl"
    right, base = (read_json(whole / f"metrics/spider/{model}.json")["successes"] for model in ("m1", "base"))
    own = 100 * (right - base) / 120
    assert Table(results_table.spider_table(read_sets(RESULTS))).cell("a-ddl", "Model 1", "Seeds") == "1 seed"
    add_seed(whole, 1, spider=2, mmlu=0)
    add_seed(whole, 2, spider=-3, mmlu=0)
    table = Table(results_table.spider_table(read_sets(RESULTS)))
    wanted = f"3: {points(own - 300 / 120)} to {points(own + 200 / 120)}"
    assert table.cell("a-ddl", "Model 1", "Seeds") == wanted
    assert table.cell("a-ddl", "Model 1", "Gain").endswith(" *")
    assert table.cell("a-ddl", "Model 2", "Seeds") == "-"
    assert table.cell("z-none", "Model 1", "Seeds") == "1 seed"
    # A seed that gains next to nothing: the same p, and no star.
    add_seed(whole, 2, spider=base - right + 1, mmlu=0)
    table = Table(results_table.spider_table(read_sets(RESULTS)))
    assert not table.cell("a-ddl", "Model 1", "Gain").endswith("*")


@pytest.mark.parametrize(
    ("gain", "spread", "expected"),
    [
        (10.0, Spread(3, 9.0, 11.0), Verdict.BETTER),
        (10.0, Spread(3, 4.9, 10.0), Verdict.NOT_DISTINGUISHABLE),
        (10.0, Spread(2, -1.0, 10.0), Verdict.NOT_DISTINGUISHABLE),
        (-2.0, Spread(3, -2.5, -1.5), Verdict.WORSE),
        (-2.0, Spread(3, -2.5, -1.0), Verdict.NOT_DISTINGUISHABLE),
        (-2.0, Spread(3, -2.0, 0.5), Verdict.NOT_DISTINGUISHABLE),
        (10.0, Spread(1, 10.0, 10.0), Verdict.BETTER),
        (10.0, None, Verdict.BETTER),
    ],
)
def test_a_verdict_needs_p_and_more_than_the_spread(gain, spread, expected):
    numbers = {"difference_pts": gain, "low_pts": gain - 1, "high_pts": gain + 1, "smallest_detectable_pts": None}
    assert verdict(Difference(**numbers, p_holm=0.01), spread) is expected
    assert verdict(Difference(**numbers, p_holm=0.2), spread) is Verdict.NOT_DISTINGUISHABLE


def test_the_tables_fit_into_a_terminal(sets):
    found = results_table.blocks(read_sets(RESULTS))
    short, text = found[results_table.README]["summary"], found[results_table.DOCS]["results"]
    assert max(len(line) for line in f"{short}\n{text}".splitlines() if line.startswith("|")) < 160
    assert "over the 120 questions" in text and "36 and 120 questions" in text and "on 2 CPU cores" in text


def claim(text: str, start: str) -> list[list[str]]:
    """Return the rows of the claim that starts so."""
    (found,) = [part for part in f"\n\n{text}".split("\n\n**") if part.startswith(start)]
    return rows_of(found)[2:]


def test_the_papers_claims_stand_beside_what_the_sets_show(sets):
    text = claims(read_sets(RESULTS))
    made = sets["a-ddl"]
    differ = sum(ours["raw"] != theirs["raw"] for ours, theirs in zip(made.predictions["m2"], made.predictions["base"]))
    (row,) = [row for row in claim(text, "Three epochs at a rate of 2e-8 help too: +2.51") if row[0] == "a-ddl"]
    assert row[1:3] == ["2e-8, 0.25", f"{differ} of 120 ({100 * differ / 120:.2f} %)"]
    rows = [
        row for row in claim(text, "Both tuned models lose on MMLU: -2.00 points") if row[:2] == ["z-none", "Model 1"]
    ]
    for row, folder, total in zip(rows, ("", "mmlu_all"), ("36", "120"), strict=True):
        flat = read_numbers(RESULTS / "z-none" / folder / "metrics/compare.json", PAPER_MODELS)
        assert row[2:4] == [total, points(-flat["mmlu_loss_pts_m1"])]
    flat = read_numbers(RESULTS / "a-ddl/metrics/compare.json", PAPER_MODELS)
    (row,) = [row for row in claim(text, "Fine-tuning helps on Spider: +3.77") if row[0] == "a-ddl"]
    assert row[1:3] == ["ddl", points(flat["spider_gain_pts_m1"])] and row[5] == "1"
    schemas = [row[1] for row in claim(text, "The schema was left out")]
    assert sorted(schemas) == ["ddl", "none"]
    add_seed(RESULTS / "a-ddl", 1, spider=0, mmlu=5)
    rows = claim(claims(read_sets(RESULTS)), "Both tuned models lose on MMLU")
    (row,) = [row for row in rows if row[:3] == ["a-ddl", "Model 1", "36"]]
    loss = -flat["mmlu_loss_pts_m1"]
    assert row[6] == f"2: {points(loss)} to {points(loss + 500 / 36)}" and row[-1] == "not distinguishable"


def test_details_count_by_hardness_and_cause(sets):
    read = read_sets(RESULTS)
    hardness, causes = Table(results_table.hardness_table(read)), Table(results_table.causes_table(read))
    for name, made in sets.items():
        for model in MODELS:
            lines = made.spider_verdicts[model]
            easy = [line for line in lines if line["hardness"] == "easy"]
            shares = [
                f"{100 * sum(line[measure] for line in easy) / len(easy):.2f}"
                for measure in ("execution_accuracy", "official_execution_accuracy")
            ]
            assert hardness.cell(name, NAMES[model], "easy") == " / ".join(shares)
            wrong = sum(line["outcome"] == "unknown_column" for line in lines)
            assert causes.cell(name, NAMES[model], "unknown column") == str(wrong)
    assert "limit reached" in causes.headings and "result too large" not in causes.headings


def test_table_writes_and_checks_the_files(sets, capsys):
    with pytest.raises(
        RunError, match=r"README.md, docs/results.md, docs/paper.md: is not current; `.* table --write`"
    ):
        main(["table", "--check"])
    assert "old" in Path("README.md").read_text()
    main(["table", "--write"])
    assert capsys.readouterr().out == "README.md, docs/results.md, docs/paper.md: updated\n"
    short, text = Path("README.md").read_text(), Path("docs/results.md").read_text()
    assert short.startswith("before\n<!-- summary: made -->\n\n| Set") and "old" not in short + text
    assert short.endswith("\n<!-- end of summary -->\nafter\n")
    assert text.startswith("top\n<!-- results: made -->\n\n| Set")
    assert text.endswith("\n<!-- end of details -->\nend\n")
    assert "<!-- claims: made -->\n\n**Fine-tuning helps" in Path("docs/paper.md").read_text()
    assert "<!-- details: made -->\n\n**By hardness**" in text
    assert main(["table", "--check"]) == 0
    capsys.readouterr()
    main(["table"])
    printed = capsys.readouterr().out
    text_of_all = "".join(Path(name).read_text() for name in ("README.md", "docs/results.md", "docs/paper.md"))
    assert all(line in text_of_all for line in printed.splitlines())
    Path("docs/results.md").write_text(text.replace("<!-- end of results -->", ""))
    with pytest.raises(UserError, match=r"docs/results.md: wanted one block from <!-- results: "):
        main(["table", "--write"])


def test_a_set_has_a_row_for_each_of_its_own_models(tmp_path):
    made = make_set(tmp_path / "results/four", "tables", models=synthetic.FOUR_MODELS)
    read = read_sets(tmp_path / "results")
    table = Table(results_table.spider_table(read))
    assert [row[1] for row in table.rows] == [*NAMES.values(), *synthetic.FOUR_MODELS.titles.values()]
    right = [line["execution_accuracy"] for line in made.spider_verdicts["m3"]]
    assert table.cell("four", "Third", "Spider") == share(right)
    seconds = made.timings["train_m3"]["seconds"]
    assert Table(results_table.training_table(read)).cell("four", "Third", "Minutes") == f"{seconds / 60:.1f}"
    assert any(row[:3] == ["four", "Third", "36"] for row in rows_of(claims(read)))


def test_without_sets_only_the_paper_is_there(tmp_path):
    blocks = results_table.blocks(read_sets(tmp_path / "results"))
    short, docs = blocks[results_table.README], blocks[results_table.DOCS]
    assert len(rows_of(docs["results"])) == 5 and blocks[results_table.PAPER] == {"claims": "No set is there yet."}
    assert len(rows_of(short["summary"])) == 3
    for text in (short["summary"], docs["results"]):
        assert f"{100 * paper.SPIDER_SUCCESSES['m1'] / 1034:.2f}" in text


def test_the_committed_tables_are_those_of_the_committed_sets(repository):
    done = subprocess.run(
        [sys.executable, "-m", "text2sql", "results", "table", "--check"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "README.md and the tables of docs/: current\n"
