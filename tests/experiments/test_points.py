"""A points file that is not right is named in one line, before anything slow starts."""

import pytest

from text2sql.core.errors import UserError
from text2sql.experiments.inputs import own_key, training_key
from text2sql.experiments.points import HeldOut, read_points

HEAD = "recipe: params.yaml\n"
BASE = "  - {name: base, base: true}\n"
START = f"{HEAD}points:\n{BASE}"
LORA = "  - {name: a, params: {train.lr: 1e-2}}\n"
HALF = "  - {name: half, adapter: a, strength: 0.5}\n"
JUDGED = "  - {name: b, adapter: a, verifier: v1, params: {generation.samples: 2}}\n"
WHOLE = "  - {name: w, params: {train.method: full}}\n"
BAD = {
    "no recipe": ("points: []", "recipe: missing"),
    "a recipe that is not there": ("recipe: nope\npoints:\n" + BASE, "recipe nope: no such file"),
    "no points": (HEAD + "points: []", "points: got [] (list), takes a list of points"),
    "a point that is a text": (START + "  - a", "point 2: got 'a', takes a mapping"),
    "a name twice": (START + LORA + LORA, "point a: there is another of this name"),
    "a name with a slash": (START + "  - {name: a/b}", "name: got 'a/b' (str), takes small letters"),
    "an unknown key": (START + "  - {name: a, lr: 1}", "point a: lr: unknown key; the keys here are"),
    "an unknown param": (
        START + "  - {name: a, params: {train.rate: 1}}",
        "point a: train.rate: unknown key; the keys here are method, lr",
    ),
    "an unknown section": (
        START + "  - {name: a, params: {trian.lr: 1}}",
        "point a: trian: unknown key",
    ),
    "a value that is no number": (
        START + "  - {name: a, params: {train.lr: fast}}",
        "point a: train.lr: got 'fast' (str), takes a number above 0",
    ),
    "a param within a value": (
        START + "  - {name: a, params: {train.lr.x: 1}}",
        "point a: train.lr.x: names no param",
    ),
    "a step after no point": (
        START + "  - {name: a, after: bas, params: {train.lr: 1e-3}}",
        "point a: after: got 'bas' (did you mean base?), takes a point before it: base",
    ),
    "what all points share": (
        START + "  - {name: a, params: {mmlu.shots: 1}}",
        "point a: mmlu.shots: this point may change train.…, prompt.…, generation.grammar, generation.samples",
    ),
    "another base": (
        START + "  - {name: a, params: {model.base: b}}",
        "point a: model.base: this point may change train.…, prompt.…",
    ),
    "a seed among the params": (
        START + "  - {name: a, params: {train.seed: 1}}",
        "point a: train.seed: takes its place under seeds",
    ),
    "strength among the params": (
        START + "  - {name: a, params: {model.strength: 2}}",
        "point a: model.strength: takes its place under strength",
    ),
    "no base": (HEAD + "points:\n" + LORA, "point a: is the first, which is the base alone"),
    "a base with a strength": (
        HEAD + "points:\n  - {name: base, base: true, strength: 2}",
        "point base: is the base alone, which has no adapter, strength, seeds or answers",
    ),
    "a point that repeats the recipe of another": (
        START + "  - {name: a}\n  - {name: b, params: {train.optim: adamw_torch}}",
        "point b: repeats a: nothing that it changes differs",
    ),
    "a point that repeats the base": (START + "  - {name: b, base: true}", "point b: repeats base"),
    "an adapter at its own strength": (
        START + LORA + "  - {name: b, adapter: a, strength: 1.0}",
        "point b: repeats a",
    ),
    "an adapter of no point": (
        START + LORA + "  - {name: b, adapter: aa, strength: 2}",
        "point b: adapter: got 'aa' (did you mean a?), takes a trained point that stands before it: a",
    ),
    "an adapter of the base": (
        START + "  - {name: b, adapter: base, strength: 2}",
        "takes a trained point that stands before it: there is none",
    ),
    "an adapter of a whole model": (
        START + "  - {name: a, params: {train.method: full}}\n  - {name: b, adapter: a, strength: 2}",
        "adapter: a has none: it trains all weights",
    ),
    "an adapter with another recipe": (
        START + LORA + "  - {name: b, adapter: a, params: {train.lr: 1}}",
        "point b: train.lr: an adapter of another point takes a strength and generation.grammar",
    ),
    "a seed that the adapter was not trained with": (
        START + LORA + "  - {name: b, adapter: a, strength: 2, seeds: [7]}",
        "point b: seeds: got [7], takes some of a's: [3407]",
    ),
    "a seed twice": (START + "  - {name: a, seeds: [1, 1]}", "point a: seeds: got [1, 1], takes each"),
    "something else to be asked": (
        START + "  - {name: a, also: [chta]}",
        "point a: also",
    ),
    "answers of gold alone": (
        START + LORA + "  - {name: b, answers: {samples: 2}}",
        "point b: answers: takes train.objective: rejection, dpo or grpo, got sft",
    ),
    "a teacher and no objective": (
        START + LORA + "  - {name: b, params: {train.from: a}}",
        "point b: train.from: takes train.objective: rejection, dpo or grpo, got sft",
    ),
    "an objective without answers": (
        START + LORA + "  - {name: b, params: {train.objective: rejection, train.from: a}}",
        "point b: train.objective: rejection: takes answers, such as {samples: 8}",
    ),
    "answers of no point": (
        START + LORA + "  - {name: b, params: {train.objective: dpo, train.from: aa}, answers: {}}",
        "point b: train.from: got aa (did you mean a?), takes a trained point that stands before it: a",
    ),
    "answers of nobody": (
        START + LORA + "  - {name: b, params: {train.objective: dpo}, answers: {}}",
        "point b: train.from: got none, takes a trained point that stands before it: a",
    ),
    "answers of the base": (
        START + "  - {name: b, params: {train.objective: rejection, train.from: base}, answers: {}}",
        "point b: train.from: got base, takes a trained point that stands before it: there is none",
    ),
    "answers of a scaled adapter": (
        START + LORA + HALF + "  - {name: b, params: {train.objective: rejection, train.from: half}, answers: {}}",
        "point b: train.from: got half, takes a trained point that stands before it: a",
    ),
    "pairs of a whole model": (
        START + WHOLE + "  - {name: b, params: {train.objective: dpo, train.from: w}, answers: {}}",
        "point b: train.from: w has no adapter to go on from: it trains all weights",
    ),
    "pairs for an adapter of another shape": (
        START + LORA + "  - {name: b, params: {train.objective: dpo, train.from: a, train.lora.r: 4}, answers: {}}",
        "point b: train.lora.r: got 4, takes 16: dpo goes on from the adapter of a",
    ),
    "rewards for an adapter of another kind": (
        START + LORA + "  - {name: b, params: {train.objective: grpo, train.from: a, train.method: dora}, answers: {}}",
        "point b: train.method: got dora, takes lora: grpo goes on from the adapter of a",
    ),
    "an adapter that learns further": (
        START + LORA + "  - {name: b, adapter: a, strength: 2, answers: {}}",
        "point b: answers: an adapter of another point learns nothing further",
    ),
    "a base that learns": (
        HEAD + "points:\n  - {name: base, base: true, answers: {}}",
        "point base: is the base alone, which has no adapter, strength, seeds or answers",
    ),
    "answers that are no mapping": (
        START + LORA + "  - {name: b, answers: 8}",
        "point b: answers: got 8 (int), takes a mapping such as {samples: 8}",
    ),
    "an unknown key of answers": (
        START + LORA + "  - {name: b, answers: {smaples: 8}}",
        "point b: answers.smaples: unknown key",
    ),
    "places along no training": (
        HEAD + "points:\n  - {name: base, base: true, along: 4}",
        "point base: along: takes a point that trains an adapter of its own",
    ),
    "places along another's training": (
        START + LORA + "  - {name: b, adapter: a, strength: 2, along: 4}",
        "point b: along: takes a point that trains an adapter of its own",
    ),
    "no place": (START + "  - {name: a, along: 0}", "point a: along: got 0 (int), takes a whole number of at least 2"),
    "places of a training without an adapter": (
        START + "  - {name: a, params: {train.method: full}, along: 4}",
        "point a: along: takes train.method: lora or dora, got full",
    ),
    "a verifier of no point": (
        START + LORA + "verifiers: {v1: {from: aa}}",
        "verifiers.v1: from: got 'aa' (did you mean a?), takes a trained point: a",
    ),
    "a verifier of the base": (
        START + "verifiers: {v1: {from: base}}",
        "verifiers.v1: from: got 'base', takes a trained point: there is none",
    ),
    "a verifier of nobody": (START + "verifiers: {v1: {answers: {samples: 2}}}", "verifiers.v1.from: missing"),
    "an unknown key of a verifier": (
        START + LORA + "verifiers: {v1: {from: a, lr: 1}}",
        "verifiers.v1.lr: unknown key; the keys here are from, answers, params",
    ),
    "an unknown param of a verifier": (
        START + LORA + "verifiers: {v1: {from: a, params: {train.rate: 1}}}",
        "verifiers.v1: train.rate: unknown key",
    ),
    "a verifier that changes what is shared": (
        START + LORA + "verifiers: {v1: {from: a, params: {generation.samples: 2}}}",
        "verifiers.v1: generation.samples: a verifier may change train.…, prompt.… alone",
    ),
    "a verifier's teacher among its params": (
        START + LORA + "verifiers: {v1: {from: a, params: {train.from: a}}}",
        "verifiers.v1: train.from: takes its place under from",
    ),
    "a verifier of another objective": (
        START + LORA + "verifiers: {v1: {from: a, params: {train.objective: dpo}}}",
        "verifiers.v1: train.objective: got dpo, takes sft",
    ),
    "a verifier that is augmented": (
        START + LORA + "verifiers: {v1: {from: a, params: {train.augment: table_order}}}",
        "verifiers.v1: train.augment: got table_order, takes none",
    ),
    "folds of what a verifier's teacher learnt from": (
        START + LORA + "  - {name: b, params: {train.objective: rejection, train.from: a}, answers: {}}\n"
        "verifiers: {v1: {from: b, answers: {folds: 2}}}",
        "verifiers.v1: answers.folds: got 2, takes 1: b learns from answers itself",
    ),
    "a verifier that is not there": (
        START + LORA + JUDGED.replace("v1", "v2") + "verifiers: {v1: {from: a}}",
        "point b: verifier: got 'v2' (did you mean v1?), takes one of `verifiers`: v1",
    ),
    "a verifier without samples": (
        START + LORA + "  - {name: b, adapter: a, strength: 2, verifier: v1}\nverifiers: {v1: {from: a}}",
        "point b: verifier: takes generation.samples of 2 or more, for v1 to judge",
    ),
    "a choice by a verifier without one": (
        START + "  - {name: a, params: {generation.samples: 2, generation.choice: weighted_majority}}",
        "point a: generation.choice: weighted_majority: takes a verifier as well",
    ),
    "a choice without samples": (
        START + "  - {name: a, params: {generation.choice: first_executable}}",
        "point a: generation.choice: got first_executable, which chooses among samples",
    ),
    "a verifier that learns from what is not run here": (
        START + LORA + "  - {name: c, held_out: true, params: {train.lr: 1}}\n" + JUDGED + "verifiers: {v1: {from: c}}",
        "point b: verifier: v1 learns from a point with held_out: true, which is not asked dev",
    ),
    "a point that another verifier of the same kind judges": (
        START + LORA + JUDGED + JUDGED.replace("name: b", "name: c").replace("v1", "v2")
        + "verifiers: {v1: {from: a}, v2: {from: a, params: {train.optim: adamw_torch}}}",
        "point c: repeats b: nothing that it changes differs",
    ),
    "an unknown subject": (
        HEAD + "params: {mmlu.subjects: {stem: [alchemy]}}\npoints:\n" + BASE,
        "mmlu.subjects: stem: 'alchemy' (str) is none of MMLU's",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=list(BAD))
def test_one_line_names_the_mistake(repository, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(repository)
    path = tmp_path / "points.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_points(path)
    message = str(caught.value)
    assert said in message and "\n" not in message
    assert message.startswith((str(path), "recipe nope"))


def runs_of(tmp_path, text, held_out=None):
    path = tmp_path / "points.yaml"
    path.write_text(START + text)
    return {run.name: run for point in read_points(path, None, held_out).points for run in point.runs}


def test_a_point_learns_from_the_first_seed_and_depends_on_its_training_and_on_how_answers_are_drawn(
    repository, tmp_path, monkeypatch
):
    monkeypatch.chdir(repository)
    text = """
  - {name: a, params: {train.lr: 1e-2}, seeds: [5, 6]}
  - {name: b, params: {train.objective: rejection, train.from: a}, answers: {samples: 2}}
  - {name: c, adapter: b, strength: 0.5}
"""
    found = runs_of(tmp_path, text)
    assert found["b@3407"].learns.teacher == found["a@5"]
    kept = own_key(found["b@3407"])
    assert found["c@3407"].learns == found["b@3407"].learns
    more = own_key(runs_of(tmp_path, text.replace("samples: 2", "samples: 3"))["b@3407"])
    other = own_key(runs_of(tmp_path, text.replace("1e-2", "2e-2"))["b@3407"])
    assert more.changed_from(kept) == ["answers"] and other.changed_from(kept) == ["train.from's training"]


def test_a_point_that_is_asked_along_differs_from_one_that_is_not_in_that_alone_and_not_on_dev(
    repository, tmp_path, monkeypatch
):
    monkeypatch.chdir(repository)
    text = "  - {name: a, seeds: [5, 6], along: 4}\n" + HALF
    plain = text.replace(", along: 4", "")
    found, without = runs_of(tmp_path, text, HeldOut()), runs_of(tmp_path, plain, HeldOut())
    assert {name: own_key(found[name]).changed_from(own_key(without[name])) for name in found} == {
        "base": [], "a@5": ["along"], "a@6": [], "half@5": []
    }  # fmt: skip
    assert runs_of(tmp_path, text) == runs_of(tmp_path, plain)
    assert "along" not in own_key(without["a@5"]).parts and training_key(found["a@5"]) == training_key(without["a@5"])


def test_a_run_depends_on_its_verifier_and_on_a_choice_that_is_not_the_default(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    text = """
  - {name: a, params: {train.lr: 1e-2, generation.samples: 2}}
  - {name: b, adapter: a, verifier: v1, params: {generation.samples: 4}}
  - {name: c, adapter: a, verifier: v1, params: {generation.samples: 4, generation.choice: weighted_majority}}
  - {name: d, adapter: a, params: {generation.samples: 4, generation.choice: first_executable}}
verifiers: {v1: {from: a, answers: {samples: 2}, params: {train.max_seq_len: 900}}}
"""
    found = runs_of(tmp_path, text)
    verifier = found["b@3407"].verifier
    assert verifier == found["c@3407"].verifier and verifier.learns.teacher == found["a@3407"]
    recipe = verifier.params.train
    assert (recipe.max_seq_len, recipe.lr, recipe.objective) == (900, 2e-4, "sft")
    assert [found[f"{name}@3407"].rule for name in "abcd"] == [
        "majority", "majority", "weighted_majority", "first_executable"
    ]  # fmt: skip
    plain, judged, chosen, other = (dict(own_key(found[f"{name}@3407"]).parts) for name in "abcd")
    assert not {"generation.choice", "the verifier's training"} & set(plain)
    assert set(judged) - set(plain) == {"the verifier's training"}
    assert set(chosen) - set(judged) == {"generation.choice"} == set(other) - set(plain)
    changed = own_key(runs_of(tmp_path, text.replace("900", "800"))["b@3407"])
    assert changed.changed_from(own_key(found["b@3407"])) == ["the verifier's training"]


@pytest.mark.parametrize("size", ["05", "15"])
@pytest.mark.parametrize("data", ["dev", "sample"])
def test_the_points_files_of_contamination_are_right(repository, monkeypatch, size, data):
    monkeypatch.chdir(repository)
    curve = read_points(repository / f"tradeoff/contamination/qwen{size}-{data}.yaml")
    assert [point.params.prompt.table_order for point in curve.points] == ["given", "reversed", "shuffled"]
    assert (curve.params.data.spider == "data/sample/spider") == (data == "sample")


@pytest.mark.parametrize(("name", "least"), [("qwen05", 12), ("qwen15", 6)])
def test_the_points_files_are_right(repository, monkeypatch, name, least):
    monkeypatch.chdir(repository)
    curve = read_points(repository / f"tradeoff/{name}.yaml")
    assert len(curve.points) >= least and curve.params.mmlu.subjects == "all" and curve.params.mmlu.limit is None
    assert {point.params.train.optim for point in curve.points} == {"adamw_torch"}
    assert curve.points[0].params.prompt.schema_ == "ddl"


@pytest.mark.parametrize("held_out", [None, HeldOut()])
def test_the_points_file_of_learning_goes_on_from_the_choice_of_the_steps(repository, monkeypatch, held_out):
    monkeypatch.chdir(repository)
    steps = {point.name: point for point in read_points(repository / "tradeoff/qwen05-steps.yaml").points}
    points = {
        point.name: point for point in read_points(repository / "tradeoff/qwen05-learn.yaml", None, held_out).points
    }
    for section in ("prompt", "train"):
        assert getattr(points["tuned"].params, section) == getattr(steps["tuned"].params, section)
    learning = [point for point in points.values() if point.learns and not point.adapter]
    assert {point.params.train.objective for point in learning} == {"rejection", "dpo"} and len(learning) > 2
    assert all(point.learns.teacher == points["tuned"].runs[0] for point in learning)
    assert all(point.learns == learning[0].learns for point in learning)  # one drawing
