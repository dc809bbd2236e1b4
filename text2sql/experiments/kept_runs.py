"""Finished runs of a curve, kept under `results/tradeoff/<curve>/<run>/`: figures, and every answer, compressed.

    run.json              what the run is a digest of, its metrics, seconds and memory
    predictions.jsonl.gz  its answers to Spider with their verdicts
    samples.jsonl.gz      where it drew them: its samples with their verdicts, and which is chosen
    choices.csv.gz        its letter for each question of MMLU
    rotations.jsonl.gz    where it was asked them in all orders of their options: how many of those it has right
    chat.jsonl.gz         where it was asked some in chat: its answers, and what each is

A run appears whole or not at all. It is used again only where all that it depends on is the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.comparison.curve import Answers
from text2sql.comparison.result import SPIDER_MEASURES
from text2sql.core.dependencies import Key
from text2sql.core.files import atomic_directory, json_line, read_object, write_json
from text2sql.report.set_files import CHOICES, read_choices, read_gzip, write_choices, write_gzip

RUN = "run.json"
PREDICTIONS = "predictions.jsonl.gz"
ROTATIONS = "rotations.jsonl.gz"
CHAT = "chat.jsonl.gz"
SAMPLES = "samples.jsonl.gz"
LETTER = "chosen"  # the column of choices.csv.gz
ROTATED = ("subject", "index", "rotation_choices", "rotations_right")
CHATTED = ("subject", "index", "raw", "kind", "choice", "correct", "at_limit")
FIELDS = {"shared": dict, "own": dict, "spider": dict, "mmlu": dict, "timings": dict}


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return the content of a kept run's run.json, or None where there is none. Raises UserError for a damaged one."""
    return read_object(folder / RUN, FIELDS) if (folder / RUN).is_file() else None


def changed_since(kept: Mapping[str, Any], shared: Key, own: Key) -> list[str]:
    """Return what of the kept run's code, data, base, machine or recipe is not as these keys have it."""
    return [*shared.changed_from(Key(kept["shared"])), *own.changed_from(Key(kept["own"]))]


@dataclass(frozen=True)
class Answered:
    """The records of a run's evaluations; None of what was not asked."""

    predictions: Sequence[dict]
    choices: Sequence[dict] | None = None
    chat: Sequence[dict] | None = None
    samples: Sequence[dict] | None = None


def keep_run(folder: Path, run: Mapping[str, Any], answered: Answered) -> None:
    """Write a run: `run` has `FIELDS`."""
    choices, chat, samples = answered.choices, answered.chat, answered.samples
    with atomic_directory(folder) as temporary:
        write_json(temporary / RUN, run)
        write_gzip(temporary / PREDICTIONS, _lines(answered.predictions))
        if choices is not None:
            write_choices(temporary / CHOICES, {LETTER: choices})
        if choices is not None and "rotations_right" in choices[0]:
            write_gzip(temporary / ROTATIONS, _lines(_only(line, ROTATED) for line in choices))
        if chat is not None:
            write_gzip(temporary / CHAT, _lines(_only(line, CHATTED) for line in chat))
        if samples is not None:
            write_gzip(temporary / SAMPLES, _lines(samples))


def _lines(records: Iterable[dict]) -> bytes:
    return "".join(map(json_line, records)).encode()


def _only(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: record[name] for name in names}


def read_answers(folder: Path) -> Answers:
    """Return the answers of a kept run. Raises UserError where a file is missing or damaged."""
    predictions = _read(folder / PREDICTIONS)
    lines = read_choices(folder / CHOICES, [LETTER])
    rotated = _read(folder / ROTATIONS) if (folder / ROTATIONS).exists() else []
    chat = _read(folder / CHAT) if (folder / CHAT).exists() else []
    sampled = _read(folder / SAMPLES) if (folder / SAMPLES).exists() else []
    return Answers(
        questions=[
            *((line["index"], line["db_id"]) for line in predictions),
            *((line["subject"], line["index"]) for line in lines),
        ],
        spider={measure: [line[measure] for line in predictions] for measure in SPIDER_MEASURES},
        letters=[line[LETTER] for line in lines],
        right_letters=[line["answer"] for line in lines],
        rotations_right=[line["rotations_right"] for line in rotated],
        chat={(line["subject"], line["index"]): line["correct"] for line in chat},
        chosen={name: [line["chosen"][name] for line in sampled] for name in SPIDER_MEASURES if sampled},
    )


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in read_gzip(path).decode().splitlines()]
