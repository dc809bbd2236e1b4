"""What the work of one stage depends on, from the one place that says so: `dvc.yaml`.

The journals and checkpoints of a run that was cut are used again only where all of it is the same.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.digests import digest_of, digest_of_tree
from text2sql.core.errors import UserError
from text2sql.core.files import read_yaml

PIPELINE = Path("dvc.yaml")
PARAMS = Path("params.yaml")
_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml, its templates resolved: the paths that it reads, and the params that it uses."""

    name: str
    deps: tuple[str, ...]
    params: tuple[str, ...]


def read_stages(pipeline: str | Path = PIPELINE, params: str | Path = PARAMS) -> dict[str, Stage]:
    """Return {name: stage} of a pipeline; one of several, by `foreach` or `matrix`, is named as DVC does:
    `eval_mmlu@m1`, `eval_also@syn-m1`.

    Raises UserError where a file cannot be read or a template names nothing.
    """
    values = read_yaml(params)
    stages = {}
    for name, entry in read_yaml(pipeline).get("stages", {}).items():
        if "matrix" in entry:
            axes = {axis: list(_items(listed, values, name)) for axis, listed in entry["matrix"].items()}
            for combination in itertools.product(*axes.values()):
                stage = f"{name}@{'-'.join(combination)}"
                stages[stage] = _resolved(stage, entry, {**values, "item": dict(zip(axes, combination))})
        elif "foreach" in entry:
            items = _items(entry["foreach"], values, name)
            for key in items:
                item = items[key] if isinstance(items, Mapping) else key
                stages[f"{name}@{key}"] = _resolved(f"{name}@{key}", entry["do"], {**values, "key": key, "item": item})
        else:
            stages[name] = _resolved(name, entry, values)
    return stages


def _items(listed: Any, values: Mapping, stage: str) -> Any:
    """Return what stages are repeated for: as dvc.yaml lists it, or a list or table of params.yaml that it names."""
    return _needed(values, _TEMPLATE.sub(r"\1", listed).strip(), stage) if isinstance(listed, str) else listed


def stage_dependencies(name: str, pipeline: str | Path = PIPELINE, params: str | Path = PARAMS) -> dict[str, Any]:
    """Return {path: digest of its content, param: value} of the stage `name`, as it stands on disk now.

    Raises UserError where the pipeline has no such stage, or one of its paths is missing.
    """
    stages = read_stages(pipeline, params)
    if name not in stages:
        raise UserError(f"{pipeline}: has no stage {name}; its stages are {', '.join(stages)}")
    values = read_yaml(params)
    found: dict[str, Any] = {}
    for path in stages[name].deps:
        if not Path(path).exists():
            raise UserError(f"{path}: no such file or folder, which the stage {name} depends on; run `dvc repro`")
        found[path] = digest_of_tree(path)
    return found | {key: value_at(values, key) for key in stages[name].params}


def code_of(*names: str, pipeline: str | Path = PIPELINE) -> dict[str, str]:
    """Return {folder: digest} of the rooms of `text2sql/` that the stages of these names run, by the pipeline."""
    stages = read_yaml(pipeline).get("stages", {})
    deps = {dep for name in names for dep in stages[name].get("do", stages[name])["deps"]}
    return {dep: digest_of_tree(dep) for dep in sorted(deps) if dep.startswith("text2sql/")}


def value_at(mapping: Mapping, key: str) -> Any:
    """Return the value at a dotted `key`, or None if the key is not there."""
    value: Any = mapping
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


@dataclass(frozen=True)
class Key:
    """What kept work depends on, part by part, each by its digest: {name of the part: digest}."""

    parts: Mapping[str, str]

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> "Key":
        """Return the key of `parts`, {name: any JSON value}."""
        return cls({name: digest_of(value) for name, value in parts.items()})

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for all of it."""
        return digest_of(dict(self.parts))

    def changed_from(self, older: "Key") -> list[str]:
        """Return the names of the parts that differ, or that only one of the two has."""
        names = sorted({*self.parts, *older.parts})
        return [name for name in names if self.parts.get(name) != older.parts.get(name)]


def _resolved(name: str, entry: Mapping, values: Mapping) -> Stage:
    def text(template: str) -> str:
        return _TEMPLATE.sub(lambda found: str(_needed(values, found[1].strip(), name)), template)

    # A param of another file is {file: [key, ...]}: this pipeline has none.
    params = [param for param in entry.get("params", []) if isinstance(param, str)]
    return Stage(name, tuple(map(text, entry.get("deps", []))), tuple(map(text, params)))


def _needed(values: Mapping, key: str, stage: str) -> Any:
    value = value_at(values, key)
    if value is None:
        raise UserError(f"{PIPELINE}: stage {stage}: ${{{key}}} names no param")
    return value
