"""What limits growth over GPUs: a small model that predicts the speed on 2 to 64 of them from figures of one.

    python -m benchmarks.growth_model [--step-seconds S] [--train-bytes N] [--link GB/S] [--spider PATH] [--mmlu PATH]

A prediction, and no measurement: `python -m benchmarks.bench_growth --gpus 1,2` measures. Three things keep n GPUs from
being n times as fast: in training, the gradients that all of them exchange at each step (a ring's all-reduce: each GPU
sends and takes 2 (n - 1) / n of the bytes, in 2 (n - 1) turns) and the wait for the one with the longest examples; in
prediction and MMLU, the wait for the last batch, as batches differ by the lengths of their questions; in a whole
command, start-up, which no number of GPUs shortens.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_mmlu import mmlu_questions
from benchmarks.material import SAMPLE_MMLU, SAMPLE_SPIDER, numbers, params, spider_questions
from text2sql.evaluation.batching import batches_by_length
from text2sql.prompts.messages import spider_messages
from text2sql.report.markdown_text import table
from text2sql.training.order import EpochOrder

GPUS = (1, 2, 4, 8, 16, 64)
PER_HOST = 8


@dataclass(frozen=True)
class Link:
    """A connection: bytes a second that one GPU sends over it while it takes as many, and seconds before the first."""

    bytes_per_second: float
    latency_s: float


@dataclass(frozen=True)
class Figures:
    """What one GPU was measured at, and what joins several. Seconds and bytes.

    `step_s`: a training step at the batch of one GPU; `launch_s`: what of it stays, however few examples it has;
    `exchanged_bytes`: gradients; `predict_s`, `mmlu_s`: all questions; `start_s`: a command until its first batch.
    """

    step_s: float
    launch_s: float
    exchanged_bytes: float
    predict_s: float
    mmlu_s: float
    start_s: float
    inside: Link  # one host
    between: Link  # hosts
    batch_size: int = 256  # of prediction


def all_reduce_s(size: float, gpus: int, figures: Figures) -> float:
    """Return the seconds of a ring's all-reduce of `size` bytes; its slowest link decides."""
    if gpus == 1:
        return 0.0
    link = figures.inside if gpus <= PER_HOST else figures.between
    return 2 * (gpus - 1) * (size / gpus / link.bytes_per_second + link.latency_s)


def slowest_share(lengths: Sequence[int], batch: int, gpus: int) -> float:
    """Return how many times the mean of all `gpus` the longest `batch` of a step has, as a training deals its steps."""
    longest, all_of_them = 0, 0
    for step in EpochOrder(lengths, batch * gpus, seed=0, processes=gpus).steps(0):
        tokens = [
            sum(lengths[place] for place in step[start : start + batch] if place < len(lengths))
            for start in range(0, len(step), batch)
        ]
        longest += max(tokens)
        all_of_them += sum(tokens)
    return longest * gpus / all_of_them


def makespan(costs: Sequence[float], gpus: int) -> float:
    """Return when the last of `gpus` is done, each taking the next of the batches when it has none."""
    free = [0.0] * gpus
    for cost in costs:
        free[free.index(min(free))] += cost
    return max(free)


def train_speedup(figures: Figures, lengths: Sequence[int], gpus: int, batch: int) -> float:
    """Return how many times as many tokens a second `gpus` train as one does, `batch` examples a GPU."""
    step = figures.step_s * slowest_share(lengths, batch, gpus) if gpus > 1 else figures.step_s
    return gpus * figures.step_s / (step + all_reduce_s(figures.exchanged_bytes, gpus, figures))


def whole_batch_speedup(figures: Figures, gpus: int) -> float:
    """Return how many times as fast a step of the same examples is, cut among `gpus`."""
    work = figures.launch_s + (figures.step_s - figures.launch_s) / gpus
    return figures.step_s / (work + all_reduce_s(figures.exchanged_bytes, gpus, figures))


def asked_speedup(lengths: Sequence[int], batch_size: int, gpus: int, groups: Sequence[str] | None = None) -> float:
    """Return how many times as fast `gpus` answer questions of these lengths in tokens, in batches by length."""
    batches = batches_by_length(lengths, batch_size, groups)
    costs = sorted((sum(lengths[position] for position in batch) for batch in batches), reverse=True)
    return sum(costs) / makespan(costs, gpus)


@dataclass(frozen=True)
class Lengths:
    """Lengths of training examples, of questions to predict and of MMLU's, in characters; MMLU's subjects."""

    train: Sequence[int]
    predict: Sequence[int]
    mmlu: Sequence[int]
    subjects: Sequence[str]


def lengths_of(spider: str | Path, mmlu: str | Path, questions: int = 8000, asked: int = 14042) -> Lengths:
    """Return the lengths of what is trained on and asked: characters stand for tokens, only their spread counts."""

    def prompts(count: int, split: str) -> list[int]:
        found, schemas = spider_questions(spider, count, split)
        return [
            sum(len(message["content"]) for message in spider_messages(text, schemas[db_id], "ddl"))
            for db_id, text, _, _ in found
        ]

    held, shots, _ = mmlu_questions(mmlu, asked, params().mmlu.shots)
    examples = {name: sum(len(one.question) for one in some) for name, some in shots.items()}
    lengths = [examples[one.subject] + len(one.question) + sum(map(len, one.choices)) for one in held]
    return Lengths(prompts(4096, "train"), prompts(questions, "dev"), lengths, [one.subject for one in held])


def rows(figures: Figures, lengths: Lengths, gpus: Sequence[int] = GPUS) -> list[tuple[str, ...]]:
    """Return a row for each kind of work: how many times as fast as one GPU, on each of `gpus`."""
    predict = {n: asked_speedup(lengths.predict, figures.batch_size, n) for n in gpus}
    mmlu = {n: asked_speedup(lengths.mmlu, params().mmlu.batch_size, n, lengths.subjects) for n in gpus}

    def whole(seconds: float, faster: float) -> float:
        return (figures.start_s + seconds) / (figures.start_s + seconds / faster)

    found = {
        "training, tokens a second, 8 examples a GPU": [train_speedup(figures, lengths.train, n, 8) for n in gpus],
        "training, the same whole batch of 8": [whole_batch_speedup(figures, n) if n <= 8 else None for n in gpus],
        f"prediction of {len(lengths.predict):,} answers": list(predict.values()),
        f"MMLU, {len(lengths.mmlu):,} questions": list(mmlu.values()),
        "prediction, the whole command": [whole(figures.predict_s, predict[n]) for n in gpus],
        "MMLU, the whole command": [whole(figures.mmlu_s, mmlu[n]) for n in gpus],
    }
    return [(work, *("-" if one is None else f"{one:.3g}" for one in values)) for work, values in found.items()]


def main(arguments: Sequence[str]) -> None:
    """Print the predicted table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    seconds = {"metavar": "S", "type": float}
    parser.add_argument("--step-seconds", default=0.049, help="a training step of 8 examples, one GPU", **seconds)
    parser.add_argument("--launch-seconds", default=0.02, help="what of it stays with one example", **seconds)
    parser.add_argument("--train-bytes", type=float, default=73.9e6, metavar="N", help="gradients: 4 bytes a parameter")
    parser.add_argument("--predict-seconds", default=10.1, help="8,000 answers, one GPU", **seconds)
    parser.add_argument("--mmlu-seconds", default=11.3, help="14,042 questions, one GPU", **seconds)
    parser.add_argument("--start-seconds", default=5.3, help="a command until its first batch", **seconds)
    parser.add_argument("--link", type=float, default=300, metavar="GB/S", help="of a GPU to the others of its host")
    parser.add_argument("--network", type=float, default=25, metavar="GB/S", help="of a GPU to those of other hosts")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="of prediction")
    parser.add_argument("--spider", default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--mmlu", default=SAMPLE_MMLU, metavar="PATH")
    parser.add_argument("--gpus", type=numbers, default=GPUS, metavar="N,N")
    options = parser.parse_args(arguments)
    figures = Figures(
        options.step_seconds,
        options.launch_seconds,
        options.train_bytes,
        options.predict_seconds,
        options.mmlu_seconds,
        options.start_seconds,
        Link(options.link * 1e9, 10e-6),
        Link(options.network * 1e9, 30e-6),
        options.batch_size,
    )
    head = ("predicted: times as fast as one GPU", *map(str, options.gpus))
    print(table(head, rows(figures, lengths_of(options.spider, options.mmlu), options.gpus)))


if __name__ == "__main__":
    main(sys.argv[1:])
