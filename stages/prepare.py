"""Read the raw benchmarks, check them, and write them in the form that every later stage reads.

python -m stages.prepare
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.params import load_params


def main(arguments: Sequence[str]) -> None:
    """Write `data/prepared/` and `metrics/prepare.json`."""
    ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)
    params = load_params()

    from text2sql.preparation.prepare import prepare

    counts = prepare(
        params, "data/prepared", "metrics/prepare.json", say=lambda text: print(f"prepare: {text}", flush=True)
    )
    questions = sum(splits["test"] for splits in counts["mmlu"].values())
    print(
        f"prepare: {counts['train']} train and {counts['dev']} dev examples over {counts['databases']} databases, "
        f"{questions} multiple-choice questions of {len(counts['mmlu'])} subjects"
    )


if __name__ == "__main__":
    run(main)
