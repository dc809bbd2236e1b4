"""How time grows: from 1 to 8 times the examples, and from 1 to 2 processes.

    python -m benchmarks.bench_growth [--base-questions N] [--save]

Prediction, MMLU and scoring with 1, 2, 4 and 8 times as many examples, none of them alike. Prediction with all cores
in one process, one core in one, and one core in each of two under `torchrun` (on GPUs: one and two GPUs, where there
are two), from when all of them have loaded the model until the last is done. Medians; one run of each
size warms up and is not counted. An exponent of 1 is linear growth; less, where a few examples do not fill a batch.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bench_mmlu import mmlu_questions, our_choices
from benchmarks.bench_predict import our_answers
from benchmarks.machine import machine, on_gpu
from benchmarks.material import (
    REPOSITORY,
    SAMPLE_MMLU,
    SAMPLE_SPIDER,
    model_name,
    model_options,
    model_params,
    params,
    spider_prompts,
)
from benchmarks.measuring import Side, in_turns, result
from benchmarks.results import show
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Limits
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.scoring.verdicts import score_examples

TIMES = (1, 2, 4, 8)
MARK = "==RESULT== "


def measure(
    short: bool = False,
    base_questions: int | None = None,
    new_tokens: int | None = None,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    repeats: int | None = None,
    scored: int = 100,
    processes: bool = True,
) -> dict:
    """Return the seconds of each task at each size, and those of one and two processes."""
    gpu = on_gpu()
    base_questions = base_questions or (128 if gpu else 1 if short else 8)
    new_tokens = new_tokens or (4 if short else 32)
    repeats = repeats or (1 if short else 3)
    chosen = model_params(model, quantization, dtype)
    loaded = LanguageModel(chosen)
    growth, sides = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tasks = {
            "predict": (base_questions, _prediction(loaded, base_questions, new_tokens)),
            "mmlu": (base_questions, _mmlu(loaded, base_questions)),
            "scoring": (scored, _scoring(scored, Path(folder))),
        }
        for task, (count, work) in tasks.items():
            found = [Side(f"{task}, {count * times:,} examples", work(times)) for times in TIMES]
            in_turns(found, repeats)
            sides += found
            ratio = found[-1].median / found[0].median
            growth[task] = {
                "examples": [count * times for times in TIMES],
                "seconds": [round(side.median, 4) for side in found],
                "ratio_of_8_times": round(ratio, 3),
                "exponent": round(math.log(ratio, 8), 3),
            }
    notes = [
        f"{task}: {found['examples'][-1]:,} examples take {found['ratio_of_8_times']:.2f} times as long as "
        f"{found['examples'][0]:,} (exponent {found['exponent']:.2f})."
        for task, found in growth.items()
    ]
    del loaded
    scaling = None
    if processes:
        scaling = process_scaling(model, quantization, chosen.dtype, base_questions * 4, new_tokens, repeats, short)
        notes += scaling.pop("notes")
    return result(
        f"growth {model_name(model, quantization)}",
        f"from 1 to 8 times the examples and from 1 to 2 processes, at most {new_tokens} new tokens, {chosen.dtype}",
        {"base_questions": base_questions, "scored": scored, "new_tokens": new_tokens},
        sides,
        [],
        growth=growth,
        processes=scaling,
        notes=notes,
    )


def _prediction(model: LanguageModel, count: int, new_tokens: int) -> Callable:
    settings = params()
    prompts, _ = spider_prompts(model, SAMPLE_SPIDER, count * TIMES[-1], settings.prompt.schema_, 0)
    # Each size has the same mixture of lengths.
    parts = {times: prompts[:: TIMES[-1] // times] for times in TIMES}
    batch_size = settings.generation.batch_size
    return lambda times: lambda: our_answers(model, parts[times], new_tokens, batch_size)


def _mmlu(model: LanguageModel, count: int) -> Callable:
    settings = params()
    asked, shots, _ = mmlu_questions(SAMPLE_MMLU, count * TIMES[-1], settings.mmlu.shots)
    parts = {times: asked[:: TIMES[-1] // times] for times in TIMES}
    return lambda times: lambda: our_choices(model, parts[times], shots, settings.mmlu.batch_size)


def _scoring(count: int, folder: Path) -> Callable:
    with open_spider(SAMPLE_SPIDER) as source:
        held = source.examples("dev")
        for db_id in {example.db_id for example in held}:
            source.extract_database(db_id, folder / f"{db_id}.sqlite")
    examples, predictions = [], []
    for number in range(count * TIMES[-1]):
        example = held[number % len(held)]
        query = example.query.rstrip("; ")
        # Other texts each time, so that no cache hits.
        gold = f"SELECT * FROM ({query}) AS answer_{number}"
        examples.append(Example(number, example.db_id, example.question, gold))
        predictions.append(f"SELECT * FROM ({query}) AS prediction_{number}")

    def work(times: int) -> Callable:
        size = count * times
        return lambda: score_examples(
            examples[:size], predictions[:size], lambda db_id: folder / f"{db_id}.sqlite", Limits()
        )

    return work


def process_scaling(
    model: str, quantization: str, dtype: str, questions: int, new_tokens: int, repeats: int, short: bool = False
) -> dict:
    """Return the seconds of prediction in one process and in two, or why they are missing."""
    if on_gpu():
        import torch

        if torch.cuda.device_count() < 2:
            return {"notes": ["Two processes: not measured; they need two GPUs."]}
        kinds = {"1 process": (1, None), "2 processes": (2, None)}
    elif machine()["cores"] < 2:
        return {"notes": ["Two processes: not measured; they need two cores."]}
    else:
        kinds = {
            "1 process, all cores": (1, None),
            "1 process, 1 thread": (1, 1),
            "2 processes, 1 thread each": (2, 1),
        }
        if short:
            del kinds["1 process, all cores"]
    plan = {
        "model": model,
        "quantization": quantization,
        "dtype": dtype,
        "questions": questions,
        "new_tokens": new_tokens,
        "repeats": repeats,
    }
    found = {name: _launch(count, threads, plan) for name, (count, threads) in kinds.items()}
    names = list(found)
    notes = [
        f"Processes: {questions} questions: "
        + ", ".join(f"{name} {seconds:.3g} s" for name, seconds in found.items())
        + f"; two are {found[names[-2]] / found[names[-1]]:.2f} times as fast as one with the same means each."
    ]
    seconds = {name: round(value, 4) for name, value in found.items()}
    return {"questions": questions, "seconds": seconds, "notes": notes}


def _launch(count: int, threads: int | None, plan: dict) -> float:
    """Run the worker in `count` processes; return the median of its seconds."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    elif not on_gpu():
        environment["OMP_NUM_THREADS"] = str(machine()["cores"])
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.bench_growth", "--worker", json.dumps(plan)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            found = json.loads(line[len(MARK) :])
            if found["processes"] != count:  # a launcher that does not do as it is told
                raise RuntimeError(f"{count} processes: there were {found['processes']}")
            return found["seconds"]
    raise RuntimeError(f"{count} processes ended with code {done.returncode}:\n{done.stderr[-4000:]}")


def worker(plan: dict) -> None:
    """Answer this process's share of the questions repeatedly; the main process reports the median seconds."""
    from text2sql.core.processes import current_processes

    processes = current_processes()
    model = LanguageModel(model_params(plan["model"], plan["quantization"], plan["dtype"]))
    settings = params()
    prompts, _ = spider_prompts(model, SAMPLE_SPIDER, plan["questions"], settings.prompt.schema_, 0)
    # At least two batches a process, however few the questions.
    batch_size = min(settings.generation.batch_size, math.ceil(len(prompts) / 4))

    def work() -> None:
        processes.wait()
        our_answers(model, prompts, plan["new_tokens"], batch_size, processes)
        processes.wait()

    side = Side("", work)
    in_turns([side], plan["repeats"])
    if processes.is_main:
        print(f"\n{MARK}{json.dumps({'seconds': side.median, 'processes': processes.count})}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print what was found."""
    if arguments[:1] == ["--worker"]:
        worker(json.loads(arguments[1]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--base-questions", type=int, metavar="N", help="the smallest number of questions")
    parser.add_argument("--new-tokens", type=int, metavar="N")
    parser.add_argument("--scored", type=int, default=100, metavar="N", help="the smallest number of queries scored")
    parser.add_argument("--repeats", type=int, metavar="N")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
