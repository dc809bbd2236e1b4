"""Ask an export the evaluated questions, and say what it lost against the answers that were scored.

    text2sql verify exports/m1-gguf                      by the engine of its form
    text2sql verify exports/m1 --engine vllm             by another that reads it
    text2sql verify exports/m1 --base other.gguf         an adapter on another base: what it would lose there

First the engine's token ids of all prompts, and of where it stops, have to be the evaluated ones. Exit code 1 where the
whole 95 % interval of the loss lies beyond `compare.max_export_loss_pts`. docs/export.md says more.
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.params import ENGINES, load_params


def main(arguments: Sequence[str]) -> int:
    """Ask, write metrics/export/NAME.json, and print the verdict; return the exit code."""
    parser = ArgumentParser(prog="text2sql verify", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `text2sql export` wrote")
    parser.add_argument("--engine", choices=ENGINES, help="default: that of the export's form")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="the scored answers (default: the project's)")
    parser.add_argument("--questions", type=int, metavar="N", help="so many of the questions, evenly spread")
    parser.add_argument("--no-mmlu", action="store_true", help="leave MMLU out")
    parser.add_argument("--base", help="load an adapter on this base instead: a carried one, a folder, a .gguf file")
    parser.add_argument("--name", help="the name of its metrics (default: the folder's)")
    options = parser.parse_args(arguments)
    if options.questions is not None and options.questions < 1:
        raise UserError(f"--questions: got {options.questions}, takes a whole number of at least 1")
    params = load_params()

    from text2sql.comparison.gate import Outcome
    from text2sql.experiments.export.evaluated import Options
    from text2sql.experiments.export.shown import proof_lines, write_proof
    from text2sql.experiments.export.verify import verify

    asked = Options(options.engine, options.predictions, options.questions, not options.no_mmlu, options.base)
    proof = verify(options.folder, params, asked, say=lambda text: print(f"verify: {text}", flush=True))
    name = options.name or options.folder.resolve().name
    written = write_proof(name, proof)
    print("\n".join([*proof_lines(name, proof), f"verify: wrote {written}"]))
    return 1 if proof.verdict == Outcome.BROKEN else 0
