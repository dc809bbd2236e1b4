"""Samples on Spider: what 1 to 16 answers a question take, against one greedy answer and transformers' own sampling.

    python -m benchmarks.bench_samples [--model BASE --adapter FOLDER] [--samples 8] [--others 1,2,4,16] [--save]

(a) this project's greedy answers, one a question; (b) transformers' `generate` with `num_return_sequences`, in batches
of as many questions, padded on the left; (c) one greedy answer a question, held to a grammar of its database
(docs/grammar.md): what that takes beside (a). All with the same adapter, up to and with the end token; a trained one
ends its answers, a random one never does. In one further run batches are of another size: how many samples does that
change? The runs alternate; one of each warms up and is not counted. Loading and tokenising are not counted.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench_predict import our_answers
from benchmarks.machine import on_gpu
from benchmarks.material import (
    SAMPLE_SPIDER,
    end_ids,
    in_batches,
    model_name,
    model_options,
    model_params,
    numbers,
    params,
    plain_model,
    spider_prompts,
    spider_questions,
)
from benchmarks.measuring import OURS, Side, compared, in_turns, result
from benchmarks.results import show
from testkit.random_models import save_random_adapter
from text2sql.data.schema import Schema
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.model.streams import Sampling, stream

GREEDY = "(a) one greedy answer a question"
HELD = "(c) one greedy answer a question, held to a grammar"
LIBRARY = "(b) generate with num_return_sequences"
MOST_OF_GREEDY = {8: 3}  # so many samples take at most so many times as long
SAMPLING = Sampling(temperature=0.8, top_p=0.95, seed=0)


def measure(
    short: bool = False,
    model: str = EMBEDDED_BASE,
    adapter: str | None = None,
    quantization: str = "none",
    dtype: str | None = None,
    samples: int = 8,
    others: Sequence[int] = (1, 2, 4, 16),
    questions: int | None = None,
    new_tokens: int | None = None,
    schema: str | None = None,
    spider: str | Path = SAMPLE_SPIDER,
    batch_size: int | None = None,
    repeats: int = 3,
    peers: str = "ab",
) -> dict:
    """Return the times of all sides; `batch_size` is the number of questions in a batch."""
    settings = params()
    questions = questions or (1034 if on_gpu() else 4 if short else 16)
    new_tokens = new_tokens or (8 if short else settings.generation.max_new_tokens)
    batch_size = batch_size or settings.generation.batch_size
    repeats = 1 if short else repeats
    chosen = model_params(model, quantization, dtype)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tuned = Path(adapter) if adapter else save_random_adapter(model, Path(folder) / "adapter")
        ours = LanguageModel(chosen, tuned)
        prompts, _ = spider_prompts(ours, spider, questions, schema or settings.prompt.schema_, 0)

        def side(number: int, name: str) -> Side:
            return Side(name, lambda: our_samples(ours, prompts, number, new_tokens, batch_size))

        sides = {OURS: side(samples, OURS)}
        sides |= {f"{number} samples": side(number, f"{number} samples") for number in others}
        if "a" in peers:
            sides[GREEDY] = Side(GREEDY, lambda: our_answers(ours, prompts, new_tokens, batch_size))
        if "c" in peers:
            asked, schemas = spider_questions(spider, questions)
            held_to = [schemas[db_id] for db_id, *_ in asked]
            sides[HELD] = Side(HELD, lambda: held_answers(ours, prompts, held_to, new_tokens, batch_size))
        if "b" in peers:
            plain, tokenizer = plain_model(chosen, tuned)
            ends, pad = end_ids(plain, tokenizer), tokenizer.pad_token_id
            sides[LIBRARY] = Side(
                LIBRARY,
                lambda: in_batches(
                    prompts, batch_size, lambda batch: library_samples(plain, batch, samples, new_tokens, (ends, pad))
                ),
            )
        in_turns(list(sides.values()), repeats)
        other = our_samples(ours, prompts, samples, new_tokens, max(1, batch_size // 2 + 1))
    notes = []
    if "c" in peers and "a" in peers:
        free, held = sides[GREEDY], sides[HELD]
        same = sum(one == two for one, two in zip(free.answers, held.answers, strict=True))
        notes = [
            f"(c) takes {held.median / free.median - 1:+.1%} of (a)'s time; {same:,} of {len(held.answers):,} same."
        ]
    changed = sum(one != two for one, two in zip(sides[OURS].answers, other, strict=True))
    rows = [
        compared(
            sides[OURS], sides[name], MOST_OF_GREEDY.get(samples) if name == GREEDY else None, None, name == GREEDY
        )
        for name in (GREEDY, LIBRARY)
        if name in sides
    ]
    return result(
        f"samples {model_name(model, quantization)}",
        f"{samples} samples of each of {questions:,} questions, at most {new_tokens} new tokens, {chosen.dtype}",
        {"questions": questions, "samples": samples, "batch_size": batch_size, "new_tokens": new_tokens},
        list(sides.values()),
        rows,
        changed_by_another_batch=changed,
        notes=[
            f"In batches of {max(1, batch_size // 2 + 1)} questions, {changed} of {len(other):,} samples are others.",
            *notes,
            "Seconds: " + ", ".join(f"{name}: {one.median:.3g}" for name, one in sides.items()) + ".",
        ],
    )


def held_answers(
    model: LanguageModel, prompts: Sequence[list[int]], schemas: Sequence[Schema], new_tokens: int, batch_size: int
) -> list[list[int]]:
    """Return the token ids of the greedy answers to `prompts`, each held to the grammar of its schema."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        rows = [prompts[place] for place in places]
        found |= zip(places, model.generate(rows, new_tokens, [schemas[place] for place in places]), strict=True)
    return [found[place] for place in sorted(found)]


def our_samples(
    model: LanguageModel, prompts: Sequence[list[int]], number: int, new_tokens: int, batch_size: int
) -> list[list[int]]:
    """Return the token ids of `number` samples of each of `prompts`, in batches of `batch_size` questions."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    found: dict[tuple[int, int], list[int]] = {}
    for start in range(0, len(order), batch_size):
        places = [(place, sample) for place in order[start : start + batch_size] for sample in range(number)]
        drawn = model.sample(
            [prompts[place] for place, _ in places],
            [stream(SAMPLING.seed, place, sample) for place, sample in places],
            SAMPLING,
            new_tokens,
        )
        found |= {place: answer.ids for place, answer in zip(places, drawn, strict=True)}
    return [found[place] for place in sorted(found)]


def library_samples(
    model: Any, prompts: Sequence[list[int]], number: int, new_tokens: int, special: tuple[Sequence[int], int]
) -> list[list[list[int]]]:
    """Return `number` samples of each of `prompts` by transformers' own `generate`; `special`: end tokens, padding."""
    import torch

    ends, pad = special
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=True,
            temperature=SAMPLING.temperature,
            top_p=SAMPLING.top_p,
            top_k=0,
            num_return_sequences=number,
            eos_token_id=list(ends) or None,
            pad_token_id=pad,
        )
    rows = sequences[:, width:].tolist()
    return [rows[start : start + number] for start in range(0, len(rows), number)]


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--adapter", metavar="FOLDER", help="default: a random one")
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--others", type=numbers, default=[1, 2, 4, 16], metavar="N,N,…", help="timed beside it")
    parser.add_argument("--questions", type=int, metavar="N", help="default: 1034 on a GPU, 16 on a CPU")
    parser.add_argument("--new-tokens", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--schema", choices=["none", "name", "tables", "ddl"], help="default: params.yaml's")
    parser.add_argument("--spider", default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--batch-size", type=int, metavar="N", help="questions in a batch; default: params.yaml's")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--peers", default="ab", help="which of a, b and c (default: ab)")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
