"""What each kind of work is held to: the one table of targets, and the rows that benchmarks measure against it.

A benchmark gives `rows=[row("predict-0.5b-today", ours=…, peer=…), …]` with its result; `python -m benchmarks.readme`
makes the table of benchmarks/README.md from those of all machines, and names the targets that no row was measured for.
"""

from dataclasses import dataclass
from typing import Any, Literal

TODAY = "the build before"
FASTER, AT_MOST, SHARE, LIMIT = "faster", "at most", "share", "limit"


@dataclass(frozen=True)
class Target:
    """A figure that some work is held to.

    `kind` says of what: FASTER, how many times as long the peer takes; AT_MOST, how many times as much as the
    peer ours takes; SHARE, the share of the physical bound that ours reaches; LIMIT, ours alone, in `unit`.
    """

    work: str
    against: str
    kind: Literal["faster", "at most", "share", "limit"]
    goal: float
    command: str
    unit: str = "s"

    @property
    def shown(self) -> str:
        """The goal in words: ≥ 2 ×, ≥ 40 %, ≤ 20 s."""
        if self.kind == SHARE:
            return f"≥ {100 * self.goal:g} %"
        if self.kind == LIMIT:
            return f"≤ {self.goal:g} {self.unit}".rstrip()
        return f"{'≥' if self.kind == FASTER else '≤'} {self.goal:g} ×"

    def met(self, value: float) -> bool:
        """Whether a ratio, share or figure is what the target wants."""
        return value >= self.goal if self.kind in (FASTER, SHARE) else value <= self.goal


def row(
    target: str,
    ours: float,
    peer: float | None = None,
    share: float | None = None,
    gb: tuple[float | None, float | None] = (None, None),
    **more: Any,
) -> dict:
    """Return a measured row of the table: our figure and the peer's in the target's unit, and memory of both in GB.

    `share` is the share of the bound that ours reaches, 0 to 1; `more` may name the `peer_name` (as it was measured,
    with its best settings), `answers` (how far they agree) and `command`, where it is not the target's.
    """
    wanted = TARGETS[target]
    ratio = None if peer is None else (ours / peer if wanted.kind == AT_MOST else peer / ours)
    value = {SHARE: share, LIMIT: ours}.get(wanted.kind, ratio)
    if value is None:
        raise ValueError(f"{target}: wants {'a share' if wanted.kind == SHARE else 'a peer'}")
    return {
        "target": target,
        "ours": round(ours, 5),
        "peer": None if peer is None else round(peer, 5),
        "ratio": None if ratio is None else round(ratio, 3),
        "share": None if share is None else round(share, 4),
        "gb": [None if one is None else round(one, 3) for one in gb],
        "met": wanted.met(value),
        **more,
    }


_START = "python -m benchmarks.bench_startup --against FOLDER --model FOLDER --save"
_NOTHING = "python -m benchmarks.bench_startup --save"
_MMLU = "python -m benchmarks.bench_mmlu --mmlu mmlu.zip"
_PREDICT = "python -m benchmarks.bench_predict --spider spider_data.zip --schema ddl"
_TRAIN = "python -m benchmarks.bench_train --spider spider_data.zip --schema ddl"
_GGUF = "python -m benchmarks.bench_gguf"
_SCORING = "python -m benchmarks.bench_scoring --spider spider_data.zip --official FOLDER --published FILE --save"
_ADAPTER = "python -m benchmarks.bench_adapter --model qwen2.5-coder-0.5b-instruct --dtype"
_GPUS = "python -m benchmarks.bench_growth --gpus 1,2,4,8 --spider spider_data.zip --mmlu mmlu.zip"
_GROWTH = "python -m benchmarks.bench_growth --spider spider_data.zip --mmlu mmlu.zip --save"


def _base(size: str) -> str:
    return f"--model qwen2.5-coder-{size}-instruct"


def _targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for stage in ("predict", "mmlu", "train"):
        work = f"from the command to the first batch: {stage}, 0.5B, second of two starts"
        found[f"start-{stage}"] = Target(work, TODAY, FASTER, 3, _START)
    found["mmlu-135m-whole"] = Target(
        "eval_mmlu, 14,042 questions, whole command, 135M", TODAY, FASTER, 5, f"{_MMLU} --against FOLDER --whole --save"
    )
    for size, share in (("135m", 0.08), ("0.5b", 0.25), ("1.5b", 0.4)):
        model = "" if size == "135m" else f" {_base(size)}"
        work = f"eval_mmlu, 14,042 questions, work alone, {size.upper()}"
        found[f"mmlu-{size}-bound"] = Target(work, "the bound", SHARE, share, f"{_MMLU}{model} --save")
    found["mmlu-1.5b-harness"] = Target(
        "eval_mmlu, work alone, 1.5B", "lm-evaluation-harness at its best", FASTER, 6, f"{_MMLU} {_base('1.5b')} --save"
    )
    for size in ("0.5b", "1.5b"):
        work = f"predict_spider, 1,034 questions, schema ddl, work alone, {size.upper()}"
        command = f"{_PREDICT} {_base(size)} --peers d --base-alone --against FOLDER --save"
        found[f"predict-{size}-today"] = Target(work, TODAY, FASTER, 2, command)
        found[f"predict-{size}-generate-batch"] = Target(
            work, "transformers' `generate_batch` at its best", FASTER, 3, command
        )
    return found | _training() | _on_a_cpu()


def _training() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for size in ("0.5b", "1.5b"):
        work = f"training, a step of 8 examples with schema, {size.upper()}"
        command = f"{_TRAIN} {_base(size)} --against FOLDER --save"
        found[f"train-{size}-today"] = Target(work, TODAY, FASTER, 2, command)
        found[f"train-{size}-peers"] = Target(work, "the faster of TRL and unsloth at their best", FASTER, 2, command)
    found["train-1.5b-bound"] = Target(work, "the bound", SHARE, 0.35, command)
    work = "training, 3B shape in 4 bit"
    command = f"{_TRAIN} --model llama3b --quantization 4bit"
    found["train-3b-today"] = Target(work, TODAY, FASTER, 2, f"{command} --against FOLDER --save")
    found["train-3b-little-memory"] = Target(
        f"{work}, in little memory: its peak", "unsloth's peak", AT_MOST, 1, f"{command} --gpu-memory GB --save", "GB"
    )
    found["train-3b-little-speed"] = Target(
        f"{work}, in little memory", "unsloth", FASTER, 2, f"{command} --gpu-memory GB --save"
    )
    work, command = "the paper's protocol end to end, 135M, nothing kept", "make repro RECIPE=paper"
    found["paper-135m"] = Target(work, "-", LIMIT, 120, command)
    found["paper-135m-train"] = Target(f"{work}: its training", "-", LIMIT, 45, command)
    return found


def _on_a_cpu() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for size, seconds in (("0.5b", 20), ("1.5b", 45)):
        work, command = (
            f"a carried GGUF base made ready, {size.upper()}, 2 cores",
            f"{_GGUF} {_base(size)} --against FOLDER --save",
        )
        found[f"gguf-{size}"] = Target(work, TODAY, LIMIT, seconds, command)
        found[f"gguf-{size}-memory"] = Target(
            f"{work}: peak memory beyond the largest tensor", "-", LIMIT, 1.5, command, "GB"
        )
    for key, which in (("published", "a published file"), ("base", "0.5B, base"), ("m1", "0.5B, Model 1")):
        work = f"eval_spider, whole command on 2 cores, nothing kept: {which}"
        plain = "plain SQLite's distinct queries in two processes, at least 0.3 s"
        found[f"scoring-{key}"] = Target(work, plain, AT_MOST, 1.1, _SCORING)
        found[f"scoring-{key}-official"] = Target(work, "the official script", FASTER, 4, _SCORING)
    work = "the default run after installation, CPU, 2 cores"
    found["default-cpu"] = Target(work, TODAY, AT_MOST, 0.5, "make repro")
    found["default-cpu-seconds"] = Target(work, "-", LIMIT, 600, "make repro")
    for dtype in ("bfloat16", "float32"):
        for task in ("predict", "mmlu"):
            work = f"{task} with an adapter, 0.5B, CPU, {dtype}"
            found[f"adapter-{task}-{dtype}"] = Target(
                work, "its base alone", AT_MOST, 1.15, f"{_ADAPTER} {dtype} --save"
            )
        found[f"adapter-memory-{dtype}"] = Target(
            f"with an adapter, 0.5B, CPU, {dtype}: peak memory", "its base alone", AT_MOST, 1.1,
            f"{_ADAPTER} {dtype} --save", "GB",
        )  # fmt: skip
    found["train-cpu-bound"] = Target(
        "training on a CPU, a step of 8 examples", "the bound", SHARE, 0.6, "python -m benchmarks.bench_train --save"
    )
    found["dvc-nothing"] = Target(
        "`dvc repro` with nothing to do", "`dvc status` of an empty repository", AT_MOST, 2, _NOTHING
    )
    for task in ("scoring", "mmlu", "predict"):
        found[f"growth-{task}"] = Target(f"{task}, 1 to 8 × the questions: exponent", "-", LIMIT, 1.05, _GROWTH, "")
    found["growth-prompt"] = Target(
        "prompts of 200 to 4,000 tokens: exponent, attention's own operations left out", "-", LIMIT, 1.05, _GROWTH, ""
    )
    return found | _several_gpus()


def _several_gpus() -> dict[str, Target]:
    """Work alone on several GPUs of one host, against one of them; `python -m benchmarks.growth_model` predicts it."""
    found: dict[str, Target] = {}
    for name, size in SIZES.items():
        shape = "llama3b --quantization 4bit" if size == "3b" else name
        command = f"{_GPUS} --model {shape} --save"
        for task, (work, goals) in WORKS.items():
            for count, goal in goals.items():
                title = f"{work}, {size.upper()}, 1 to {count} GPUs"
                found[f"gpus-{size}-{task}-{count}"] = Target(title, "one GPU", FASTER, goal, command)
    return found


# What a model is called in results, and its size in the names of targets.
SIZES = {"qwen2.5-coder-1.5b-instruct": "1.5b", "llama3b, 4 bit": "3b"}
WORKS = {
    "train": ("training, a million tokens, the same batch a GPU", {2: 1.9, 4: 3.7, 8: 7}),
    "predict": ("prediction of 8,000 answers", {2: 1.9, 4: 3.7, 8: 7}),
    "mmlu": ("MMLU, 14,042 questions", {2: 1.9, 4: 3.5, 8: 6}),
}
TARGETS = _targets()
