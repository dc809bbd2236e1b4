"""Validate params files before anything slow starts.

text2sql check [PATH ...]     validate params.yaml, or the files named; the first problem ends it
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.params import load_params
from text2sql.data.mmlu import subject_categories
from text2sql.model.bases import check_base


def main(arguments: Sequence[str]) -> None:
    """Validate each file named, or `params.yaml`."""
    parser = ArgumentParser(prog="text2sql check", description=__doc__.splitlines()[0])
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["params.yaml"], help="default: params.yaml")
    for path in parser.parse_args(arguments).paths:
        params = load_params(path)
        try:
            subject_categories(params.mmlu.subjects)
            check_base(params.model)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        data = params.data
        print(f"{path}: valid ({params.model.base}, {data.name} from {data.spider}, MMLU from {data.mmlu})")
