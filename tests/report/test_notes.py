"""What a reader of the figures has to know besides, in all reports: floor and chance, SQLite's versions, memory."""

from testkit import report_page, synthetic
from tests.report.test_html import Parsed
from text2sql.report import markdown as report

FLOOR = {
    "execution_accuracy": {"successes": 6, "total": 120, "query": "SELECT 1 WHERE 0"},
    "official_execution_accuracy": {"successes": 7, "total": 120, "query": "SELECT '<b>|*'"},
}
NOTED = (
    "The same answer to every question scores 5.00 % (6 of 120, by SELECT 1 WHERE 0), "
    "official 5.83 % (7 of 120, by SELECT '<b>|*')."
)


def test_the_spider_table_names_its_floor_and_mmlus_chance():
    made = synthetic.results(examples=120, questions=30)
    text = report.markdown(report_page.run_of(made))
    assert "A guess is right on 25 % of MMLU's questions" in text
    assert "The same answer to every question" not in text  # metrics of an older run
    for model in made.models.names:
        made.spider_metrics[model]["floor"] = FLOOR
    run = report_page.run_of(made)
    assert run.notes == [NOTED]
    # What a database holds is text.
    shown = NOTED.replace("<b>|*", r"\<b\>\|\*")
    assert report.markdown(run).count(f"- {shown}\n") == 1


def test_where_memory_ran_out_is_said():
    made = synthetic.results(examples=120, questions=30)
    made.train_metrics["m1"]["out_of_memory"] = 2
    made.spider_metrics["base"]["questions_in_halved_batches"] = 64
    made.mmlu_metrics["m2"]["questions_in_halved_batches"] = 16
    assert report_page.run_of(made).notes == [
        "Model 1, training: times that memory ran out, and a step was cut otherwise, which may round otherwise: 2",
        "Base, Spider: questions asked in halved batches, for memory ran out, which may round otherwise: 64",
        "Model 2, MMLU: questions asked in halved batches, for memory ran out, which may round otherwise: 16",
    ]


def test_answers_that_are_wrong_by_a_tie_alone_are_said():
    made = synthetic.results(examples=120, questions=30)
    metrics = made.spider_metrics["m1"]
    right = metrics["official_successes"]
    metrics["causes"]["tie"], metrics["lenient_successes"] = 3, right + 3
    del made.spider_metrics["base"]["causes"]["tie"]  # of a set from before
    (line,) = report_page.run_of(made).notes
    assert line.startswith("Model 1, Spider: 3 answers are wrong by a tie at gold's LIMIT alone")
    share = f"{100 * (right + 3) / 120:.2f} %"
    assert line.endswith(f"leniently {right + 3} of 120 ({share}) are right, officially {right}")
    assert "wrong by a tie" in Parsed(report_page.page(made)).text


def test_the_page_says_what_the_figures_need_besides():
    """Spider's floor, MMLU's chance, and versions of SQLite that differ; what a database holds is text."""
    made = synthetic.results(examples=20, questions=8)
    entry = {"successes": 1, "total": 20, "query": "SELECT '<img src=x>'"}
    for model in made.models.names:
        made.spider_metrics[model]["floor"] = {"execution_accuracy": entry, "official_execution_accuracy": entry}
    made.spider_metrics["m1"]["sqlite_version"] = "3.40.1"
    page = Parsed(report_page.page(made))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    for note in (
        "The same answer to every question scores 5.00 % (1 of 20, by SELECT '<img src=x>'), official 5.00 %",
        "Base and Model 2 with 3.46.1; Model 1 with 3.40.1",
        "A guess is right on 25 % of MMLU's questions",
    ):
        assert note in page.text
