"""The README's table of the result sets under `results/`, and the findings that follow from them.

Every figure comes from a set's metrics or timings; nothing is typed in. The paper's stand beside them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2sql.comparison.compare import MODELS, NAMES, TUNED, points, read_flat, verdict
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, write_text
from text2sql.core.intervals import wilson_interval
from text2sql.core.params import Params, load_params
from text2sql.report import paper
from text2sql.report.markdown import DASH, bullets, number, p_value, percent, table

LEFT_OUT = "wta_1"  # the database of Spider's dev split with the largest tables by far
SCHEMAS = ("none", "name", "tables", "ddl")
MMLU_ALL = "mmlu_all"  # within a set: the same adapters on all of MMLU


@dataclass(frozen=True)
class ResultSet:
    """What the table needs of one folder below `results/`.

    compared: the numbers of metrics/compare.json; compared_all and mmlu_all: those of the run on all of MMLU, or None.
    """

    name: str
    params: Params
    timings: dict[str, dict]
    spider: dict[str, dict]
    compared: dict[str, float]
    mmlu: dict[str, dict]
    compared_all: dict[str, float] | None
    mmlu_all: dict[str, dict] | None


def set_folders(results: Path) -> list[Path]:
    """Return the folders of the sets below `results`."""
    return sorted(path.parent for path in results.glob("*/params.yaml"))


def read_sets(results: Path) -> list[ResultSet]:
    """Return the sets below `results`: with less of the schema in the prompt first, then by name."""
    sets = [_read_set(folder) for folder in set_folders(results)]
    return sorted(sets, key=lambda found: (SCHEMAS.index(found.params.prompt.schema_), found.name))


def _read_set(folder: Path) -> ResultSet:
    def of_models(task: str, root: Path) -> dict[str, dict]:
        return {model: read_json(root / f"metrics/{task}/{model}.json") for model in MODELS}

    second = folder / MMLU_ALL if (folder / MMLU_ALL).is_dir() else None
    return ResultSet(
        name=folder.name,
        params=load_params(folder / "params.yaml", older=True),
        timings={path.stem: read_json(path) for path in (folder / "timings").glob("*.json")},
        spider=of_models("spider", folder),
        compared=read_flat(folder / "metrics/compare.json"),
        mmlu=of_models("mmlu", folder),
        compared_all=read_flat(second / "metrics/compare.json") if second else None,
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
    rows = [_paper_row(model) for model in MODELS]
    for found in sets:
        for model in MODELS:
            metrics, rest, compared = found.spider[model], _without(found, model), found.compared
            tuned = model in TUNED
            told = _told(compared[f"spider_gain_pts_{model}"], compared[f"spider_p_holm_{model}"]) if tuned else ""
            rows.append(
                [
                    # Named once, as a reader's eye wants it.
                    found.name if model == MODELS[0] else "",
                    NAMES[model],
                    _accuracy(metrics["successes"], metrics["total"]) + told,
                    _accuracy(rest["successes"], rest["total"]),
                    f"{100 * metrics['official_successes'] / metrics['total']:.2f}",
                    _mmlu(found.mmlu, compared, model),
                    _mmlu(found.mmlu_all, found.compared_all, model),
                    f"{100 * compared[f'agreement_identical_outputs_{model}']:.2f}" if tuned else DASH,
                    f"{found.timings[f'train_{model}']['seconds'] / 60:.1f}" if tuned else DASH,
                ]
            )
    shown = table(HEADINGS, rows)
    return f"{shown}\n\n{bullets(_notes(sets))}" if sets else shown


def _paper_row(model: str) -> list[str]:
    tuned = model in TUNED
    return [
        "the paper" if model == MODELS[0] else "",
        NAMES[model],
        _accuracy(paper.SPIDER_SUCCESSES[model], paper.SPIDER_TOTAL),
        DASH,
        DASH,
        points(paper.MMLU_DIFFERENCE_PTS["all"]) if tuned else DASH,
        DASH,
        DASH,
        f"{paper.TRAINING_MINUTES[model]:.1f}" if tuned else DASH,
    ]


def _notes(sets: Sequence[ResultSet]) -> list[str]:
    """Return what the columns mean, with the numbers of questions and the machines that the sets themselves name."""

    def numbers(values: Iterable[int]) -> str:
        return " or ".join(f"{value:,}" for value in sorted(set(values))) or "no"

    return [
        f"Spider: execution accuracy in percent, with its 95 % interval (Wilson's), over the "
        f"{numbers(found.spider['base']['total'] for found in sets)} questions of the dev split. "
        f"Without `{LEFT_OUT}`: over the {numbers(_without(found, 'base')['total'] for found in sets)} on other "
        "databases. Official: by the official evaluator's definition, over all.",
        f"MMLU: Base's accuracy in percent over {numbers(found.mmlu['base']['total'] for found in sets)} and "
        f"{numbers(found.mmlu_all['base']['total'] for found in sets if found.mmlu_all)} questions; then points "
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
        for timing in (found.timings[f"train_{model}"] for model in TUNED)
    }
    return " or ".join(sorted(names))


def _without(found: ResultSet, model: str) -> dict[str, int]:
    """Return the counts of one model over all databases but `LEFT_OUT`."""
    metrics = found.spider[model]
    left_out = metrics["by_database"].get(LEFT_OUT, {})
    return {name: metrics[name] - left_out.get(name, 0) for name in ("total", "successes")}


def _accuracy(right: int, total: int) -> str:
    low, high = (100 * end for end in wilson_interval(right, total))
    return f"{100 * right / total:.2f} ({low:.1f} to {high:.1f})"


def _mmlu(metrics: Mapping[str, dict] | None, compared: Mapping[str, float] | None, model: str) -> str:
    if metrics is None or compared is None:
        return DASH
    if model == "base":
        return f"{100 * metrics['base']['accuracy']:.2f}"
    difference, low, high, p = _mmlu_difference(compared, model)
    return f"{points(difference)} ({_short(low)} to {_short(high)}){_told(difference, p)}"


def _short(difference: float) -> str:
    text = f"{difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _told(difference: float, p: float) -> str:
    return "" if verdict(difference, p) == "not distinguishable" else " *"


def _mmlu_difference(compared: Mapping[str, float], model: str) -> tuple[float, float, float, float]:
    """Return the difference to base in points, its interval, and the adjusted p: gains count up here."""
    loss, low, high = (compared[f"mmlu_loss_pts{end}_{model}"] for end in ("", "_low", "_high"))
    return 0.0 - loss, 0.0 - high, 0.0 - low, compared[f"mmlu_p_holm_{model}"]


# ---------------------------------------------------------------- findings


def model_2_findings(sets: Sequence[ResultSet]) -> str:
    """Return what Model 2's training changed at all: outputs that differ, and points on Spider."""
    rate, share = number(paper.TABLE_1["m2"]["lr"]), paper.SPIDER_SUCCESSES["m2"] / paper.SPIDER_TOTAL
    lines = []
    for found in sets:
        recipe, compared, total = found.params.train_for("m2"), found.compared, found.spider["m2"]["total"]
        differ = round((1 - compared["agreement_identical_outputs_m2"]) * total)
        gain, low, high, p = (
            compared[f"spider_{key}_m2"] for key in ("gain_pts", "gain_pts_low", "gain_pts_high", "p_holm")
        )
        lines.append(
            f"{found.name} (rate {number(recipe.lr)}, epochs {number(recipe.epochs)}): {differ:,} of {total:,} "
            f"outputs differ ({percent(differ / total)}); {_difference('execution accuracy', gain, low, high, p)}."
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
        for model in TUNED:
            parts = [
                _difference(f"{metrics['base']['total']:,} questions", *_mmlu_difference(compared, model))
                for metrics, compared in ((found.mmlu, found.compared), (found.mmlu_all, found.compared_all))
                if metrics is not None and compared is not None
            ]
            lines.append(f"{found.name}, {NAMES[model]}: {'; '.join(parts)}.")
    return (
        "**What remains of the loss on MMLU.** The paper reports "
        f"{points(paper.MMLU_DIFFERENCE_PTS['all'])} points for both models: three questions of 150. Here, against "
        f"Base:\n\n{bullets(lines)}"
    )


def _difference(what: str, difference: float, low: float, high: float, p: float) -> str:
    text = p_value(p)
    return (
        f"{what}: {points(difference)} points ({points(low)} to {points(high)}, adjusted p "
        f"{text if text.startswith('<') else f'= {text}'}): {verdict(difference, p)}"
    )
