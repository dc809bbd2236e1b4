"""Recipes: complete params files below `recipes/`, each to be put in place of `params.yaml`."""

import shutil
import subprocess
from pathlib import Path

from text2sql.core.errors import UserError, did_you_mean
from text2sql.core.params import Params

RECIPES = Path("recipes")


def find_recipe(name: str) -> Path:
    """Return the file of recipe `name`. Raises UserError that lists the recipes there are."""
    for path in (RECIPES / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    raise UserError(
        f"recipe {name}: no such file below {RECIPES}/{did_you_mean(name, known)}; there are "
        f"{', '.join(known) or 'none'}"
    )


def needs_gpu(params: Params) -> bool:
    """Return whether `params` ask for anything that works on a GPU alone."""
    return params.model.loader == "unsloth" or params.model.quantization == "4bit" or "8bit" in params.train.optim


def put_in_place(recipe: Path, params: Path) -> None:
    """Copy `recipe` over `params`, unless that has edits that git does not hold. Raises UserError then."""
    if params.is_file() and params.read_bytes() == recipe.read_bytes():
        print(f"{params} is {recipe} already")
        return
    status = subprocess.run(["git", "status", "--porcelain", "--", str(params)], capture_output=True, text=True)
    committed_recipe = any(path.read_bytes() == params.read_bytes() for path in RECIPES.glob("*.yaml"))
    if (status.returncode != 0 or status.stdout.strip()) and not committed_recipe:
        raise UserError(
            f"{params}: has edits that git does not hold; commit them or undo them (git checkout {params}) before "
            f"{recipe} takes its place"
        )
    shutil.copyfile(recipe, params)
    print(f"{params} is now {recipe}")
