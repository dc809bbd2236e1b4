"""Put a recipe in place of `params.yaml`, once it is known to be valid and to have the hardware it needs.

text2sql recipe paper --check     validate it, check for a GPU
text2sql recipe paper --needs     print the package extra it needs (`gpu`), or nothing
text2sql recipe paper             put it in place (never over uncommitted edits)
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.params import load_params
from text2sql.core.recipes import find_recipe, needs_gpu, put_in_place


def main(arguments: Sequence[str]) -> None:
    """Check one recipe, or put it in place of `params.yaml`."""
    parser = ArgumentParser(prog="text2sql recipe", description=__doc__.splitlines()[0])
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


def _require_gpu(path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"{path}: valid, but it needs a GPU, and PyTorch {torch.__version__} sees none on this machine; "
            "`make repro` without RECIPE runs the default on the CPU"
        )
