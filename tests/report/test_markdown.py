"""The Markdown report: this run beside the paper, tables that stay tables, dashes where nothing is known."""

import dataclasses
import re
from types import SimpleNamespace

import pytest

from testkit import report_page, synthetic
from testkit.synthetic import LOADED
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.core.params import load_params
from text2sql.data.mmlu import SUBJECT_CATEGORY
from text2sql.report import markdown as report
from text2sql.report.numbers import number
from text2sql.report.run import provenance
from text2sql.report.sentences import gate_lines, sentences


@pytest.fixture(scope="module")
def made():
    return synthetic.results(examples=120, questions=30)


@pytest.fixture(scope="module")
def run(made):
    return report_page.run_of(made)


@pytest.fixture(scope="module")
def found(run):
    return run.comparison


@pytest.fixture(scope="module")
def text(run):
    return report.markdown(run)


def rows(text):
    """Every table row of `text` as its list of cells, without the rules between head and body."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def row(text, *starts):
    return next(cells for cells in rows(text) if tuple(cells[: len(starts)]) == starts)


def test_table_1_has_this_run_beside_the_papers(text, made):
    params = load_params(synthetic.PARAMS)
    assert row(text, "base") == ["base", params.model.base, "unsloth/Llama-3.2-3B"] + [
        params.model.base,
        "unsloth/Llama-3.2-3B",
    ]
    rates = [number(params.train_for(model).lr) for model in ("m1", "m2")]
    assert row(text, "lr") == ["lr", rates[0], "2e-4", rates[1], "2e-8"]
    assert row(text, "seed")[2::2] == ["3407", "8000"]
    assert row(text, "batch_size")[2::2] == ["2", "4"]
    minutes = f"{made.timings['train_m1']['seconds'] / 60:.2f} minutes"
    assert row(text, "training time")[1:3] == [minutes, "28.43 minutes"]
    assert row(text, "training time")[4] == "63.30 minutes"
    assert row(text, "trainable parameters")[1:3] == ["3.50 %", "0.81 %"]


def test_table_2_has_this_run_beside_the_papers(text, made):
    metrics = made.spider_metrics["m1"]
    cells = row(text, "Model 1", "120")
    assert cells[2:4] == [str(metrics["successes"]), str(metrics["failures"])]
    low, high = (100 * metrics[f"execution_accuracy_{end}"] for end in ("low", "high"))
    assert cells[4] == f"{100 * metrics['execution_accuracy']:.2f} % ({low:.2f} to {high:.2f})"
    papers = [row(text, name, "120")[6] for name in ("Base", "Model 1", "Model 2")]
    assert papers == ["36 of 1,034: 3.48 %", "75 of 1,034: 7.25 %", "62 of 1,034: 6.00 %"]


def test_birds_accuracy_stands_beside_the_others_by_difficulty(found):
    assert report.difficulty_table(found) == []
    made = synthetic.as_of_bird(synthetic.results(examples=40, questions=30))
    (heading, table) = report.difficulty_table(report_page.compared(made))
    assert "difficulty" in heading
    for level in ("simple", "moderate", "challenging"):
        metrics = made.spider_metrics["base"]["by_difficulty"][level]
        cells = row(table, level, "Base")
        assert cells[2] == str(metrics["total"]) and cells[3] == report.accuracy(metrics, "bird_execution_accuracy")
        assert cells[4] == report.accuracy(metrics, "execution_accuracy") and cells[6:] == ["-", "-"]
        assert cells[5] == report.accuracy(metrics, "official_execution_accuracy")


def test_birds_accuracy_is_tested_in_pairs_as_the_others_are_with_and_without_difficulties(text):
    assert "BIRD" not in text
    made = synthetic.as_of_bird(synthetic.results(examples=40, questions=30), difficulty=False)
    run = report_page.run_of(made)
    page = report.markdown(run)
    assert "### BIRD's execution accuracy\n" in page and "Spider (all three accuracies) and MMLU overall" in page
    found = run.comparison.against_base("m1", "bird_execution_accuracy")
    (table,) = report.difficulty_table(run.comparison)[1:]
    cells = row(table, "Model 1")
    assert cells[2] == report.accuracy(made.spider_metrics["m1"], "bird_execution_accuracy")
    assert cells[5] == report.difference(found)
    pairs = row(report.pairs_table(run.comparison), "BIRD's execution accuracy", "Model 1 against Base")
    assert pairs[2:4] == [str(found.gained), str(found.lost)] and pairs[6] == report.difference(found)


def test_letters_stand_beside_the_base_s_choices_kept(text, found):
    cells = row(text, "Letters chosen")
    assert cells == ["Letters chosen", "A", "B", "C", "D", "Base's choices kept"]
    for model, title in found.models.titles.items():
        (cells,) = [cells for cells in rows(report.letters_table(found)) if cells[0] == title]
        assert cells[1:5] == [f"{100 * share:.2f} %" for share in found.letters[model].values()]
        kept = found.agreement[model, "base"].mmlu_choices if model != "base" else None
        assert cells[5] == ("-" if kept is None else f"{100 * kept:.2f} %")


def test_rotations_and_chat_have_tables_where_they_were_asked(text):
    assert "four rotations" not in text and "In chat" not in text
    run = report_page.run_of(synthetic.ask_mmlu_otherwise(synthetic.results(examples=60, questions=40)))
    found, text = run.comparison, report.markdown(run)
    chat = found.chat["m1"]
    cells = row("\n".join(report.chat_table(found)), "Model 1")
    assert cells[1:5] == [
        *(f"{100 * chat[f'{kind}_share']:.2f} %" for kind in ("letter", "sql", "other")),
        str(chat["at_token_limit"]),
    ]
    assert cells[-2] == report.difference(found.row("m1", "base", "chat_accuracy"))
    assert row("\n".join(report.chat_table(found)), "Base")[-2:] == ["-", "-"]
    cells = row("\n".join(report.rotations_table(found)), "Model 2")
    assert cells[2] == report.accuracy(found.rotated["m2"], "accuracy")
    assert cells[-2] == report.difference(found.row("m2", "base", "rotated_accuracy"))
    assert row(text, "MMLU in chat", "Model 1 against Base") and row(
        text, "MMLU, four rotations", "Model 2 against Base"
    )
    assert "sign-flip" in text


def test_the_mmlu_table_prints_a_dash_where_the_paper_prints_nothing(found):
    table = rows(report.mmlu_table(found))
    papers = {}
    for cells in table[1:]:
        heading = cells[0] or heading  # noqa: F821 (the first row has one)
        papers.setdefault(heading, []).append(cells[-1])
    assert papers == {
        "Overall": ["-", "-2.00", "-2.00"],
        "STEM": ["-", "+2.00", "+2.00"],
        "Humanities": ["-", "-8.00", "-8.00"],
        "Social sciences": ["-", "-", "-"],
    }


def test_the_mmlu_table_has_points_and_relative_change(found):
    one = found.against_base("m1", "accuracy", "stem")
    cells = rows(report.mmlu_table(found))[5]
    assert cells[1] == "Model 1"
    assert cells[4].startswith(f"{one.difference_pts:+.2f} (")
    relative = 100 * (one.accuracy - one.accuracy_against) / one.accuracy_against
    assert cells[5] == f"{relative:+.2f} %"


def test_relative_change_against_nothing_is_a_dash():
    assert report.relative_change(SimpleNamespace(accuracy_against=0.0, difference_pts=4.0)) == "-"


def test_verdicts_limits_families_and_agreement_are_in_it(text, found):
    for sentence in sentences(found.summary).values():
        assert f"- {sentence}" in text
    for family in found.families.values():
        assert family in text
    assert "at most 5 wanted" in text
    shares = found.agreement["m2", "base"]
    assert row(text, "Model 2 and Base")[1] == f"{100 * shares.outputs:.2f} %"
    assert "not distinguishable" in row(text, "MMLU", "Model 2 against Base")


def test_durations_are_listed_with_their_machine(text):
    cells = row(text, "train_m1")
    assert cells[-1] == "cpu, 2 cores" and cells[4] == "-"
    assert row(text, "Model 2")[0] == "Model 2"


def test_base_digest_dtype_device_and_versions_are_named(run, made):
    measured = provenance(made.timings, run.comparison)
    assert measured["base"] == LOADED["base"] and measured["run"] == {"dtype": "bfloat16", "device": "cpu, 2 cores"}
    text = report.markdown(dataclasses.replace(run, provenance=measured))
    for name, value in LOADED["base"].items():
        assert row(text, f"Base: {name}") == [f"Base: {name}", value]
    assert row(text, "Run: dtype")[1] == "bfloat16" and row(text, "Run: device")[1] == "cpu, 2 cores"
    assert row(text, "Version: transformers")[1] == "5.17.0" and row(text, "Version: sqlite")[1]
    # A stage that ran elsewhere is named too.
    elsewhere = made.timings | {"eval_mmlu_m2": made.timings["eval_mmlu_m2"] | {"gpu": "Tesla T4", "dtype": "float16"}}
    measured = provenance(elsewhere, run.comparison)["run"]
    assert measured == {"dtype": "bfloat16; float16", "device": "cpu, 2 cores; Tesla T4"}


def test_missing_timings_show_as_dashes(run):
    text = report.markdown(dataclasses.replace(run, timings={}))
    assert "No durations were recorded." in text
    assert row(text, "training time") == ["training time", "-", "28.43 minutes", "-", "63.30 minutes"]


def test_subjects_are_listed_where_there_are_more_of_them_than_categories(text):
    assert "## MMLU by subject" not in text
    subjects = tuple(list(SUBJECT_CATEGORY)[:6])
    made = synthetic.results(examples=8, questions=6, subjects=subjects)
    text = report.markdown(report_page.run_of(made))
    assert "## MMLU by subject" in text
    assert len(row(text, subjects[0].replace("_", " "))) == 6


def test_every_row_of_a_table_has_its_columns_whatever_the_text(run):
    params = load_params(synthetic.PARAMS)
    hostile = params.model_copy(update={"model": SimpleNamespace(base="a|b\nc\u2028d")})
    table = report.table_1(dataclasses.replace(run, params=hostile))
    assert {len(cells) for cells in rows(table)} == {5}
    assert row(table, "base")[1] == "a\\|b c d"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-4, "2e-4"), (2e-8, "2e-8"), (0.002, "0.002"), (3.5e-5, "3.5e-5"), (1.0, "1"), (0, "0"), (-1e-5, "-1e-5"),
     (16, "16"), ("adamw_8bit", "adamw_8bit"), (True, "True")],
)  # fmt: skip
def test_numbers_read_as_people_write_them(value, text):
    assert number(value) == text


def test_four_models_have_their_rows_and_the_paper_prints_nothing_of_the_fourth():
    made = synthetic.results(examples=60, questions=12, models=synthetic.FOUR_MODELS)
    params = load_params(synthetic.PARAMS)
    recipes = {"m1": params.train, "m2": params.train, "m3": params.train.model_copy(update={"lr": 0.003})}
    run = report_page.run_of(
        made,
        params=SimpleNamespace(train_for=recipes.get, model=params.model, compare=params.compare, data=params.data),
    )
    text = report.markdown(run)
    assert text.startswith("# Start, First, Second and Third\n")
    for line in [*sentences(run.comparison.summary).values(), *gate_lines(run.trade_off, run.models)]:
        assert f"- {line}\n" in text
    metrics = made.spider_metrics["m3"]
    assert row(text, "Third", "60")[2] == str(metrics["successes"]) and row(text, "Third", "60")[-1] == "-"
    assert row(text, "Second", "60")[-1].startswith("62 of 1,034")
    mmlu = rows(report.mmlu_table(run.comparison))[1:5]
    assert [cells[-1] for cells in mmlu] == ["-", "-2.00", "-2.00", "-"]
    assert [cells[1] for cells in mmlu] == ["Start", "First", "Second", "Third"]
    assert row(text, "lr")[-2:] == ["0.003", "-"] and len(row(text, "seed")) == 7
    for pair in ("Third and Start", "First and Third"):
        assert row(text, pair)[1].endswith(" %")
    assert row(text, "MMLU", "First against Third")
    assert row(text, "train_m3")[1] == f"{made.timings['train_m3']['seconds'] / 60:.2f}"


def test_models_scored_by_different_versions_of_sqlite_are_named(made, text):
    assert "different versions of SQLite" not in text
    other = synthetic.results(examples=120, questions=30)
    other.spider_metrics["m1"]["sqlite_version"] = "3.40.1"
    assert (
        "scored by different versions of SQLite, which may round averages and sums differently: "
        "Base and Model 2 with 3.46.1; Model 1 with 3.40.1"
    ) in report.markdown(report_page.run_of(other))


def test_the_example_prompt_stands_as_the_model_read_it(run, text):
    """With what a chat template adds by itself, such as Qwen's system prompt."""
    prompt = "<|im_start|>system\nYou are Qwen.<|im_end|>\n<|im_start|>user\n```sql\n| a<|im_end|>\n"
    with_prompt = report.markdown(dataclasses.replace(run, example_prompt=prompt))
    assert with_prompt == f"{text}\n## A prompt as the base read it\n\n````\n{prompt}\n````\n"


def test_own_data_are_called_by_their_name_and_stand_beside_no_paper():
    text = report.markdown(report_page.run_of(synthetic.results(models=ModelTable(dict(PAPER_MODELS.titles), "pets"))))
    assert "Spider" not in text
    assert "\n## pets\n" in text and "## What a point on pets cost" in text and "pets, execution accuracy" in text
    (headings,) = [line for line in text.splitlines() if line.startswith("| Model ") and "Successes" in line]
    assert "The paper's" not in headings
