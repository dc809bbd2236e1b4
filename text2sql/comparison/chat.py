"""The models' answers to MMLU in chat, as a comparison needs them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.journal import HALVED
from text2sql.scoring.mmlu_chat import summarise

_COUNTED = ("kind", "choice", "correct", "at_limit", HALVED)


@dataclass(frozen=True)
class ChatVerdicts:
    """One model's: which questions (subject, index), which answers are right, and what all come to."""

    keys: list[tuple[str, int]]
    right: list[bool]
    summary: dict[str, Any]

    @classmethod
    def collect(cls, lines: Iterable[Mapping[str, Any]]) -> "ChatVerdicts":
        """Return the verdicts of `lines`, those of data/verdicts/mmlu_chat/<model>.jsonl."""
        keys: list[tuple[str, int]] = []
        right: list[bool] = []
        counted: list[dict[str, Any]] = []
        for line in lines:
            keys.append((line["subject"], line["index"]))
            right.append(line["correct"])
            counted.append({name: line.get(name) for name in _COUNTED})
        return cls(keys, right, summarise(counted))

    def by_log_likelihood(self, right: Mapping[tuple, bool]) -> dict[str, float]:
        """Return the accuracy of choices by log-likelihood for the same questions; `right` tells it of all."""
        if not self.keys or not all(key in right for key in self.keys):
            raise UserError("mmlu_chat: asked other questions than mmlu; rerun eval_mmlu and eval_mmlu_chat")
        return {"log_likelihood_accuracy": round(sum(right[key] for key in self.keys) / len(self.keys), 6)}


def require_same_questions(models: Mapping[str, ChatVerdicts]) -> None:
    """Raise UserError unless all `models` were asked the same questions in chat."""
    for model, found in models.items():
        first = next(iter(models))
        if found.keys != models[first].keys:
            raise UserError(f"mmlu_chat: {first} and {model} were asked different questions; rerun both")
