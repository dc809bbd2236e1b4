"""How far scores carry, in both reports: a table a set, with the numbers of the comparison."""

import pytest

from testkit import report_page, synthetic
from testkit.compared import compared
from tests.report.test_html import Parsed
from text2sql.core.params import load_params
from text2sql.report import markdown as report
from text2sql.report.html import html
from text2sql.report.markdown import markdown

SETS = {"syn": {"spider": "data/raw/a|<b>"}, "dk": {"spider": "dk", "table_order": "shuffled"}}


def wrong_where(lines, left_out):
    """Return verdict lines of which each fourth is wrong, without the last `left_out`."""
    turned = {"execution_accuracy": False, "official_execution_accuracy": False}
    return [line | (turned if place % 4 == 0 else {}) for place, line in enumerate(lines[: len(lines) - left_out])]


@pytest.fixture(scope="module")
def run():
    made = synthetic.results(examples=60, questions=12)
    also = {
        f"{model}__also": {name: wrong_where(made.spider_verdicts[model], left_out) for name, left_out in asked}
        for model, asked in (("base", (("syn", 0), ("dk", 5))), ("m1", (("syn", 0),)))
    }
    params = load_params(synthetic.PARAMS)
    data = params.data.model_validate({**params.data.model_dump(), "also": SETS})
    return report_page.run_of(made, comparison=compared(made, **also), params=params.model_copy(update={"data": data}))


def test_the_markdown_has_a_table_a_set_and_a_row_a_model(run):
    text = markdown(run)
    section = text.partition("## How far the scores carry")[2].partition("\n## ")[0]
    assert section.index(r"### syn (data/raw/a\|\<b\>)") < section.index("### dk (dk, tables shuffled)")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] in ("Base", "Model 1")]
    assert [row[0] for row in rows] == ["Base", "Model 1", "Base"]
    flips = [found.flips for found in run.comparison.carried]
    assert flips[2] is None and rows[2][-1] == "-"
    for row, share in zip(rows[:2], flips):
        assert share is not None and row[-1] == f"{100 * share:.2f} %"
    lost = run.comparison.carried_to("syn")["m1"].difference_pts
    assert lost < 0 and f"| {lost:+.2f} (" in section
    assert "further evaluation sets: 1 comparison (1 pair of models)" in text
    assert "each model on them against itself on Spider: 3 comparisons" in text


def test_the_note_says_what_each_model_loses(run):
    (syn,) = [note for note in run.notes if note.startswith("syn (data/raw/a|<b>), 60 questions: Base ")]
    assert syn.count("% of verdicts flip)") == 2 and "; Model 1 " in syn
    (dk,) = [note for note in run.notes if note.startswith("dk (dk, tables shuffled), 55 questions: Base ")]
    assert dk.endswith("other questions)")


def test_the_page_has_the_same_and_shows_names_as_text(run):
    page = Parsed(html(run))
    tables = [attributes["id"] for tag, attributes in page.elements if tag == "table" and "id" in attributes]
    assert {"also-syn", "also-dk"} <= set(tables)
    assert "syn (data/raw/a|<b>): execution accuracy" in page.text
    assert f"{100 * run.comparison.carried_to('syn')['m1'].flips:.2f}" in page.text


def test_a_set_in_birds_layout_has_birds_accuracy_in_both_reports(run):
    made = synthetic.results(examples=60, questions=12)
    of_bird = synthetic.as_of_bird(synthetic.results(examples=60, questions=12))
    also = {"base__also": {"syn": of_bird.spider_verdicts["base"], "dk": made.spider_verdicts["base"][:50]}}
    asked = report_page.run_of(made, comparison=compared(made, **also), params=run.params)
    heads = [line for line in markdown(asked).splitlines() if "Verdicts that flip" in line]
    assert ["BIRD's execution accuracy" in head for head in heads] == [True, False]
    shown = report.accuracy(of_bird.spider_metrics["base"], "bird_execution_accuracy")
    assert shown in markdown(asked)
    assert Parsed(html(asked)).text.count("BIRD's") == 1 and "BIRD" not in Parsed(html(run)).text + markdown(run)


def test_without_sets_neither_report_speaks_of_them():
    run = report_page.run_of(synthetic.results(examples=30, questions=6))
    assert "How far" not in markdown(run) and "also-" not in html(run)
