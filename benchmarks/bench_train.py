"""Training an adapter: `train_adapter` as the stage calls it, against the build before, TRL and unsloth at their best.

    python -m benchmarks.bench_train [--steps N] [--model FOLDER --quantization 4bit] [--against FOLDER] [--save]

All sides see the same examples in each step, the same batch, optimizer, learning rates and seed, the same initial
adapter and the same loss (the answer's tokens alone, averaged over the step). Each run is a process of its own, so that
peak memory is its own and unsloth changes nobody else; the runs alternate. The first steps of each run warm up and are
not counted; seconds a step are the median of the runs' means over the others.

Each peer trains a whole step in one pass, in bfloat16 on a GPU, with the fastest of its settings (TRL_SETTINGS,
UNSLOTH_SETTINGS) on `--sweep-steps` steps; those that fail are listed. Where a setting packs, its steps hold about as
many tokens, of other examples: its seconds are those of as many tokens as one of our steps has. What differs from the
peers' defaults: the seed's shuffle is done beforehand, so that all have the same order; each step logs; on a CPU
float32, TRL's defaults without a sweep, and the model's own loss, since TRL's has kernels for GPUs.

`--against FOLDER` is a checkout of the build before. This project uses more of a GPU's memory if there is more;
`--gpu-memory GB` leaves it so much and no more, while the peers take what they take.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import has, on_gpu, rates
from benchmarks.material import (
    SAMPLE_SPIDER,
    model_name,
    model_options,
    model_params,
    params,
    plain_base,
    sizes,
    spider_questions,
)
from benchmarks.measuring import OURS, REPOSITORY, of_build, result, sweep
from benchmarks.results import save, show
from benchmarks.targets import TODAY, row
from testkit.random_models import source_folder
from text2sql.core.params import ModelParams, TrainParams
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.prompts.messages import bare_messages, spider_messages

TRL, UNSLOTH = "TRL's SFTTrainer", "unsloth"
SIDES = {"ours": OURS, "today": TODAY, "trl": TRL, "unsloth": UNSLOTH}
# Padding-free: a step's examples in one row; packed: rows of as many tokens, filled with whichever examples fit. TRL
# warns of both with sdpa, for which transformers makes a mask by the positions that begin again.
TRL_SETTINGS = [
    {"rows": rows, "attention": attention, "liger": liger, "checkpointing": False}
    for rows, attention, liger in (
        ("padded", "sdpa", False),
        ("padded", "sdpa", True),
        ("padded", "eager", True),
        ("padding-free", "sdpa", False),
        ("padding-free", "sdpa", True),
        ("packed", "sdpa", True),
    )
]
UNSLOTH_SETTINGS = [
    {"rows": rows, "checkpointing": checkpointing}
    for rows in ("padded", "packed")
    for checkpointing in (False, "unsloth")
]
# On a CPU: as TRL comes.
DEFAULTS = {"rows": "padded", "attention": "sdpa", "liger": False, "checkpointing": True}
SETTINGS = {"trl": TRL_SETTINGS, "unsloth": UNSLOTH_SETTINGS}
MARK = "==RESULT== "
PROFILE = "    profile: "
# What a training says when it goes on in a slower way.
SAID = ("Out of memory", "No FlashAttention", "This model cannot be recorded")


def measure(
    short: bool = False,
    steps: int | None = None,
    sweep_steps: int = 20,
    batch_size: int | None = None,
    grad_accum: int | None = None,
    optim: str | None = None,
    schema: str | None = None,
    bare: bool = False,
    spider: str | Path = SAMPLE_SPIDER,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    loader: str = "transformers",
    gpu_memory: float | None = None,
    against: Path | None = None,
    repeats: int | None = None,
    sides: Sequence[str] | None = None,
    profile: bool = False,
    so_far: Callable[[dict], None] | None = None,
) -> dict:
    """Return seconds a step, tokens a second, peak memory and losses of all sides.

    Once two sides have run, `so_far` gets the same of those measured after each run: a training takes minutes.
    """
    settings = params()
    gpu = on_gpu()
    steps = steps or (120 if gpu else 2 if short else 12)
    batch_size = batch_size or (2 if short and not gpu else settings.train.batch_size)
    repeats = repeats or (3 if gpu else 1 if short else 2)
    sides = list(sides or ["ours", *(["today"] if against else []), "trl", *(["unsloth"] if gpu else [])])
    notes = []
    if "unsloth" in sides and not (gpu and has("unsloth")):
        sides.remove("unsloth")
        notes.append("unsloth: not measured; it needs a GPU and its package.")
    plan = {
        "model": model_params(model, quantization, dtype, loader).model_dump(),
        "recipe": settings.train.model_copy(
            update={
                "batch_size": batch_size,
                "grad_accum": grad_accum or settings.train.grad_accum,
                "optim": optim or settings.train.optim,
                "epochs": 1,
                "max_seq_len": max(settings.train.max_seq_len, 2048),
                "checkpoint_minutes": 1e6,
            }
        ).model_dump(),
        "steps": steps,
        "warm": _warm(steps),
        "schema": "none" if bare else schema or settings.prompt.schema_,
        "bare": bare,
        "spider": str(spider),
        "gpu_memory_gb": gpu_memory,
        "settings": dict.fromkeys(SETTINGS, DEFAULTS),
        "against": str(against) if against else None,
        "profile": profile,
    }
    sweeps = {}
    for side in sides if gpu else ():
        if side in SETTINGS:
            plan["settings"][side], sweeps[SIDES[side]] = _swept(side, plan, sweep_steps)
    runs: dict[str, list[dict]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side in sides:
            runs[side].append(_run(side, plan))
            one = runs[side][-1]
            print(f"  {SIDES[side]}: run {repeat + 1} of {repeats}: {one['seconds_a_step']:.3g} s a step", flush=True)
            measured = {side: found for side, found in runs.items() if found}
            if so_far and len(measured) > 1 and runs["ours"]:
                missing = [f"{SIDES[side]}: not measured." for side in sides if side not in measured]
                so_far(_result(measured, plan, sweeps, [*notes, *missing]))
    return _result(runs, plan, sweeps, notes)


def _warm(steps: int) -> int:
    """Return how many of so many steps warm up: on a GPU a shape is recorded when it comes again."""
    return min(steps - 1, steps // 2 if steps >= 40 else 5 if steps >= 20 else 2)


def _swept(side: str, plan: dict, steps: int) -> tuple[dict, list[dict]]:
    """Return the fastest of a peer's settings on so many steps, and all that were tried."""
    part = {**plan, "steps": steps, "warm": _warm(steps)}

    def seconds(settings: dict) -> float:
        return _run(side, {**part, "settings": {**plan["settings"], side: settings}})["seconds_a_step"]

    print(f"  {SIDES[side]}, seconds a step on {steps} steps:", flush=True)
    return sweep(SETTINGS[side], seconds)


def _result(runs: dict[str, list[dict]], plan: dict, sweeps: dict, notes: Sequence[str]) -> dict:
    model, recipe = plan["model"], plan["recipe"]
    ours, notes = runs["ours"], list(notes)
    medians = {side: statistics.median(run["seconds_a_step"] for run in found) for side, found in runs.items()}
    tokens = ours[0]["tokens"] / plan["steps"]
    # What a process takes from a GPU is more than its tensors; the rest must be there too.
    memory = "reserved_gpu_memory_gb" if on_gpu() else "peak_memory_gb"
    table, comparisons = {}, []
    for side, found in runs.items():
        table[SIDES[side]] = _side(found, medians[side], tokens)
        if side == "ours":
            continue
        answers, apart = "steps of other examples", None
        if len(found[0]["losses"]) == len(ours[0]["losses"]):
            pairs = zip(ours[0]["losses"], found[0]["losses"], strict=True)
            apart = max(abs(a - b) / abs(b) for a, b in pairs)
            answers = f"losses at most {apart:.2%} apart"
        comparisons.append(
            {
                "peer": SIDES[side],
                "ratio": round(medians[side] / medians["ours"], 3),
                "ratio_of": f"peer / {OURS}",
                "goal": None,
                "goal_met": None,
                "answers": answers,
                "largest_relative_loss_difference": None if apart is None else round(apart, 6),
                "memory_ratio": round(table[SIDES[side]][memory] / table[OURS][memory], 3),
            }
        )
    notes += [
        "Peak memory: " + "; ".join(f"{name} {_memory(side)}" for name, side in table.items()) + ".",
        "Tokens a second, without padding: "
        + ", ".join(f"{name} {side['tokens_per_second']:,.0f}" for name, side in table.items())
        + ".",
        f"All {plan['steps']} steps, the first ones among them: "
        + ", ".join(f"{name} {statistics.median(side['whole_seconds']):.3g} s" for name, side in table.items())
        + ".",
        *(f"{SIDES[side]}: {said}." for side in runs for said in runs[side][0]["out_of_memory"]),
    ]
    bound = _bound(plan, tokens, ours[0]["counted_tokens"] / plan["steps"])
    reached = bound["seconds"] / medians["ours"]
    batch = f"{recipe['batch_size']} × {recipe['grad_accum']}"
    prompt = "bare questions" if plan["bare"] else f"schema {plan['schema']}"
    return result(
        f"train {model_name(model['base'], model['quantization'])}"
        + (", bare" if plan["bare"] else "")
        + (f", in {plan['gpu_memory_gb']:g} GB" if plan["gpu_memory_gb"] else ""),
        f"seconds a step of {batch} examples, {prompt}, {model['dtype']}, {recipe['optim']}, {plan['steps']} steps of "
        f"which {plan['warm']} warm up",
        {"steps": plan["steps"], "warm_up_steps": plan["warm"], "tokens": ours[0]["tokens"], "batch": batch},
        [],
        comparisons,
        bound=bound | {"share_reached": round(reached, 4)},
        rates=rates(model["dtype"]),
        rows=_rows(plan, medians, table, reached),
        sweeps=sweeps,
        settings={SIDES[side]: plan["settings"][side] for side in runs if side in SETTINGS},
        notes=notes,
    ) | {"sides": table}


def _side(found: list[dict], median: float, tokens: float) -> dict:
    return {
        "seconds": [round(run["seconds_a_step"], 5) for run in found],
        "median": round(median, 5),
        "tokens_per_second": round(tokens / median, 1),
        "whole_seconds": [round(run["whole_seconds"], 3) for run in found],
        "first_step_seconds": round(found[0]["first_step_seconds"], 3),
        "final_loss": found[0]["losses"][-1],
        "losses": found[0]["losses"],
        **{
            key: round(max(run[key] for run in found), 3)
            for key in ("peak_memory_gb", "peak_gpu_memory_gb", "reserved_gpu_memory_gb")
            if found[0][key] is not None
        },
    }


def _bound(plan: dict, tokens: float, counted: float) -> dict:
    """Return the bound of a step of so many `tokens`, `counted` of which the loss counts."""
    model = plan["model"]
    size = sizes(model["base"], model["quantization"], model["dtype"])
    # Forward and the gradient of activations, 2 operations each a weight: the base's weights have no gradient. Of the
    # output's only the answers' positions count.
    operations = 4 * (size["body"] * tokens + size["head"] * counted)
    return {
        "what": "the operations of a step's tokens, forward and backward, at the measured rate of a large product",
        "seconds": round(operations / rates(model["dtype"])["operations_per_second"], 5),
    }


def _rows(plan: dict, medians: dict, table: dict, share: float) -> list[dict]:
    """Return the rows of the table of targets that this run measures."""
    name, in_4_bit = model_name(plan["model"]["base"], "none").lower(), plan["model"]["quantization"] == "4bit"
    size = next((size for size in ("0.5b", "1.5b") if size in name), None)
    peers = [side for side in ("trl", "unsloth") if side in medians]
    memory = "reserved_gpu_memory_gb" if on_gpu() else "peak_memory_gb"

    def against(target: str, side: str) -> dict:
        gb = table[OURS][memory], table[SIDES[side]][memory]
        return row(target, medians["ours"], medians[side], share, gb, peer_name=SIDES[side])

    if not on_gpu():
        return [row("train-cpu-bound", medians["ours"], share=share)]
    if plan["bare"] or (not in_4_bit and size is None):
        return []
    if in_4_bit and plan["gpu_memory_gb"]:
        if "unsloth" not in medians:
            return []
        peaks = [table[SIDES[side]]["peak_gpu_memory_gb"] for side in ("ours", "unsloth")]
        return [row("train-3b-little-memory", *peaks), against("train-3b-little-speed", "unsloth")]
    rows = []
    if "today" in medians:
        rows.append(against("train-3b-today" if in_4_bit else f"train-{size}-today", "today"))
    if not in_4_bit:
        if peers:
            rows.append(against(f"train-{size}-peers", min(peers, key=medians.__getitem__)))
        if size == "1.5b":
            rows.append(row("train-1.5b-bound", medians["ours"], share=share))
    return rows


def _memory(side: dict) -> str:
    if "peak_gpu_memory_gb" not in side:
        return f"{side['peak_memory_gb']:.2f} GB"
    return f"{side['peak_gpu_memory_gb']:.2f} GB, {side['reserved_gpu_memory_gb']:.2f} GB taken from the GPU"


def _run(side: str, plan: dict) -> dict:
    """Run one side in a process of its own, and return what it measured."""
    arguments = ["--side", side, json.dumps(plan)]
    command = [sys.executable, "-m", "benchmarks.bench_train", *arguments]
    if side == "today":
        command = of_build(Path(plan["against"]), "benchmarks.bench_train", arguments)
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            said = [said for said in done.stdout.splitlines() if said.startswith(SAID)]
            for kernel in (line for line in done.stdout.splitlines() if line.startswith(PROFILE)):
                print(kernel, flush=True)
            return json.loads(line[len(MARK) :]) | {"out_of_memory": said}
    *_, last = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
    print(f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
    raise RuntimeError(f"{SIDES[side]}: {last}")


def train_side(side: str, plan: dict) -> dict:
    """Train as `side` does, in this process; return what was measured."""
    if side == "unsloth" or plan["model"]["loader"] == "unsloth":
        import unsloth  # noqa: F401 (before transformers)
    if plan["gpu_memory_gb"] and side in ("ours", "today"):
        import torch

        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(plan["gpu_memory_gb"] * 1e9 / whole)
    # The build before may lack a setting.
    model, recipe = (
        kind.model_validate(
            {name: value for name, value in plan[part].items() if name in kind.model_fields}, by_name=True
        )
        for kind, part in ((ModelParams, "model"), (TrainParams, "recipe"))
    )
    pairs = training_pairs(plan, recipe)
    times = _record_steps(plan["warm"], plan["profile"] and side == "ours")
    if side in ("ours", "today"):
        losses, tokens, counted = _train_ours(pairs, model, recipe)
        packs = False
    else:
        packs = plan["settings"][side]["rows"] == "packed"
        losses, tokens, counted = _train_peer(side, pairs, model, recipe, plan["settings"][side])
    moments, warm = times["steps"], plan["warm"]
    if len(moments) != plan["steps"] and not packs:
        raise RuntimeError(f"{side}: {len(moments)} steps were seen, wanted {plan['steps']}")
    # A packed step has other tokens than one of ours: the time of as many.
    scale = len(moments) / plan["steps"] if packs else 1
    return {
        "seconds_a_step": (moments[-1] - moments[warm - 1]) / (len(moments) - warm) * scale,
        "whole_seconds": times["end"] - times["begin"],
        "first_step_seconds": moments[0] - times["begin"],
        "losses": losses,
        "tokens": tokens,
        "counted_tokens": counted,
        **_peak_memory(),
    }


def training_pairs(plan: dict, recipe: TrainParams) -> list[tuple[list[dict], str]]:
    """Return as many pairs of messages and answer as the steps take."""
    count = plan["steps"] * recipe.batch_size * recipe.grad_accum
    questions, schemas = spider_questions(plan["spider"], count, "train")
    if plan["bare"]:
        return [(bare_messages(question), query) for _, question, query, _ in questions]
    return [
        (spider_messages(question, schemas[db_id], plan["schema"]), query) for db_id, question, query, _ in questions
    ]


def _record_steps(warm: int, profiled: bool) -> dict:
    """Have every transformers Trainer made from now on write down when its steps end; return where.

    If `profiled`, the kernels of all steps but the first `warm` are printed at the end, by the time that they took.
    """
    import torch
    import transformers.trainer
    from transformers import TrainerCallback

    from benchmarks.machine import wait

    times: dict[str, Any] = {"steps": []}

    class StepTimes(TrainerCallback):
        """Reads the clock after each step; once the GPU is done with it where times are counted from and to."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            wait()
            times["begin"] = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, *others: Any, **kwargs: Any) -> None:
            if len(times["steps"]) in (0, warm - 1) or state.global_step == state.max_steps:
                wait()
            times["steps"].append(time.perf_counter())
            if profiled and len(times["steps"]) == warm:
                times["profile"] = torch.profiler.profile(acc_events=True)
                times["profile"].start()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            wait()
            times["end"] = time.perf_counter()
            if profiled:
                times["profile"].stop()
                print(_kernels(times["profile"], len(times["steps"]) - warm), flush=True)

    transformers.trainer.DEFAULT_CALLBACKS.append(StepTimes)
    return times


def _kernels(profile: Any, steps: int, most: int = 30) -> str:
    """Return a table of what took most time in so many `steps`: kernels on a GPU, operations on a CPU."""
    import torch

    on, kind = ("self_device_time_total", "CUDA") if on_gpu() else ("self_cpu_time_total", "CPU")
    # On a GPU operations have the time of their kernels too.
    found = [one for one in profile.key_averages() if one.device_type == getattr(torch.autograd.DeviceType, kind)]
    events = [(getattr(event, on) / steps / 1e3, event.count / steps, event.key) for event in found]
    events = sorted((event for event in events if event[0] > 0), reverse=True)
    lines = [f"{sum(event[0] for event in events):.2f} ms a step, {sum(event[1] for event in events):.0f} launches"]
    lines += [f"{took:8.3f} ms {count:7.1f} × {took / count * 1e3:8.1f} us  {key[:100]}" for took, count, key in events]
    return "\n".join(f"{PROFILE}{line}" for line in lines[: most + 1])


def _train_ours(pairs: list, model: ModelParams, recipe: TrainParams) -> tuple[list[float], int, int]:
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        training = train_adapter(TrainingJob("m1", model, recipe), pairs, Path(folder))
        training.checkpoints.remove()
    from transformers import AutoTokenizer

    examples = _examples(AutoTokenizer.from_pretrained(source_folder(model.base)), pairs, recipe)
    if training.metrics["examples_left_out"]:
        raise RuntimeError("examples were left out as too long: the other sides would see others")
    return [row["loss"] for row in training.loss_curve], *_tokens(examples)


def _train_peer(
    side: str, pairs: list, model: ModelParams, recipe: TrainParams, settings: dict
) -> tuple[list[float], int, int]:
    from datasets import Dataset
    from transformers import Trainer
    from trl import SFTConfig, SFTTrainer

    if side == "unsloth":
        base, tokenizer = _unsloth_model(model, recipe, settings["checkpointing"])
    else:
        from text2sql.model.adapters import add_adapter

        base, tokenizer = plain_base(model)
        base.set_attn_implementation(settings["attention"])
        base = add_adapter(base, recipe.lora, recipe.seed, "transformers")
    examples = _examples(tokenizer, pairs, recipe)
    rows = [{"input_ids": one.input_ids, "labels": one.labels} for one in in_order(examples, recipe)]

    class WithModelsLoss(SFTTrainer):
        """TRL's own, but for the loss, whose kernels want a GPU: the model's."""

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return Trainer.compute_loss(self, *args, **kwargs)

    trainer_class = SFTTrainer if on_gpu() and has("triton") else WithModelsLoss
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        trainer = trainer_class(
            model=base,
            args=SFTConfig(
                output_dir=folder,
                num_train_epochs=1,
                learning_rate=recipe.lr,
                lr_scheduler_type=recipe.scheduler,
                warmup_steps=recipe.warmup,
                weight_decay=recipe.weight_decay,
                optim=recipe.optim,
                seed=recipe.seed,
                train_sampling_strategy="sequential",  # the rows are shuffled
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                bf16=on_gpu() and model.dtype != "float32",
                use_cpu=not on_gpu(),
                **_peer_arguments(side, settings, recipe, [len(row["input_ids"]) for row in rows]),
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        if trainer.args.n_gpu > 1:
            trainer.args._n_gpu = 1
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], *_tokens(examples)


def _peer_arguments(side: str, settings: dict, recipe: TrainParams, lengths: Sequence[int]) -> dict[str, Any]:
    """Return SFTConfig's arguments of a peer's `settings`, for examples of these `lengths` in tokens."""
    packs, step_size = settings["rows"] == "packed", recipe.batch_size * recipe.grad_accum
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 1 if packs else step_size,
        "gradient_accumulation_steps": 1,
        "max_length": max(*lengths, sum(lengths) * step_size // len(lengths)) if packs else recipe.max_seq_len,
        "packing": packs,
    }
    if side == "unsloth":
        return arguments  # its own checkpointing is in the model
    if settings["rows"] == "padding-free":
        arguments |= {"padding_free": True, "max_length": None}
    return arguments | {"gradient_checkpointing": settings["checkpointing"], "use_liger_kernel": settings["liger"]}


def _unsloth_model(model: ModelParams, recipe: TrainParams, checkpointing: Any) -> tuple[Any, Any]:
    import torch
    from unsloth import FastLanguageModel

    base, tokenizer = FastLanguageModel.from_pretrained(
        model_name=source_folder(model.base),
        max_seq_length=recipe.max_seq_len,
        dtype=getattr(torch, model.dtype),
        load_in_4bit=model.quantization == "4bit",
    )
    lora = recipe.lora
    base = FastLanguageModel.get_peft_model(
        base,
        r=lora.r,
        target_modules=list(lora.target_modules),
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="none",
        use_gradient_checkpointing=checkpointing,
        random_state=recipe.seed,
    )
    return base, tokenizer


def _examples(tokenizer: Any, pairs: list, recipe: TrainParams) -> list:
    from text2sql.training.examples import encode

    return encode(tokenizer, pairs, recipe.max_seq_len)[0]


def in_order(examples: Sequence, recipe: TrainParams) -> list:
    """Return `examples` such that each step has those of this project's first epoch, in the data set's order.

    This project sorts a step by length; its peers pad what comes as it comes.
    """
    from text2sql.training.order import EpochOrder

    step_size = recipe.batch_size * recipe.grad_accum
    order = list(EpochOrder([len(example.input_ids) for example in examples], step_size, recipe.seed))
    steps = [sorted(order[start : start + step_size]) for start in range(0, len(order), step_size)]
    # The last step is filled up with a position past the last example.
    return [examples[position] for step in steps for position in step if position < len(examples)]


def _tokens(examples: Sequence) -> tuple[int, int]:
    """Return how many tokens the examples have, and how many of them the loss counts."""
    return (
        sum(len(example.input_ids) for example in examples),
        sum(label != -100 for example in examples for label in example.labels),
    )


def _peak_memory() -> dict:
    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    found: dict[str, Any] = {
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9,
        "peak_gpu_memory_gb": None,
        "reserved_gpu_memory_gb": None,
    }
    if torch.cuda.is_available():
        found["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        found["reserved_gpu_memory_gb"] = torch.cuda.max_memory_reserved() / 1e9
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    if arguments[:1] == ["--side"]:
        found = train_side(arguments[1], json.loads(arguments[2]))
        found["losses"] = [loss if math.isfinite(loss) else None for loss in found["losses"]]
        print(f"\n{MARK}{json.dumps(found)}", flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--loader", choices=["transformers", "unsloth"], default="transformers", help="this project's")
    parser.add_argument("--steps", type=int, metavar="N", help="default: 120 on a GPU, 12 on a CPU")
    parser.add_argument("--sweep-steps", type=int, default=20, metavar="N", help="of each of the peers' settings")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of the build before")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--grad-accum", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--optim", help="default: params.yaml's")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--schema", choices=["none", "name", "tables", "ddl"], help="default: params.yaml's")
    prompt.add_argument("--bare", action="store_true", help="the question alone, as the paper trains")
    parser.add_argument("--spider", default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--gpu-memory", type=float, metavar="GB", help="this project may take so much of the GPU's")
    parser.add_argument("--repeats", type=int, metavar="N")
    parser.add_argument("--sides", type=lambda text: text.split(","), metavar="SIDE,…", help=", ".join(SIDES))
    parser.add_argument("--profile", action="store_true", help="print this project's kernels; costs time")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options, so_far=(lambda found: save([found])) if saved else None), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
