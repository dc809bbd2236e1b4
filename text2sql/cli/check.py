"""Validate params files before anything slow starts.

python -m text2sql.cli.check [PATH ...]     validate, print one line a problem
"""

from collections.abc import Sequence

from text2sql.core.errors import UserError, run
from text2sql.core.params import load_params
from text2sql.data.mmlu import subject_categories
from text2sql.model.bases import check_base


def main(arguments: Sequence[str]) -> None:
    """Validate each file named, or `params.yaml`."""
    for path in arguments or ["params.yaml"]:
        params = load_params(path)
        try:
            subject_categories(params.mmlu.subjects)
            check_base(params.model)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        print(f"{path}: valid ({params.model.base}, Spider from {params.data.spider}, MMLU from {params.data.mmlu})")


if __name__ == "__main__":
    run(main)
