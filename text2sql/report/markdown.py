"""`reports/report.md`: the comparison as tables that read well in a terminal and in a pull request.

Nothing here computes a metric: the comparison (see `text2sql.comparison.compare`) and what the stages recorded come
in, text goes out. This run stands beside the paper; where the paper prints no figure, there is a dash.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from text2sql.comparison.compare import (
    MODELS,
    NAMES,
    PAIRS,
    TUNED,
    categories,
    cost,
    entry,
    gate_lines,
    p_text,
    pair_name,
    points,
)
from text2sql.report import paper

CATEGORY_NAMES = {"stem": "STEM", "humanities": "Humanities", "social_sciences": "Social sciences", "other": "Other"}
MEASURE_NAMES = {
    "execution_accuracy": "Spider, execution accuracy",
    "official_execution_accuracy": "Spider, official execution accuracy",
    "accuracy": "MMLU",
}
DASH = "-"


def markdown(
    comparison: Mapping[str, Any],
    params: Any,
    training: Mapping[str, Mapping[str, Any]],
    timings: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the whole report.

    params: the validated `Params`. training: {"m1": the dictionary of metrics/train/m1.json, "m2": …}.
    timings: {"train_m1": the dictionary of data/timings/train_m1.json, …}; what is missing there shows as a dash.
    """
    sections = [
        "# Base, Model 1 and Model 2",
        headline(comparison),
        "## Pairs of models, question by question",
        pairs_table(comparison),
        *by_subject(comparison),
        "## Hyperparameters (the paper's Table I)",
        table_1(params, training, timings),
        "## Agreement",
        agreement_table(comparison),
        "## What a point on Spider cost",
        cost_table(comparison, timings),
        "## Durations",
        durations_table(timings),
    ]
    return "\n\n".join(sections) + "\n"


def headline(comparison: Mapping[str, Any]) -> str:
    """Return the verdicts, the trade-off, Table II and the MMLU table."""
    families = "; ".join(comparison["families"].values())
    return "\n\n".join(
        [
            bullets(comparison["sentences"].values()),
            "Trade-off against the limits in `params.yaml` (`compare`):",
            bullets(gate_lines(comparison["trade_off"])),
            "## Spider (the paper's Table II)",
            table_2(comparison),
            "## MMLU",
            mmlu_table(comparison),
            "Intervals are 95 %: Wilson's for an accuracy, a paired bootstrap's for a difference. p is the exact "
            f"McNemar p, adjusted by Holm's method within each family: {families}.",
        ]
    )


def table_1(params: Any, training: Mapping[str, Mapping], timings: Mapping[str, Mapping]) -> str:
    """Return the hyperparameters of this run beside the paper's."""
    ours = {model: _recipe(params, model, training, timings) for model in TUNED}
    theirs = {
        model: _formatted(paper.TABLE_1[model])
        | {
            "training time": f"{paper.TRAINING_MINUTES[model]:.2f} minutes",
            "trainable parameters": percent(paper.TRAINABLE_SHARE),
        }
        for model in TUNED
    }
    return table(
        ["", *(heading for model in TUNED for heading in (NAMES[model], "the paper's"))],
        [[key, *(side[model].get(key, DASH) for model in TUNED for side in (ours, theirs))] for key in ours["m1"]],
    )


def _recipe(params: Any, model: str, training: Mapping, timings: Mapping) -> dict[str, str]:
    recipe = params.train_for(model)
    values = {
        "base": params.model.base,
        "lora.r": recipe.lora.r,
        "lora.alpha": recipe.lora.alpha,
        "lora.target_modules": recipe.lora.target_modules,
        "lora.dropout": recipe.lora.dropout,
        "batch_size": recipe.batch_size,
        "grad_accum": recipe.grad_accum,
        "epochs": recipe.epochs,
        "lr": recipe.lr,
        "optim": recipe.optim,
        "seed": recipe.seed,
    }
    timing = timings.get(f"train_{model}")
    return _formatted(values) | {
        "training time": f"{timing['seconds'] / 60:.2f} minutes" if timing else DASH,
        "trainable parameters": percent(training[model]["trainable_share"]) if model in training else DASH,
    }


def _formatted(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: ", ".join(name.removesuffix("_proj") for name in value) if isinstance(value, list) else number(value)
        for key, value in values.items()
    }


def table_2(comparison: Mapping[str, Any]) -> str:
    """Return the tests on Spider, this run beside the paper's."""
    rows = []
    for model in MODELS:
        metrics, successes = comparison["spider"][model], paper.SPIDER_SUCCESSES[model]
        rows.append(
            [
                NAMES[model],
                metrics["total"],
                metrics["successes"],
                metrics["failures"],
                accuracy(metrics, "execution_accuracy"),
                accuracy(metrics, "official_execution_accuracy"),
                f"{successes} of {paper.SPIDER_TOTAL:,}: {percent(successes / paper.SPIDER_TOTAL)}",
            ]
        )
    headings = ["Model", "Tests", "Successes", "Failures", "Execution accuracy", "Official execution accuracy"]
    return table([*headings, "The paper's"], rows)


def mmlu_table(comparison: Mapping[str, Any]) -> str:
    """Return the accuracies on MMLU, in all and by category, with what each tuned model lost or gained."""
    rows = []
    for scope in ["all", *categories(comparison)]:
        for model in MODELS:
            metrics = comparison["mmlu"][model]
            metrics = metrics if scope == "all" else metrics["by_category"][scope]
            name = ("Overall" if scope == "all" else CATEGORY_NAMES[scope]) if model == "base" else ""
            row = [name, NAMES[model], f"{metrics['correct']} of {metrics['total']}", accuracy(metrics, "accuracy")]
            if model == "base":
                row += [DASH] * 4
            else:
                found = entry(comparison, model, "base", "accuracy", scope)
                theirs = paper.MMLU_DIFFERENCE_PTS.get(scope)
                theirs = DASH if theirs is None else points(theirs)
                row += [difference(found), relative_change(found), p_value(found["p_holm"]), theirs]
            rows.append(row)
    headings = ["", "Model", "Correct", "Accuracy", "Difference in points", "Relative", "Adjusted p"]
    return table([*headings, "The paper's points"], rows)


def pairs_table(comparison: Mapping[str, Any]) -> str:
    """Return the overall comparisons: which questions changed hands, and whether that is more than chance."""
    rows = []
    for found in comparison["comparisons"]:
        if found["level"] != "overall":
            continue
        detectable = found["smallest_detectable_pts"]
        rows.append(
            [
                MEASURE_NAMES[found["measure"]],
                f"{NAMES[found['model']]} against {NAMES[found['against']]}",
                *(found[key] for key in ("gained", "lost", "both_right", "both_wrong")),
                difference(found),
                p_value(found["p"]),
                p_value(found["p_holm"]),
                DASH if detectable is None else f"{detectable:.2f}",
                found["verdict"],
            ]
        )
    headings = ["", "Pair", "Gained", "Lost", "Both right", "Both wrong", "Difference in points", "p", "Adjusted p"]
    return table([*headings, "Detectable", "Verdict"], rows) + (
        "\n\nDetectable: the smallest difference in points that so many questions show with 80 % power, at the "
        "observed share of questions on which the two models differ and a level of 5 % before adjustment."
    )


def by_subject(comparison: Mapping[str, Any]) -> list[str]:
    """Return the section of MMLU's subjects, where there are more of them than categories."""
    subjects = list(comparison["mmlu"]["base"]["by_subject"])
    if len(subjects) <= len(categories(comparison)):
        return []
    rows = []
    for subject in subjects:
        row = [subject.replace("_", " "), accuracy(comparison["mmlu"]["base"]["by_subject"][subject], "accuracy")]
        for model in TUNED:
            found = entry(comparison, model, "base", "accuracy", subject)
            row += [difference(found), p_value(found["p_holm"])]
        rows.append(row)
    headings = [heading for model in TUNED for heading in (f"{NAMES[model]}, points", "Adjusted p")]
    return ["## MMLU by subject", table(["", "Base", *headings], rows)]


def agreement_table(comparison: Mapping[str, Any]) -> str:
    """Return the shares of identical outputs, verdicts and choices, pair by pair."""
    rows = []
    for model, against in PAIRS:
        shares = comparison["agreement"][pair_name(model, against)]
        rows.append(
            [f"{NAMES[model]} and {NAMES[against]}"]
            + [percent(shares[key]) for key in ("outputs", "spider_verdicts", "mmlu_choices")]
        )
    headings = ["Identical outputs on Spider", "Identical verdicts on Spider", "Identical choices on MMLU"]
    return table(["", *headings], rows)


def cost_table(comparison: Mapping[str, Any], timings: Mapping[str, Mapping]) -> str:
    """Return the cost of each tuned model (the paper's section III.C)."""
    columns = ("training_minutes", "minutes_per_spider_point", "mmlu_points_per_spider_point")
    rows = []
    for model, found in cost(comparison, timings).items():
        gain = points(entry(comparison, model, "base", "execution_accuracy")["difference_pts"])
        rows.append([NAMES[model], gain, *(DASH if found[key] is None else f"{found[key]:.2f}" for key in columns)])
    headings = ["Points gained on Spider", "Training minutes", "Minutes a point gained"]
    return table(["", *headings, "MMLU points lost a point gained"], rows) + (
        "\n\nA dash: no gain that can be told from chance, or no time recorded."
    )


def durations_table(timings: Mapping[str, Mapping]) -> str:
    """Return what each stage took, and on what."""
    rows = []
    for name, timing in timings.items():
        gpu_memory = timing.get("peak_gpu_memory_gb")
        rows.append(
            [
                name,
                f"{timing['seconds'] / 60:.2f}",
                f"{timing['tokens_per_second']:,.0f}" if timing.get("tokens_per_second") else DASH,
                f"{timing['peak_memory_gb']:.2f}" if timing.get("peak_memory_gb") else DASH,
                f"{gpu_memory:.2f}" if gpu_memory else DASH,
                timing.get("gpu") or f"{timing.get('device', 'cpu')}, {timing.get('cpus', '?')} cores",
            ]
        )
    if not rows:
        return "No durations were recorded."
    return table(["Stage", "Minutes", "Tokens a second", "Memory, GB", "GPU memory, GB", "On"], rows)


def percent(share: float) -> str:
    """Return a share as `7.25 %`."""
    return f"{100 * share:.2f} %"


def p_value(p: float) -> str:
    """Return a p value for a table's column: `0.012`, `< 0.0001`."""
    return p_text(p).removeprefix("p = ").removeprefix("p ")


def accuracy(metrics: Mapping[str, Any], measure: str) -> str:
    """Return an accuracy with its interval: `7.25 % (5.83 to 8.99)`."""
    value, low, high = (100 * metrics[key] for key in (measure, f"{measure}_low", f"{measure}_high"))
    return f"{value:.2f} % ({low:.2f} to {high:.2f})"


def difference(found: Mapping[str, Any]) -> str:
    """Return a comparison's difference in points with its interval: `-2.00 (-6.67 to +2.67)`."""
    return f"{points(found['difference_pts'])} ({points(found['low_pts'])} to {points(found['high_pts'])})"


def relative_change(found: Mapping[str, Any]) -> str:
    """Return a comparison's difference as a share of the accuracy compared with; a dash where that is 0."""
    if not found["accuracy_against"]:
        return DASH
    return f"{points(found['difference_pts'] / found['accuracy_against'])} %"


def number(value: Any) -> str:
    """Return a value as people write it: `2e-4`, `16`, `0.05`."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.10g}"
    mantissa, _, exponent = f"{value:.10e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def bullets(lines: Iterable[str]) -> str:
    """Return `lines` as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; a `|` or a line's end within a cell stays text."""
    from tabulate import tabulate

    cells = [[" ".join(str(cell).splitlines()).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, headers=headings, tablefmt="github", disable_numparse=True)
