"""The findings that follow from the result sets: what Model 2 learns, and what remains of the loss on MMLU."""

from collections.abc import Sequence

from text2sql.comparison.result import Difference
from text2sql.report import paper
from text2sql.report.markdown_text import bullets
from text2sql.report.numbers import count, interval, number, p_equation, percent, points
from text2sql.report.read_sets import SEEDED, ResultSet, Spread, spreads, verdict
from text2sql.report.result_sets import MMLU_ALL


def model_2_findings(sets: Sequence[ResultSet]) -> str:
    """Return what training the paper's Model 2 changed at all: outputs that differ, and points on Spider."""
    model = "m2"
    rate, share = number(paper.TABLE_1[model]["lr"]), paper.SPIDER_SUCCESSES[model] / paper.SPIDER_TOTAL
    lines = []
    for found in sets:
        if model not in found.models.tuned:
            continue
        recipe, pair = found.params.train_for(model), found.compared.against_base(model)
        total = found.compared.spider_total
        differ = round((1 - pair.agreement.outputs) * total)
        lines.append(
            f"{found.name} (rate {number(recipe.lr)}, epochs {number(recipe.epochs)}): {count(differ)} of "
            f"{count(total)} outputs differ ({percent(differ / total)}); "
            f"{_difference('execution accuracy', pair.spider, None)}."
        )
    return (
        f"**What Model 2 learns.** The paper reads its {percent(share)} as an effect of training at a rate of {rate}. "
        f"How many of Model 2's outputs differ from Base's at all, by a character or more, and what that "
        f"changes on Spider:\n\n{bullets(lines)}"
    )


def mmlu_findings(sets: Sequence[ResultSet]) -> str:
    """Return what remains of the paper's loss on MMLU, on its few questions and on all."""
    lines = []
    for found in sets:
        over_seeds = spreads(found)
        for model in found.models.tuned:
            parts = [
                _difference(
                    f"{count(compared.mmlu_total)} questions",
                    compared.against_base(model).mmlu,
                    over_seeds.get(measure) if model == SEEDED else None,
                )
                for measure, compared in (("mmlu", found.compared), (MMLU_ALL, found.compared_all))
                if compared is not None
            ]
            lines.append(f"{found.name}, {found.models.titles[model]}: {'; '.join(parts)}.")
    return (
        "**What remains of the loss on MMLU.** The paper reports "
        f"{points(paper.MMLU_DIFFERENCE_PTS['all'])} points for both models: three questions of 150. Here, against "
        f"Base:\n\n{bullets(lines)}"
    )


def _difference(what: str, found: Difference, spread: Spread | None) -> str:
    numbers = f"{interval(points(found.low_pts), points(found.high_pts))}, adjusted {p_equation(found.p_holm)}"
    if spread is not None and spread.seeds > 1:
        numbers += f"; {spread.seeds} seeds {interval(points(spread.low), points(spread.high))}"
    return f"{what}: {points(found.difference_pts)} points ({numbers}): {verdict(found, spread)}"
