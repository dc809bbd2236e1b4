"""The recipe of a user's own data: params.yaml with what the data ask for, each change with its reason beside it."""

import io
import os
import re
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import write_text
from text2sql.core.recipes import RECIPES
from text2sql.experiments.own_data import Found, counted

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
# Tokens of schemas and SQL have three characters on average, seldom fewer than two.
CHARACTERS_A_TOKEN = 2
STEP = 128  # of max_seq_len


def recipe_file(name: str, source: str = "--name") -> Path:
    """Return where the recipe `name` goes, which comes from `source`.

    Raises UserError where that is no plain name, or a file is there.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{source}: found {name!r:.60}, wanted letters, digits, '-', '_' and '.' alone")
    path = RECIPES / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path}: is there already; wanted another --name, or that file gone")
    return path


def write_recipe(path: Path, name: str, found: Found, params: Path) -> None:
    """Write the recipe `path` of the data `found`: the file `params` with other values where the data ask for them."""
    yaml = _yaml()
    content = yaml.load(params.read_text(encoding="utf-8"))
    many = f"{counted(found.questions.total(), 'question')} on {counted(len(found.databases), 'database')}"
    content.yaml_set_start_comment(
        f"{name}: own data, {many}; written by `text2sql init`.\n"
        f"What the data do not ask for is as {params} had it.\n\n    make repro RECIPE={name}\n\n"
    )
    for section, values in _changes(name, found, content).items():
        for key, (value, reason) in values.items():
            content[section][key] = value
            content[section].yaml_add_eol_comment(reason, key, column=32)
    text = io.StringIO()
    yaml.dump(content, text)
    write_text(path, re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.MULTILINE))


def _changes(name: str, found: Found, content: Any) -> dict[str, dict[str, tuple[Any, str]]]:
    """Return {section: {key: (value, why)}}.

    What stands beside a value is said anew even where it stays: the file may be the recipe of other data.
    """
    failing = len(found.failing["dev"])
    held = "the share of the questions that is dev" if found.holdout is not None else "the questions name their splits"
    data: dict[str, tuple[Any, str]] = {
        "spider": (_place(found.path), "the folder, or zip, with databases and questions"),
        "name": (name, "what reports call it"),
        "holdout": (found.holdout, held),
        "train_limit": (None, f"use the first so many training examples; null for all {found.questions['train']:,}"),
        "dev_limit": (None, f"likewise for dev, of {found.questions['dev']:,}"),
        "failing_gold": (
            "skip" if failing else content["data"].get("failing_gold", "refuse"),
            f"{failing:,} gold queries of dev fail: refuse | skip (its example) | wrong (any answer)",
        ),
    }
    prompt: dict[str, tuple[Any, str]] = {}
    if content["prompt"]["schema"] in ("none", "name"):
        prompt["schema"] = ("ddl", "without it, a model can only guess tables and columns")
    if found.evidence or content["prompt"].get("evidence"):
        prompt["evidence"] = (found.evidence > 0, f"{found.evidence:,} questions have some")
    needed = _tokens(found.longest_prompt + found.longest_query, STEP)
    answer = _tokens(found.longest_query, 32)
    query = f"the longest query has {found.longest_query:,} characters"
    return {
        "data": data,
        "prompt": prompt,
        "train": {
            "max_seq_len": (
                max(needed, int(content["train"]["max_seq_len"])),
                f"the longest prompt has {found.longest_prompt:,} characters, {query}",
            )
        },
        "generation": {"max_new_tokens": (max(answer, int(content["generation"]["max_new_tokens"])), query)},
    }


def _yaml() -> Any:
    """Return ruamel's reader and writer that keeps comments, with `null` spelt out."""
    from ruamel.yaml import YAML, RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """One of its own: the class's table of types is shared otherwise."""

    Representer.add_representer(
        type(None), lambda representer, value: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml = YAML()
    yaml.Representer = Representer
    yaml.width = 1000
    return yaml


def _place(path: Path) -> str:
    """Return a path as params.yaml shall hold it: relative where it lies below this folder."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else whole.as_posix()


def _tokens(characters: int, step: int) -> int:
    return -(-characters // (CHARACTERS_A_TOKEN * step)) * step
