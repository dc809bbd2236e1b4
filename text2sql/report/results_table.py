"""The README's table of the result sets under `results/`, and the findings that follow from them.

Every figure comes from a set's metrics or timings; nothing is typed in. The paper's stand beside them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2sql.comparison.flat import read_summary
from text2sql.comparison.result import Difference, Summary, Verdict
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, write_text
from text2sql.core.intervals import wilson_interval
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.core.params import Params, load_params
from text2sql.report import paper
from text2sql.report.markdown_text import DASH, bullets, table
from text2sql.report.numbers import count, in_percent, interval, minutes, number, p_equation, percent, points
from text2sql.report.sentences import floor_lines

LEFT_OUT = "wta_1"  # the database of Spider's dev split with the largest tables by far
SCHEMAS = ("none", "name", "tables", "ddl")
MMLU_ALL = "mmlu_all"  # within a set: the same adapters on all of MMLU


@dataclass(frozen=True)
class ResultSet:
    """What the table needs of one folder below `results/`.

    compared: what metrics/compare.json says; compared_all and mmlu_all: of the run on all of MMLU, or None.
    """

    name: str
    models: ModelTable
    params: Params
    timings: dict[str, dict]
    spider: dict[str, dict]
    compared: Summary
    mmlu: dict[str, dict]
    compared_all: Summary | None
    mmlu_all: dict[str, dict] | None


def set_folders(results: Path) -> list[Path]:
    """Return the folders of the sets below `results`."""
    return sorted(path.parent for path in results.glob("*/params.yaml"))


def read_sets(results: Path) -> list[ResultSet]:
    """Return the sets below `results`: with less of the schema in the prompt first, then by name."""
    sets = [_read_set(folder) for folder in set_folders(results)]
    return sorted(sets, key=lambda found: (SCHEMAS.index(found.params.prompt.schema_), found.name))


def _read_set(folder: Path) -> ResultSet:
    params = load_params(folder / "params.yaml", older=True)
    models = params.model_table

    def of_models(task: str, root: Path) -> dict[str, dict]:
        return {model: read_json(root / f"metrics/{task}/{model}.json") for model in models.names}

    second = folder / MMLU_ALL if (folder / MMLU_ALL).is_dir() else None
    return ResultSet(
        name=folder.name,
        models=models,
        params=params,
        timings={path.stem: read_json(path) for path in (folder / "timings").glob("*.json")},
        spider=of_models("spider", folder),
        compared=read_summary(folder / "metrics/compare.json", models),
        mmlu=of_models("mmlu", folder),
        compared_all=read_summary(second / "metrics/compare.json", models) if second else None,
        mmlu_all=of_models("mmlu", second) if second else None,
    )


def blocks(sets: Sequence[ResultSet]) -> dict[str, str]:
    """Return {name of a block in the README: its Markdown}."""
    return {
        "results": results_table(sets),
        "findings": f"{model_2_findings(sets)}\n\n{mmlu_findings(sets)}" if sets else "No set is there yet.",
    }


def update(readme: Path, sets: Sequence[ResultSet], write: bool) -> bool:
    """Return whether the blocks in `readme` are current; with `write`, make them so.

    A block stands between `<!-- NAME: … -->` and `<!-- end of NAME -->`. Raises UserError where one is missing.
    """
    before = text = readme.read_text(encoding="utf-8")
    for name, block in blocks(sets).items():
        head, start, rest = text.partition(f"<!-- {name}:")
        opening, closed, rest = rest.partition("-->\n")
        _, end, tail = rest.partition(f"<!-- end of {name} -->")
        if not (start and closed and end):
            raise UserError(f"{readme}: wanted one block from <!-- {name}: … --> to <!-- end of {name} -->")
        text = f"{head}{start}{opening}{closed}\n{block}\n\n{end}{tail}"
    if write and text != before:
        write_text(readme, text)
    return text == before


# ---------------------------------------------------------------- the table

HEADINGS = (
    "Set",
    "Model",
    "Spider",
    "Without `wta_1`",
    "Official",
    "MMLU, 3 subjects",
    "MMLU, all 57",
    "As Base",
    "Minutes",
)


def results_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set and model below the paper's, and what the columns mean."""
    rows = [_paper_row(model) for model in PAPER_MODELS.names]
    rows += [_row(found, model) for found in sets for model in found.models.names]
    shown = table(HEADINGS, rows)
    return f"{shown}\n\n{bullets(_notes(sets))}" if sets else shown


def _row(found: ResultSet, model: str) -> list[str]:
    metrics, rest = found.spider[model], _without(found, model)
    pair = found.compared.against_base(model) if model in found.models.tuned else None
    return [
        # Named once, as a reader's eye wants it.
        found.name if model == found.models.base else "",
        found.models.titles[model],
        _accuracy(metrics["successes"], metrics["total"]) + (_told(pair.spider) if pair else ""),
        _accuracy(rest["successes"], rest["total"]),
        in_percent(metrics["official_successes"] / metrics["total"]),
        _mmlu(found.mmlu, found.compared, model),
        _mmlu(found.mmlu_all, found.compared_all, model),
        in_percent(pair.agreement.outputs) if pair else DASH,
        minutes(found.timings[f"train_{model}"]["seconds"], 1) if pair else DASH,
    ]


def _paper_row(model: str) -> list[str]:
    difference = paper.mmlu_difference_pts(model, "all")
    return [
        "the paper" if model == PAPER_MODELS.base else "",
        PAPER_MODELS.titles[model],
        _accuracy(paper.SPIDER_SUCCESSES[model], paper.SPIDER_TOTAL),
        DASH,
        DASH,
        DASH if difference is None else points(difference),
        DASH,
        DASH,
        f"{paper.TRAINING_MINUTES[model]:.1f}" if model in paper.TRAINING_MINUTES else DASH,
    ]


def _notes(sets: Sequence[ResultSet]) -> list[str]:
    """Return what the columns mean, with the numbers of questions and the machines that the sets themselves name."""

    def numbers(values: Iterable[int]) -> str:
        return " or ".join(count(value) for value in sorted(set(values))) or "no"

    rest = numbers(_without(found, found.models.base)["total"] for found in sets)
    return [
        f"Spider: execution accuracy in percent, with its 95 % interval (Wilson's), over the "
        f"{numbers(found.compared.spider_total for found in sets)} questions of the dev split. "
        f"Without `{LEFT_OUT}`: over the {rest} on other databases. "
        "Official: by the official evaluator's definition, over all.",
        *dict.fromkeys(line for found in sets for line in floor_lines(found.spider, found.models)),
        f"MMLU: Base's accuracy in percent over {numbers(found.compared.mmlu_total for found in sets)} and "
        f"{numbers(found.compared_all.mmlu_total for found in sets if found.compared_all)} questions; then points "
        "gained or lost against Base, with a paired bootstrap 95 % interval.",
        "`*`: differs from Base by more than chance (exact McNemar p, Holm-adjusted within the run, at most 5 %).",
        "As Base: percent of the answers on Spider that are Base's own, character by character.",
        f"Minutes: training alone, on {_machines(sets)}; the paper's on a {paper.GPU}. A dash: not printed there, or "
        "not run.",
    ]


def _machines(sets: Sequence[ResultSet]) -> str:
    names = {
        timing.get("gpu") or f"{timing['cpus']} CPU cores"
        for found in sets
        for timing in (found.timings[f"train_{model}"] for model in found.models.tuned)
    }
    return " or ".join(sorted(names))


def _without(found: ResultSet, model: str) -> dict[str, int]:
    """Return the counts of one model over all databases but `LEFT_OUT`."""
    metrics = found.spider[model]
    left_out = metrics["by_database"].get(LEFT_OUT, {})
    return {name: metrics[name] - left_out.get(name, 0) for name in ("total", "successes")}


def _accuracy(right: int, total: int) -> str:
    low, high = (in_percent(end, 1) for end in wilson_interval(right, total))
    return f"{in_percent(right / total)} ({interval(low, high)})"


def _mmlu(metrics: Mapping[str, dict] | None, compared: Summary | None, model: str) -> str:
    if metrics is None or compared is None:
        return DASH
    if model == compared.models.base:
        return in_percent(metrics[model]["accuracy"])
    found = compared.against_base(model).mmlu
    bounds = interval(points(found.low_pts, 1), points(found.high_pts, 1))
    return f"{points(found.difference_pts)} ({bounds}){_told(found)}"


def _told(found: Difference) -> str:
    return "" if found.verdict is Verdict.NOT_DISTINGUISHABLE else " *"


# ---------------------------------------------------------------- findings


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
            f"{_difference('execution accuracy', pair.spider)}."
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
        for model in found.models.tuned:
            parts = [
                _difference(f"{count(compared.mmlu_total)} questions", compared.against_base(model).mmlu)
                for compared in (found.compared, found.compared_all)
                if compared is not None
            ]
            lines.append(f"{found.name}, {found.models.titles[model]}: {'; '.join(parts)}.")
    return (
        "**What remains of the loss on MMLU.** The paper reports "
        f"{points(paper.MMLU_DIFFERENCE_PTS['all'])} points for both models: three questions of 150. Here, against "
        f"Base:\n\n{bullets(lines)}"
    )


def _difference(what: str, found: Difference) -> str:
    bounds = f"{interval(points(found.low_pts), points(found.high_pts))}, adjusted {p_equation(found.p_holm)}"
    return f"{what}: {points(found.difference_pts)} points ({bounds}): {found.verdict}"
