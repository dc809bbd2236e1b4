"""How time grows: from 1 to 8 times the questions and with the length of prompts; or with the number of GPUs.

    python -m benchmarks.bench_growth [--spider PATH] [--mmlu PATH] [--model FOLDER] [--base-questions N] [--save]
    python -m benchmarks.bench_growth --gpus 1,2 [--model BASE | --model llama3b --quantization 4bit] [--save]

Prediction, MMLU and scoring with 1, 2, 4 and 8 times as many questions, none of them alike. Prompts of 200 to 4,000
tokens, of one batch each, as far as their first answer token: what attention's own operations take, which grow with the
square of the length, is also given, by their share in all operations. Medians; one run of each size warms up and is
not counted. An exponent of 1 is linear growth; less, where a few questions do not fill a batch.

With `--gpus` the same work is done by so many GPUs of this host instead (on CPUs: processes), see `several`.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bench_mmlu import mmlu_questions, our_choices
from benchmarks.bench_predict import our_answers
from benchmarks.machine import on_gpu
from benchmarks.material import (
    SAMPLE_MMLU,
    SAMPLE_SPIDER,
    model_name,
    model_options,
    model_params,
    numbers,
    params,
    sizes,
    spider_prompts,
)
from benchmarks.measuring import Side, in_turns, result
from benchmarks.results import show
from benchmarks.several import TASKS, measure_several
from benchmarks.targets import row
from text2sql.core.params import ModelParams
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Limits
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.scoring.verdicts import score_examples

TIMES = (1, 2, 4, 8)
PROMPT_TOKENS = (200, 500, 1000, 2000, 4000)


def measure(
    short: bool = False,
    base_questions: int | None = None,
    new_tokens: int | None = None,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    repeats: int | None = None,
    scored: int = 100,
    spider: str | Path = SAMPLE_SPIDER,
    mmlu: str | Path = SAMPLE_MMLU,
    prompt_tokens: Sequence[int] | None = None,
) -> dict:
    """Return the seconds of each task at each size."""
    gpu = on_gpu()
    base_questions = base_questions or (128 if gpu else 1 if short else 8)
    new_tokens = new_tokens or (4 if short else 32)
    repeats = repeats or (1 if short else 3)
    chosen = model_params(model, quantization, dtype)
    loaded = LanguageModel(chosen)
    growth, sides = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tasks = {
            "predict": (base_questions, _prediction(loaded, base_questions, new_tokens, spider)),
            "mmlu": (base_questions, _mmlu(loaded, base_questions, mmlu)),
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
    lengths = _lengths(loaded, chosen, prompt_tokens or (PROMPT_TOKENS[:2] if short else PROMPT_TOKENS), repeats)
    notes = [
        f"{task}: {found['examples'][-1]:,} questions take {found['ratio_of_8_times']:.2f} times as long as "
        f"{found['examples'][0]:,} (exponent {found['exponent']:.2f})."
        for task, found in growth.items()
    ]
    notes.append(
        "Prompts of "
        + ", ".join(f"{int(tokens):,} tokens: {seconds:.3g} s" for tokens, seconds in lengths["seconds"].items())
        + f" (exponent {lengths['exponent']:.2f}; without attention's own operations, which are "
        f"{lengths['attention_share']:.0%} of all at the longest, {lengths['exponent_without_attention']:.2f})."
    )
    rows = [row(f"growth-{task}", found["exponent"]) for task, found in growth.items()]
    rows.append(row("growth-prompt", lengths["exponent_without_attention"]))
    return result(
        f"growth {model_name(model, quantization)}",
        f"from 1 to 8 times the examples, at most {new_tokens} new tokens, {chosen.dtype}",
        {"base_questions": base_questions, "scored": scored, "new_tokens": new_tokens},
        sides,
        [],
        rows=rows,
        growth=growth,
        prompts=lengths,
        notes=notes,
    )


def _prediction(model: LanguageModel, count: int, new_tokens: int, spider: str | Path) -> Callable:
    settings = params()
    prompts, _ = spider_prompts(model, spider, count * TIMES[-1], settings.prompt.schema_, 0)
    # Each size has the same mixture of lengths.
    parts = {times: prompts[:: TIMES[-1] // times] for times in TIMES}
    batch_size = settings.generation.batch_size
    return lambda times: lambda: our_answers(model, parts[times], new_tokens, batch_size)


def _mmlu(model: LanguageModel, count: int, mmlu: str | Path) -> Callable:
    settings = params()
    asked, shots, _ = mmlu_questions(mmlu, count * TIMES[-1], settings.mmlu.shots)
    parts = {times: asked[:: TIMES[-1] // times] for times in TIMES}
    return lambda times: lambda: our_choices(model, parts[times], shots, settings.mmlu.batch_size)


def _lengths(model: LanguageModel, chosen: ModelParams, tokens: Sequence[int], repeats: int) -> dict:
    """Return the seconds of prompts of so many tokens, their exponent, and that without attention's operations."""
    settings = params()
    prompts, _ = spider_prompts(model, SAMPLE_SPIDER, 64, "ddl", 0)
    text = [token for prompt in prompts for token in prompt]
    text *= math.ceil((max(tokens) + 64) / len(text))
    count = 16 if on_gpu() else 1
    # Prompts that share nothing: each begins elsewhere.
    batches = {one: [text[start : start + one] for start in range(count)] for one in tokens}
    size = settings.generation.batch_size
    sides = [
        Side(f"prompts of {one:,} tokens", lambda batch=batch: our_answers(model, batch, 1, size))
        for one, batch in batches.items()
    ]
    in_turns(sides, repeats)
    shares = {one: _attention_share(model, chosen, one) for one in tokens}
    linear = [side.median * (1 - shares[one]) for side, one in zip(sides, tokens)]
    times = math.log(tokens[-1] / tokens[0])
    return {
        "prompts": count,
        "seconds": {str(one): round(side.median, 4) for side, one in zip(sides, tokens)},
        "exponent": round(math.log(sides[-1].median / sides[0].median) / times, 3),
        "exponent_without_attention": round(math.log(linear[-1] / linear[0]) / times, 3),
        "attention_share": round(shares[tokens[-1]], 4),
    }


def _attention_share(model: LanguageModel, chosen: ModelParams, tokens: int) -> float:
    """Return the share of scores and their sums over values in all operations of a prompt, the causal half of them."""
    size = sizes(chosen.base, chosen.quantization, chosen.dtype)
    config = model.model.config
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = (
        2 * config.num_hidden_layers * config.num_attention_heads * head_size * tokens**2
    )  # 2 products of 2 operations, of half of all pairs
    return attention / (attention + 2 * size["body"] * tokens + 2 * size["head"])


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


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--spider", default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--mmlu", default=SAMPLE_MMLU, metavar="PATH")
    parser.add_argument("--prompt-tokens", type=numbers, metavar="N,N", help="lengths of prompts, the shortest first")
    parser.add_argument("--base-questions", type=int, metavar="N", help="the smallest number of questions")
    parser.add_argument("--new-tokens", type=int, metavar="N")
    parser.add_argument("--scored", type=int, default=100, metavar="N", help="the smallest number of queries scored")
    parser.add_argument("--repeats", type=int, metavar="N")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--gpus", type=numbers, metavar="N,N", help="such as 1,2: the same work by so many GPUs")
    parser.add_argument("--questions", type=int, metavar="N", help="to predict with --gpus; default: 8,000 on GPUs")
    parser.add_argument("--mmlu-questions", type=int, metavar="N", help="with --gpus; default: 14,042 on GPUs")
    parser.add_argument("--batch-size", type=int, metavar="N", help="of prediction with --gpus; default: 256 on GPUs")
    parser.add_argument("--steps", type=int, metavar="N", help="of training with --gpus; default: 60 on GPUs")
    parser.add_argument(
        "--tasks", type=lambda text: text.split(","), default=tuple(TASKS), metavar="TASK,…", help=", ".join(TASKS)
    )
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved, gpus = options.pop("save"), options.pop("gpus")
    several = {name: options.pop(name) for name in ("questions", "mmlu_questions", "steps", "batch_size", "tasks")}
    if gpus:
        common = ("model", "quantization", "dtype", "spider", "mmlu", "new_tokens", "repeats")
        show(measure_several(gpus, **several, **{name: options[name] for name in common}), saved)
        return
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
