"""The curve made of kept runs: `curve.json`, and the figure and table drawn from it."""

from pathlib import Path
from typing import Any

from text2sql.comparison.curve import MEASURES, Answers, adjust, against_base, choosing, pareto_front, step
from text2sql.comparison.result import ACCURACY, CHAT, EXECUTION, OFFICIAL, ROTATED
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import write_json
from text2sql.core.models import SPIDER
from text2sql.experiments.inputs import own_key
from text2sql.experiments.kept_runs import changed_since, read_answers, read_run
from text2sql.experiments.points import Curve, Point, Run
from text2sql.report.curve import JSON, draw

# Of a run's `metrics/spider_choice`, what the curve shows.
CHOICE = ("samples", "temperature", "top_p", EXECUTION, OFFICIAL, "by_samples", "verifier")
_NAMES = {CHAT: ACCURACY}  # in the metrics, where a measure has another name there


def write_curve(curve: Curve, folder: Path, shared: Key) -> None:
    """Write `curve.json`, `curve.svg` and `curve.md` of the runs that are kept in `folder` with the key `shared`.

    Points that are not kept, or come from anything else, are named in it as missing. Nothing is written before the
    base is there.
    """
    kept = {run.name: found for point in curve.points for run in point.runs if (found := _kept(folder, run, shared))}
    base_run = curve.points[0].runs[0].name
    if base_run not in kept:
        return
    base = read_answers(folder / base_run)
    points = [_point(point, kept, folder, base, curve) for point in curve.points if point.runs[0].name in kept]
    first_runs = [point["runs"][0]["against_base"] for point in points[1:]]
    for family in (MEASURES, (ROTATED,), (CHAT,)):
        adjust([run[measure] for run in first_runs for measure in family if measure in run])
    front = pareto_front({point["name"]: _place(point) for point in points})
    first = kept[base_run]
    write_json(
        folder / JSON,
        {
            "name": curve.name,
            "recipe": curve.recipe,
            "base": first["base"],
            "dtype": first["timings"]["spider"]["dtype"],
            "device": first["timings"]["spider"]["gpu"] or first["timings"]["spider"]["device"],
            "questions": {"spider": first["spider"]["total"], "mmlu": first["mmlu"]["total"]},
            **_asked_about(curve),
            "gate": curve.params.compare.model_dump(include={"max_mmlu_loss_pts", "min_spider_gain_pts"}),
            "points": [point | {"pareto": point["name"] in front} for point in points],
            "missing": [run.name for point in curve.points for run in point.runs if run.name not in kept],
            "made_of": dict(shared.parts),
        },
    )
    draw(folder / JSON)


def _asked_about(curve: Curve) -> dict[str, Any]:
    """Return what tells the questions from Spider's dev split: other data's name, and what is held out of training."""
    name, held = curve.params.data.name, curve.held_out
    if held:
        return {"data": f"{name}, held out", "held_out": held.model_dump()}
    return {} if name == SPIDER else {"data": name}


def _kept(folder: Path, run: Run, shared: Key) -> dict[str, Any] | None:
    found = read_run(folder / run.name)
    if found is None or changed_since(found, shared, own_key(run)):
        return None
    return found


def _point(point: Point, kept: dict[str, Any], folder: Path, base: Answers, curve: Curve) -> dict[str, Any]:
    return {
        "name": point.name,
        "kind": _kind(point),
        "adapter": point.adapter,
        "changes": dict(point.changes),
        **({"after": point.after} if point.after else {}),
        **({"along_from": _start(point, curve)} if point.along else {}),
        "runs": [_run(run, kept, folder, base, curve) for run in point.runs if run.name in kept],
    }


def _start(point: Point, curve: Curve) -> str | None:
    """Return the name of the point whose model `point` begins with, asked as `point` is; None where there is none."""
    goes_on = point.params.train.objective in ("dpo", "grpo")
    teacher = point.learns.teacher.point if goes_on and point.learns else None
    for other in curve.points:
        begins = other.name == teacher if teacher else not other.trains
        grammar = other.params.generation.grammar == point.params.generation.grammar
        if begins and grammar and other.params.prompt == point.params.prompt:
            return other.name
    return None


def _kind(point: Point) -> str:
    """Return how the point was made: base, strength or decoding (of another's adapter), answers, lora, dora or full."""
    if not point.trains:
        return "base"
    if not point.adapter:
        return "answers" if point.learns else point.params.train.method
    return "decoding" if point.params.model.strength == 1 else "strength"


def _run(run: Run, all_kept: dict[str, Any], folder: Path, base: Answers, curve: Curve) -> dict[str, Any]:
    answers, kept = read_answers(folder / run.name), all_kept[run.name]
    for measure, metrics in ((EXECUTION, "spider"), (OFFICIAL, "spider"), (ACCURACY, "mmlu"), (CHAT, "chat")):
        wanted = kept.get(metrics)
        if wanted and sum(answers.right(measure)) != round(wanted[_NAMES.get(measure, measure)] * wanted["total"]):
            raise UserError(f"{folder / run.name}: its answers do not give its {measure} on {metrics}; run it again")
    return {
        "seed": run.seed,
        "spider": _with_interval(kept["spider"], EXECUTION) | _with_interval(kept["spider"], OFFICIAL),
        "mmlu": _with_interval(kept["mmlu"], ACCURACY),
        **({"rotated": kept["mmlu"]["rotated"]} if "rotated" in kept["mmlu"] else {}),
        **({"chat": kept["chat"]} if "chat" in kept else {}),
        **({"along": kept["along"]} if "along" in kept else {}),
        **({"choice": _choice(kept["choice"])} if "choice" in kept else {}),
        **({"against_greedy": choosing(answers, curve.params.compare)} if answers.chosen else {}),
        **against_base(run.name, answers, base, curve.params.compare),
        **_against_step(run, answers, all_kept, folder, curve),
        "final_loss": (kept["training"] or {}).get("final_loss"),
        "trained_parameters": (kept["training"] or {}).get("trainable_parameters", 0),
        "seconds": {task: timing["seconds"] for task, timing in kept["timings"].items()},
        "peak_memory_gb": {
            task: timing["peak_gpu_memory_gb"] or timing["peak_memory_gb"] for task, timing in kept["timings"].items()
        },
    }


def _choice(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in CHOICE if name in metrics}


def _against_step(run: Run, answers: Answers, kept: dict[str, Any], folder: Path, curve: Curve) -> dict[str, Any]:
    """Return what a point's first run changed of that of the point before it, where that is there."""
    points = {point.name: point for point in curve.points}
    before = points[run.point].after
    if before is None or run != points[run.point].runs[0] or points[before].runs[0].name not in kept:
        return {}
    return {"step": step(run.name, answers, read_answers(folder / points[before].runs[0].name), curve.params.compare)}


def _with_interval(metrics: dict[str, Any], measure: str) -> dict[str, float]:
    return {name: metrics[name] for name in (measure, f"{measure}_low", f"{measure}_high")}


def _place(point: dict[str, Any]) -> tuple[float, float]:
    differences = point["runs"][0]["against_base"]
    return differences[EXECUTION]["difference_pts"], differences[ACCURACY]["difference_pts"]
