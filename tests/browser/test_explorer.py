"""The report in headless Chromium: filters, links, keyboard, themes and phones.

Every assertion on the page waits for its condition (`expect`), so that none depends on how fast the machine is.
"""

import json

import pytest

from testkit import report_page, synthetic
from testkit.browser import CHROMIUM, chromium
from text2sql.report import explorer

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
expect = sync_api.expect
expect.set_options(timeout=60_000)

EXAMPLES = 120
BLANK = "about:blank"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")


@pytest.fixture(scope="module")
def made() -> synthetic.Results:
    return synthetic.results(examples=EXAMPLES)


@pytest.fixture(scope="module")
def address(made, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page.page(made), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def new_page(browser, address):
    """Return a function that makes a page in a fresh context, which notes console messages, errors and dialogs."""

    def new_page(complaints, **options):
        page = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | options)).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda one: one.url.startswith((address, BLANK)) or complaints.append(f"loads {one.url}"))
        return page

    return new_page


@pytest.fixture(scope="module")
def common(new_page):
    """A page for tests that ask for nothing special, and what it has complained of: the report stores nothing."""
    complaints = []
    return new_page(complaints), complaints


@pytest.fixture
def open_page(new_page, common, address):
    """Open the report; at the end, fail on any console error, dialog or request to elsewhere."""
    contexts, complaints = [], []

    def open_page(fragment: str = "", **options):
        if options:
            page = new_page(complaints, **options)
            contexts.append(page.context)
        else:
            page = common[0]
            page.goto(BLANK)  # else another fragment alone would load nothing anew
        page.goto(address + fragment)
        expect(page.locator("html")).to_have_attribute("data-ready", "true")
        return page

    yield open_page
    for context in contexts:
        context.close()
    complaints += common[1]
    common[1].clear()
    assert not complaints


def rows(page):
    """The examples in the list that the filters let through."""
    return page.locator("#list li:not([hidden])")


def expect_fragment(page, fragment: str):
    page.wait_for_function("wanted => location.hash === wanted", arg=fragment)


def expect_examples(page, indices: list[int]):
    """The list holds exactly these examples, and says how many there are."""
    expect(rows(page)).to_have_count(len(indices))
    page.wait_for_function(
        """wanted => JSON.stringify([...document.querySelectorAll("#list li:not([hidden]) a")]
            .map(link => Number(link.getAttribute("href").split("=")[1]))) === wanted""",
        arg=json.dumps(indices, separators=(",", ":")),
    )
    total = f"{EXAMPLES} examples"
    expect(page.locator("#count")).to_have_text(total if len(indices) == EXAMPLES else f"{len(indices)} of {total}")


def expect_detail(page, made, index: int):
    line = made.spider_verdicts["base"][index]
    expect(page.locator("#where a")).to_have_text(f"Example {index}")
    expect(page.locator("#question")).to_have_text(line["question"])
    expect(page.locator("#list a[aria-current=true]")).to_have_attribute("href", f"#example={index}")


def chosen(made, wanted) -> list[int]:
    """The indices of the examples whose lines, one a model, `wanted(base, m1, m2)` accepts."""
    return [lines[0]["index"] for lines in zip(*made.spider_verdicts.values()) if wanted(*lines)]


# ---------------------------------------------------------------- filters


def test_it_opens_on_the_first_of_all_examples(open_page, made):
    page = open_page()
    expect_examples(page, list(range(EXAMPLES)))
    expect_detail(page, made, 0)
    expect(page.locator("#clear")).to_be_hidden()


def test_filter_by_the_models_outcomes(open_page, made):
    page = open_page()
    page.locator("#filter-base").select_option("wrong")
    page.locator("#filter-m1").select_option("right")
    wanted = chosen(made, lambda base, m1, m2: not base["execution_accuracy"] and m1["execution_accuracy"])
    assert 0 < len(wanted) < EXAMPLES
    expect_examples(page, wanted)
    expect_detail(page, made, wanted[0])
    expect_fragment(page, f"#example={wanted[0]}&base=wrong&m1=right")
    page.locator("#clear").click()
    expect_examples(page, list(range(EXAMPLES)))
    expect_detail(page, made, wanted[0])


def test_filter_by_cause_hardness_database_and_text(open_page, made):
    page = open_page()
    for name, value, wanted in (
        ("m1", "unknown_table", lambda base, m1, m2: m1["outcome"] == "unknown_table"),
        ("hardness", "hard", lambda base, m1, m2: base["hardness"] == "hard"),
        ("database", "concert_1", lambda base, m1, m2: base["db_id"] == "concert_1"),
    ):
        page.locator(f"#filter-{name}").select_option(value)
        expect_examples(page, chosen(made, wanted))
        page.locator(f"#filter-{name}").select_option("")
        expect_examples(page, list(range(EXAMPLES)))
    page.locator("#filter-search").press_sequentially("OLDER than 11")
    expect_examples(page, chosen(made, lambda base, m1, m2: "older than 11" in base["question"]))
    page.locator("#filter-search").fill("from visitor")
    expect_examples(page, chosen(made, lambda *lines: any("FROM visitor" in line["sql"] for line in lines)))


def test_filters_narrow_each_other_and_nothing_is_said_to_be_nothing(open_page, made):
    page = open_page()
    page.locator("#filter-hardness").select_option("easy")
    page.locator("#filter-base").select_option("wrong")
    expect_examples(
        page, chosen(made, lambda base, m1, m2: base["hardness"] == "easy" and not base["execution_accuracy"])
    )
    page.locator("#filter-search").fill("no such text anywhere")
    expect_examples(page, [])
    expect(page.locator("#nothing")).to_be_visible()
    expect(page.locator("#detail-body")).to_be_hidden()
    expect(page.locator("#next")).to_be_disabled()


def test_right_may_mean_the_official_definition(open_page, made):
    page = open_page()
    page.locator("#filter-m1").select_option("right")
    by_rows = chosen(made, lambda base, m1, m2: m1["execution_accuracy"])
    official = chosen(made, lambda base, m1, m2: m1["official_execution_accuracy"])
    assert by_rows != official
    expect_examples(page, by_rows)
    page.locator("#filter-judged").select_option("official")
    expect_examples(page, official)
    ticks = rows(page).first.locator(".ticks")
    expect(ticks).to_have_attribute("aria-label", "Base wrong, Model 1 right, Model 2 wrong")
    expect(ticks).to_have_text("✗✓✗")


def test_outcome_chips_set_the_filters_and_a_second_click_clears_them(open_page, made):
    page = open_page()
    lost = chosen(made, lambda base, m1, m2: base["execution_accuracy"] and not m1["execution_accuracy"])
    chip = page.locator("#outcomes a", has_text="Base right, Model 1 wrong")
    expect(chip).to_have_text(f"Base right, Model 1 wrong {len(lost)}")
    chip.click()
    expect_examples(page, lost)
    expect(page.locator("#filter-base")).to_have_value("right")
    expect(chip).to_have_attribute("aria-current", "true")
    chip.click()
    expect_examples(page, list(range(EXAMPLES)))


def test_outcome_chips_count_all_examples_where_some_are_left_out(made, new_page, tmp_path):
    outcomes = explorer.Outcomes.of(made.spider_verdicts.values())
    fewer = {model: lines[:30] for model, lines in made.spider_verdicts.items()}
    path = tmp_path / "few.html"
    path.write_text(report_page.page(made, verdicts=fewer, outcomes=outcomes), encoding="utf-8")
    page = new_page([])
    page.goto(path.as_uri())
    expect(page.locator("#count")).to_have_text("30 examples")
    gained = page.locator("#outcomes a", has_text="Base wrong, Model 1 right").locator("b")
    for judged, measure in (("", "execution_accuracy"), ("official", "official_execution_accuracy")):
        page.select_option("#filter-judged", judged)
        pairs = zip(made.spider_verdicts["base"], made.spider_verdicts["m1"])
        expect(gained).to_have_text(str(sum(m1[measure] and not base[measure] for base, m1 in pairs)))


def test_the_headline_s_counts_open_their_examples(open_page, made):
    page = open_page()
    gained = chosen(made, lambda base, m1, m2: not base["execution_accuracy"] and m1["execution_accuracy"])
    link = page.locator("#spider-table a").first
    expect(link).to_have_text(str(len(gained)))
    link.click()
    expect_examples(page, gained)
    expect(page.locator("#examples-title")).to_be_in_viewport()
    page.locator("#causes a").first.click()
    expect_examples(page, chosen(made, lambda base, m1, m2: base["outcome"] == "unknown_table"))


# ---------------------------------------------------------------- links to one example


def test_a_link_opens_its_example(open_page, made):
    page = open_page("#example=17")
    expect_detail(page, made, 17)
    expect_examples(page, list(range(EXAMPLES)))
    expect(page.locator("#question")).to_be_in_viewport()
    expect(page.locator("#list a[aria-current=true]")).to_be_in_viewport()


def test_a_changed_fragment_changes_the_page_and_back_again(open_page, made, address):
    page = open_page("#example=17")
    page.goto(f"{address}#example=80&hardness=easy")
    expect_detail(page, made, 80)
    expect_examples(page, chosen(made, lambda base, m1, m2: base["hardness"] == "easy"))
    page.go_back()
    expect_detail(page, made, 17)
    expect_examples(page, list(range(EXAMPLES)))


@pytest.mark.parametrize(
    "fragment", ["#example=99999", "#example=", "#example=%zz&base=%00", "#nonsense=1", "#examples"]
)
def test_a_fragment_that_names_no_example_is_harmless(open_page, made, fragment):
    page = open_page(fragment)
    expect(page.locator("#nothing" if "base" in fragment else "#question")).to_be_visible()


def test_the_fragment_follows_each_choice(open_page, made):
    page = open_page()
    rows(page).nth(3).locator("a").click()
    expect_detail(page, made, 3)
    expect_fragment(page, "#example=3")
    page.locator("#next").click()
    expect_detail(page, made, 4)
    expect_fragment(page, "#example=4")
    page.locator("#previous").click()
    expect_detail(page, made, 3)
    page.reload()
    expect_detail(page, made, 3)


# ---------------------------------------------------------------- keyboard


def test_arrow_keys_walk_through_the_filtered_list(open_page, made):
    page = open_page()
    page.locator("#filter-m1").select_option("right")
    wanted = chosen(made, lambda base, m1, m2: m1["execution_accuracy"])
    expect_detail(page, made, wanted[0])
    page.locator("#list a[aria-current=true]").focus()
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", -1), ("ArrowDown", -1), ("Home", 0),
                       ("PageDown", 10)):  # fmt: skip
        page.keyboard.press(key)
        expect_detail(page, made, wanted[place])
        expect(page.locator("#list a[aria-current=true]")).to_be_focused()
        expect(page.locator("#list a[aria-current=true]")).to_be_in_viewport()


def test_the_list_is_one_stop_of_the_tab_key(open_page, made):
    page = open_page()
    page.locator("#list a[aria-current=true]").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#where a")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#next")).to_be_focused()
    page.keyboard.press("Enter")
    expect_detail(page, made, 1)


# ---------------------------------------------------------------- one example


def test_the_detail_shows_each_model_s_answer_result_and_cause(open_page, made):
    page = open_page(f"#example={chosen(made, lambda base, m1, m2: m1['outcome'] == 'wrong_columns')[0]}")
    answer = page.locator("#answers [data-model=m1]")
    expect(answer.locator("h4")).to_contain_text("✗ wrong: wrong columns")
    expect(answer.locator("tbody tr")).to_have_count(5)
    expect(answer.locator("tbody td").first).to_have_text("Ana <b>0</b>")
    expect(answer.locator("tbody td").nth(1)).to_have_text("NULL")
    expect(answer.locator(".result p")).to_have_text("first 5 of 17 rows")
    page.locator("#filter-base").select_option("unknown_column")
    expect(page.locator("#answers [data-model=base] .error")).to_have_text("no such column: title")
    expect(page.locator("#answers [data-model=base] .result")).to_have_text("no result")


def test_differences_to_gold_are_marked(open_page, made):
    index = chosen(made, lambda base, m1, m2: base["outcome"] == "empty_result")[0]
    page = open_page(f"#example={index}")
    sql = page.locator("#answers [data-model=base] .sql")
    # gold: SELECT count(*) FROM singer WHERE age > 7; base: SELECT age FROM singer WHERE 0
    expect(sql.locator("ins")).to_have_text(["age", "0"])
    expect(sql.locator("del")).to_have_text(["count(*)", f"age > {index}"])


def test_little_in_common_with_gold_shows_no_deleted_parts(open_page, made):
    index = chosen(made, lambda base, m1, m2: base["outcome"] == "syntax_error")[0]
    page = open_page(f"#example={index}")
    sql = page.locator("#answers [data-model=base] .sql")
    # gold: SELECT count(*) FROM singer WHERE age > 7; base: SELECT FROM singer
    expect(sql).to_have_text("SELECT FROM singer")
    expect(sql.locator("del")).to_have_count(0)


def test_rows_right_by_the_paper_alone_say_so(open_page, made):
    index = chosen(made, lambda base, m1, m2: m1["outcome"] == "wrong_duplicates")[0]
    page = open_page(f"#example={index}")
    heading = page.locator("#answers [data-model=m1] h4")
    expect(heading).to_contain_text("✓ right")
    expect(heading).to_contain_text("wrong (wrong duplicates) by the official definition")
    page.locator("#filter-judged").select_option("official")
    expect(heading).to_contain_text("✗ wrong: wrong duplicates")


def test_a_right_answer_that_repeats_gold_has_no_mark(open_page, made):
    index = chosen(made, lambda base, m1, m2: m1["sql"] == m1["gold"])[0]
    page = open_page(f"#example={index}")
    answer = page.locator("#answers [data-model=m1]")
    expect(answer.locator("h4")).to_contain_text("✓ right")
    expect(answer.locator(".sql")).to_have_text(made.spider_verdicts["m1"][index]["gold"])
    expect(answer.locator("ins, del")).to_have_count(0)


def test_the_schema_names_keys_and_references(open_page):
    page = open_page()
    page.locator("#schema-name").click()
    expect(page.locator("#tables li").nth(1)).to_have_text("concert (concert_id, title, singer_id → singer.singer_id)")
    expect(page.locator("#tables u").first).to_have_text("singer_id")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_hostile_answers_and_questions_show_as_text(open_page, made, index):
    page = open_page(f"#example={index}")
    title = page.title()
    expect(page.locator("#question")).to_have_text(made.spider_verdicts["m1"][index]["question"])
    shown = synthetic.HOSTILE[index][:2000]
    expect(page.locator("#answers [data-model=m1] .sql")).to_contain_text(shown)
    expect(page.locator("#answers [data-model=m1] .error")).to_contain_text(shown[:20])
    expect(page.locator("img, #examples script")).to_have_count(0)
    expect(page).to_have_title(title)
    assert "owned" not in title


# ---------------------------------------------------------------- themes and phones


def expect_background(page, dark: bool):
    page.wait_for_function(
        "dark => (Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) < 60) === dark", arg=dark
    )


@pytest.mark.parametrize("scheme, other", [("light", "dark"), ("dark", "light")])
def test_the_theme_follows_the_system_until_the_button_is_pressed(open_page, scheme, other):
    page = open_page(color_scheme=scheme)
    expect_background(page, dark=scheme == "dark")
    for wanted in (other, scheme):
        page.locator("#theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", wanted)
        expect_background(page, dark=wanted == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(open_page, made, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    for index in (0, 1, 2, 3):  # 2: an answer of 3,000 characters without a space
        rows(page).nth(index).locator("a").click()
        expect_detail(page, made, index)
        expect(page.locator("#question")).to_be_in_viewport()
        page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_on_a_phone_a_link_opens_its_example_below_the_list(open_page, made):
    page = open_page("#example=17", viewport={"width": 390, "height": 844})
    expect_detail(page, made, 17)
    expect(page.locator("#question")).to_be_in_viewport()
