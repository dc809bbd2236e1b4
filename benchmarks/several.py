"""The same work by 1, 2, 4 … GPUs of one host (on CPUs: processes of one thread each), as `torchrun` starts it.

For `python -m benchmarks.bench_growth --gpus 1,2`. One start for each number of GPUs does all four kinds of work, so
that each loads its model once: prediction, MMLU, training at the same batch a GPU, training at the same whole batch.
Work is timed from when all processes are ready until the last is done; start-up, from the command until then, is said
beside it. So is how long the first to end waited for the last. Of prediction and MMLU one run warms up (its own shapes
are recorded there), of a training its first steps.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_mmlu import mmlu_questions
from benchmarks.bench_predict import our_answers
from benchmarks.bench_train import _record_steps, training_pairs
from benchmarks.machine import on_gpu, wait
from benchmarks.material import (
    REPOSITORY,
    SAMPLE_MMLU,
    SAMPLE_SPIDER,
    model_name,
    model_params,
    params,
    spider_prompts,
)
from benchmarks.measuring import Side, result
from benchmarks.targets import SIZES, WORKS, row
from testkit.random_models import write_random_base
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.journal import Journal
from text2sql.core.params import ModelParams, TrainParams
from text2sql.core.processes import Processes, current_processes
from text2sql.data.mmlu import SUBJECT_CATEGORY
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel

MARK = "==RESULT== "
TASKS = {
    "predict": "prediction",
    "mmlu": "MMLU",
    "train": "training, the same batch a GPU",
    "train-whole": "training, the same whole batch",
}


def measure_several(
    gpus: Sequence[int],
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    spider: str | Path = SAMPLE_SPIDER,
    mmlu: str | Path = SAMPLE_MMLU,
    questions: int | None = None,
    mmlu_questions: int | None = None,
    new_tokens: int | None = None,
    steps: int | None = None,
    repeats: int | None = None,
    batch_size: int | None = None,
    tasks: Sequence[str] = tuple(TASKS),
) -> dict:
    """Return the seconds of each task on each number of `gpus`, and how many times faster each is than the first.

    Raises UserError for more GPUs than there are.
    """
    _check(gpus)
    gpu = on_gpu()
    if model == "llama3b":
        model = str(write_random_base(Path(tempfile.gettempdir()) / "llama3b"))
    chosen = model_params(model, quantization, dtype)
    plan = {
        "model": chosen.model_dump(),
        "spider": str(spider),
        "mmlu": str(mmlu),
        "questions": questions or (8000 if gpu else 16),
        "mmlu_questions": mmlu_questions or (14042 if gpu else 16),
        "new_tokens": new_tokens or (64 if gpu else 8),
        "steps": steps or (60 if gpu else 4),
        "repeats": repeats or 1,
        "batch_size": batch_size or (256 if gpu else 4),
        "tasks": list(tasks),
    }
    found = {count: launch(count, plan) for count in gpus}
    return _result(found, plan, model_name(model, quantization))


def _check(gpus: Sequence[int]) -> None:
    import torch

    unknown = [count for count in gpus if count < 1 or 8 % count]
    if unknown:
        raise UserError(f"--gpus: takes numbers that divide the whole batch of 8: 1, 2, 4, 8; got {unknown[0]}")
    there = torch.cuda.device_count()
    if there and max(gpus) > there:
        raise UserError(f"--gpus: this machine has {there}, got {max(gpus)}")


def launch(count: int, plan: dict) -> dict:
    """Do the work of `plan` in `count` processes; return what `worker` found. Raises RuntimeError where it fails."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps({**plan, "folder": folder, "started": time.time()}))
        environment = os.environ | ({} if on_gpu() else {"OMP_NUM_THREADS": "1"})
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "benchmarks.several", str(file)],
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
            said = ", ".join(f"{task} {one['seconds']:.3g} s" for task, one in found["tasks"].items())
            print(f"  {count} at work: {said}", flush=True)
            return found
    raise RuntimeError(f"{count} processes ended with code {done.returncode}:\n{done.stderr[-4000:]}")


def worker(plan: dict) -> None:
    """Do this process's share of each task; the main process prints what all of them took."""
    processes = current_processes()
    found: dict[str, dict] = {}
    start_s = None
    if {"predict", "mmlu"} & set(plan["tasks"]):
        model = LanguageModel(ModelParams(**plan["model"]))
        processes.wait()
        start_s = time.time() - plan["started"]
        for task, kind in (("predict", _prediction), ("mmlu", _mmlu)):
            if task in plan["tasks"]:
                found[task] = _timed(kind(model, plan, processes), plan["repeats"], processes)
        del model
        _empty_gpu()
    for task, batch in (("train", 8 * processes.count), ("train-whole", 8)):
        if task in plan["tasks"]:
            found[task] = _trained(plan, batch, processes, task)
            _empty_gpu()
    if processes.is_main:
        said = {"processes": processes.count, "start_s": start_s, "tasks": found}
        print(f"\n{MARK}{json.dumps(said)}", flush=True)


def _prediction(model: LanguageModel, plan: dict, processes: Processes) -> Callable[[], Any]:
    prompts, _ = spider_prompts(model, plan["spider"], plan["questions"], "ddl", 0)
    return lambda: our_answers(model, prompts, plan["new_tokens"], plan["batch_size"], processes)


def _mmlu(model: LanguageModel, plan: dict, processes: Processes) -> Callable[[], Any]:
    settings = params()
    asked, shots, _ = mmlu_questions(plan["mmlu"], plan["mmlu_questions"], settings.mmlu.shots)
    number = iter(range(1000))

    def work() -> None:
        journal = Journal("mmlu", Key.of({}), processes.index, Path(plan["folder"]) / f"mmlu-{next(number)}")
        answer_questions(
            model, asked, shots, SUBJECT_CATEGORY, settings.mmlu.batch_size, JournaledRun(journal, "mmlu", processes)
        )

    return work


def _timed(work: Callable[[], Any], repeats: int, processes: Processes) -> dict:
    """Do `work` once to warm up, then `repeats` times; return the median seconds, and the longest wait for the last."""
    seconds, waits = [], []
    for _ in range(repeats + 1):
        processes.wait()
        began = time.perf_counter()
        work()
        wait()
        own = time.perf_counter() - began
        processes.wait()
        seconds.append(time.perf_counter() - began)
        waits.append(max(_gathered(processes, seconds[-1] - own)))
    return {"seconds": statistics.median(seconds[1:]), "waited_s": statistics.median(waits[1:])}


def _trained(plan: dict, whole_batch: int, processes: Processes, name: str) -> dict:
    """Train on `whole_batch` examples a step; return the seconds of a million tokens, and of a step."""
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob

    recipe = _recipe(whole_batch)
    pairs = training_pairs({**plan, "bare": False, "schema": "ddl"}, recipe)
    warm = max(1, plan["steps"] // 2)
    times = _record_steps(warm, profiled=False)
    model = ModelParams(**plan["model"])
    started = time.perf_counter()
    training = train_adapter(TrainingJob("m1", model, recipe, processes), pairs, Path(plan["folder"]) / name)
    moments = times["steps"]
    step_s = (moments[-1] - moments[warm - 1]) / (len(moments) - warm)
    if training is None:
        return {}
    training.checkpoints.remove()
    tokens = training.metrics["tokens"] / training.metrics["steps"]
    return {
        "seconds": step_s / tokens * 1e6,
        "step_s": step_s,
        "tokens_a_second": tokens / step_s,
        "start_s": times["begin"] - started,
        "exchanged_bytes": 4 * training.metrics["trainable_parameters"],
    }


def _recipe(whole_batch: int) -> TrainParams:
    changes = {"batch_size": whole_batch, "grad_accum": 1, "epochs": 1, "max_seq_len": 2048, "checkpoint_minutes": 1e6}
    return params().train.model_copy(update=changes)


def _gathered(processes: Processes, value: float) -> list[float]:
    if processes.count == 1:
        return [value]
    import torch

    values: list[Any] = [None] * processes.count
    torch.distributed.all_gather_object(values, value)
    return values


def _empty_gpu() -> None:
    if on_gpu():
        import gc

        import torch

        gc.collect()
        torch.cuda.empty_cache()


def _result(found: dict[int, dict], plan: dict, name: str) -> dict:
    """Return the result of all numbers of GPUs: a side each, a line a task, the targets' rows."""
    first, *others = found
    tasks = [task for task in plan["tasks"] if task in found[first]["tasks"]]
    sides, notes, rows = [], [], []
    for task in tasks:
        seconds = {count: one["tasks"][task]["seconds"] for count, one in found.items()}
        for count in found:
            sides.append(Side(f"{TASKS[task]}, {count}", lambda: None, seconds=[seconds[count]]))
        faster = {count: seconds[first] / seconds[count] for count in others}
        said = ", ".join(f"{first} to {count}: {ratio:.2f} ×" for count, ratio in faster.items())
        notes.append(f"{TASKS[task]}: {said or 'one number alone'}{_beside(task, found)}.")
        size = SIZES.get(name)
        if first == 1 and size and task in WORKS:
            rows += [row(f"gpus-{size}-{task}-{count}", seconds[count], seconds[1]) for count in others]
    counts = {key: plan[key] for key in ("questions", "mmlu_questions", "new_tokens", "steps", "batch_size")}
    who = "GPUs" if on_gpu() else "processes of one thread"
    return result(
        f"growth over GPUs {name}",
        f"work alone, by {first} to {max(found)} {who}; seconds, of training "
        f"for a million tokens; {plan['model']['dtype']}",
        counts,
        sides,
        [],
        rows=rows,
        gpus={str(count): one for count, one in found.items()},
        notes=[*notes, f"Start-up, until all have loaded the model: {_starts(found)}."],
    )


def _beside(task: str, found: dict[int, dict]) -> str:
    ones = {count: one["tasks"][task] for count, one in found.items()}
    if task in ("predict", "mmlu"):
        return "; waiting for the last: " + ", ".join(f"{one['waited_s']:.2g} s" for one in ones.values())
    return "; tokens a second: " + ", ".join(f"{one['tokens_a_second']:,.0f}" for one in ones.values())


def _starts(found: dict[int, dict]) -> str:
    return ", ".join(f"{n}: {one['start_s']:.3g} s" for n, one in found.items() if one["start_s"] is not None) or "-"


if __name__ == "__main__":
    worker(json.loads(Path(sys.argv[1]).read_text()))
