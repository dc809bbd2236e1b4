"""The steps of a recipe, each against the one before, on held-out databases and on dev: tables for docs/steps.md.

Made of committed curves whose points say after which point each comes (`after`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.comparison.result import ACCURACY, OFFICIAL
from text2sql.report.curve import CURVES, DRAWING, JSON, drawing, read_curve
from text2sql.report.markdown_text import DASH, bullets, table
from text2sql.report.numbers import count, gigabytes, in_percent, interval, p_equation, points
from text2sql.report.samples_figure import ways_in

STEPS = Path("docs/steps.md")
HELD_OUT = "-held-out"  # ends the name of the curve on held-out databases


def steps_blocks(folder: Path = CURVES) -> dict[str, str]:
    """Return {name of a block in docs/steps.md: its Markdown}, a block for each curve of steps on dev."""
    found = {path.parent.name: read_curve(path) for path in sorted(folder.glob(f"*/{JSON}"))}
    found = {name: curve for name, curve in found.items() if any("after" in point for point in curve["points"])}
    return {
        name: steps_table(curve, found.get(f"{name}{HELD_OUT}"))
        for name, curve in found.items()
        if not name.endswith(HELD_OUT)
    }


def steps_table(dev: Mapping[str, Any], held_out: Mapping[str, Any] | None) -> str:
    """Return the tables of one base: what each step gains, and what choosing among samples does."""
    curves = [curve for curve in (held_out, dev) if curve is not None]
    names = list(dict.fromkeys(point["name"] for curve in curves for point in curve["points"]))
    headings = ["Step", "After"]
    for curve in curves:
        headings += [f"{_called(curve)}, Greedy", "Gain", "Chosen", "Gain of Choosing"]
    headings += ["MMLU", "Change", "Training", "Answer", "Samples"]
    steps = table(headings, (_step(name, curves) for name in names))
    chosen = table(["Point", "n", *_ways(curves)], _chosen(names, curves))
    return "\n\n".join([steps, bullets(_notes(curves)), "By the number of samples:", chosen])


def _called(curve: Mapping[str, Any]) -> str:
    return "Held Out" if "held_out" in curve else "Dev"


def _runs(name: str, curves: Sequence[Mapping[str, Any]]) -> list[tuple[dict, dict] | None]:
    """Return the point of this name and its first run in each of `curves`, None where it was not run."""
    return [
        next(((point, point["runs"][0]) for point in curve["points"] if point["name"] == name), None)
        for curve in curves
    ]


def _step(name: str, curves: Sequence[Mapping[str, Any]]) -> list[str]:
    runs = _runs(name, curves)
    last = max(place for place, found in enumerate(runs) if found)  # dev's, where it was run there
    point, run = runs[last] or ({}, {})
    row = [name, point.get("after", DASH)]
    for found in runs:
        row += _accuracies(found[1]) if found else [DASH] * 4
    is_base = point["kind"] == "base" and not point["changes"]
    change = DASH if is_base else _difference(run["against_base"][ACCURACY])
    return [*row, in_percent(run["mmlu"][ACCURACY]), change, _training(point, run), *_times(run, curves[last])]


def _accuracies(run: Mapping[str, Any]) -> list[str]:
    greedy, choice = run["spider"][OFFICIAL], run.get("choice")
    return [
        in_percent(greedy),
        _difference(run["step"][OFFICIAL]) if "step" in run else DASH,
        in_percent(choice[OFFICIAL]) if choice else DASH,
        _difference(run["against_greedy"][OFFICIAL]) if choice else DASH,
    ]


def _difference(found: Mapping[str, Any]) -> str:
    bounds = interval(points(found["low_pts"]), points(found["high_pts"]))
    return f"{points(found['difference_pts'])} ({bounds}), {p_equation(found['p'])}"


def _training(point: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if "train" not in run["seconds"]:
        return DASH
    if point["adapter"]:
        return f"as {point['adapter']}"
    seconds, gb = run["seconds"], run["peak_memory_gb"]
    drawn = f" + {drawing(seconds):.0f} s drawing" if drawing(seconds) else ""
    peak = max(gb[task] for task in ("train", *DRAWING) if task in gb)
    return f"{seconds['train']:.0f} s{drawn}, {gigabytes(peak)} GB"


def _times(run: Mapping[str, Any], curve: Mapping[str, Any]) -> list[str]:
    """Return the milliseconds and memory that greedy answers and samples take, a question."""
    asked = curve["questions"]["spider"]
    return [
        f"{1000 * run['seconds'][task] / asked:.0f} ms, {gigabytes(run['peak_memory_gb'][task])} GB"
        if task in run["seconds"]
        else DASH
        for task in ("spider", "samples")
    ]


def _ways(curves: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for curve in curves:
        yield from (f"{_called(curve)}, {title}" for title in ways_in(_choices(curve)).values())


def _choices(curve: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [run["choice"] for point in curve["points"] for run in point["runs"] if "choice" in run]


def _chosen(names: Sequence[str], curves: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for name in names:
        runs = _runs(name, curves)
        choices = [found[1].get("choice") if found else None for found in runs]
        numbers = dict.fromkeys(number for choice in choices if choice for number in choice["by_samples"])
        for place, number in enumerate(numbers):
            row = [name if place == 0 else "", number]
            for choice, curve in zip(choices, curves, strict=True):
                ways = choice["by_samples"].get(number, {}) if choice else {}
                row += [in_percent(ways[way][OFFICIAL]) if way in ways else DASH for way in ways_in(_choices(curve))]
            yield row


def _verifier_notes(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each point and curve whose samples a verifier judged."""
    judged = [
        (curve, point, point["runs"][0])
        for curve in curves
        for point in curve["points"]
        if "verifier" in point["runs"][0].get("choice", {})
    ]
    return [
        f"{_called(curve)}, {point['name']}: {run['choice']['verifier']['name']} judged "
        f"{_judgements(run['choice']['verifier'])}; {_taught(run['choice']['verifier']['training'])}; training "
        f"{run['seconds']['verifier_train']:.0f} s, {gigabytes(run['peak_memory_gb']['verifier_train'])} GB, judging "
        f"{run['seconds']['verify']:.0f} s."
        for curve, point, run in judged
    ]


def _judgements(found: Mapping[str, Any]) -> str:
    if not found.get("answers"):
        return "no answer, since none runs"
    return (
        f"{count(found['answers'] - found['unjudged'])} different answers that run, {in_percent(found['accuracy'])} % "
        f"rightly, and of {count(found['pairs'])} pairs of a right and a wrong one ordered "
        f"{in_percent(found['ordered'])} % rightly"
    )


def _taught(training: Mapping[str, Any]) -> str:
    return (
        f"it learnt from {count(training['right_answers'])} right and {count(training['wrong_answers'])} wrong answers "
        f"of {training['from']} to {count(training['questions_used'])} questions"
    )


def _notes(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    dev = curves[-1]
    choice = next(iter(_choices(dev)), None)
    lines = [
        f"Base {dev['base']['name']}, {dev['dtype']} on {dev['device']}. "
        + "; ".join(f"{_called(curve)}: {count(curve['questions']['spider'])} questions" for curve in curves)
        + f"; MMLU: {count(dev['questions']['mmlu'])}. Official execution accuracy and MMLU's in percent.",
        "Gain: points against the point that a step comes after, paired, with a bootstrap 95 % interval and the exact "
        "McNemar p, not adjusted. Change: likewise against the base, on MMLU.",
    ]
    if choice:
        lines.append(
            f"Chosen: the majority of {choice['samples']} samples at temperature {choice['temperature']:g} (top_p "
            f"{choice['top_p']:g}), unless the point says otherwise; Gain of Choosing: against its own greedy answers."
        )
    lines += _verifier_notes(curves)
    lines.append(
        "Training; Answer and Samples, a question: seconds and peak memory of runs that shared a GPU with others, "
        "start-up not counted."
    )
    if any(drawing(run["seconds"]) for curve in curves for point in curve["points"] for run in point["runs"]):
        lines.append("Drawing: of answers to training questions, drawn and judged, which several points may share.")
    if dev["missing"]:
        lines.append(f"Not run on dev: {', '.join(dev['missing'])}.")
    return lines
