"""reports/report.html as text: what it says, what it must not do, and how large it may grow."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from testkit import report_page, synthetic
from testkit.synthetic import LOADED
from text2sql.comparison.result import Comparison
from text2sql.core.models import ModelTable
from text2sql.core.params import load_params
from text2sql.report import charts, explorer, numbers
from text2sql.report import html as html_report
from text2sql.report.curve import read_curve
from text2sql.report.run import curves_of_run, read_run
from text2sql.report.sentences import sentences

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} ${x} `y` & \"q\" 'q'",
    "line\u2028separator, NUL \x00, DEL \x7f, right-to-left \u202e, emoji \U0001f600",
)


class Parsed(HTMLParser):
    """The page as a browser's parser sees it: elements with their attributes, the scripts' contents, visible text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.text = ""
        self._inside: str | None = None
        self.feed(page)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append((dict(attributes), ""))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside != "style":
            self.text += data

    def data(self) -> dict:
        """What the explorer reads."""
        return json.loads(self.scripts[0][1])


@pytest.fixture(scope="module")
def made() -> synthetic.Results:
    return synthetic.results(examples=40)


@pytest.fixture(scope="module")
def comparison(made) -> Comparison:
    return report_page.compared(made)


@pytest.fixture(scope="module")
def parsed(made, comparison) -> Parsed:
    return Parsed(report_page.page(made, comparison=comparison))


def hostile_line(line: dict, text: str) -> dict:
    result = {"columns": [text, "n"], "rows": [[text, 1], [None, 2.5]], "row_count": 2}
    return line | {
        "question": text, "gold": text, "sql": text, "db_id": "concert_0", "error": text, "result": result,
        "gold_result": result,
    }  # fmt: skip


# ---------------------------------------------------------------- what it says


def test_the_verdicts_are_the_comparison_s_own_sentences(parsed, comparison):
    for sentence in sentences(comparison.summary).values():
        assert numbers.true_minus(sentence) in parsed.text


def test_the_tables_show_each_accuracy_with_its_interval(parsed, comparison):
    measures = (("spider", "execution_accuracy"), ("spider", "official_execution_accuracy"), ("mmlu", "accuracy"))
    for task, measure in measures:
        for metrics in getattr(comparison, task).values():
            value, low, high = (100 * metrics[measure + end] for end in ("", "_low", "_high"))
            assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in parsed.text


def test_hardness_categories_and_causes_are_all_there(parsed, made):
    for metrics in made.spider_metrics.values():
        for level, entry in metrics["by_hardness"].items():
            assert level in parsed.text and f"{100 * entry['execution_accuracy']:.1f} [" in parsed.text
        for cause, number in metrics["causes"].items():
            assert not number or numbers.words(cause) in parsed.text
    for name in ("STEM", "Humanities", "Social sciences"):
        assert name in parsed.text
    links = {attributes.get("href") for tag, attributes in parsed.elements if tag == "a"}
    assert {f"#base={cause}" for cause, number in made.spider_metrics["base"]["causes"].items() if number} <= links


@pytest.mark.parametrize("difficulty", [True, False])
def test_birds_accuracy_is_there_where_the_benchmark_has_it(parsed, difficulty):
    made = synthetic.as_of_bird(synthetic.results(examples=40, questions=30), difficulty)
    found = report_page.compared(made)
    page = Parsed(report_page.page(made, comparison=found))
    assert "bird" in [attributes.get("id") for _, attributes in page.elements]
    assert ("by difficulty" in page.text) is ("challenging" in page.text) is difficulty
    share, low, high = (
        100 * made.spider_metrics["m1"][f"bird_execution_accuracy{end}"] for end in ("", "_low", "_high")
    )
    assert f"{share:.1f} [{low:.1f}, {high:.1f}]" in page.text
    gain = found.against_base("m1", "bird_execution_accuracy")
    shown = [numbers.true_minus(numbers.points(value)) for value in (gain.difference_pts, gain.low_pts, gain.high_pts)]
    section = page.text.partition("BIRD's execution accuracy")[2].partition("Causes of failure")[0]
    assert f"{shown[0]} [{shown[1]}, {shown[2]}]" in section
    assert page.text.count("Spider, BIRD's definition") == len(made.models.pairs)
    assert "bird" not in [attributes.get("id") for _, attributes in parsed.elements] and "BIRD" not in parsed.text


def test_every_comparison_is_listed_with_its_adjusted_p(parsed, comparison):
    assert f"All {len(comparison.rows)} comparisons" in parsed.text
    for entry in comparison.rows:
        assert numbers.p_value(entry.p_holm) in parsed.text


def test_letters_rotations_and_chat_have_tables_of_their_own(parsed):
    def tables(page):
        return {attributes.get("id") for tag, attributes in page.elements if tag == "table"}

    assert "letters" in tables(parsed) and not {"rotations", "chat"} & tables(parsed)
    made = synthetic.ask_mmlu_otherwise(synthetic.results(examples=40))
    comparison = report_page.compared(made)
    page = Parsed(report_page.page(made, comparison=comparison))
    assert {"letters", "rotations", "chat"} <= tables(page)
    for entry in (*comparison.chat.values(), *comparison.rotated.values()):
        value, low, high = (100 * entry[f"accuracy{end}"] for end in ("", "_low", "_high"))
        assert f"{value:.2f} [{low:.2f}, {high:.2f}]" in page.text
    assert f"{100 * comparison.chat['m1']['sql_share']:.2f}" in page.text
    assert "MMLU, four rotations" in page.text and "MMLU in chat" in page.text


def test_it_says_how_it_was_made(parsed, made):
    assert "target_modules" in parsed.text and "q_proj, k_proj" in parsed.text
    for text in ("0123456789abcdef0123456789abcdef01234567", "2.13.0", "900150983cd24fb0d6963f7d28e17f72.dir"):
        assert text in parsed.text
    for text in (*LOADED["base"].values(), LOADED["dtype"], "cpu, 2 cores"):
        assert text in parsed.text
    for timing in made.timings.values():
        assert numbers.duration(timing["seconds"]) in parsed.text
        assert f"{timing['peak_memory_gb']:.2f}" in parsed.text
    assert "GPU memory" not in parsed.text


def test_the_example_prompt_is_text_with_all_that_the_chat_template_added(made, comparison):
    prompt = "<|im_start|>system\nYou are <b>Qwen</b>.<|im_end|>"
    assert " ".join(prompt.split()) in Parsed(report_page.page(made, comparison=comparison, example_prompt=prompt)).text
    assert "as the base read it" not in Parsed(report_page.page(made, comparison=comparison)).text


def test_gpu_memory_is_shown_where_a_stage_ran_on_a_gpu(made, comparison):
    timings = {
        name: timing | {"device": "cuda", "gpu": "Tesla T4", "peak_gpu_memory_gb": 5.25}
        for name, timing in made.timings.items()
    }
    text = Parsed(report_page.page(made, comparison=comparison, timings=timings)).text
    assert "GPU memory" in text and "5.25" in text and "Tesla T4" in text


def test_the_explorer_has_every_example_and_answer_in_full(parsed, made):
    data = parsed.data()
    assert [model["name"] for model in data["models"]] == ["base", "m1", "m2"]
    assert len(data["examples"]) == 40
    for position, example in enumerate(data["examples"]):
        for model, answer in zip(("base", "m1", "m2"), example["answers"]):
            line = made.spider_verdicts[model][position]
            assert (example["index"], example["question"]) == (line["index"], line["question"])
            assert data["texts"][example["gold"]] == line["gold"]
            assert data["texts"][answer["sql"]] == line["sql"][:2000]
            assert answer.get("cut", 0) == max(0, len(line["sql"]) - 2000)
            assert answer["outcome"] == line["outcome"] and answer["error"] == line["error"]
            assert (answer["paper"], answer["official"]) == (
                line["execution_accuracy"], line["official_execution_accuracy"],
            )  # fmt: skip
            assert (answer["result"] is None) == (line["result"] is None)


def test_the_same_input_gives_the_same_page(made, comparison):
    assert report_page.page(made, comparison=comparison) == report_page.page(made, comparison=comparison)


# ---------------------------------------------------------------- what it must not do


def test_it_loads_nothing(made, comparison):
    page = report_page.page(made, comparison=comparison)
    for tag, attributes in Parsed(page).elements:
        assert "src" not in attributes and "srcset" not in attributes and "style" not in attributes.get("rel", ""), tag
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes), "the policy allows no inline handler"
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(made, comparison, text):
    verdicts = {model: [hostile_line(line, text) for line in lines] for model, lines in made.spider_verdicts.items()}
    params = {"model": {"base": text}, "data": {"spider": text, "mmlu": text}, text: {text: text}}
    page = Parsed(
        report_page.page(
            made,
            comparison=comparison,
            verdicts=verdicts,
            params=params,
            provenance={text: {text: [text]}},
            schemas={"concert_0": {"db_id": text, "tables": [], "foreign_keys": []}},
        )
    )
    assert len(page.scripts) == 2, "the data and the page's own script, nothing else"
    assert "img" not in {tag for tag, _ in page.elements}
    example = page.data()["examples"][0]
    result = page.data()["results"][example["gold_result"]]
    assert example["question"] == text == page.data()["texts"][example["gold"]]
    assert result["columns"][0] == result["rows"][0][0] == text
    if "\x00" not in text:
        assert text.split()[0] in page.text


def test_a_lone_surrogate_neither_breaks_the_file_nor_changes_the_answer(made, comparison):
    text = "SELECT '\ud83d'"
    verdicts = {model: [hostile_line(line, text) for line in lines] for model, lines in made.spider_verdicts.items()}
    params = {"model": {"base": text}, "data": {"spider": "data/sample/spider", "mmlu": text}}
    page = report_page.page(made, comparison=comparison, verdicts=verdicts, params=params)
    page.encode("utf-8")
    assert Parsed(page).data()["texts"] == [text]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_script_element_cannot_end_it(text):
    written = explorer.script_json({text: text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: text}


# ---------------------------------------------------------------- size


def test_the_whole_dev_split_stays_below_5_mb():
    made = synthetic.results(examples=1034)
    assert len(report_page.page(made).encode("utf-8")) < 5_000_000


def test_long_answers_and_wide_results_are_cut_to_fit(made, monkeypatch):
    # A quarter of the dev split and of the room, to save time.
    monkeypatch.setattr(explorer, "MOST_EXAMPLE_BYTES", explorer.MOST_EXAMPLE_BYTES // 4)

    def wide(seed: str) -> dict:
        return {
            "columns": [f"column_{number}_{seed}" for number in range(30)],
            "rows": [[f"é{seed} {row} {number} ".ljust(200, "é") for number in range(30)] for row in range(5)],
            "row_count": 5000,
        }

    verdicts = {
        model: [
            made.spider_verdicts[model][0]
            | {"index": index, "sql": f"{model} {index} ".ljust(2500, "é"), "error": "é" * 2500, "outcome": "not_sql",
               "gold_result": wide(f"gold {index}"), "result": wide(f"{model} {index}")}
            for index in range(258)
        ]
        for model in ("base", "m1", "m2")
    }  # fmt: skip
    data = explorer.explorer_data(made.models, verdicts, made.schemas)
    assert len(explorer.script_json(data).encode("utf-8")) <= explorer.MOST_EXAMPLE_BYTES
    assert len(data["examples"]) == 258
    answer = data["examples"][0]["answers"][0]
    assert answer["cut"] == 2500 - len(data["texts"][answer["sql"]])
    result = data["results"][answer["result"]]
    assert result["row_count"] == 5000 and result["more_columns"] == 30 - len(result["columns"])


# ---------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    "value, shown",
    [(None, None), (40, "40"), ("40", "'40'"), (40.0, "40.0"), ("", "''"), ("NULL", "NULL"),
     (2**63 - 1, str(2**63 - 1)), (1e-7, "1e-07"), ("Ana", "Ana"), ("x" * 300, "x" * 59 + "…")],
)  # fmt: skip
def test_a_cell_looks_like_its_value_and_no_other(value, shown):
    result = explorer.shown_result({"columns": ["a"], "rows": [[value]], "row_count": 1}, 120)
    assert result["rows"] == [[shown]]


@pytest.mark.parametrize(
    "text, expected",
    [
        (numbers.in_percent(0.07253), "7.25"),
        (html_report.points(3.772), "+3.77"),
        (html_report.points(-2), "−2.00"),
        (html_report.points(-0.001), "0.00"),
        (numbers.p_value(0.00001), "< 0.0001"),
        (numbers.p_value(0.012), "0.012"),
        (numbers.count(1034), "1,034"),
        (numbers.duration(9.94), "9.9 s"),
        (numbers.duration(1705.8), "28 min 26 s"),
        (numbers.duration(5025), "1 h 23 min"),
        (numbers.true_minus("from -2.00 to +3.00, Holm-adjusted"), "from −2.00 to +3.00, Holm-adjusted"),
        (numbers.true_minus("(-2.00 points, 2026-01)"), "(−2.00 points, 2026-01)"),
        (numbers.words("not_sql"), "not SQL"),
    ],
)
def test_numbers_read_well(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    "values", [[0.0348, 0.0725], [0, 1], [0.5], [0.6, 0.61], [-12.5, 3], [0, 0], [1e-9, 2e-9], [0.999, 1.0], [0, 875]]
)
def test_an_axis_holds_its_values_between_round_ticks(values):
    axis = charts.Axis.over(values)
    assert axis.low <= min(values) and axis.high >= max(values)
    assert 2 <= len(axis.ticks) <= 12
    assert all(0 <= axis.at(place) <= 100 for place in (*values, *axis.ticks))


def test_an_axis_of_shares_ends_at_0_and_1():
    axis = charts.Axis.over([0.03, 0.97], least=0.0, most=1.0)
    assert (axis.low, axis.high) == (0.0, 1.0)
    assert charts.Axis.over([1.0, 1.0], least=0.0, most=1.0).high == 1.0


def test_a_loss_that_is_not_a_number_is_left_out(made, comparison):
    rows = [{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": float("nan")}, {"step": 3.0, "loss": 1.0}]
    plot = charts.loss_plot({"m1": rows, "m2": []})
    assert list(plot.lines) == ["m1"] and "nan" not in plot.lines["m1"].raw
    page = Parsed(report_page.page(made, comparison=comparison, loss_curves={"m1": [], "m2": []}))
    assert "Training loss" not in page.text


def test_text_has_the_contrast_that_wcag_asks_for():
    css = (charts.TEMPLATES / "report.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", css))

    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in (0, 1):
        value = {name: luminance(pair.split(", ")[theme]) for name, pair in colours.items()}
        texts = (
            "ink",
            "muted",
            "link",
            "right",
            "wrong",
            "open",
            *(f"model-{place}" for place in range(explorer.STYLES)),
        )
        pairs = [(text, ground) for text in texts for ground in ("paper", "surface", "selected")]
        for text, ground in [*pairs, ("ink", "added"), ("ink", "sunken"), ("muted", "sunken")]:
            light, dark = max(value[text], value[ground]), min(value[text], value[ground])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, text, ground)


def test_a_great_many_examples_leave_some_out_and_say_so(made, comparison, monkeypatch):
    assert "drawn at random" not in report_page.page(made, comparison=comparison)
    outcomes = explorer.Outcomes.of(made.spider_verdicts.values())
    flips = sum(outcomes.flips)
    places = explorer.draw(outcomes.flips, flips + 5, seed=0)
    fewer = {model: [lines[place] for place in places] for model, lines in made.spider_verdicts.items()}
    page = " ".join(report_page.page(made, comparison=comparison, verdicts=fewer, outcomes=outcomes).split())
    assert f"{flips + 5} of 40 examples: {flips} of the {flips} on which a tuned model" in page
    assert f"and 5 of the {40 - flips} others, drawn at random" in page
    monkeypatch.setattr(explorer, "MOST_EXAMPLE_BYTES", 9000)
    data = explorer.explorer_data(made.models, made.spider_verdicts, made.schemas)
    assert 0 < len(data["examples"]) < 40
    assert len(explorer.script_json(data)) <= 9000


def test_own_data_are_called_by_their_name():
    own = synthetic.results(models=ModelTable({"base": "Base", "m1": "Model 1", "m2": "Model 2"}, "pets <&>"))
    own.spider_metrics["m1"]["causes"]["tie"] = 1
    own.spider_metrics["m2"]["questions_in_halved_batches"] = 2
    page = report_page.page(own, params={"model": {"base": "micro"}, "data": {"spider": "pets", "mmlu": "mmlu"}})
    assert "1 answer is wrong by a tie" in page and "for memory ran out, which may round otherwise: 2" in page
    assert "Spider" not in page.partition("<body>")[2].partition('<script type="application/json"')[0]
    assert "questions of pets &lt;&amp;&gt;’s dev split" in page and "predict pets" in page


def test_flips_are_drawn_first_by_a_seed_and_then_the_rest():
    flips = [place % 4 == 0 for place in range(100)]
    assert explorer.draw(flips, 100, seed=0) == list(range(100))
    some, more = explorer.draw(flips, 10, seed=0), explorer.draw(flips, 40, seed=0)
    assert len(some) == 10 and all(flips[place] for place in some) and some == sorted(some)
    assert some == explorer.draw(flips, 10, seed=0) != explorer.draw(flips, 10, seed=1)
    assert {place for place in range(100) if flips[place]} <= set(more) and len(more) == 40


def test_a_run_of_a_great_many_examples_keeps_those_that_are_shown(tmp_path, monkeypatch):
    made = synthetic.results(examples=explorer.MOST_EXAMPLES + 100, questions=4)
    monkeypatch.chdir(made.write(tmp_path))
    run = read_run(load_params())
    assert {len(lines) for lines in run.verdicts.values()} == {explorer.MOST_EXAMPLES}
    assert run.comparison.summary.spider_total == explorer.MOST_EXAMPLES + 100
    assert sum(run.outcomes.counts["paper"].values()) == explorer.MOST_EXAMPLES + 100
    right = made.spider_metrics["m1"]["successes"]
    assert sum(number for outcome, number in run.outcomes.counts["paper"].items() if outcome[1] == "1") == right
    kept = {line["index"] for line in run.verdicts["base"]}
    for base, m1, m2 in zip(*made.spider_verdicts.values()):
        verdicts = {line["execution_accuracy"] for line in (base, m1, m2)}
        assert len(verdicts) == 1 or base["index"] in kept


class TestFourModels:
    """Titles, colours and marks come from the table of models, by place."""

    @pytest.fixture(scope="class")
    def page(self):
        return Parsed(report_page.page(synthetic.results(models=synthetic.FOUR_MODELS)))

    def test_the_third_tuned_model_is_everywhere(self, page):
        assert "and three LoRA adapters of it" in page.text
        for text in ("Third − Start", "First − Third", "Third and Start", "First and Third", "Third on Spider"):
            assert text in page.text
        links = {attributes.get("href") for tag, attributes in page.elements if tag == "a"}
        assert "#base=wrong&m3=right" in links
        ids = {attributes.get("id") for _, attributes in page.elements}
        assert {"filter-m3", "mark-m3"} <= ids
        assert [attributes["data-model"] for _, attributes in page.elements if "data-model" in attributes] == [
            "m1", "m2", "m3",
        ]  # fmt: skip

    def test_each_has_a_colour_and_a_mark_of_its_own(self, page):
        assert [model["style"] for model in page.data()["models"]] == ["model-0", "model-1", "model-2", "model-3"]
        assert [model["label"] for model in page.data()["models"]] == ["Start", "First", "Second", "Third"]
        assert all(len(example["answers"]) == 4 for example in page.data()["examples"])
        paths = {attributes["d"] for tag, attributes in page.elements if tag == "path"}
        assert {"M0-5 5 0 0 5-5 0Z", "M-4-4H4V4H-4Z"} <= paths

    def test_a_name_that_is_a_class_of_the_style_sheet_changes_nothing(self):
        table = ModelTable({"wrong": "A", "card": "B", "number": "C"})
        made = synthetic.results(models=table)
        params = load_params(synthetic.PARAMS).model_dump(by_alias=True)
        page = Parsed(report_page.page(made, params=params))
        assert "#wrong=right&card=wrong" in {attributes.get("href") for tag, attributes in page.elements if tag == "a"}
        assert [model["style"] for model in page.data()["models"]] == ["model-0", "model-1", "model-2"]

    def test_after_the_last_colour_the_tuned_models_repeat_theirs(self):
        places = [explorer.style_class(place) for place in range(8)]
        assert places[5:] == ["model-5", "model-1", "model-2"] and len(set(places[:6])) == explorer.STYLES


def test_the_committed_curve_of_the_runs_base_is_shown(made, repository, monkeypatch):
    curve = read_curve(repository / "results/tradeoff/qwen05/curve.json")
    monkeypatch.chdir(repository)
    timings = {name: {**timing, "base": curve["base"]} for name, timing in made.timings.items() if "base" in timing}
    assert [found["name"] for found in curves_of_run(timings)] == ["qwen05"]  # not those that train nothing
    other = {"stage": {"base": {**curve["base"], "sha256": "0" * 64}}}
    assert curves_of_run(other) == [] == curves_of_run({})
    page = Parsed(report_page.page(made, curves=[curve]))
    (picture,) = [attributes for tag, attributes in page.elements if tag == "img"]
    kind, _, data = picture["src"].partition(",")
    assert kind == "data:image/svg+xml;base64" and ">rank-4</text>" in base64.b64decode(data).decode()
    assert "18 ways to specialise" in page.text
