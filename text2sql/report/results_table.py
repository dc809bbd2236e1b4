"""The tables of the result sets under `results/`, and the blocks of README.md and docs/ that hold them.

README has one row a set; docs/results.md everything; docs/paper.md the paper's claims beside them.

Every figure comes from a set's metrics or timings; nothing is typed in. The paper's stand beside them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from text2sql.comparison.result import Difference, Summary, Verdict
from text2sql.core.intervals import wilson_interval
from text2sql.core.models import PAPER_MODELS, SPIDER
from text2sql.report import paper
from text2sql.report.blocks import update_blocks
from text2sql.report.markdown_text import DASH, bullets, table
from text2sql.report.numbers import count, gigabytes, in_percent, interval, minutes, number, points, words
from text2sql.report.paper_claims import claims
from text2sql.report.read_sets import SEEDED, ResultSet, Spread, spreads, verdict
from text2sql.report.result_sets import MMLU_ALL
from text2sql.report.results_carried import carried_table
from text2sql.report.sentences import floor_lines
from text2sql.scoring.failures import CAUSES
from text2sql.scoring.hardness import HARDNESS_LEVELS

README, DOCS, PAPER = Path("README.md"), Path("docs/results.md"), Path("docs/paper.md")
LEFT_OUT = "wta_1"  # the database of Spider's dev split with the largest tables by far


def blocks(sets: Sequence[ResultSet]) -> dict[Path, dict[str, str]]:
    """Return {file: {name of a block in it: its Markdown}}."""
    nothing = "No set is there yet."
    if not sets:
        return {
            README: {"summary": summary_table(sets)},
            DOCS: {"results": spider_table(sets), "carried": nothing, "details": nothing},
            PAPER: {"claims": nothing},
        }
    first, *others = _by_questions(sets)
    shown = [spider_table(first), mmlu_table(sets), training_table(sets), *map(spider_table, others)]
    return {
        README: {"summary": "\n\n".join(_summary(found) for found in (first, *others) if found)},
        DOCS: {
            "results": "\n\n".join([*shown, bullets(_notes(first, sets))]),
            "carried": carried_table(sets),
            "details": f"{hardness_table(sets)}\n\n{causes_table(sets)}",
        },
        PAPER: {"claims": claims(first) if first else nothing},
    }


def _by_questions(sets: Sequence[ResultSet]) -> list[list[ResultSet]]:
    """Return the sets by the questions that were asked: Spider's first, maybe none, then each own data's."""
    names = dict.fromkeys([SPIDER, *(found.models.questions for found in sets)])
    return [[found for found in sets if found.models.questions == name] for name in names]


def _summary(sets: Sequence[ResultSet]) -> str:
    return f"{summary_table(sets)}\n\n{bullets(_summary_notes(sets))}"


def _questions(sets: Sequence[ResultSet]) -> str:
    """Return what the questions of `sets` are called, which are all of one data set; Spider where there is no set."""
    return sets[0].models.questions if sets else SPIDER


def update(found: Mapping[Path, Mapping[str, str]], write: bool) -> list[Path]:
    """Return which files' blocks are not current, of {file: {name of a block: its Markdown}}; `write` makes them so.

    Raises UserError where a block is missing.
    """
    return [path for path, wanted in found.items() if update_blocks(path, wanted, write)]


def _shown(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows of texts as a Markdown table; each set is named once, as a reader's eye wants it."""
    frame = pd.DataFrame(list(rows)).fillna(DASH)
    frame["Set"] = frame["Set"].mask(frame["Set"] == frame["Set"].shift(), "")
    return table(list(frame.columns), frame.itertuples(index=False, name=None))


def summary_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set: what Model 1 gained on their questions, and what that did to MMLU.

    `sets` are all of one data set; Spider's stand below the paper.
    """
    right, total, questions = paper.SPIDER_SUCCESSES, paper.SPIDER_TOTAL, _questions(sets)
    papers = [
        {
            "Set": "the paper",
            "Base": paper.BASE,
            "Schema": "none",
            "Spider, base": in_percent(right["base"] / total),
            "Model 1": in_percent(right["m1"] / total),
            "Gain": points(100 * (right["m1"] - right["base"]) / total),
            "MMLU": points(paper.MMLU_DIFFERENCE_PTS["all"]),
            "of questions": count(paper.MMLU_TOTAL),
        }
    ]
    rows = papers if questions == SPIDER else []
    for found in sets:
        base, model = found.models.base, found.models.tuned[0]
        measure, compared = (MMLU_ALL, found.compared_all) if found.compared_all else ("mmlu", found.compared)
        rows.append(
            {
                "Set": found.name,
                "Base": found.params.model.base,
                "Schema": found.params.prompt.schema_,
                f"{questions}, base": in_percent(found.metrics["spider"][base]["execution_accuracy"]),
                "Model 1": in_percent(found.metrics["spider"][model]["execution_accuracy"]),
                "Gain": _against_base(found, found.compared, "spider", model),
                "MMLU": _against_base(found, compared, measure, model),
                "of questions": count(compared.mmlu_total),
            }
        )
    return _shown(rows)


def _summary_notes(sets: Sequence[ResultSet]) -> list[str]:
    floors = dict.fromkeys(line for found in sets for line in floor_lines(found.metrics["spider"], found.models))
    return [
        f"{_questions(sets)}: execution accuracy in percent, over the "
        f"{_counts(found.compared.spider_total for found in sets)} "
        "questions of the dev split; the gain in points. MMLU: points gained or lost.",
        "In brackets: a paired bootstrap 95 % interval. `*`: more than chance and, where several seeds were trained, "
        "more than their spread.",
        *floors,
    ]


def spider_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set and model on their questions, which are all of one data set; Spider's below the paper's."""
    papers = [
        {
            "Set": "the paper",
            "Model": title,
            "Spider": _accuracy(paper.SPIDER_SUCCESSES[model], paper.SPIDER_TOTAL),
            "Gain": DASH
            if model == PAPER_MODELS.base
            else points(100 * (paper.SPIDER_SUCCESSES[model] - paper.SPIDER_SUCCESSES["base"]) / paper.SPIDER_TOTAL),
        }
        for model, title in PAPER_MODELS.titles.items()
    ]
    rows = papers if _questions(sets) == SPIDER else []
    return _shown([*rows, *(_spider_row(found, model) for found in sets for model in found.models.names)])


def _spider_row(found: ResultSet, model: str) -> dict[str, str]:
    metrics, rest = found.metrics["spider"][model], _without(found, model)
    row = {
        "Set": found.name,
        "Model": found.models.titles[model],
        found.models.questions: _accuracy(metrics["successes"], metrics["total"]),
        **_change("Gain", found, "spider", model),
        "Official": in_percent(metrics["official_successes"] / metrics["total"]),
    }
    if found.models.on_spider:
        row[f"Without `{LEFT_OUT}`"] = in_percent(rest["successes"] / rest["total"])
        row["Official, without"] = in_percent(rest["official_successes"] / rest["total"])
    if model in found.models.tuned:
        row["As Base"] = in_percent(found.compared.against_base(model).agreement.outputs)
    return row


def mmlu_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set and model on MMLU, on the paper's few questions and on all, below the paper's."""
    rows: list[dict[str, str]] = []
    for model, title in PAPER_MODELS.titles.items():
        difference = paper.mmlu_difference_pts(model, "all")
        change = DASH if difference is None else points(difference)
        rows.append({"Set": "the paper", "Model": title, "MMLU, 3 subjects": DASH, "Change": change})
    for found in sets:
        for model, title in found.models.titles.items():
            row = {"Set": found.name, "Model": title}
            for task, heading, end in (("mmlu", "MMLU, 3 subjects", ""), (MMLU_ALL, "MMLU, all 57", ", all 57")):
                metrics = found.metrics.get(task, {}).get(model)
                row[heading] = in_percent(metrics["accuracy"]) if metrics else DASH
                row |= _change("Change", found, task, model, end)
            rows.append(row)
    return _shown(rows)


def _against_base(found: ResultSet, compared: Summary, measure: str, model: str) -> str:
    """Return a difference with its interval, and a star where it is told from chance and from the seeds' spread."""
    difference = _difference(compared, measure, model)
    bounds = interval(points(difference.low_pts, 1), points(difference.high_pts, 1))
    told = "" if verdict(difference, _spread(found, measure, model)) is Verdict.NOT_DISTINGUISHABLE else " *"
    return f"{points(difference.difference_pts)} ({bounds}){told}"


def _change(heading: str, found: ResultSet, measure: str, model: str, end: str = "") -> dict[str, str]:
    """Return the cells of a tuned model's gain or loss and of its spread over seeds; dashes for the base."""
    summary = found.compared_all if measure == MMLU_ALL else found.compared
    names = f"{heading}{end}", f"Seeds{end}"
    if model == found.models.base or summary is None:
        return dict.fromkeys(names, DASH)
    spread = _spread(found, measure, model)
    shown = _against_base(found, summary, measure, model), DASH if spread is None else str(spread)
    return dict(zip(names, shown))


def _spread(found: ResultSet, measure: str, model: str) -> Spread | None:
    return spreads(found).get(measure) if model == SEEDED else None


def _difference(summary: Summary, measure: str, model: str) -> Difference:
    pair = summary.against_base(model)
    return pair.spider if measure == "spider" else pair.mmlu


def training_table(sets: Sequence[ResultSet]) -> str:
    """Return how each tuned model was trained, and what that took."""
    rows = []
    for found in sets:
        for model in found.models.tuned:
            recipe, timing = found.params.train_for(model), found.timings[f"train_{model}"]
            dtype = timing.get("dtype", found.params.model.dtype)
            memory = timing.get("peak_gpu_memory_gb") or timing.get("peak_memory_gb")
            rows.append(
                {
                    "Set": found.name,
                    "Model": found.models.titles[model],
                    "Base": found.params.model.base,
                    "In": "4 bit" if found.params.model.quantization == "4bit" else dtype,
                    "Schema": found.params.prompt.schema_,
                    "Rate": number(recipe.lr),
                    "Epochs": number(recipe.epochs),
                    "Optimizer": recipe.optim,
                    "Minutes": minutes(timing["seconds"], 1),
                    "GB": gigabytes(memory) if memory else DASH,
                }
            )
    return _shown(rows)


def _notes(on_spider: Sequence[ResultSet], sets: Sequence[ResultSet]) -> list[str]:
    """Return what the columns mean, with the numbers of questions and the machines that the sets themselves name."""
    rest = _counts(_without(found, found.models.base)["total"] for found in on_spider)
    took = "; ".join(f"{PAPER_MODELS.titles[model]} {value:.1f}" for model, value in paper.TRAINING_MINUTES.items())
    others = [found for found in sets if found not in on_spider]
    answers = "on Spider" if not others else "on the questions of its table"
    return [
        f"Spider: execution accuracy in percent, with its 95 % interval (Wilson's), over the "
        f"{_counts(found.compared.spider_total for found in on_spider)} questions of the dev split. Official: by the "
        f"official evaluator's definition. Without `{LEFT_OUT}`: over the {rest} on other databases.",
        *(
            f"{found.models.questions}: likewise, over {count(found.compared.spider_total)} questions of its dev split "
            f"({found.name})."
            for found in others
        ),
        *dict.fromkeys(line for found in sets for line in floor_lines(found.metrics["spider"], found.models)),
        f"MMLU: accuracy in percent over {_counts(found.compared.mmlu_total for found in sets)} and "
        f"{_counts(found.compared_all.mmlu_total for found in sets if found.compared_all)} questions.",
        "Gain, Change: points against Base, with a paired bootstrap 95 % interval.",
        "Seeds: how many seeds Model 1 was trained with, the set's own among them, and the smallest and the largest "
        "of their gains. Where one was, what a seed changes is not known; Model 2 was trained with one in each set.",
        "`*`: differs from Base by more than chance (exact McNemar p of the set's own seed, Holm-adjusted within the "
        "run, at most 5 %) and, where there are more seeds, by more than their spread: all gains have one sign, and "
        "the one nearest to zero is larger than the largest less the smallest.",
        f"As Base: percent of the answers {answers} that are Base's own, character by character. A dash: not printed "
        "there, or not run.",
        f"Minutes, GB: training alone, and the GPU's memory at its peak (without a GPU the machine's), on "
        f"{_machines(sets)}; the paper's minutes on a {paper.GPU}: {took}.",
    ]


def _counts(values: Iterable[int]) -> str:
    return " or ".join(count(value) for value in sorted(set(values))) or "no"


def _machines(sets: Sequence[ResultSet]) -> str:
    names = {
        timing.get("gpu") or f"{timing['cpus']} CPU cores"
        for found in sets
        for timing in (found.timings[f"train_{model}"] for model in found.models.tuned)
    }
    return " or ".join(sorted(names))


def _without(found: ResultSet, model: str) -> dict[str, int]:
    """Return the counts of one model over all databases but `LEFT_OUT`."""
    metrics = found.metrics["spider"][model]
    left_out = metrics["by_database"].get(LEFT_OUT, {})
    return {name: metrics[name] - left_out.get(name, 0) for name in ("total", "successes", "official_successes")}


def _accuracy(right: int, total: int) -> str:
    low, high = (in_percent(end, 1) for end in wilson_interval(right, total))
    return f"{in_percent(right / total)} ({interval(low, high)})"


# ---------------------------------------------------------------- by hardness, by cause


def hardness_table(sets: Sequence[ResultSet]) -> str:
    """Return accuracy by hardness, the paper's definition and the official one."""
    rows = []
    for found in sets:
        for model, title in found.models.titles.items():
            row = {"Set": found.name, "Model": title}
            for level in HARDNESS_LEVELS:
                part = found.metrics["spider"][model]["by_hardness"][level]
                counts = (part["successes"], part["official_successes"])
                row[level] = (
                    " / ".join(in_percent(right / part["total"]) for right in counts) if part["total"] else DASH
                )
            rows.append(row)
    return f"**By hardness**: execution accuracy / the official one, in percent.\n\n{_shown(rows)}"


def causes_table(sets: Sequence[ResultSet]) -> str:
    """Return how many answers failed for which cause; causes that never occur are left out."""
    frame = pd.DataFrame(
        [
            # Sets from before a cause was told apart have no count of it.
            {"Set": found.name, "Model": title, **dict.fromkeys(CAUSES, 0), **found.metrics["spider"][model]["causes"]}
            for found in sets
            for model, title in found.models.titles.items()
        ]
    )
    causes = [cause for cause in CAUSES if frame[cause].any()]
    named = frame[["Set", "Model", *causes]].astype(str).rename(columns=words)
    return f"**Causes of failure**: how many answers, by the official definition.\n\n{_shown(named.to_dict('records'))}"
