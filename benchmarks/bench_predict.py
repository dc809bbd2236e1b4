"""Predictions on Spider: `LanguageModel.generate` as the stage uses it, against what people would write instead.

    python -m benchmarks.bench_predict [--questions N] [--model FOLDER --quantization 4bit] [--save]
    python -m benchmarks.bench_predict --peers d --base-alone --against FOLDER [--peer-questions N] [--save]

(a) the paper's loop: one `model.generate` a question; (b) transformers' `model.generate` with left-padded batches of
prompts sorted by length, at the best of some batch sizes; (c) on a GPU with unsloth, `FastLanguageModel.for_inference`
in the same batches; (d) transformers' `generate_batch`, continuous batching, at the best of its settings, which are
tried on `--sweep-questions` of the questions; the best answers `--peer-questions` of them, spread over all lengths, and
so do we beside it. `--against` runs another checkout's build in the same way. All of them with the same LoRA adapter
(`--adapter`; random, not zero, unless there is one), greedily, up to and with the end token. The runs alternate; one of
each warms up and is not counted. Loading and tokenising are not counted.

A random adapter makes answers that mostly run to their limit; `--base-alone` or a trained adapter gives their lengths.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.continuous_generate import Continuous, ContinuousSide
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
from benchmarks.targets import TARGETS, TODAY, row
from testkit.random_models import save_random_adapter, source_folder
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
CONTINUOUS = "(d) transformers' generate_batch"
OURS_OF_PART = f"{OURS}, generate_batch's questions"
# At least so many times as fast as the peer; the random 3B shape has the same goals.
GOALS = {"gpu": {LOOP: 40, BATCHES: 3, UNSLOTH: 1, CONTINUOUS: 3, TODAY: 2}, "cpu": {LOOP: 6, BATCHES: 1.3}}


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
    adapter: Path | None = None,
    base_alone: bool = False,
    against: Path | None = None,
    against_batch_size: int | None = None,
    peer_questions: int | None = None,
    sweep_questions: int | None = None,
    sweep_seconds: float = 5,
    sweep_limit: float = 60,
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
        kind = "no adapter" if base_alone else "a random adapter" if adapter is None else f"the adapter {adapter.name}"
        adapter = None if base_alone else adapter or save_random_adapter(model, Path(folder) / "adapter")
        ours_model = LanguageModel(chosen, adapter)
        prompts, _ = spider_prompts(ours_model, spider, questions, schema, few_shot)
        if any(peer in peers for peer in "abc"):
            plain, tokenizer = plain_model(chosen, adapter)
            ends, pad = end_ids(plain, tokenizer), tokenizer.pad_token_id

        ours = Side(OURS, lambda: our_answers(ours_model, prompts, new_tokens, batch_size))
        sides = {OURS: ours}
        parts: dict[str, list[int]] = {}
        notes: list[str] = []
        sweeps: dict[str, list[dict]] = {}
        loaded = [source_folder(model), quantization, chosen.dtype, str(adapter or "")]
        counts = {
            "questions": questions,
            "prompt_tokens": sum(map(len, prompts)),
            "most_new_tokens": new_tokens,
            "batch_size": batch_size,
        }
        what = (
            f"{questions:,} questions, schema {schema}, {few_shot} worked examples, at most {new_tokens} new tokens, "
            f"{kind}, {chosen.dtype}"
        )
        if "a" in peers:
            part = parts[LOOP] = spread(prompts, loop_questions)
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
        if "c" in peers and gpu and adapter is not None and has("unsloth"):
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
            notes.append("unsloth: not measured; it needs a GPU, an adapter and its package.")
        continuous = None
        if "d" in peers:
            request = {"new_tokens": new_tokens, "ends": sorted(ours_model._end_ids), "limit": sweep_limit}
            continuous = Continuous(*loaded, {**request, "pad": ours_model.tokenizer.pad_token_id})
            searched = spread(prompts, sweep_questions or (256 if gpu else 4))
            settings, sweeps[CONTINUOUS] = continuous.best([prompts[p] for p in searched], sweep_seconds)
            shared = parts[CONTINUOUS] = parts[OURS_OF_PART] = spread(prompts, peer_questions or questions)
            asked = [prompts[position] for position in shared]
            sides[CONTINUOUS] = ContinuousSide(CONTINUOUS, continuous, asked, settings)
            sides[OURS_OF_PART] = Side(OURS_OF_PART, lambda: our_answers(ours_model, asked, new_tokens, batch_size))
            notes.append(
                f"generate_batch: {_in_words(settings)}, the fastest on {len(searched)} questions; {len(shared):,} "
                "questions, ours beside it, in a process of its own, half of the GPU's memory for its cache."
            )
        today = None
        if against is not None:
            today = Worker("benchmarks.build_generate", loaded, build=against)
            size = against_batch_size or batch_size
            sides[TODAY] = WorkerSide(TODAY, today, {"prompts": prompts, "new_tokens": new_tokens, "size": size})
            notes.append(f"{TODAY}: in a process of its own, batches of {size}.")

        def found() -> dict:
            return _result(chosen, sides, parts, counts, what, prompts, notes, sweeps)

        in_turns(list(sides.values()), repeats, so_far and (lambda: so_far(found())))
        for process in (worker, continuous, today):
            if process:
                process.close()
        return found()


def _result(
    model: ModelParams,
    sides: dict[str, Side],
    parts: dict[str, list[int]],
    counts: dict,
    what: str,
    prompts: Sequence[list[int]],
    notes: Sequence[str],
    sweeps: dict[str, list[dict]],
) -> dict:
    """Return what is known of those `sides` that have run; `parts` are the places of the questions some answered."""
    missing = [f"{name}: not measured." for name, side in sides.items() if not side.seconds]
    sides = {name: side for name, side in sides.items() if side.seconds}
    ours, comparisons, rows = sides[OURS], [], []
    least = least_seconds(model.base, model.quantization, model.dtype, prompts, ours.answers)
    for side in (side for name, side in sides.items() if name not in (OURS, OURS_OF_PART)):
        beside = sides.get(OURS_OF_PART, ours) if side.name == CONTINUOUS else ours
        answer_at = dict(zip(parts.get(beside.name, range(len(prompts))), beside.answers, strict=True))
        expected = [answer_at[position] for position in parts.get(side.name, range(len(prompts)))]
        answers = same(side.answers, expected)
        goal = GOALS["gpu" if on_gpu() else "cpu"].get(side.name)
        comparisons.append({**compared(beside, side, goal, answers), "ours": beside.name})
        if model.dtype == "float32" and not nearly_same(side.answers, expected) and side.name != UNSLOTH:
            raise RuntimeError(f"{side.name}: greedy answers in float32 differ: {answers}")
        rows += _rows(model, beside, side, answers, least / ours.median, len(prompts))
    generated = sum(map(len, ours.answers))
    starts = [
        f"{side.name}: its first run, not counted, took {side.warm_up:.3g} s"
        + (f", with its start {side.first_seconds:.3g} s" if isinstance(side, ContinuousSide) else "")
        + ("" if side.peak_gb is None else f"; at most {side.peak_gb:.3g} GB of the GPU's memory")
        + "."
        for side in sides.values()
        if side.warm_up
    ]
    return result(
        f"predict {model_name(model.base, model.quantization)}" + (", the base alone" if "no adapter" in what else ""),
        what,
        {**counts, "new_tokens": generated},
        list(sides.values()),
        comparisons,
        bound=bound(
            "the operations of all prompts (what they share counted once) and answers at the measured rate of a "
            "large product, or reading weights and caches at the measured rate of a copy, whichever is longer",
            least,
            ours,
        ),
        rows=rows,
        sweeps=sweeps,
        tokens_per_second=round(generated / ours.median, 1),
        rates=rates(model.dtype),
        notes=[*notes, *missing, *starts],
    )


def _rows(model: ModelParams, ours: Side, peer: Side, answers: str, share: float, questions: int) -> list[dict]:
    """Return the row of the table of targets that a comparison is for, if it is for one."""
    size = next((size for size in ("0.5b", "1.5b") if f"coder-{size}" in model.base.lower()), None)
    target = {TODAY: f"predict-{size}-today", CONTINUOUS: f"predict-{size}-generate-batch"}.get(peer.name)
    if target not in TARGETS or not on_gpu() or model.dtype != "bfloat16" or questions < 1034:
        return []
    memory = (ours.peak_gb, peer.peak_gb)
    more = {"share": share if ours.name == OURS else None, "gb": memory, "answers": answers, "peer_name": peer.name}
    return [row(target, ours.median, peer.median, **more)]


def _in_words(settings: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value != "-")


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
    # In order, a prompt shares most with the one before it.
    ordered = sorted(prompts)
    read = sum(map(len, prompts)) - sum(map(_common, ordered, ordered[1:]))
    generated = sum(map(len, answers))
    operations = 2 * size["body"] * (read + generated) + 2 * size["head"] * generated
    # Were all questions answered in one batch: the weights once a step, and each cache once for each of its tokens.
    steps = max(map(len, answers))
    cached = sum(len(prompt) * len(answer) + len(answer) ** 2 / 2 for prompt, answer in zip(prompts, answers))
    moved = steps * size["weight_bytes"] + cached * size["cache_bytes_per_token"]
    # A copy reads and writes: its rate is that of all bytes.
    return max(operations / rate["operations_per_second"], moved / rate["bytes_per_second"])


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    return next((place for place, (one, other) in enumerate(zip(first, second)) if one != other), len(first))


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
    parser.add_argument("--peers", default="abc", help="which of a, b, c and d (default: abc)")
    parser.add_argument("--adapter", type=Path, metavar="FOLDER", help="a trained adapter; default: a random one")
    parser.add_argument("--base-alone", action="store_true", help="without an adapter")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of the build before")
    parser.add_argument("--against-batch-size", type=int, metavar="N", help="of that build; default: as ours")
    parser.add_argument("--peer-questions", type=int, metavar="N", help="how many (d) answers; default: all")
    parser.add_argument("--sweep-questions", type=int, metavar="N", help="on how many (d)'s settings are tried")
    parser.add_argument("--sweep-seconds", type=float, default=5, metavar="S", help="for how long at least, each")
    parser.add_argument("--sweep-limit", type=float, default=60, metavar="S", help="(d) fails after so many a call")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options, so_far=(lambda found: save([found])) if saved else None), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
