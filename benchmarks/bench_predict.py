"""Predictions on Spider: `LanguageModel.generate` as the stage uses it, against what people would write instead.

    python -m benchmarks.bench_predict [--questions N] [--model FOLDER --quantization 4bit] [--save]

(a) the paper's loop: one `model.generate` a question; (b) transformers' `model.generate` with left-padded batches of
prompts sorted by length, at the best of some batch sizes; (c) on a GPU with unsloth, `FastLanguageModel.for_inference`
in the same batches. All of them with the same LoRA adapter (random, not zero, unmerged), greedily, up to and with the
end token. The runs alternate; one of each warms up and is not counted. Loading and tokenising are not counted.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.machine import has, on_gpu, rates
from benchmarks.material import (
    SAMPLE_SPIDER,
    end_ids,
    generate_batch,
    in_batches,
    model_name,
    model_options,
    model_params,
    numbers,
    params,
    plain_model,
    sizes,
    spider_prompts,
    spread,
)
from benchmarks.measuring import (
    OURS,
    Side,
    Worker,
    WorkerSide,
    best_of,
    bound,
    compared,
    in_turns,
    nearly_same,
    result,
    same,
)
from benchmarks.results import save, show
from testkit.random_models import save_random_adapter
from text2sql.core.dependencies import Key
from text2sql.core.journal import Journal
from text2sql.core.params import ModelParams
from text2sql.core.processes import Processes
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel

LOOP = "(a) one generate a question"
BATCHES = "(b) generate in batches"
UNSLOTH = "(c) unsloth's for_inference"
# At least so many times as fast as the peer; the random 3B shape has the same goals.
GOALS = {"gpu": {LOOP: 40, BATCHES: 3, UNSLOTH: 1}, "cpu": {LOOP: 6, BATCHES: 1.3}}


def measure(
    short: bool = False,
    questions: int | None = None,
    new_tokens: int | None = None,
    schema: str | None = None,
    few_shot: int | None = None,
    spider: str | Path = SAMPLE_SPIDER,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    batch_size: int | None = None,
    peer_batch_sizes: Sequence[int] | None = None,
    loop_questions: int | None = None,
    repeats: int = 3,
    peers: Sequence[str] = "abc",
    so_far: Callable[[dict], None] | None = None,
) -> dict:
    """Return the times of all sides. Raises RuntimeError where answers in float32 differ by more than rounding.

    `so_far` gets the same of the sides that have run, after each run: on a GPU the peers take minutes.
    """
    settings = params()
    gpu = on_gpu()
    questions = questions or (1034 if gpu else 8 if short else 64)
    new_tokens = new_tokens or (8 if short else settings.generation.max_new_tokens)
    schema = schema or settings.prompt.schema_
    few_shot = settings.prompt.few_shot if few_shot is None else few_shot
    batch_size = batch_size or settings.generation.batch_size
    peer_batch_sizes = peer_batch_sizes or ((128, 256, 512) if gpu else (8,) if short else (8, 16, 32))
    loop_questions = min(questions, loop_questions or (24 if gpu else 2 if short else 16))
    repeats = 1 if short else repeats
    chosen = model_params(model, quantization, dtype)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        adapter = save_random_adapter(model, Path(folder) / "adapter")
        ours_model = LanguageModel(chosen, adapter)
        prompts, _ = spider_prompts(ours_model, spider, questions, schema, few_shot)
        plain, tokenizer = plain_model(chosen, adapter)
        ends, pad = end_ids(plain, tokenizer), tokenizer.pad_token_id

        ours = Side(OURS, lambda: our_answers(ours_model, prompts, new_tokens, batch_size))
        sides = {OURS: ours}
        notes: list[str] = []
        counts = {
            "questions": questions,
            "prompt_tokens": sum(map(len, prompts)),
            "most_new_tokens": new_tokens,
            "batch_size": batch_size,
        }
        what = (
            f"{questions:,} questions, schema {schema}, {few_shot} worked examples, at most {new_tokens} new tokens, "
            f"{chosen.dtype}"
        )
        if "a" in peers:
            part = spread(prompts, loop_questions)
            sides[LOOP] = Side(
                LOOP,
                lambda: [generate_batch(plain, [prompts[position]], new_tokens, ends, pad)[0] for position in part],
                scale=questions / len(part),
                note=f"{len(part)} questions, spread over all lengths, scaled linearly",
            )
            if len(part) < questions:
                notes.append(f"The paper's loop: {sides[LOOP].note}.")
        if "b" in peers:

            def in_batches_of(size: int) -> list[list[int]]:
                return in_batches(prompts, size, lambda batch: generate_batch(plain, batch, new_tokens, ends, pad))

            generate_batch(plain, prompts[:2], 2, ends, pad)  # lazy loading at the first call
            best, seconds, tried = best_of(
                peer_batch_sizes, lambda size: Side("", lambda: in_batches_of(size)).run(), most=questions
            )
            sides[BATCHES] = Side(BATCHES, lambda: in_batches_of(best), warm_up=seconds)
            sides[BATCHES].note = f"batch size {best}, the fastest of {tried}"
            notes.append(f"transformers' batches: {sides[BATCHES].note}.")
        worker = None
        if "c" in peers and gpu and has("unsloth"):
            worker = Worker(
                "benchmarks.unsloth_generate",
                [model, quantization, chosen.dtype, str(adapter), str(max(map(len, prompts)) + new_tokens)],
            )
            request = {"prompts": prompts, "new_tokens": new_tokens, "ends": ends, "pad": pad}
            worker.ask({**request, "prompts": prompts[:2], "new_tokens": 2, "size": 2})
            best_size, seconds, tried = best_of(
                peer_batch_sizes, lambda size: worker.ask({**request, "size": size})["seconds"], most=questions
            )
            sides[UNSLOTH] = WorkerSide(UNSLOTH, worker, {**request, "size": best_size})
            sides[UNSLOTH].note = f"in a process of its own, batch size {best_size}, the fastest of {tried}"
            sides[UNSLOTH].warm_up = seconds
            notes.append(f"unsloth: {sides[UNSLOTH].note}.")
        elif "c" in peers:
            notes.append("unsloth: not measured; it needs a GPU and its package.")

        def found() -> dict:
            return _result(chosen, sides, part if "a" in peers else [], counts, what, prompts, notes)

        in_turns(list(sides.values()), repeats, so_far and (lambda: so_far(found())))
        if worker:
            worker.close()
        return found()


def _result(
    model: ModelParams,
    sides: dict[str, Side],
    part: Sequence[int],
    counts: dict,
    what: str,
    prompts: Sequence[list[int]],
    notes: Sequence[str],
) -> dict:
    """Return what is known of those `sides` that have run; the loop answered the questions at the positions `part`."""
    missing = [f"{name}: not measured." for name, side in sides.items() if not side.seconds]
    sides = {name: side for name, side in sides.items() if side.seconds}
    ours, peers = sides[OURS], [side for side in sides.values() if side.name != OURS]
    comparisons = []
    for side in peers:
        expected = [ours.answers[position] for position in part] if side.name == LOOP else ours.answers
        answers = same(side.answers, expected)
        comparisons.append(compared(ours, side, GOALS["gpu" if on_gpu() else "cpu"].get(side.name), answers))
        if model.dtype == "float32" and not nearly_same(side.answers, expected) and side.name != UNSLOTH:
            raise RuntimeError(f"{side.name}: greedy answers in float32 differ: {answers}")
    generated = sum(map(len, ours.answers))
    warm_up = (
        f"Warm-up of {OURS} (not counted above; it includes compiling and capturing, where that is done): "
        f"{ours.warm_up:.3g} s."
    )
    return result(
        f"predict {model_name(model.base, model.quantization)}",
        what,
        {**counts, "new_tokens": generated},
        list(sides.values()),
        comparisons,
        bound=bound(
            "the operations of all prompts (what they share counted once) and answers at the measured rate of a "
            "large product, or reading weights and caches at the measured rate of a copy, whichever is longer",
            least_seconds(model.base, model.quantization, model.dtype, prompts, ours.answers),
            ours,
        ),
        tokens_per_second=round(generated / ours.median, 1),
        rates=rates(model.dtype),
        notes=[*notes, *missing, warm_up],
    )


def our_answers(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    new_tokens: int,
    batch_size: int,
    processes: Processes = Processes(),  # noqa: B008 (frozen)
) -> list[list[int]]:
    """Return the token ids of the answers by the stage's path: batches, journal and all (this process's share)."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = JournaledRun(Journal("bench", Key.of({}), processes.index, Path(folder)), OURS, processes)

        def answer(positions: list[int]) -> list[dict]:
            outputs = model.generate([prompts[position] for position in positions], new_tokens)
            return [{"ids": output, "raw": model.decode(output)} for output in outputs]

        run_batches([len(prompt) for prompt in prompts], batch_size, answer, run)
        records = run.journal.records()
    return [records[position]["ids"] for position in sorted(records)]


def least_seconds(
    base: str, quantization: str, dtype: str, prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> float:
    """Return the lower bound in seconds: arithmetic, or reading weights and caches."""
    size, rate = sizes(base, quantization, dtype), rates(dtype)
    shared = len(os.path.commonprefix(list(prompts)))
    read = shared + sum(len(prompt) - shared for prompt in prompts)
    generated = sum(map(len, answers))
    operations = 2 * size["body"] * (read + generated) + 2 * size["head"] * generated
    # Were all questions answered in one batch: the weights once a step, and each cache once for each of its tokens.
    steps = max(map(len, answers))
    cached = sum(len(prompt) * len(answer) + len(answer) ** 2 / 2 for prompt, answer in zip(prompts, answers))
    moved = steps * size["weight_bytes"] + cached * size["cache_bytes_per_token"]
    # A copy reads and writes: its rate is that of all bytes.
    return max(operations / rate["operations_per_second"], moved / rate["bytes_per_second"])


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--questions", type=int, metavar="N", help="default: 1034 on a GPU, 64 on a CPU")
    parser.add_argument("--new-tokens", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--schema", choices=["none", "name", "tables", "ddl"], help="default: params.yaml's")
    parser.add_argument("--few-shot", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--spider", default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--batch-size", type=int, metavar="N", help="of this project; default: params.yaml's")
    parser.add_argument("--peer-batch-sizes", type=numbers, metavar="N,N,…", help="tried for (b) and (c)")
    parser.add_argument("--loop-questions", type=int, metavar="N", help="how many (a) answers")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--peers", default="abc", help="which of a, b and c (default: abc)")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options, so_far=(lambda found: save([found])) if saved else None), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
