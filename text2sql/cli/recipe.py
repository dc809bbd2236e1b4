"""Put a recipe in place of `params.yaml`, once it is known to be valid and to have the hardware it needs.

python -m text2sql.cli.recipe paper --check     validate it, check for a GPU
python -m text2sql.cli.recipe paper --needs     print the package extra it needs (`gpu`), or nothing
python -m text2sql.cli.recipe paper             put it in place (never over uncommitted edits)
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError, run
from text2sql.core.params import Params, load_params

RECIPES = Path("recipes")


def main(arguments: Sequence[str]) -> None:
    """Check one recipe, or put it in place of `params.yaml`."""
    parser = ArgumentParser(prog="text2sql.cli.recipe", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="a name below recipes/, or a path")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="only validate it and check for a GPU")
    action.add_argument("--needs", action="store_true", help="only print the package extra it needs")
    options = parser.parse_args(arguments)
    path = find_recipe(options.recipe)
    params = load_params(path)
    if options.needs:
        print("gpu" if needs_gpu(params) else "")
    elif options.check:
        if needs_gpu(params):
            _require_gpu(path)
        print(f"{path}: valid")
    else:
        put_in_place(path, Path("params.yaml"))


def find_recipe(name: str) -> Path:
    """Return the file of recipe `name`. Raises UserError that lists the recipes there are."""
    for path in (RECIPES / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml"))) or "none"
    raise UserError(f"recipe {name}: no such file below {RECIPES}/; there are {known}")


def needs_gpu(params: Params) -> bool:
    """Return whether `params` ask for anything that works on a GPU alone."""
    return params.model.loader == "unsloth" or params.model.quantization == "4bit" or "8bit" in params.train.optim


def _require_gpu(path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"{path}: valid, but it needs a GPU, and PyTorch {torch.__version__} sees none on this machine; "
            "`make repro` without RECIPE runs the embedded default on the CPU"
        )


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


if __name__ == "__main__":
    run(main)
