"""`reports/report.md`: the comparison as tables that read well in a terminal and in a pull request.

Nothing here computes a metric: a run comes in, text goes out. It stands beside the paper; where the paper prints no
figure, there is a dash.
"""

from collections.abc import Mapping
from typing import Any

from text2sql.comparison.cost import costs
from text2sql.comparison.result import (
    ACCURACY,
    ALL,
    BIRD,
    CHAT,
    EXECUTION,
    OFFICIAL,
    ROTATED,
    Comparison,
    Difference,
    PairComparison,
)
from text2sql.data.mmlu import CATEGORY_NAMES, LETTERS
from text2sql.report import paper
from text2sql.report.choices import choice_tables
from text2sql.report.exports import exports_table
from text2sql.report.markdown_text import DASH, as_text, bullets, code_block, table
from text2sql.report.numbers import count, gigabytes, in_percent, interval, minutes, number, p_value, percent, points
from text2sql.report.run import Run, machine
from text2sql.report.sentences import CARRIED_NOTE, CHANCE, gate_lines, listed, sentences, set_in_words
from text2sql.scoring.mmlu_chat import KINDS

MEASURES = (EXECUTION, OFFICIAL, BIRD)  # of a text-to-SQL benchmark, the last where it is BIRD's
MEASURE_NAMES = {
    EXECUTION: "{questions}, execution accuracy",
    OFFICIAL: "{questions}, official execution accuracy",
    BIRD: "BIRD's execution accuracy",
    ACCURACY: "MMLU",
    ROTATED: "MMLU, four rotations",
    CHAT: "MMLU in chat",
}


def markdown(run: Run) -> str:
    """Return the whole report."""
    comparison = run.comparison
    sections = [
        f"# {listed(run.models.titles.values())}",
        headline(run),
        "## Pairs of models, question by question",
        pairs_table(comparison),
        *by_subject(comparison),
        "## Hyperparameters (the paper's Table I)",
        table_1(run),
        "## Agreement",
        agreement_table(comparison),
        f"## What a point on {run.models.questions} cost",
        cost_table(run),
        "## Durations",
        durations_table(run.timings),
        *exports_table(run.exports),
        "## Base, device and libraries",
        provenance_table(run.provenance),
    ]
    if run.example_prompt:
        sections += ["## A prompt as the base read it", code_block(run.example_prompt)]
    return "\n\n".join(sections) + "\n"


def headline(run: Run) -> str:
    """Return the verdicts, the trade-off, Table II and the MMLU table."""
    comparison = run.comparison
    families = "; ".join(comparison.families.values())
    return "\n\n".join(
        [
            bullets([*sentences(comparison.summary).values(), *map(as_text, run.notes)]),
            "Trade-off against the limits in `params.yaml` (`compare`):",
            bullets(gate_lines(run.trade_off, run.models)),
            f"## {run.models.questions}" + (" (the paper's Table II)" if run.models.on_spider else ""),
            table_2(comparison),
            *difficulty_table(comparison),
            *choice_tables(run.choices, run.models),
            *also_tables(run),
            "## MMLU",
            mmlu_table(comparison),
            letters_table(comparison),
            *rotations_table(comparison),
            *chat_table(comparison),
            CHANCE,
            "Intervals are 95 %: Wilson's for an accuracy, a paired bootstrap's for a difference. p is the exact "
            f"McNemar p, adjusted by Holm's method within each family: {families}.",
        ]
    )


def table_1(run: Run) -> str:
    """Return the hyperparameters of this run beside the paper's."""
    tuned = run.models.tuned
    ours = {model: _recipe(run, model) for model in tuned}
    theirs = {model: _papers_recipe(model) for model in tuned}
    return table(
        ["", *(heading for model in tuned for heading in (run.models.titles[model], "the paper's"))],
        [[key, *(side[model].get(key, DASH) for model in tuned for side in (ours, theirs))] for key in ours[tuned[0]]],
    )


def _recipe(run: Run, model: str) -> dict[str, str]:
    recipe = run.params.train_for(model)
    values = {
        "base": run.params.model.base,
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
    if recipe.method == "dora":
        values["lora.r"] = f"{recipe.lora.r} (DoRA)"
    if recipe.method == "full":
        values |= {key: DASH for key in values if key.startswith("lora.")} | {"lora.target_modules": "all weights"}
    timing, training = run.timings.get(f"train_{model}"), run.training.get(model)
    return _formatted(values) | {
        "training time": f"{minutes(timing['seconds'])} minutes" if timing else DASH,
        "trainable parameters": percent(training["trainable_share"]) if training else DASH,
    }


def _papers_recipe(model: str) -> dict[str, str]:
    if model not in paper.TABLE_1:
        return {}
    return _formatted(paper.TABLE_1[model]) | {
        "training time": f"{paper.TRAINING_MINUTES[model]:.2f} minutes",
        "trainable parameters": percent(paper.TRAINABLE_SHARE),
    }


def _formatted(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: ", ".join(name.removesuffix("_proj") for name in value) if isinstance(value, list) else number(value)
        for key, value in values.items()
    }


def table_2(comparison: Comparison) -> str:
    """Return the tests, this run beside the paper's where both are on Spider."""
    rows, on_spider = [], comparison.models.on_spider
    for model, title in comparison.models.titles.items():
        metrics, successes = comparison.spider[model], paper.SPIDER_SUCCESSES.get(model)
        rows.append(
            [
                title,
                metrics["total"],
                metrics["successes"],
                metrics["failures"],
                accuracy(metrics, EXECUTION),
                accuracy(metrics, OFFICIAL),
                DASH
                if successes is None
                else f"{successes} of {count(paper.SPIDER_TOTAL)}: {percent(successes / paper.SPIDER_TOTAL)}",
            ][: None if on_spider else -1]
        )
    headings = ["Model", "Tests", "Successes", "Failures", "Execution accuracy", "Official execution accuracy"]
    return table([*headings, *(["The paper's"] if on_spider else [])], rows)


def difficulties(comparison: Comparison) -> list[str]:
    """Return the levels of difficulty that BIRD's files name, in order; none for another benchmark."""
    return list(comparison.spider[comparison.models.base].get("by_difficulty", ()))


def difficulty_table(comparison: Comparison) -> list[str]:
    """Return the section of BIRD's own accuracy beside the others, in all and by difficulty, where there are any."""
    models, rows, levels = comparison.models, [], difficulties(comparison)
    if BIRD not in comparison.spider[models.base]:
        return []
    for level in [ALL, *levels]:
        for model, title in models.titles.items():
            found = comparison.spider[model]
            found = found if level == ALL else found["by_difficulty"][level]
            rows.append([level if model == models.base else "", title, found["total"]])
            rows[-1] += [accuracy(found, measure) for measure in (BIRD, EXECUTION, OFFICIAL)]
            rows[-1] += _against_base(comparison, model, BIRD) if level == ALL else [DASH, DASH]
    headings = ["Difficulty", "Model", "Tests", "BIRD's", "Execution accuracy", "Official execution accuracy"]
    headings += ["BIRD's, difference in points", "Adjusted p"]
    title = "### BIRD's execution accuracy" + (", by difficulty" if levels else "")
    return [title, table(headings if levels else headings[1:], rows if levels else [row[1:] for row in rows])]


def mmlu_table(comparison: Comparison) -> str:
    """Return the accuracies on MMLU, in all and by category, with what each tuned model lost or gained."""
    models, rows = comparison.models, []
    for scope in [ALL, *comparison.categories]:
        for model, title in models.titles.items():
            metrics = comparison.mmlu[model]
            metrics = metrics if scope == ALL else metrics["by_category"][scope]
            name = ("Overall" if scope == ALL else CATEGORY_NAMES[scope]) if model == models.base else ""
            row = [name, title, f"{metrics['correct']} of {metrics['total']}", accuracy(metrics, ACCURACY)]
            if model == models.base:
                row += [DASH] * 4
            else:
                found = comparison.against_base(model, ACCURACY, scope)
                theirs = paper.mmlu_difference_pts(model, scope)
                theirs_shown = DASH if theirs is None else points(theirs)
                row += [difference(found), relative_change(found), p_value(found.p_holm), theirs_shown]
            rows.append(row)
    headings = ["", "Model", "Correct", "Accuracy", "Difference in points", "Relative", "Adjusted p"]
    return table([*headings, "The paper's points"], rows)


def letters_table(comparison: Comparison) -> str:
    """Return how often each model chose each letter, and how many of the base's own choices a tuned one keeps."""
    models, rows = comparison.models, []
    for model, title in models.titles.items():
        tuned = model in models.tuned
        kept = percent(comparison.agreement[model, models.base].mmlu_choices) if tuned else DASH
        rows.append([title, *map(percent, comparison.letters[model].values()), kept])
    return table(["Letters chosen", *LETTERS, f"{models.titles[models.base]}'s choices kept"], rows)


def rotations_table(comparison: Comparison) -> list[str]:
    """Return the section of MMLU over the rotations of its options, where they were asked."""
    if not comparison.rotated:
        return []
    rows = []
    for model, metrics in comparison.rotated.items():
        row = [comparison.models.titles[model], percent(comparison.mmlu[model][ACCURACY]), accuracy(metrics, ACCURACY)]
        row += [percent(metrics["same_choice"]), *map(percent, metrics["letters"].values())]
        rows.append(row + _against_base(comparison, model, ROTATED))
    headings = ["", "One order", "All four orders", "Same choice in all", *LETTERS]
    return [
        "### Each question in the four rotations of its options",
        table([*headings, "Difference in points", "Adjusted p"], rows),
        "Questions are drawn with all their rotations: intervals are by clusters, and p is that of the exact sign-flip "
        "test over questions, adjusted by Holm's method.",
    ]


def chat_table(comparison: Comparison) -> list[str]:
    """Return the section of MMLU in chat, where a model was asked so."""
    rows = []
    for model, chat in comparison.chat.items():
        shares = [percent(chat[f"{kind}_share"]) for kind in KINDS]
        row = [comparison.models.titles[model], *shares, chat["at_token_limit"]]
        row += [f"{chat['correct']} of {chat['total']}", accuracy(chat, ACCURACY)]
        row += [percent(chat["log_likelihood_accuracy"]), *_against_base(comparison, model, CHAT)]
        rows.append(row)
    headings = ["", "Letter", "SQL", "Other", "At the token limit", "Correct", "Accuracy", "By log-likelihood"]
    return ["### In chat", table([*headings, "Difference in points", "Adjusted p"], rows)] if rows else []


def also_tables(run: Run) -> list[str]:
    """Return the section of further evaluation sets, where they were asked: a table a set, a row a model."""
    comparison, sections = run.comparison, []
    for name, by_model in comparison.also.items():
        carried, rows = comparison.carried_to(name), []
        for model, metrics in by_model.items():
            found = carried[model]
            row = [comparison.models.titles[model], f"{metrics['successes']} of {metrics['total']}"]
            row += [accuracy(metrics, measure) for measure in MEASURES if measure in metrics]
            row += _against_base(comparison, model, EXECUTION, name)
            row += [percent(found.accuracy_on_dev), difference(found), p_value(found.p_holm)]
            rows.append([*row, DASH if found.flips is None else percent(found.flips)])
        headings = ["", "Correct", "Execution accuracy", "Official execution accuracy"]
        headings += [MEASURE_NAMES[BIRD]] if BIRD in next(iter(by_model.values())) else []
        headings += [f"Against {comparison.models.titles[comparison.models.base]}", "Adjusted p"]
        headings += [f"On {run.models.questions}", "Against itself there", "Adjusted p", "Verdicts that flip"]
        sections += [f"### {as_text(set_in_words(name, run.params.data.also[name]))}", table(headings, rows)]
    return ["## How far the scores carry", *sections, CARRIED_NOTE] if sections else []


def _against_base(comparison: Comparison, model: str, measure: str, scope: str = ALL) -> list[str]:
    if not comparison.has(model, measure, scope):
        return [DASH, DASH]
    found = comparison.against_base(model, measure, scope)
    return [difference(found), p_value(found.p_holm)]


def pairs_table(comparison: Comparison) -> str:
    """Return the overall comparisons: which questions changed hands, and whether that is more than chance."""
    titles = comparison.models.titles
    rows = []
    for found in comparison.rows:
        if found.level != "overall":
            continue
        detectable = found.smallest_detectable_pts
        rows.append(
            [
                MEASURE_NAMES[found.measure].replace("{questions}", comparison.models.questions),
                f"{titles[found.model]} against {titles[found.against]}",
                found.gained,
                found.lost,
                found.both_right,
                found.both_wrong,
                difference(found),
                p_value(found.p),
                p_value(found.p_holm),
                DASH if detectable is None else f"{detectable:.2f}",
                found.verdict,
            ]
        )
    headings = ["", "Pair", "Gained", "Lost", "Both right", "Both wrong", "Difference in points", "p", "Adjusted p"]
    return table([*headings, "Detectable", "Verdict"], rows) + (
        "\n\nDetectable: the smallest difference in points that so many questions show with 80 % power, at the "
        "observed share of questions on which the two models differ and a level of 5 % before adjustment."
    )


def by_subject(comparison: Comparison) -> list[str]:
    """Return the section of MMLU's subjects, where there are more of them than categories."""
    models = comparison.models
    subjects = comparison.mmlu[models.base]["by_subject"]
    if len(subjects) <= len(comparison.categories):
        return []
    rows = []
    for subject, metrics in subjects.items():
        row = [subject.replace("_", " "), accuracy(metrics, ACCURACY)]
        for model in models.tuned:
            found = comparison.against_base(model, ACCURACY, subject)
            row += [difference(found), p_value(found.p_holm)]
        rows.append(row)
    headings = [heading for model in models.tuned for heading in (f"{models.titles[model]}, points", "Adjusted p")]
    return ["## MMLU by subject", table(["", models.titles[models.base], *headings], rows)]


def agreement_table(comparison: Comparison) -> str:
    """Return the shares of identical outputs, verdicts and choices, pair by pair."""
    titles = comparison.models.titles
    rows = [
        [f"{titles[model]} and {titles[against]}"]
        + [percent(share) for share in (same.outputs, same.spider_verdicts, same.mmlu_choices)]
        for (model, against), same in comparison.agreement.items()
    ]
    on = comparison.models.questions
    headings = [f"Identical outputs on {on}", f"Identical verdicts on {on}", "Identical choices on MMLU"]
    return table(["", *headings], rows)


def cost_table(run: Run) -> str:
    """Return the cost of each tuned model (the paper's section III.C)."""
    rows = []
    for found in costs(run.comparison, run.timings):
        gain = points(run.comparison.against_base(found.model, EXECUTION).difference_pts)
        values = (found.training_minutes, found.minutes_per_spider_point, found.mmlu_points_per_spider_point)
        shown = [DASH if value is None else f"{value:.2f}" for value in values]
        rows.append([run.models.titles[found.model], gain, *shown])
    headings = [f"Points gained on {run.models.questions}", "Training minutes", "Minutes a point gained"]
    return table(["", *headings, "MMLU points lost a point gained"], rows) + (
        "\n\nA dash: no gain that can be told from chance, or no time recorded."
    )


def durations_table(timings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what each stage took, and on what."""
    rows = []
    for name, timing in timings.items():
        gpu_memory = timing.get("peak_gpu_memory_gb")
        rows.append(
            [
                name,
                minutes(timing["seconds"]),
                count(timing["tokens_per_second"]) if timing.get("tokens_per_second") else DASH,
                gigabytes(timing["peak_memory_gb"]) if timing.get("peak_memory_gb") else DASH,
                gigabytes(gpu_memory) if gpu_memory else DASH,
                machine(timing),
            ]
        )
    if not rows:
        return "No durations were recorded."
    return table(["Stage", "Minutes", "Tokens a second", "Memory, GB", "GPU memory, GB", "On"], rows)


def provenance_table(provenance: Mapping[str, Any]) -> str:
    """Return the base that was measured, by its revision or digest, and the dtype, device and library versions."""
    shown = {"base": "Base", "run": "Run", "versions": "Version"}
    rows = [
        [f"{title}: {name}", value] for part, title in shown.items() for name, value in provenance.get(part, {}).items()
    ]
    return table(["", ""], rows)


def accuracy(metrics: Mapping[str, Any], measure: str) -> str:
    """Return an accuracy with its interval: `7.25 % (5.83 to 8.99)`."""
    low, high = (in_percent(metrics[f"{measure}_{end}"]) for end in ("low", "high"))
    return f"{percent(metrics[measure])} ({interval(low, high)})"


def difference(found: Difference) -> str:
    """Return a difference in points with its interval: `-2.00 (-6.67 to +2.67)`."""
    return f"{points(found.difference_pts)} ({interval(points(found.low_pts), points(found.high_pts))})"


def relative_change(found: PairComparison) -> str:
    """Return a comparison's difference as a share of the accuracy compared with; a dash where that is 0."""
    if not found.accuracy_against:
        return DASH
    return f"{points(found.difference_pts / found.accuracy_against)} %"
