"""The one argument of most stages: which model."""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser
from text2sql.core.params import Params, load_params


def model_and_params(description: str, arguments: Sequence[str], tuned_only: bool = False) -> tuple[str, Params]:
    """Return the model that a stage's arguments name, and the project's params.

    Raises UserError where params.yaml is not right, or names no such model.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("model", help="a name of `models` in params.yaml")
    name = parser.parse_args(arguments).model
    params = load_params()
    known = params.model_table.tuned if tuned_only else params.model_table.names
    parser.check_choice("model", name, known)
    return name, params
