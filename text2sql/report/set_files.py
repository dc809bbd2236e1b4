"""The compressed files of a result set: predictions, and each model's choices on MMLU, question by question.

Equal contents give equal bytes with one zlib; `check` reads what is inside.
"""

import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl, read_gzip, write_gzip
from text2sql.data.mmlu import LETTERS

CHOICES = "choices.csv.gz"
CHOICE = {"subject": str, "index": int, "choice": int, "answer": int}
KEYS = ["subject", "index", "answer"]  # then a column a model
_OF_THE_DATA = {"question", "gold", "prompt"}  # what predictions have of the questions' data


def write_choices(path: Path, verdicts: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Write what each model chose: a line a question, with its subject, its place in the test split and letters.

    `verdicts`: {model: the lines of data/verdicts/mmlu/<model>.jsonl}. Raises UserError where the models were asked
    different questions. Log-likelihoods and texts, a hundred times as much, stay behind.
    """
    columns = {model: list(lines) for model, lines in verdicts.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *columns])
    for lines in itertools.zip_longest(*columns.values(), fillvalue={}):
        if len({(line.get("subject"), line.get("index"), line.get("answer")) for line in lines}) > 1:
            raise UserError(f"data/verdicts/mmlu: {', '.join(columns)} were asked different questions; rerun eval_mmlu")
        first = lines[0]
        letters = [LETTERS[line["choice"]] for line in lines]
        writer.writerow([first["subject"], first["index"], LETTERS[first["answer"]], *letters])
    write_gzip(path, text.getvalue().encode())


def read_choices(path: Path, models: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines that `write_choices` wrote. Raises UserError where the file is damaged or has other columns."""
    reader = csv.DictReader(io.StringIO(read_gzip(path).decode("utf-8", "replace")))
    if reader.fieldnames != [*KEYS, *models]:
        raise UserError(f"{path}: found the columns {reader.fieldnames}, wanted {[*KEYS, *models]}")
    return list(reader)


def choice_problems(lines: Iterable[Mapping[str, str]], metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say each model whose choices do not give the counts of its metrics/mmlu/<model>.json, subject by subject."""
    lines = list(lines)
    asked = Counter(line["subject"] for line in lines)
    for model, found in metrics.items():
        right = Counter(line["subject"] for line in lines if line[model] == line["answer"])
        wanted = {name: (part["correct"], part["total"]) for name, part in found["by_subject"].items()}
        if {name: (right[name], asked[name]) for name in asked} != wanted:
            yield f"{CHOICES} does not give the counts of metrics/mmlu/{model}.json"


def write_answers(path: Path, predictions: Path) -> None:
    """Write predictions without the texts of the data that were asked, which are others' and stay where they are."""
    lines = (
        {key: value for key, value in line.items() if key not in _OF_THE_DATA}
        for line in iter_jsonl(predictions, {"index": int})
    )
    write_gzip(path, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode())


def answers_problem(path: Path, total: int) -> str | None:
    """Say what is wrong with what `write_answers` wrote of so many questions, which the lock has no checksum of."""
    try:
        lines = [json.loads(line) for line in read_gzip(path).decode().splitlines()]
        indices = [line["index"] for line in lines]
    except (UserError, ValueError, TypeError, KeyError):
        return "is damaged"
    if len(set(indices)) != len(indices) or len(indices) != total:
        return f"has answers to {len(set(indices))} questions, and its metrics to {total}"
    return None
