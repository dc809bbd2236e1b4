"""A search file: which params are varied, between what, and on how many training databases trials are measured.

recipe: qwen05-ddl                    # a name in recipes/, or a params file: what all trials share
params: {train.epochs: 2}             # of it, changed for all trials
held_out: {databases: 20, seed: 0}    # training databases that no trial trains on, and all are asked about
seed: 0                               # of what is drawn
space:
  prompt.schema: [ddl, rich]
  train.lr: {low: 1e-4, high: 2e-3, log: true}
  rank: [{train.lora.r: 16, train.lora.alpha: 16}, {train.lora.r: 64, train.lora.alpha: 64}]   # params that go together
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from text2sql.core.errors import UserError
from text2sql.core.files import read_yaml
from text2sql.core.params import Params, Section, Seed, Text, changed, checked, load_params
from text2sql.core.recipes import find_recipe
from text2sql.experiments.points import OF_TRAINING, Changes, HeldOut
from text2sql.model.bases import check_base

DIGITS = 3  # of a number drawn from a range


class SearchFile(Section):
    """A whole search file."""

    recipe: Text
    params: Changes = {}
    held_out: HeldOut = HeldOut()
    seed: Seed = 0
    space: Annotated[dict[str, Any], Field(min_length=1, description="a mapping of params and their values")]


class RangeEntry(Section):
    """A range, as the file has it."""

    low: Annotated[float, BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)]
    high: Annotated[float, BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)]
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Choices:
    """Values of a param, or mappings of params that go together; each has a label, {label: what it changes}."""

    changes: Mapping[str, Mapping[str, Any]]

    def distribution(self) -> Any:
        """Return it as Optuna draws from it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(tuple(self.changes))

    def of(self, drawn: Any) -> Mapping[str, Any]:
        """Return the params that a drawn value stands for."""
        return self.changes[drawn]

    def label_of(self, params: Params) -> str | None:
        """Return the label of what `params` have, or None where that is no choice."""
        return next((label for label, values in self.changes.items() if _has(params, values)), None)


@dataclass(frozen=True)
class Range:
    """Numbers of a param from `low` to `high`, drawn evenly or, with `log`, evenly in their logarithm."""

    param: str
    low: float
    high: float
    log: bool
    whole: bool

    def distribution(self) -> Any:
        """Return it as Optuna draws from it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def of(self, drawn: Any) -> Mapping[str, Any]:
        """Return the params that a drawn value stands for, in so many digits as say something."""
        return {self.param: int(drawn) if self.whole else float(f"{drawn:.{DIGITS}g}")}

    def label_of(self, params: Params) -> float | None:
        """Return what `params` have, or None where that lies outside."""
        value = _value(params, self.param)
        return value if self.low <= value <= self.high else None


@dataclass(frozen=True)
class Search:
    """A search: its file's name, what trials share, what is held out, and what they vary."""

    name: str
    file: Path
    recipe: str
    params: Params
    held_out: HeldOut
    seed: int
    space: Mapping[str, Choices | Range]

    def changes(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params that drawn values stand for, {dotted key: value}."""
        return {key: value for name, place in self.space.items() for key, value in place.of(drawn[name]).items()}

    def recipes_own(self) -> dict[str, Any] | None:
        """Return what would be drawn for the recipe as it stands, or None where that lies outside the space."""
        drawn = {name: place.label_of(self.params) for name, place in self.space.items()}
        return None if None in drawn.values() else drawn


def read_search(path: Path, places: Mapping[str, str] | None = None) -> Search:
    """Return the search of a file; `places` are params that say where this machine has the benchmarks.

    Raises UserError for a file that is not right: a param that is unknown, no search's to vary, or varied twice; a
    value that it does not take.
    """
    value = checked(SearchFile, read_yaml(path), path)
    params = changed(load_params(find_recipe(value.recipe)), {**value.params, **(places or {})}, f"{path}: params")
    try:
        check_base(params.model)
    except UserError as error:
        raise UserError(f"{path}: params: {error}") from None
    space = {name: _dimension(name, entry, f"{path}: space") for name, entry in value.space.items()}
    seen: dict[str, str] = {}
    for name, place in space.items():
        for key in {key for values in _all_changes(place) for key in values}:
            if key in seen:
                raise UserError(f"{path}: space: {key}: is varied by {seen[key]} and by {name}")
            seen[key] = name
            if not key.startswith(OF_TRAINING) or key == "train.seed":
                raise UserError(f"{path}: space.{name}: {key}: a search varies train and prompt, and no seed")
        for values in _all_changes(place):
            changed(params, values, f"{path}: space.{name}")
    return Search(path.stem, path, value.recipe, params, value.held_out, value.seed, space)


def _dimension(name: str, entry: Any, place: str) -> Choices | Range:
    if isinstance(entry, dict):
        found = checked(RangeEntry, entry, f"{place}.{name}")
        if not found.low < found.high or (found.log and found.low <= 0):
            raise UserError(
                f"{place}.{name}: got {found.low:g} to {found.high:g}, takes a lower and a higher number"
                f"{' above 0' if found.log else ''}"
            )
        return Range(name, found.low, found.high, found.log, found.whole)
    if not isinstance(entry, list) or len(entry) < 2:
        raise UserError(f"{place}.{name}: got {entry!r:.40}, takes a list of two values or more, or {{low: , high: }}")
    changes: dict[str, Mapping[str, Any]] = {}
    for value in entry:
        values = value if isinstance(value, dict) else {name: value}
        label = json.dumps(value, sort_keys=True)
        if label in changes:
            raise UserError(f"{place}.{name}: has {label} twice")
        changes[label] = values
    return Choices(changes)


def _all_changes(place: Choices | Range) -> list[Mapping[str, Any]]:
    if isinstance(place, Choices):
        return list(place.changes.values())
    return [place.of(place.low), place.of(place.high)]


def _has(params: Params, values: Mapping[str, Any]) -> bool:
    return changed(params, values, "the recipe").model_dump() == params.model_dump()


def _value(params: Params, key: str) -> Any:
    value: Any = params.model_dump(by_alias=True)
    for part in key.split("."):
        value = value[part]
    return value
