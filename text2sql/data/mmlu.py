"""MMLU: its file formats in, plain questions out.

Two layouts are read, in a folder or a zip, below one top folder or none:
- Hendrycks et al.'s CSV files without a header, `test/<subject>_test.csv`: question, four choices, answer letter;
- the hub's Parquet files, `<subject>/test-00000-of-00001.parquet`: question, subject, choices, answer (0-3).

Subjects and categories as in Hendrycks et al., "Measuring Massive Multitask Language Understanding" (2021).
"""

import contextlib
import csv
import io
import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from text2sql.core.errors import UserError, shown
from text2sql.core.files import atomic_file
from text2sql.data.archives import Archive, open_archive

CATEGORY_NAMES = {"stem": "STEM", "humanities": "Humanities", "social_sciences": "Social sciences", "other": "Other"}
CATEGORIES = tuple(CATEGORY_NAMES)
LETTERS = "ABCD"
ROTATIONS = len(LETTERS)  # the cyclic orders of the options

_SUBJECTS = {
    "stem": (
        "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics "
        "college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics "
        "high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics "
        "high_school_physics high_school_statistics machine_learning"
    ),
    "humanities": (
        "formal_logic high_school_european_history high_school_us_history high_school_world_history "
        "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
        "professional_law world_religions"
    ),
    "social_sciences": (
        "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics "
        "high_school_microeconomics high_school_psychology human_sexuality professional_psychology "
        "public_relations security_studies sociology us_foreign_policy"
    ),
    "other": (
        "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
        "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
    ),
}

SUBJECT_CATEGORY = {subject: category for category in CATEGORIES for subject in _SUBJECTS[category].split()}


def subject_categories(subjects: Any) -> dict[str, str]:
    """Return {subject: category}, in order, for the param `mmlu.subjects`: "all", or {category: [subject, …]}.

    Raises UserError that names the category or subject that MMLU does not have.
    """
    takes = "takes 'all', or lists of subjects by category: " + ", ".join(CATEGORIES)
    if subjects == "all":
        return dict(SUBJECT_CATEGORY)
    if not isinstance(subjects, Mapping):
        raise UserError(f"mmlu.subjects: got {shown(subjects)}, {takes}")
    found: dict[str, str] = {}
    for category, names in subjects.items():
        if category not in CATEGORIES:
            raise UserError(f"mmlu.subjects: unknown category {shown(category)}; {takes}")
        if not isinstance(names, list):
            raise UserError(f"mmlu.subjects: {category}: got {shown(names)}, takes a list of subjects")
        for subject in names:
            if not isinstance(subject, str) or subject not in SUBJECT_CATEGORY:
                raise UserError(f"mmlu.subjects: {category}: {shown(subject)} is none of MMLU's 57 subjects")
            if SUBJECT_CATEGORY[subject] != category:
                raise UserError(f"mmlu.subjects: {category}: {subject!r} belongs to {SUBJECT_CATEGORY[subject]}")
            if subject in found:
                raise UserError(f"mmlu.subjects: {category}: {subject!r} is named twice")
            found[subject] = category
    if not found:
        raise UserError(f"mmlu.subjects: names no subject; {takes}")
    return found


@dataclass(frozen=True)
class Question:
    """One multiple-choice question; `answer` is the position of the right one among its four `choices`."""

    subject: str
    index: int
    question: str
    choices: tuple[str, str, str, str]
    answer: int

    def rotated(self, by: int) -> "Question":
        """Return the question with the choice at position (p + by) mod 4 shown at position p."""
        a, b, c, d = (*self.choices[by:], *self.choices[:by])
        return replace(self, choices=(a, b, c, d), answer=(self.answer - by) % len(LETTERS))


def letter_shares(choices: Collection[int]) -> dict[str, float]:
    """Return {letter: the share of `choices`, positions from 0 to 3, that it has}; zeros where there are none."""
    counts = Counter(choices)
    return {letter: round(counts[place] / (len(choices) or 1), 6) for place, letter in enumerate(LETTERS)}


class MmluSource:
    """One copy of MMLU, open for reading."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def questions(self, subject: str, split: Literal["dev", "test"], limit: int | None = None) -> list[Question]:
        """Return the first `limit` questions of a subject's split, all by default.

        Raises UserError that names the file and the malformed row; also if the split is empty or its file missing.
        """
        csv_name = f"{split}/{subject}_{split}.csv"
        if self._archive.has(csv_name):
            shown = self._archive.describe(csv_name)
            questions = list(itertools.islice(self._csv_questions(csv_name, subject, shown), limit))
        else:
            names = [name for name in self._archive.names(subject) if _is_parquet(name, split)]
            shown = self._archive.describe(f"{subject}/{split}-*.parquet")
            if not names:
                missing = self._archive.describe(csv_name)
                raise UserError(f"{missing}: no such file, and no {subject}/{split}-*.parquet")
            questions = []
            for name in names:
                data = io.BytesIO(self._archive.read(f"{subject}/{name}"))
                for row in _parquet_rows(data, self._archive.describe(f"{subject}/{name}"), _HUB_COLUMNS):
                    questions.append(_question_of_row(row, subject, len(questions), shown))
            questions = questions[:limit]
        if not questions:
            raise UserError(f"{shown}: holds no questions, wanted at least one")
        return questions

    def _csv_questions(self, name: str, subject: str, shown: str) -> Iterator[Question]:
        with self._archive.open_text(name) as file:
            # Strict: otherwise an unclosed quote silently swallows the rest of the file.
            rows = csv.reader(file, strict=True)
            index = 0
            while True:
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    raise UserError(f"{shown}, line {rows.line_num}: not valid CSV: {error}") from None
                if row is None:
                    return
                if not row:
                    continue
                place = f"{shown}, line {rows.line_num}"
                if len(row) != 6:
                    raise UserError(f"{place}: found {len(row)} fields, wanted 6: question, four choices, answer")
                letter = row[5].strip()
                if len(letter) != 1 or letter not in LETTERS:
                    raise UserError(f"{place}: found {letter!r:.40} as answer, wanted A, B, C or D")
                yield _question(subject, index, row[0], row[1:5], LETTERS.index(letter), place)
                index += 1


@contextlib.contextmanager
def open_mmlu(path: str | Path) -> Iterator[MmluSource]:
    """Open a folder or zip in either layout. Raises UserError where it is missing, damaged, or something else."""
    with open_archive(path) as archive:
        archive.enter_top_folder(_holds_mmlu, "test/<subject>_test.csv or <subject>/test-*.parquet")
        yield MmluSource(archive)


def write_parquet(path: str | Path, splits: Mapping[str, list[Question]]) -> None:
    """Write a subject's questions, `{"dev": […], "test": […]}`, as one Parquet file, whole or not at all.

    Columns: split, subject, category, question, choices (four texts), answer (0-3).
    """
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "split": split,
            "subject": question.subject,
            "category": SUBJECT_CATEGORY[question.subject],
            "question": question.question,
            "choices": list(question.choices),
            "answer": question.answer,
        }
        for split, questions in splits.items()
        for question in questions
    ]
    text = pyarrow.string()
    schema = pyarrow.schema(
        {
            "split": text,
            "subject": text,
            "category": text,
            "question": text,
            "choices": pyarrow.list_(text),
            "answer": pyarrow.int8(),
        }
    )
    with atomic_file(path, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), file)


def read_parquet(path: str | Path, split: Literal["dev", "test"], limit: int | None = None) -> list[Question]:
    """Return the first `limit` questions of a split from a file that `write_parquet` wrote, all by default.

    Raises UserError where the file is missing or malformed, or has no question of that split.
    """
    questions: list[Question] = []
    try:
        with open(path, "rb") as file:
            for row in _parquet_rows(file, str(path), ("split", *_HUB_COLUMNS)):
                if row["split"] == split:
                    questions.append(_question_of_row(row, row["subject"], len(questions), str(path)))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    if not questions:
        raise UserError(f"{path}: holds no {split} questions, wanted at least one")
    return questions[:limit]


@dataclass(frozen=True)
class QuestionSet:
    """What a model is asked: test questions, and by subject its worked examples and its category."""

    test: list[Question]
    shots: dict[str, list[Question]]
    categories: dict[str, str]


def read_questions(folder: Path, subjects: Any, limit: int | None, shots: int) -> QuestionSet:
    """Return what `mmlu.subjects`, `limit` and `shots` ask of the Parquet files that `prepare` left in `folder`.

    Raises UserError where a file is missing or not right, or a subject has fewer dev questions than `shots`.
    """
    categories = subject_categories(subjects)
    files = {subject: folder / f"{subject}.parquet" for subject in categories}
    questions = [question for subject in categories for question in read_parquet(files[subject], "test", limit)]
    examples = {subject: read_parquet(files[subject], "dev", shots) for subject in categories}
    for subject, found in examples.items():
        if len(found) < shots:
            raise UserError(f"mmlu.shots: got {shots}, and {subject} has {len(found)} dev questions")
    return QuestionSet(questions, examples, categories)


def draw(questions: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """Return `limit` of `questions` drawn at random without replacement, in their order; all of them for None."""
    if limit is None or limit >= len(questions):
        return list(questions)
    return [questions[place] for place in sorted(random.Random(seed).sample(range(len(questions)), limit))]


_HUB_COLUMNS = ("question", "subject", "choices", "answer")
# The largest subject has 1,534 questions, 2 MB.
_MAX_PARQUET_ROWS = 1_000_000
_MAX_PARQUET_BYTES = 1024**3


def _is_parquet(name: str, split: str) -> bool:
    return name.startswith(f"{split}-") and name.endswith(".parquet")


def _holds_mmlu(archive: Archive) -> bool:
    return any(name.endswith("_test.csv") for name in archive.names("test")) or any(
        _is_parquet(name, "test") for folder in archive.names() for name in archive.names(folder)
    )


def _parquet_rows(file: BinaryIO, shown: str, columns: tuple[str, ...]) -> list[dict]:
    import pyarrow
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        missing = [column for column in columns if column not in parquet.schema_arrow.names]
        if missing:
            found = ", ".join(parquet.schema_arrow.names)
            raise UserError(f"{shown}: has no column {missing[0]!r}; found {found}; wanted {', '.join(columns)}")
        metadata = parquet.metadata
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if metadata.num_rows > _MAX_PARQUET_ROWS or size > _MAX_PARQUET_BYTES:
            raise UserError(
                f"{shown}: declares {metadata.num_rows} rows, {size} bytes; takes at most {_MAX_PARQUET_ROWS} rows, "
                f"{_MAX_PARQUET_BYTES} bytes"
            )
        return parquet.read(columns=list(columns)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{shown}: not a valid Parquet file: {' '.join(str(error).split())}") from None


def _question_of_row(row: dict, subject: str, index: int, shown: str) -> Question:
    place = f"{shown}, row {index}"
    choices, answer = row["choices"], row["answer"]
    if row["subject"] != subject:
        raise UserError(f"{place}: found subject {row['subject']!r:.60}, wanted {subject!r}")
    if not isinstance(choices, list) or len(choices) != 4:
        found = f"{len(choices)} choices" if isinstance(choices, list) else f"{choices!r:.40} as choices"
        raise UserError(f"{place}: found {found}, wanted four texts")
    if not isinstance(answer, int) or isinstance(answer, bool) or answer not in range(4):
        raise UserError(f"{place}: found {answer!r:.40} as answer, wanted a whole number from 0 to 3")
    return _question(subject, index, row["question"], choices, answer, place)


def _question(subject: str, index: int, question: Any, choices: list, answer: int, place: str) -> Question:
    for name, value in [("question", question), *(("choice", choice) for choice in choices)]:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{place}: found {value!r:.40} as {name}, wanted a text that is not empty")
    return Question(subject, index, question, tuple(choices), answer)
