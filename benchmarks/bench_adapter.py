"""Evaluating a model with its adapter, against its base alone and against the adapter unmerged.

    python -m benchmarks.bench_adapter [--questions N] [--mmlu-questions N] [--dtype bfloat16] [--adapter DIR] [--save]

Prediction and MMLU by the stages' path, on the project's sample, each side in a process of its own, in turns; the
first run of each warms up and is not counted. All sides do the same work: the adapter is random and scaled by a
ten-thousandth, so that the answers, and their lengths, are the base's; the table says how many are. Memory is the
process's peak.

In another dtype the base alone is also measured in float32: what `model.dtype: auto` goes by.

With `--adapter`, a trained one as it is, without a warm-up: its answers merged are compared with those unmerged. There
is no ratio to the base then, whose answers have other lengths.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks import bench_mmlu
from benchmarks.bench_predict import our_answers
from benchmarks.material import (
    SAMPLE_MMLU,
    SAMPLE_SPIDER,
    model_name,
    model_options,
    model_params,
    params,
    spider_prompts,
)
from benchmarks.measuring import Side, Worker, WorkerSide, compared, in_turns, nearly_same, result, same
from benchmarks.results import show
from benchmarks.targets import row
from testkit.random_models import save_random_adapter
from text2sql.core.params import ModelParams
from text2sql.model.bases import EMBEDDED_BASE

PREDICT, MMLU = "predict", "mmlu"
ADAPTED, BASE, UNMERGED = "with its adapter", "the base alone", "with its adapter unmerged"
FLOAT32 = "the base alone in float32"
MOST_AS_LONG, MOST_MEMORY = 1.15, 1.1
STRENGTH = 1e-4


def measure(
    short: bool = False,
    questions: int | None = None,
    mmlu_questions: int | None = None,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    adapter: Path | None = None,
    repeats: int = 3,
) -> dict:
    """Return the times and peaks of all sides.

    Raises RuntimeError where float32 answers differ by more than rounding.
    """
    chosen = model_params(model, quantization, dtype)
    chosen = chosen if adapter else chosen.model_copy(update={"strength": STRENGTH})
    counts = {PREDICT: questions or (4 if short else 48), MMLU: mmlu_questions or (3 if short else 30)}
    counts["repeats"] = 1 if short else repeats
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = adapter or save_random_adapter(model, Path(folder) / "adapter")
        names = [ADAPTED, UNMERGED] if adapter else [ADAPTED, BASE, UNMERGED]
        names += [] if adapter or chosen.dtype == "float32" else [FLOAT32]
        workers = {name: _worker(name, chosen, measured, counts) for name in names}
        sides = {
            work: [WorkerSide(f"{work} {name}", worker, work) for name, worker in workers.items()]
            for work in (PREDICT, MMLU)
        }
        for alike in sides.values():
            for side in alike:
                side.warm_up = 0 if adapter else None  # a trained one's answers are compared, more than times
            in_turns(alike, counts["repeats"])
        peaks = {name: worker.ask("memory") for name, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    memory = ", ".join(f"{name} {peak:.2f} GB" for name, peak in peaks.items())
    notes = ["Ratios are this project's time over the other's: less is better.", f"Peak memory: {memory}."]
    if BASE in peaks:
        notes.append(f"Memory, of at most {MOST_MEMORY} × the base's: {peaks[ADAPTED] / peaks[BASE]:.2f} ×.")
    which = f"the adapter {adapter.name}" if adapter else f"a random adapter scaled by {STRENGTH:g}"
    return result(
        f"adapter {model_name(model, quantization)}, {chosen.dtype}" + (f", {adapter.name}" if adapter else ""),
        f"{counts[PREDICT]} questions and {counts[MMLU]} of MMLU, {which}, {chosen.dtype}",
        counts,
        [side for alike in sides.values() for side in alike],
        [row for alike in sides.values() for row in _rows(alike, chosen.dtype)],
        rows=_targets(sides, peaks, chosen.dtype) if BASE in peaks and model.endswith("0.5b-instruct") else [],
        peak_memory_gb={name: round(peak, 3) for name, peak in peaks.items()},
        notes=notes,
    )


def _targets(sides: dict[str, list[Side]], peaks: dict[str, float], dtype: str) -> list[dict]:
    """Return the rows of the targets of 0.5B with an adapter."""
    gb = (peaks[ADAPTED], peaks[BASE])
    rows = []
    for work, alike in sides.items():
        ours, base = alike[0], alike[1]
        answers = same(ours.answers, base.answers)
        rows.append(row(f"adapter-{work}-{dtype}", ours.median, base.median, gb=gb, answers=answers))
    return [*rows, row(f"adapter-memory-{dtype}", *gb)]


def _rows(sides: Sequence[Side], dtype: str) -> Iterator[dict]:
    """Yield comparisons of what one kind of work took: the adapter with all others, and the base's two dtypes."""
    named = {name: side for side in sides for name in (ADAPTED, BASE, UNMERGED, FLOAT32) if side.name.endswith(name)}
    pairs = [(ADAPTED, BASE, MOST_AS_LONG), (ADAPTED, UNMERGED, None), (BASE, FLOAT32, None)]
    for one, other, goal in pairs:
        if one in named and other in named:
            ours, peer = named[one], named[other]
            answers = same(ours.answers, peer.answers)
            if dtype == "float32" and not nearly_same(ours.answers, peer.answers):
                raise RuntimeError(f"{ours.name}: answers in float32 differ from {peer.name}: {answers}")
            yield compared(ours, peer, goal, answers, at_most=True) | {"ours": ours.name}


def _worker(name: str, model: ModelParams, adapter: Path, counts: dict) -> Worker:
    plan = {"model": model.model_dump(), "adapter": str(adapter), "unmerged": name == UNMERGED, "counts": counts}
    if name in (BASE, FLOAT32):
        plan["adapter"] = None
    if name == FLOAT32:
        plan["model"]["dtype"] = "float32"
    return Worker("benchmarks.bench_adapter", ["--serve", json.dumps(plan)])


def serve(plan: dict) -> None:
    """Load the plan's model, and answer `predict`, `mmlu` and `memory` (GB)."""
    from text2sql.model import language_model

    unmerged = patch.object(language_model, "merge_on_cpu", lambda model: model)
    with unmerged if plan["unmerged"] else contextlib.nullcontext():
        model = language_model.LanguageModel(ModelParams(**plan["model"]), plan["adapter"])
    settings, counts = params(), plan["counts"]
    prompt, generation = settings.prompt, settings.generation
    prompts, _ = spider_prompts(model, SAMPLE_SPIDER, counts[PREDICT], prompt.schema_, prompt.few_shot)
    asked, examples, _ = bench_mmlu.mmlu_questions(SAMPLE_MMLU, counts[MMLU], settings.mmlu.shots)

    def answer(request: str) -> dict | float:
        if request == "memory":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        started = time.perf_counter()
        answers: list
        if request == PREDICT:
            answers = our_answers(model, prompts, generation.max_new_tokens, generation.batch_size)
        else:
            answers = bench_mmlu.our_choices(model, asked, examples, settings.mmlu.batch_size)
        return {"seconds": time.perf_counter() - started, "answers": answers}

    Worker.serve(answer)


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--questions", type=int, metavar="N", help="default: 48")
    parser.add_argument("--mmlu-questions", type=int, metavar="N", help="default: 30")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a trained one")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(json.loads(sys.argv[2]))
    else:
        main(sys.argv[1:])
