"""The arguments of most stages: which model, and which further evaluation set."""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, UserError
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


def entry_and_params(
    description: str, arguments: Sequence[str], table: str, page: str = "learning"
) -> tuple[str, Params]:
    """Return the model that a stage's arguments name, an entry of this `table` of params.yaml, and the params.

    `page` of docs says what it is. Raises UserError where params.yaml is not right, or the table has no such entry.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("model", help=f"a name of `{table}` in params.yaml")
    name = parser.parse_args(arguments).model
    params = load_params()
    if not getattr(params, table):
        raise UserError(f"{table}: names no model: docs/{page}.md")
    parser.check_choice("model", name, tuple(getattr(params, table)))
    return name, params


def set_model_and_params(description: str, arguments: Sequence[str]) -> tuple[str, str, Params]:
    """Return the further evaluation set and the model that a stage's arguments name, and the project's params.

    Raises UserError where params.yaml is not right, or names no such set or model.
    """
    parser = ArgumentParser(description=description)
    _add_set(parser)
    parser.add_argument("model", help="a name of `models` in params.yaml")
    found = parser.parse_args(arguments)
    params = load_params()
    _check_set(parser, found.set, params)
    parser.check_choice("model", found.model, params.model_table.names)
    return found.set, found.model, params


def set_and_params(description: str, arguments: Sequence[str]) -> tuple[str, Params]:
    """Return the further evaluation set that a stage's arguments name, and the project's params. Raises as above."""
    parser = ArgumentParser(description=description)
    _add_set(parser)
    name = parser.parse_args(arguments).set
    params = load_params()
    _check_set(parser, name, params)
    return name, params


def _add_set(parser: ArgumentParser) -> None:
    parser.add_argument("set", help="a name of `data.also` in params.yaml")


def _check_set(parser: ArgumentParser, name: str, params: Params) -> None:
    if not params.data.also:
        raise UserError("data.also: names no further evaluation set: docs/carrying.md")
    parser.check_choice("set", name, tuple(params.data.also))
