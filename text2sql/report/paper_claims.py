"""The paper's claims, each beside what the result sets show: the block `claims` of docs/paper.md."""

from collections.abc import Iterator, Mapping, Sequence

from text2sql.comparison.result import Difference
from text2sql.report import paper
from text2sql.report.markdown_text import DASH, table
from text2sql.report.numbers import count, in_percent, interval, number, p_value, percent, points, words
from text2sql.report.read_sets import SEEDED, ResultSet, Spread, spreads, verdict
from text2sql.report.result_sets import MMLU_ALL

MODEL_2 = "m2"
_HEADINGS = ["Points", "95 %", "adjusted p", "seeds", "detectable", "verdict"]


def claims(sets: Sequence[ResultSet]) -> str:
    """Return the paper's four claims as Markdown, each with a table of what the sets show."""
    return "\n\n".join([_model_1(sets), _model_2(sets), _mmlu(sets), _schema(sets)])


def _model_1(sets: Sequence[ResultSet]) -> str:
    gain = points(_paper_gain(SEEDED))
    return _claim(
        f"Fine-tuning helps on Spider: {gain} points for Model 1.",
        ["Set", "Schema", *_HEADINGS],
        (
            [found.name, found.params.prompt.schema_, *_shown(_spider(found, SEEDED), spreads(found).get("spider"))]
            for found in sets
            if SEEDED in found.models.tuned
        ),
    )


def _model_2(sets: Sequence[ResultSet]) -> str:
    """Model 2 against the base; and how many of its outputs differ from the base's at all, by a character or more."""
    rate = number(paper.TABLE_1[MODEL_2]["lr"])
    return _claim(
        f"Three epochs at a rate of {rate} help too: {points(_paper_gain(MODEL_2))} points for Model 2. How much of "
        "what Base writes does it change at all?",
        ["Set", "Rate, Epochs", "outputs changed", *_HEADINGS],
        (
            [found.name, _recipe(found), _changed(found), *_shown(_spider(found, MODEL_2), None)]
            for found in sets
            if MODEL_2 in found.models.tuned
        ),
    )


def _recipe(found: ResultSet) -> str:
    recipe = found.params.train_for(MODEL_2)
    return f"{number(recipe.lr)}, {number(recipe.epochs)}"


def _changed(found: ResultSet) -> str:
    total = found.compared.spider_total
    differ = round((1 - found.compared.against_base(MODEL_2).agreement.outputs) * total)
    return f"{count(differ)} of {count(total)} ({percent(differ / total)})"


def _mmlu(sets: Sequence[ResultSet]) -> str:
    loss = points(paper.MMLU_DIFFERENCE_PTS["all"])
    return _claim(
        f"Both tuned models lose on MMLU: {loss} points, which are three questions of {paper.MMLU_TOTAL}.",
        ["Set", "Model", "questions", *_HEADINGS],
        (row for found in sets for row in _mmlu_rows(found)),
    )


def _mmlu_rows(found: ResultSet) -> Iterator[list[str]]:
    over_seeds = spreads(found)
    for model in found.models.tuned:
        for measure, compared in (("mmlu", found.compared), (MMLU_ALL, found.compared_all)):
            if compared is not None:
                spread = over_seeds.get(measure) if model == SEEDED else None
                difference = compared.against_base(model).mmlu
                title = found.models.titles[model]
                yield [found.name, title, count(compared.mmlu_total), *_shown(difference, spread)]


def _schema(sets: Sequence[ResultSet]) -> str:
    """Accuracies of the sets of one base side by side: with and without the schema in the prompt."""
    rows = []
    for found in sets:
        model = found.params.model
        shares = [
            found.metrics["spider"].get(name, {}).get("execution_accuracy") for name in (found.models.base, SEEDED)
        ]
        rows.append(
            [
                model.base + (f", {model.quantization}" if model.quantization != "none" else ""),
                found.params.prompt.schema_,
                *(DASH if share is None else in_percent(share) for share in shares),
                found.name,
            ]
        )
    return _claim(
        "The schema was left out of the prompt, which the paper names as its own error (section III.D). Percent of "
        "Spider's dev questions:",
        ["Base", "Schema", "base", "Model 1", "Set"],
        sorted(rows, key=lambda row: row[0]),
    )


def _claim(text: str, headings: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> str:
    return f"**{text}**\n\n{table(headings, rows)}"


def _spider(found: ResultSet, model: str) -> Difference:
    return found.compared.against_base(model).spider


def _paper_gain(model: str) -> float:
    right: Mapping[str, int] = paper.SPIDER_SUCCESSES
    return 100 * (right[model] - right["base"]) / paper.SPIDER_TOTAL


def _shown(found: Difference, spread: Spread | None) -> list[str]:
    """Return the cells of a difference against the base, in the order of `_HEADINGS`."""
    detectable = found.smallest_detectable_pts
    return [
        points(found.difference_pts),
        interval(points(found.low_pts), points(found.high_pts)),
        p_value(found.p_holm),
        str(spread) if spread is not None and spread.seeds > 1 else "1",
        DASH if detectable is None else f"{detectable:.2f}",
        words(verdict(found, spread)),
    ]
