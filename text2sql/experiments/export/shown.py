"""A proof as a person reads it: lines for the terminal, and what is written of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text2sql.core.files import write_json, write_jsonl
from text2sql.core.paths import EXPORT_VERDICTS, EXPORTS
from text2sql.experiments.export.proof import Proof
from text2sql.report.exports import loss_in_words, sentence
from text2sql.report.numbers import percent

_FLIPS_SHOWN = 5


def proof_lines(name: str, proof: Proof) -> list[str]:
    """Return what the terminal shows of a proof, the verdict last."""
    found = proof.metrics
    lines = [
        f"{found['engine_version']}, {found['computed_in']['dtype']} on {found['computed_in']['device']}: "
        f"{found['questions']} prompts and the end token are the evaluated ones; "
        f"{proof.seconds / found['questions']:.2f} s a question, {found['megabytes']} MB on disk",
        f"identical answers: {percent(found['identical_answers'])}; execution accuracy "
        f"{percent(found['spider']['accuracy'])}, scored {percent(found['spider']['accuracy_against'])}",
    ]
    if "by_dtype" in found:
        lines.append(f"by dtype and device alone: {_part(found['by_dtype'])}")
        lines.append(f"by the export: {_part(found['by_export'])}")
    if "mmlu" in found:
        mmlu = found["mmlu"]
        same = percent(mmlu["identical_choices"])
        lines.append(f"MMLU, {mmlu['total']} questions: {same} identical choices, {loss_in_words(mmlu)}")
    flipped = [line for line in proof.records if line["right"] != line["scored_right"]]
    for line in flipped[:_FLIPS_SHOWN]:
        now, before = ("right", "wrong") if line["right"] else ("wrong", "right")
        lines.append(
            f"question {line['index']} ({line['db_id']}), {before} as scored and {now} here: {line['question']}\n"
            f"    scored: {_line(line['scored_sql'])}\n    export: {_line(line['sql'])}"
        )
    if len(flipped) > _FLIPS_SHOWN:
        lines.append(f"and {len(flipped) - _FLIPS_SHOWN} more questions that flipped: {EXPORT_VERDICTS / name}.jsonl")
    return [*lines, sentence(name, found)]


def _part(part: Mapping[str, Any]) -> str:
    return f"{percent(part['identical_answers'])} identical, {loss_in_words(part)}"


def _line(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 160 else f"{text[:159]}…"


def write_proof(name: str, proof: Proof) -> Path:
    """Write `metrics/export/<name>.json` and a line a question beside the other verdicts; return the first."""
    write_jsonl(EXPORT_VERDICTS / f"{name}.jsonl", proof.records)
    write_json(EXPORTS / f"{name}.json", proof.metrics)
    return EXPORTS / f"{name}.json"
