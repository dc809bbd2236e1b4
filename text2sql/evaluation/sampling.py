"""Samples: further answers to each question, drawn at random, to choose among (`text2sql.scoring.choice`).

A question's samples share its prompt's cache. One draw serves every smaller number: the first n samples are those that
a draw of n gives.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from text2sql.core.journal import HALVED
from text2sql.core.params import GenerationParams
from text2sql.evaluation.answering import opened_by
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.evaluation.spider import Answer, Predictor
from text2sql.model.streams import Sampling, stream

DIGITS = 4  # of a log-likelihood: rounding in float32 differs beyond these


@dataclass(frozen=True)
class Sample(Answer):
    """One sampled answer, and its log-likelihood (nats) under the model, rounded to `DIGITS`."""

    log_likelihood: float

    def record(self) -> dict:
        """Return the sample as a samples file holds it."""
        return {
            "raw": self.raw,
            "sql": self.sql,
            "new_tokens": self.new_tokens,
            "log_likelihood": self.log_likelihood,
        }


def draw(
    predictor: Predictor,
    prompts: Sequence[list[int]],
    db_ids: Sequence[str],
    questions: Sequence[int],
    generation: GenerationParams,
) -> list[list[Sample]]:
    """Return `generation.samples` answers to each of `prompts` (token ids) about each of `db_ids`, drawn as one batch.

    `questions` are the numbers that the questions' streams are made of. Raises as `Predictor.answers` does.
    """
    model, number = predictor.model, generation.samples
    sampling = Sampling(generation.temperature, generation.top_p, generation.seed)
    streams = [stream(generation.seed, question, sample) for question in questions for sample in range(number)]
    rows = [prompt for prompt in prompts for _ in range(number)]
    schemas = predictor.held_to([db_id for db_id in db_ids for _ in range(number)])
    found = iter(model.sample(rows, streams, sampling, predictor.max_new_tokens, schemas))
    samples = []
    for prompt in prompts:
        opened = opened_by(model.tokenizer, prompt)
        samples.append(
            [
                Sample(
                    opened + model.decode(answer.ids),
                    len(answer.ids),
                    predictor.prompt.rule,
                    round(answer.log_likelihood, DIGITS),
                )
                for answer in itertools.islice(found, number)
            ]
        )
    return samples


def sample_answers(
    predictor: Predictor, examples: Sequence[dict], generation: GenerationParams, run: JournaledRun
) -> list[dict] | None:
    """Draw samples for `examples` (records of `dev.jsonl`); return one record each, in their order.

    A record holds `index`, `db_id` and `samples`, each with `raw` (the model's text), `sql`, `new_tokens` (its end
    token included) and `log_likelihood`; those of a batch that was halved for lack of memory also `HALVED`. Finished
    batches are journaled and not drawn again. Returns None in all processes but the main one.
    """
    model, number = predictor.model, generation.samples
    prompts = [
        predictor.prompt_ids(example["question"], example["db_id"], example.get("evidence")) for example in examples
    ]
    predictor.check(prompts)

    def answer(positions: list[int]) -> list[dict]:
        asked = [prompts[position] for position in positions]
        lines = [examples[position] for position in positions]
        db_ids, questions = [line["db_id"] for line in lines], [line["index"] for line in lines]
        drawn = draw(predictor, asked, db_ids, questions, generation)
        return [{"samples": [sample.record() for sample in samples]} for samples in drawn]

    # On a GPU a step with more rows takes hardly longer; on a CPU each row takes time and memory.
    questions = generation.batch_size if model.device.type == "cuda" else max(1, generation.batch_size // number)
    run_batches(list(map(len, prompts)), questions, answer, run, halvings=lambda: model.halvings)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    records = run.journal.records()
    return [
        {
            "index": example["index"],
            "db_id": example["db_id"],
            "samples": records[position]["samples"],
            **({HALVED: True} if HALVED in records[position] else {}),
        }
        for position, example in enumerate(examples)
    ]
