"""The examples that the HTML report's explorer shows, as the JSON that its script reads, cut to fit."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text2sql.core.models import ModelTable
from text2sql.scoring.failures import CAUSE_GROUPS
from text2sql.scoring.hardness import HARDNESS_LEVELS

GROUPED_CAUSES = tuple(cause for causes in CAUSE_GROUPS.values() for cause in causes)

MOST_EXAMPLE_BYTES = 4_400_000  # of the explorer's data: with all the rest the page stays below 5 MB
# How many characters of an answer (or error) and of a result are shown: the first pair with which the data fit.
CUTS = ((2000, 2000), (800, 600), (400, 300), (200, 150), (100, 60))
MOST_EXAMPLES = 2000  # in the explorer: more of them would make the page slow to open
MEASURES = {"paper": "execution_accuracy", "official": "official_execution_accuracy"}  # as the script calls them
STYLES = 6  # how many models' colours and marks report.css and charts.html.jinja have


def style_class(place: int) -> str:
    """Return the CSS class of the model at `place` in the table, 0 being the base; after the last they repeat."""
    return f"model-{place if place < STYLES else 1 + (place - 1) % (STYLES - 1)}"


def explorer_data(
    models: ModelTable,
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    schemas: Mapping[str, Mapping[str, Any]],
    seed: int = 0,
) -> dict[str, Any]:
    """Return the explorer's data, cut to fit: texts and results that repeat are stored once and named by position.

    Where no cut of texts makes them fit, half of the examples are drawn as `draw` does, and so on until they do.
    """
    while True:
        for cut in CUTS:
            data = _at_cut(models, verdicts, schemas, cut)
            if len(script_json(data).encode("utf-8")) <= MOST_EXAMPLE_BYTES:
                return data
        count = len(data["examples"])
        if count <= 1:
            return data
        places = draw(Outcomes.of(verdicts[model] for model in models.names).flips, (count + 1) // 2, seed)
        verdicts = {model: [lines[place] for place in places] for model, lines in verdicts.items()}


@dataclass(frozen=True)
class Outcomes:
    """Of all examples: which are flips, and by each of MEASURES how many have which outcome.

    A flip is an example on which a tuned model is right and the base wrong, or the reverse, as the paper compares.
    An outcome is a text such as `011`: the base wrong, both tuned models right.
    """

    flips: bytearray
    counts: Mapping[str, Counter[str]]

    @classmethod
    def of(cls, verdicts: Iterable[Iterable[Mapping[str, Any]]]) -> "Outcomes":
        """Return those of the models' verdict lines, the base's first; the lines stream through."""
        flips, counts = bytearray(), {name: Counter[str]() for name in MEASURES}
        for lines in zip(*verdicts, strict=True):
            for name, measure in MEASURES.items():
                counts[name]["".join("1" if line[measure] else "0" for line in lines)] += 1
            right = [line[MEASURES["paper"]] for line in lines]
            flips.append(any(one != right[0] for one in right))
        return cls(flips, counts)


def draw(flips: Sequence[int], most: int, seed: int) -> list[int]:
    """Return the places of `most` examples in order: flips first, then others, drawn at random where there are more."""
    if len(flips) <= most:
        return list(range(len(flips)))
    random_draw = random.Random(seed)
    chosen: list[int] = []
    for wanted in (True, False):
        places = [place for place, flip in enumerate(flips) if bool(flip) == wanted]
        chosen += random_draw.sample(places, min(len(places), most - len(chosen)))
    return sorted(chosen)


class _Numbered:
    """Values that repeat, stored once and named by position."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __call__(self, value: str) -> int:
        return self._places.setdefault(value, len(self._places))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)


class _Explorer:
    """The explorer's data at one cut of texts and results."""

    def __init__(self, sql_characters: int, result_characters: int) -> None:
        self.sql_characters, self.result_characters = sql_characters, result_characters
        self.texts, self.results = _Numbered(), _Numbered()

    def example(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return one question with its gold and the models' answers, from their verdict lines."""
        first = lines[0]
        return {
            "index": first["index"],
            "db_id": first["db_id"],
            "hardness": first["hardness"],
            "question": first["question"],
            "gold": self.texts(first["gold"]),
            "gold_result": self._result(first["gold_result"]),
            "answers": [self._answer(line) for line in lines],
        }

    def _result(self, result: Mapping[str, Any] | None) -> int | None:
        return None if result is None else self.results(json.dumps(shown_result(result, self.result_characters)))

    def _answer(self, line: Mapping[str, Any]) -> dict[str, Any]:
        record = {
            "sql": self.texts(line["sql"][: self.sql_characters]),
            "paper": line["execution_accuracy"],
            "official": line["official_execution_accuracy"],
            "outcome": line["outcome"],
            "error": line["error"] and line["error"][: self.sql_characters],
            "result": self._result(line["result"]),
        }
        if len(line["sql"]) > self.sql_characters:
            record["cut"] = len(line["sql"]) - self.sql_characters
        return record


def _at_cut(
    models: ModelTable,
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    schemas: Mapping[str, Mapping[str, Any]],
    cut: tuple[int, int],
) -> dict[str, Any]:
    explorer = _Explorer(*cut)
    examples = [explorer.example(lines) for lines in zip(*(verdicts[model] for model in models.names), strict=True)]
    used = {example["db_id"] for example in examples}
    return {
        "models": [
            {"name": model, "label": title, "style": style_class(place)}
            for place, (model, title) in enumerate(models.titles.items())
        ],
        "hardness": HARDNESS_LEVELS,
        "causes": GROUPED_CAUSES,
        "schemas": {db_id: schema for db_id, schema in schemas.items() if db_id in used},
        "texts": list(explorer.texts),
        "results": [json.loads(result) for result in explorer.results],
        "examples": examples,
    }


def shown_result(result: Mapping[str, Any], characters: int) -> dict[str, Any]:
    """Return the first rows of a result as texts, at most about `characters` of them; None stays None (NULL)."""
    columns, rows = result["columns"], result["rows"]
    most_columns = max(1, characters // 20)
    width = max(12, characters // max(1, min(len(columns), most_columns) * (len(rows) + 1)))
    shown = {
        "columns": [_cut(name, width) for name in columns[:most_columns]],
        "rows": [[_cell(value, width) for value in row[:most_columns]] for row in rows],
        "row_count": result["row_count"],
    }
    if len(columns) > most_columns:
        shown["more_columns"] = len(columns) - most_columns
    return shown


def _cell(value: Any, width: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # Quotes tell the text '40' from the number 40: the same look, and yet another result.
        quoted = not value or re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value)
        return f"'{_cut(value, width)}'" if quoted else _cut(value, width)
    return json.dumps(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def script_json(value: Any) -> str:
    """Return `value` as JSON that may stand in a script element: no text can end that or open a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    # Lone surrogates stay what they are only as escapes; U+2028 and U+2029 end a line of script.
    return re.sub("[\ud800-\udfff\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
