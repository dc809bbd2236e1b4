"""Read a further evaluation set, check it, and write it in the form that `prepare` gives Spider's dev split.

python -m stages.prepare_also syn
"""

from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.paths import ALSO, DATABASES, METRICS
from text2sql.core.stage_arguments import set_and_params


def main(arguments: Sequence[str]) -> None:
    """Write `data/also/<set>/` and `metrics/also/<set>.json`."""
    name, params = set_and_params(__doc__.splitlines()[0], arguments)

    from text2sql.preparation.also import prepare_also

    counts = prepare_also(
        params,
        name,
        DATABASES,
        ALSO / name,
        METRICS / f"also/{name}.json",
        say=lambda text: print(f"prepare_also: {text}", flush=True),
    )
    print(f"prepare_also {name}: {counts['dev']} questions about {counts['databases']} databases")


if __name__ == "__main__":
    run(main)
