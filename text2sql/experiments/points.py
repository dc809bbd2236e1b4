"""A points file: the points of a trade-off curve, each one way of specialising the base of one recipe.

recipe: qwen05-ddl                    # a name in recipes/, or a params file: what all points share
params: {mmlu.subjects: all}          # of it, changed for all points
seeds: [3407]                         # each trained point is trained with each; default: the recipe's own
points:
  - {name: base, base: true}          # the first: the base alone, which the others are held against
  - {name: lr-1e-3, params: {train.lr: 1e-3}}
  - {name: lr-1e-3-half, adapter: lr-1e-3, strength: 0.5}    # another point's adapter, scaled; no training

`also: [rotations, chat]` asks a point's first seed MMLU in the other orders of its options and in chat (docs/mmlu.md).
`answers: {samples: 8}`, with `train.objective: rejection` (dpo, grpo) and `train.from: lr-1e-3` in its params, has a
point learn from so many answers of that one to each training question (docs/learning.md).
`along: 4`, on held-out databases, asks a trained point's first seed Spider's questions at four places of its training
(docs/tradeoff.md).
`verifiers: {v1: {from: lr-1e-3, answers: {samples: 8}}}`, beside `points`, has a verifier learn from such answers; a
point with `verifier: v1` has its samples judged by it (docs/verifier.md).
A point's `params` may hold it to a grammar or draw samples: `generation.grammar`, `generation.samples` and the like.
One with `after: rich` is a step from the point `rich`, and held against it too. One with `held_out: true` is run on
held-out databases alone: a choice is made there, and dev is not asked. So is `along`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from text2sql.core.errors import UserError, did_you_mean
from text2sql.core.files import read_yaml
from text2sql.core.params import (
    BY_VERIFIER,
    ChoiceRule,
    Params,
    Section,
    Seed,
    Strength,
    Text,
    TrainSamplesParams,
    changed,
    checked,
    load_params,
)
from text2sql.core.recipes import find_recipe
from text2sql.data.mmlu import ROTATIONS, subject_categories
from text2sql.model.bases import check_base

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="small letters, digits, `.`, `_` and `-`")]
Changes = Annotated[dict[str, Any], Field(description="a mapping of params, such as {train.lr: 1e-3}")]
Seeds = Annotated[list[Seed], Field(min_length=1, description="a list of whole numbers from 0 to 2**32 - 1")]
Also = Literal["rotations", "chat"]
# What a point may change. All else is shared: points that differ in it could not be drawn together.
OF_TRAINING = ("train.", "prompt.")
OF_AN_ADAPTER = tuple(f"generation.{name}" for name in ("grammar", "samples", "temperature", "top_p", "seed", "choice"))
OF_A_POINT = (*OF_TRAINING, *OF_AN_ADAPTER)
OF_THE_BASE = ("prompt.", *OF_AN_ADAPTER)
CHOICE = "generation.choice"
LEARNING = "rejection, dpo or grpo"  # what `train.objective` may be of a point that learns from answers


class PointEntry(Section):
    """One point, as the file has it."""

    name: Name
    base: bool = False
    params: Changes = {}
    adapter: Annotated[str | None, Field(description="another point's name")] = None
    strength: Strength = 1
    answers: Annotated[TrainSamplesParams | None, Field(description="a mapping such as {samples: 8}")] = None
    verifier: Annotated[str | None, Field(description="the name of one of `verifiers`")] = None
    seeds: Seeds | None = None
    also: list[Also] = []
    along: Annotated[int | None, Field(ge=2, description="a whole number of at least 2")] = None
    held_out: bool = False
    after: Annotated[str | None, Field(description="another point's name")] = None


class VerifierEntry(Section):
    """A verifier, as the file has it: the point whose answers it learns from, how they are drawn, and its recipe."""

    from_: Annotated[str, Field(alias="from", description="a trained point's name")]
    answers: TrainSamplesParams = TrainSamplesParams()
    params: Changes = {}


class HeldOut(Section):
    """How many training databases are held out, and the seed of their choice."""

    databases: Annotated[int, Field(ge=1, description="a whole number of at least 1")] = 20
    seed: Seed = 0


class CurveFile(Section):
    """A whole points file."""

    recipe: Text
    params: Changes = {}
    seeds: Seeds | None = None
    verifiers: Annotated[
        dict[Name, VerifierEntry],
        Field(description="a mapping of verifiers, such as {v1: {from: a, answers: {samples: 8}}}"),
    ] = {}
    points: Annotated[list[Any], Field(min_length=1, description="a list of points, the base alone first")]


@dataclass(frozen=True)
class Run:
    """One evaluation: a point with one seed, or without any where nothing is trained.

    `params` are those that it is trained and evaluated with.
    """

    name: str  # of its folder
    point: str
    seed: int | None
    params: Params
    trained_as: str | None = None  # the name of the run that its adapter is trained for; None for the base
    also: tuple[Also, ...] = ()
    learns: "Learning | None" = None  # the answers that its adapter learns from, if any besides gold
    along: int = 0  # at how many places of its training it is asked; 0 for none
    verifier: "Verifier | None" = None  # who judges its samples
    choice: ChoiceRule | None = None  # by its verifier, None where `params` say which

    @property
    def trains(self) -> bool:
        """Whether it has an adapter."""
        return self.trained_as is not None

    @property
    def rotations(self) -> int:
        """In how many orders of their options it is asked MMLU's questions."""
        return ROTATIONS if "rotations" in self.also else self.params.mmlu.rotations

    @property
    def in_chat(self) -> bool:
        """Whether it is asked MMLU in chat too."""
        return "chat" in self.also

    @property
    def sampled(self) -> bool:
        """Whether samples are drawn, to choose among."""
        return self.params.generation.samples > 1

    @property
    def rule(self) -> ChoiceRule:
        """By which rule an answer is chosen among its samples."""
        return self.choice or self.params.generation.rule


@dataclass(frozen=True)
class Verifier(Run):
    """The training of a verifier, which is evaluated with the runs whose samples it judges, and not by itself."""


@dataclass(frozen=True)
class Learning:
    """What a training learns from besides gold: answers of the adapter of `teacher`, drawn as `answers` says."""

    teacher: Run
    answers: TrainSamplesParams


@dataclass(frozen=True)
class Point:
    """One way of specialising the base.

    `adapter`: the point whose adapter it takes; `changes`: what it changes; `after`: the point that it is a step from.
    """

    name: str
    params: Params
    trains: bool
    adapter: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    also: tuple[Also, ...] = ()
    after: str | None = None
    learns: Learning | None = None
    along: int = 0
    verifier: Verifier | None = None
    choice: ChoiceRule | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """Its runs, the first seed's first; the base has one."""
        if not self.trains:
            plain = Run(self.name, self.name, None, self.params, also=self.also)
            return (replace(plain, verifier=self.verifier, choice=self.choice),)
        return tuple(self._run(seed) for seed in self.seeds)

    def _run(self, seed: int) -> Run:
        params = changed(self.params, {"train.seed": seed}, self.name)
        also, along = (self.also, self.along) if seed == self.seeds[0] else ((), 0)
        trained_as = f"{self.adapter or self.name}@{seed}"
        run = Run(f"{self.name}@{seed}", self.name, seed, params, trained_as, also, self.learns, along)
        return replace(run, verifier=self.verifier, choice=self.choice)


@dataclass(frozen=True)
class Curve:
    """The points of one file, with what they share; `name` is the file's.

    `held_out`: its points are asked about training databases that none of them trains on, in place of dev.
    """

    name: str
    file: Path
    recipe: str
    params: Params
    points: tuple[Point, ...]
    held_out: HeldOut | None = None


def read_points(path: Path, places: Mapping[str, str] | None = None, held_out: HeldOut | None = None) -> Curve:
    """Return the curve of a points file; `places` are params that say where this machine has the benchmarks.

    On databases `held_out` of the training split the curve has a name of its own.
    Raises UserError for a file that is not right: a param that is unknown or not a point's to change, a point that
    repeats another, an adapter or answers of no point, a verifier that is not there.
    """
    value = checked(CurveFile, read_yaml(path), path)
    recipe = find_recipe(value.recipe)
    params = changed(load_params(recipe), {**value.params, **(places or {})}, f"{path}: params")
    try:
        subject_categories(params.mmlu.subjects)
        check_base(params.model)
    except UserError as error:
        raise UserError(f"{path}: params: {error}") from None
    if params.generation.rule in BY_VERIFIER:
        raise UserError(
            f"{path}: params: {CHOICE}: {params.generation.rule}: takes its place with points, and a verifier"
        )
    points: dict[str, Point] = {}
    entries: dict[str, PointEntry] = {}
    left_out = set()
    for number, entry in enumerate(value.points, start=1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: point {number}: got {entry!r:.40}, takes a mapping of name, params and the like")
        place = f"{path}: point {entry.get('name', number)}"
        found = checked(PointEntry, entry, place)
        if found.name in points:
            raise UserError(f"{place}: there is another of this name")
        if held_out or not found.held_out:
            if found.after is not None and found.after not in points:
                raise UserError(
                    f"{place}: after: got {found.after!r}{did_you_mean(found.after, points)}, takes a point before it: "
                    f"{', '.join(points) or 'there is none'}"
                )
            point = _point(_without_choice(found, place), params, value.seeds, points, place)
            points[found.name] = replace(point, after=found.after, along=point.along if held_out else 0)
            entries[found.name] = found
        else:
            left_out.add(found.name)
    verifiers = _verifiers(value, params, points, left_out, path)
    for name, found in entries.items():
        if found.verifier is not None:
            points[name] = _judged(points[name], found, verifiers, f"{path}: point {name}")
    _check_together(path, tuple(points.values()))
    name = f"{path.stem}-held-out" if held_out else path.stem
    return Curve(name, path, value.recipe, params, tuple(points.values()), held_out)


def _without_choice(entry: PointEntry, place: str) -> PointEntry:
    """Return an entry without a choice by its verifier, which params take only beside a verifier of their own."""
    rule = entry.params.get(CHOICE)
    if rule not in BY_VERIFIER:
        return entry
    if entry.verifier is None:
        raise UserError(f"{place}: {CHOICE}: {rule}: takes a verifier as well, such as verifier: v1")
    params = {key: value for key, value in entry.params.items() if key != CHOICE}
    return entry.model_copy(update={"params": params})


def _verifiers(
    value: CurveFile, shared: Params, points: Mapping[str, Point], left_out: Collection[str], path: Path
) -> dict[str, Verifier | None]:
    """Return the verifiers of a file; None for one that learns from a point that is `left_out` of the curve."""
    return {
        name: None if entry.from_ in left_out else _verifier(name, entry, shared, points, f"{path}: verifiers.{name}")
        for name, entry in value.verifiers.items()
    }


def _judged(point: Point, entry: PointEntry, verifiers: Mapping[str, Verifier | None], place: str) -> Point:
    """Return `point` with the verifier that its `entry` names."""
    name = entry.verifier or ""
    if name not in verifiers:
        takes = f"one of `verifiers`: {', '.join(verifiers) or 'there is none'}"
        raise UserError(f"{place}: verifier: got {name!r}{did_you_mean(name, verifiers)}, takes {takes}")
    verifier = verifiers[name]
    if verifier is None:
        raise UserError(f"{place}: verifier: {name} learns from a point with held_out: true, which is not asked dev")
    if not point.runs[0].sampled:
        raise UserError(f"{place}: verifier: takes generation.samples of 2 or more, for {name} to judge")
    choice = {key: value for key, value in entry.params.items() if key == CHOICE and value in BY_VERIFIER}
    changes = {**point.changes, **choice, "verifier": name}
    return replace(point, verifier=verifier, choice=choice.get(CHOICE), changes=changes)


def _verifier(name: str, entry: VerifierEntry, shared: Params, points: Mapping[str, Point], place: str) -> Verifier:
    """Return the training of a verifier. Raises UserError for answers of no point, and params that are not its own."""
    of = points.get(entry.from_)
    if of is None or not of.trains or of.adapter is not None:
        raise UserError(f"{place}: from: got {entry.from_!r}{_takes_trained(entry.from_, points, '')}")
    for key in entry.params:
        if not key.startswith(OF_TRAINING):
            raise UserError(
                f"{place}: {key}: a verifier may change {', '.join(f'{part}…' for part in OF_TRAINING)} alone"
            )
        if key == "train.from":
            raise UserError(f"{place}: train.from: takes its place under from")
    own = {"train.objective": "sft", "train.augment": "none", "train.from": entry.from_}
    params = changed(shared, own | entry.params, place)
    for key, got in (("objective", params.train.objective), ("augment", params.train.augment)):
        if got != own[f"train.{key}"]:
            raise UserError(f"{place}: train.{key}: got {got}, takes {own[f'train.{key}']}: it is trained on verdicts")
    learns = _learning_from(of, entry.answers, place)
    return Verifier(name, name, params.train.seed, params, f"verifier-{name}", learns=learns)


def _point(
    entry: PointEntry, shared: Params, seeds: list[int] | None, before: Mapping[str, Point], place: str
) -> Point:
    if entry.along and (entry.base or entry.adapter):
        raise UserError(f"{place}: along: takes a point that trains an adapter of its own")
    if entry.base:
        if entry.adapter or entry.strength != 1 or entry.seeds or entry.answers:
            raise UserError(f"{place}: is the base alone, which has no adapter, strength, seeds or answers")
        params = _changed(entry, shared, OF_THE_BASE, place)
        return Point(entry.name, params, False, changes=entry.params, also=tuple(entry.also))
    if entry.adapter is not None:
        return _scaled(entry, before, place)
    params = _changed(entry, shared, OF_A_POINT, place)
    if entry.along and params.train.method == "full":
        raise UserError(f"{place}: along: takes train.method: lora or dora, got full: no adapter is kept on the way")
    own = tuple(entry.seeds or seeds or [params.train.seed])
    if len(set(own)) < len(own):
        raise UserError(f"{place}: seeds: got {list(own)}, takes each once")
    learns = _learning(entry, params, before, place)
    changes = entry.params
    if entry.answers:
        drawn = entry.answers.model_dump(include=entry.answers.model_fields_set | {"samples"})
        changes = changes | {f"answers.{name}": value for name, value in drawn.items()}
    return Point(
        entry.name,
        params,
        True,
        changes=changes,
        seeds=own,
        also=tuple(entry.also),
        learns=learns,
        along=entry.along or 0,
    )


def _learning(entry: PointEntry, params: Params, before: Mapping[str, Point], place: str) -> Learning | None:
    """Return whose answers a point learns from, or None. Raises UserError where what it names does not go together."""
    objective, named = params.train.objective, params.train.from_
    if objective == "sft":
        if entry.answers or named:
            without = "answers" if entry.answers else "train.from"
            raise UserError(f"{place}: {without}: takes train.objective: {LEARNING}, got sft")
        return None
    if not entry.answers:
        raise UserError(f"{place}: train.objective: {objective}: takes answers, such as {{samples: 8}}, to learn from")
    of = before.get(named or "")
    if of is None or not of.trains or of.adapter is not None:
        raise UserError(f"{place}: train.from: got {named or 'none'}{_takes_trained(named, before)}")
    if objective != "rejection":
        _check_goes_on(params, of, place)
    return _learning_from(of, entry.answers, place)


def _learning_from(of: Point, answers: TrainSamplesParams, place: str) -> Learning:
    if answers.folds > 1 and of.learns:
        raise UserError(
            f"{place}: answers.folds: got {answers.folds}, takes 1: {of.name} learns from answers itself, to questions "
            "of all folds"
        )
    return Learning(of.runs[0], answers)


def _check_goes_on(params: Params, of: Point, place: str) -> None:
    """Raise UserError unless training with these `params` can go on from the adapter of the point `of`."""
    ours, theirs = params.train, of.params.train
    if theirs.method == "full":
        raise UserError(f"{place}: train.from: {of.name} has no adapter to go on from: it trains all weights")
    wanted = {
        "train.method": (ours.method, theirs.method),
        "train.lora.r": (ours.lora.r, theirs.lora.r),
        "train.lora.alpha": (ours.lora.alpha, theirs.lora.alpha),
        "train.augment": (ours.augment, "none"),
    }
    why = f"{ours.objective} goes on from the adapter of {of.name}"
    for key, (got, takes) in wanted.items():
        if got != takes:
            raise UserError(f"{place}: {key}: got {got}, takes {takes}: {why}")


def _takes_trained(name: str | None, before: Mapping[str, Point], where: str = " that stands before it") -> str:
    """Return the rest of a line about a name that is no trained point's."""
    trained = [name for name, point in before.items() if point.trains and point.adapter is None]
    return f"{did_you_mean(name or '', trained)}, takes a trained point{where}: {', '.join(trained) or 'there is none'}"


def _changed(entry: PointEntry, shared: Params, sections: tuple[str, ...], place: str) -> Params:
    for key in entry.params:
        if key == "train.seed":
            raise UserError(f"{place}: train.seed: takes its place under seeds")
        if key == "model.strength":
            raise UserError(f"{place}: model.strength: takes its place under strength")
        if not key.startswith(sections) and key.partition(".")[0] in type(shared).model_fields:
            whose = ", ".join(f"{name}…" if name.endswith(".") else name for name in sections)
            raise UserError(f"{place}: {key}: this point may change {whose}; what all points share stands under params")
    return changed(shared, {**entry.params, "model.strength": entry.strength}, place)


def _scaled(entry: PointEntry, before: Mapping[str, Point], place: str) -> Point:
    """Return the point of another's adapter, whose first seed is taken unless seeds are named."""
    of = before.get(entry.adapter or "")
    if of is None or not of.trains or of.adapter is not None:
        raise UserError(f"{place}: adapter: got {entry.adapter!r}{_takes_trained(entry.adapter, before)}")
    if entry.answers:
        raise UserError(f"{place}: answers: an adapter of another point learns nothing further")
    if entry.strength != 1 and of.params.train.method == "full":
        raise UserError(f"{place}: adapter: {of.name} has none: it trains all weights, which no factor scales")
    if entry.strength != 1 and of.params.train.method == "dora":
        raise UserError(f"{place}: adapter: {of.name} is a DoRA adapter (train.method: dora), which no factor scales")
    for key in entry.params:
        if key not in OF_AN_ADAPTER:
            raise UserError(
                f"{place}: {key}: an adapter of another point takes a strength and {', '.join(OF_AN_ADAPTER)} alone"
            )
    seeds = tuple(entry.seeds or of.seeds[:1])
    if not set(seeds) <= set(of.seeds):
        raise UserError(f"{place}: seeds: got {list(seeds)}, takes some of {of.name}'s: {list(of.seeds)}")
    params = changed(of.params, {**entry.params, "model.strength": entry.strength}, place)
    changes = {**of.changes, **entry.params, **({} if entry.strength == 1 else {"strength": entry.strength})}
    return Point(entry.name, params, True, of.name, changes, seeds, tuple(entry.also), learns=of.learns)


def _check_together(path: Path, points: tuple[Point, ...]) -> None:
    """Raise UserError unless the first point is the base as the recipe has it, and no point repeats another."""
    if points[0].trains or points[0].changes:
        raise UserError(f"{path}: point {points[0].name}: is the first, which is the base alone: {{base: true}}")
    seen: dict[str, str] = {}
    for point in points:
        for what in _effects(point):
            if what in seen:
                raise UserError(f"{path}: point {point.name}: repeats {seen[what]}: nothing that it changes differs")
            seen[what] = point.name


def _effects(point: Point) -> Iterator[str]:
    return map(_effect, point.runs)


def _effect(run: Run) -> str:
    params = run.params
    recipe = params.train.model_dump_json(exclude={"checkpoint_minutes"}) if run.trains else "base"
    strength = params.model.strength if run.trains else 1
    generation = params.generation.model_dump_json()
    learns = run.learns.answers.model_dump_json() if run.learns else ""
    judged = f" {run.rule} {_effect(run.verifier)}" if run.verifier else ""
    return f"{recipe} {learns} {params.prompt.model_dump_json()} {strength:g} {generation}{judged}"
