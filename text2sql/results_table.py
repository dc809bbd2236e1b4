"""The README's tables of the result sets under `results/`, and the findings that follow from them.

Every figure comes from a set's metrics or timings; nothing is typed in. The paper's stand beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql import paper
from text2sql.comparison import MODELS, NAMES, TUNED, points, read_flat, verdict
from text2sql.errors import UserError
from text2sql.files import read_json, write_text
from text2sql.params import Params, load_params
from text2sql.report import DASH, bullets, number, p_value, percent, table
from text2sql.scoring import wilson_interval

LEFT_OUT = "wta_1"  # the database of Spider's dev split with the largest tables by far
SCHEMAS = ("none", "name", "tables", "ddl")
PAPER = "the paper"


@dataclass(frozen=True)
class ResultSet:
    """What the tables need of one folder below `results/`; `all` fields are None without a run on all of MMLU."""

    name: str
    params: Params
    spider: dict[str, dict]
    mmlu: dict[str, dict]
    compared: dict[str, float]
    timings: dict[str, dict]
    mmlu_all: dict[str, dict] | None
    compared_all: dict[str, float] | None


def set_folders(results: Path) -> list[Path]:
    """Return the folders of the sets below `results`."""
    return sorted(path.parent for path in results.glob("*/params.yaml"))


def read_sets(results: Path) -> list[ResultSet]:
    """Return the sets below `results`: with less of the schema in the prompt first, then by name."""
    sets = [_read_set(folder) for folder in set_folders(results)]
    return sorted(sets, key=lambda found: (SCHEMAS.index(found.params.prompt.schema_), found.name))


def _read_set(folder: Path) -> ResultSet:
    def of_models(task: str, root: Path = folder) -> dict[str, dict]:
        return {model: read_json(root / f"metrics/{task}/{model}.json") for model in MODELS}

    second = folder / "mmlu_all"
    return ResultSet(
        name=folder.name,
        params=load_params(folder / "params.yaml"),
        spider=of_models("spider"),
        mmlu=of_models("mmlu"),
        compared=read_flat(folder / "metrics/compare.json"),
        timings={path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))},
        mmlu_all=of_models("mmlu", second) if second.is_dir() else None,
        compared_all=read_flat(second / "metrics/compare.json") if second.is_dir() else None,
    )


def blocks(sets: Sequence[ResultSet]) -> dict[str, str]:
    """Return {name of a block in the README: its Markdown}."""
    return {
        "results": "\n\n".join([spider_table(sets), mmlu_table(sets)]),
        "findings": "\n\n".join([*model_2_findings(sets), *mmlu_findings(sets)]) if sets else "No set is there yet.",
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


# ---------------------------------------------------------------- tables


def spider_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set and model: both accuracies with and without `wta_1`, what it took, and on what."""
    rows = [
        [
            PAPER,
            NAMES[model],
            _share(paper.SPIDER_SUCCESSES[model], paper.SPIDER_TOTAL),
            *[DASH] * 4,
            f"{paper.TRAINING_MINUTES[model]:.1f}" if model in TUNED else DASH,
            paper.GPU,
        ]
        for model in MODELS
    ]
    for found in sets:
        for model in MODELS:
            metrics = found.spider[model]
            rest = _without(found, model)
            same = DASH if model == "base" else percent(found.compared[f"agreement_identical_outputs_{model}"])
            rows.append(
                [
                    _link(found),
                    NAMES[model],
                    _share(metrics["successes"], metrics["total"]),
                    _share(rest["successes"], rest["total"]),
                    _share(metrics["official_successes"], metrics["total"]),
                    _share(rest["official_successes"], rest["total"]),
                    same,
                    *_training(found, model),
                ]
            )
    headings = ["Set", "Model", "Execution accuracy", f"Without `{LEFT_OUT}`", "Official execution accuracy"]
    headings += [f"Without `{LEFT_OUT}`", "Outputs identical to Base's", "Training minutes", "GPU"]
    return table(headings, rows)


def mmlu_table(sets: Sequence[ResultSet]) -> str:
    """Return one row a set and model: MMLU as the paper asks it, and all of it."""
    rows = [
        [PAPER, NAMES[model], DASH, points(paper.MMLU_DIFFERENCE_PTS["all"]) if model in TUNED else DASH, *[DASH] * 4]
        for model in MODELS
    ]
    for found in sets:
        for model in MODELS:
            few = [_share(found.mmlu[model]["correct"], found.mmlu[model]["total"]), *_mmlu(found.compared, model)]
            if found.mmlu_all is None or found.compared_all is None:
                many = [DASH] * 3
            else:
                metrics = found.mmlu_all[model]
                many = [_share(metrics["correct"], metrics["total"]), *_mmlu(found.compared_all, model)]
            rows.append([_link(found), NAMES[model], *few, *many])
    headings = ["Set", "Model", "MMLU, three subjects", "Points against Base", "Adjusted p"]
    return table([*headings, "MMLU, all 57", "Points against Base", "Adjusted p"], rows)


def _without(found: ResultSet, model: str) -> dict[str, int]:
    """Return the counts of one model over all databases but `LEFT_OUT`."""
    metrics = found.spider[model]
    if "by_database" not in metrics:
        raise UserError(f"results/{found.name}/metrics/spider/{model}.json: has no by_database; export a newer run")
    left_out = metrics["by_database"].get(LEFT_OUT, {})
    return {
        name: metrics[name] - left_out.get(name, 0) for name in ("total", "successes", "official_successes")
    }


def _training(found: ResultSet, model: str) -> tuple[str, str]:
    """Return a model's minutes in training, and what it was trained on; for base, what it answered on."""
    timing = found.timings.get("predict_spider_base" if model == "base" else f"train_{model}")
    if timing is None:
        return DASH, DASH
    device = timing.get("gpu") or f"none, {timing.get('cpus', '?')} cores"
    return DASH if model == "base" else f"{timing['seconds'] / 60:.1f}", device


def _share(right: int, total: int) -> str:
    low, high = (100 * end for end in wilson_interval(right, total))
    return f"{right:,} of {total:,}: {percent(right / total)} ({low:.2f} to {high:.2f})" if total else DASH


def _mmlu(compared: Mapping[str, float], model: str) -> tuple[str, str]:
    if model == "base":
        return DASH, DASH
    difference, low, high, p = _mmlu_difference(compared, model)
    return f"{points(difference)} ({points(low)} to {points(high)})", p_value(p)


def _mmlu_difference(compared: Mapping[str, float], model: str) -> tuple[float, float, float, float]:
    """Return the difference to base in points, its interval, and the adjusted p: gains count up here."""
    loss, low, high = (compared[f"mmlu_loss_pts{end}_{model}"] for end in ("", "_low", "_high"))
    return 0.0 - loss, 0.0 - high, 0.0 - low, compared[f"mmlu_p_holm_{model}"]


def _link(found: ResultSet) -> str:
    return f"[{found.name}](results/{found.name}/report.md)"


# ---------------------------------------------------------------- findings


def model_2_findings(sets: Sequence[ResultSet]) -> list[str]:
    """Return what Model 2's training changed at all: outputs that differ, and points on Spider."""
    lines, gains, slow = [], [], []
    for found in sets:
        total = found.spider["m2"]["total"]
        share = 1 - found.compared["agreement_identical_outputs_m2"]
        gain, low, high, p = (found.compared[f"spider_{key}_m2"] for key in
                              ("gain_pts", "gain_pts_low", "gain_pts_high", "p_holm"))  # fmt: skip
        recipe = found.params.train_for("m2")
        lines.append(
            f"{found.name} (rate {number(recipe.lr)}, epochs {number(recipe.epochs)}): {round(share * total):,} of "
            f"{total:,} outputs differ ({percent(share)}); {points(gain)} points ({points(low)} to {points(high)}, "
            f"adjusted p {_is(p)}): {verdict(gain, p)}"
            + (" than Base" if verdict(gain, p) != "not distinguishable" else " from Base")
        )
        if recipe.lr == paper.TABLE_1["m2"]["lr"]:
            slow.append(share)
            gains += [found.name] if verdict(gain, p) == "better" else []
    rate = number(paper.TABLE_1["m2"]["lr"])
    closing = f"No set has trained Model 2 at the paper's rate of {rate}."
    if slow:
        told = f"A gain that can be told from chance: {', '.join(gains) or 'none'}."
        closing = f"At the paper's rate of {rate}, at most {percent(max(slow))} of the outputs differ. {told}"
    return [
        "**What Model 2 learns.** The paper reads its 6.00 % as an effect of training at a learning rate of "
        f"{rate}. How many of Model 2's outputs differ from Base's at all, character by character, and what "
        f"that changes in execution accuracy:",
        bullets(lines),
        closing,
    ]


def mmlu_findings(sets: Sequence[ResultSet]) -> list[str]:
    """Return what remains of the paper's loss on MMLU, on its few questions and on all."""
    lines, lost = [], []
    for found in sets:
        for model in TUNED:
            parts = []
            for metrics, compared in _mmlu_runs(found):
                difference, low, high, p = _mmlu_difference(compared, model)
                total = metrics["base"]["total"]
                parts.append(
                    f"{points(difference)} points ({points(low)} to {points(high)}, adjusted p {_is(p)}) on "
                    f"{total:,} questions"
                )
                if verdict(difference, p) == "worse":
                    lost.append(f"{found.name}, {NAMES[model]}, on {total:,} questions")
            lines.append(f"{found.name}, {NAMES[model]}: {'; '.join(parts)}")
    return [
        f"**What remains of the loss on MMLU.** The paper reports {points(paper.MMLU_DIFFERENCE_PTS['all'])} points on "
        "150 questions for both models, three questions each.",
        bullets(lines),
        f"A loss that can be told from chance: {'; '.join(lost) or 'none'}.",
    ]


def _mmlu_runs(found: ResultSet) -> Iterator[tuple[dict[str, dict], dict[str, float]]]:
    yield found.mmlu, found.compared
    if found.mmlu_all is not None and found.compared_all is not None:
        yield found.mmlu_all, found.compared_all


def _is(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
