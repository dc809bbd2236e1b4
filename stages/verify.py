"""Ask one export of `export` in params.yaml the evaluated questions: what did it lose?

    python -m stages.verify m1_q8

The stage never fails over a loss; `python -m stages.compare --gate` does, as `text2sql verify`.
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.params import load_params
from text2sql.core.paths import EXPORT_FOLDERS, TIMINGS
from text2sql.core.timing import Stopwatch


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/export/<name>.json`, `data/verdicts/export/<name>.jsonl` and the timing."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a name of `export` in params.yaml")
    name, params = parser.parse_args(arguments).name, load_params()
    parser.check_choice("name", name, params.export)
    stopwatch = Stopwatch()

    from text2sql.experiments.export.evaluated import Options
    from text2sql.experiments.export.shown import proof_lines, write_proof
    from text2sql.experiments.export.verify import verify

    entry = params.export[name]
    options = Options(entry.engine, questions=entry.questions, mmlu=entry.mmlu)
    say = lambda text: print(f"verify {name}: {text}", flush=True)  # noqa: E731
    proof = verify(EXPORT_FOLDERS / name, params, options, say)
    write_proof(name, proof)
    stopwatch.write(TIMINGS / f"verify_{name}.json", "verify", name, proof.metrics["questions"])
    print("\n".join(proof_lines(name, proof)))


if __name__ == "__main__":
    run(main)
