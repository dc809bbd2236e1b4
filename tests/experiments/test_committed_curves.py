"""The committed curves: every figure follows from the answers that are kept beside it."""

import functools
from pathlib import Path

import pytest

from text2sql.comparison.curve import against_base, choosing, step
from text2sql.core.params import load_params
from text2sql.core.recipes import find_recipe
from text2sql.experiments.kept_runs import read_answers, read_run
from text2sql.report.curve import CURVES, read_curve

CURVE_FILES = sorted(Path(__file__).parents[2].joinpath(CURVES).glob("*/curve.json"))


@pytest.mark.long
@pytest.mark.parametrize("path", CURVE_FILES, ids=lambda path: path.parent.name)
def test_the_figures_of_a_curve_follow_from_the_kept_answers(repository, monkeypatch, path):
    monkeypatch.chdir(repository)
    curve, folder = read_curve(path), path.parent
    bootstrap = load_params(find_recipe(curve["recipe"])).compare
    answers = functools.cache(lambda name: read_answers(folder / name))
    found = {run.parent.name for run in folder.glob("*/run.json")}
    names = {run_name(point, run): run for point in curve["points"] for run in point["runs"]}
    assert set(names) == found
    for name, figures in names.items():
        kept = read_run(folder / name)
        assert (kept["spider"]["total"], kept["mmlu"]["total"]) == tuple(curve["questions"].values())
        made = against_base(name, answers(name), answers("base"), bootstrap)
        for measure, difference in made["against_base"].items():
            shown = dict(figures["against_base"][measure])
            shown.pop("p_holm", None)  # depends on all points
            assert shown == pytest.approx(difference, abs=0.1)  # numpy's versions draw a percentile a question apart
        if "step" in figures:
            before = step(name, answers(name), answers(before_of(curve, name)), bootstrap)
            for measure, difference in before.items():
                assert figures["step"][measure] == pytest.approx(difference, abs=0.1)
        if "choice" in figures:
            assert figures["choice"]["by_samples"] == kept["choice"]["by_samples"]
            gained = choosing(answers(name), bootstrap)["official_execution_accuracy"]["difference_pts"]
            of_choice = (
                figures["choice"]["official_execution_accuracy"] - figures["spider"]["official_execution_accuracy"]
            )
            assert gained == pytest.approx(100 * of_choice, abs=1e-3)
        assert (made["letters"], made["base_choices_kept"]) == (figures["letters"], figures["base_choices_kept"])


def run_name(point: dict, run: dict) -> str:
    return point["name"] if run["seed"] is None else f"{point['name']}@{run['seed']}"


def before_of(curve: dict, name: str) -> str:
    points = {point["name"]: point for point in curve["points"]}
    before = points[points[name.partition("@")[0]]["after"]]
    return run_name(before, before["runs"][0])


def test_both_bases_have_their_curve():
    points = {path.parent.name: len(read_curve(path)["points"]) for path in CURVE_FILES}
    assert points["qwen05"] >= 12 and points["qwen15"] >= 6
