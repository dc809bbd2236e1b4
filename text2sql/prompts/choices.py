"""A model's answer to a multiple-choice question in, the option that it names out: see docs/mmlu.md, for readers."""

import re
from collections.abc import Iterator, Sequence

from text2sql.data.mmlu import LETTERS
from text2sql.prompts.answers import assistant_text

# A capital that stands alone: no part of a word, of `D.C.`, `C++`, `B-cell` or `A's`; and `A` that is no article,
# which is followed by a word in lower case, but for those by which a sentence about option A goes on.
_LETTER = re.compile(
    r"""(?<![^\W_]) (?<!['’°+#&.-]) (?P<letter>[A-D]) (?![^\W_]) (?!['’+#&-]) (?!\.[A-Za-z]\b)
    (?! (?<=A) \s+ (?!(?:is|was|are|and|or|because|since|as|but|would|should|must|seems|states|says)\b) [a-z] )""",
    re.VERBOSE,
)
_DECIMAL = re.compile(r"[.,]\d")


def chosen_option(raw: str, choices: Sequence[str], without: str = "") -> int | None:
    """Return the position of the one choice that an answer names, or None if it names none, or two different ones.

    An answer names an option by its letter, a capital that stands alone, or else by the whole text of the choice.
    Letters within the text of a choice name nothing. Reasoning is no part of the answer, nor is the text `without`
    (the SQL in it). Raises nothing, whatever the text.
    """
    answer = assistant_text(raw)
    if without:
        answer = answer.replace(without, " ; ")
    text = " ".join(answer.split())
    by_text = set()
    for place, start, end in _texts_in(text, choices):
        by_text.add(place)
        text = text[:start] + " " * (end - start) + text[end:]
    by_letter = {LETTERS.index(match["letter"]) for match in _LETTER.finditer(text)}
    named = by_letter or by_text
    return named.pop() if len(named) == 1 else None


def _texts_in(text: str, choices: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return (position of the choice, start, end) of each whole text of a choice in `text`, not within a longer one."""
    lowered = _lower(text)
    found: list[tuple[int, int, int]] = []
    texts = {place: _lower(" ".join(choice.split()).rstrip(".")) for place, choice in enumerate(choices)}
    for place, wanted in sorted(texts.items(), key=lambda item: -len(item[1])):
        if not wanted or wanted.upper() in LETTERS:
            continue  # a letter of its own: which option is meant, nobody knows
        for start in _occurrences(lowered, wanted):
            end = start + len(wanted)
            if not any(begin < end and start < stop and (begin, stop) != (start, end) for _, begin, stop in found):
                found.append((place, start, end))
    return found


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        before, after = text[max(0, start - 2) : start], text[end : end + 2]
        within = (
            (before and _of_word(before[-1]) and _of_word(wanted[0]))
            or (after and _of_word(after[0]) and _of_word(wanted[-1]))
            or (wanted[0].isdigit() and (before[-1:] in "-−" and before or re.fullmatch(r"\d[.,]", before)))
            or (wanted[-1].isdigit() and _DECIMAL.match(after))
        )
        if not within:
            yield start
        start = text.find(wanted, start + 1)


def _of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _lower(text: str) -> str:
    """Return `text` in lower case, each character in its place."""
    return "".join(lower if len(lower := character.lower()) == 1 else character for character in text)
