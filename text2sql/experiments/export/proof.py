"""What a proof found: all answers scored, and what the export lost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from text2sql.comparison.export import Loss, distinguishable
from text2sql.comparison.gate import Outcome
from text2sql.core.files import user_cache
from text2sql.core.params import Params
from text2sql.core.paths import DATABASES
from text2sql.execution.executor import Limits
from text2sql.experiments.export.asking import EngineAnswers
from text2sql.experiments.export.evaluated import Evaluated, Mmlu
from text2sql.prompts.answers import extract_sql
from text2sql.scoring.verdicts import Verdict, score_examples


@dataclass(frozen=True)
class Proof:
    """The metrics, a record a question, how many seconds the engine took, and the verdict."""

    metrics: dict[str, Any]
    records: list[dict[str, Any]]
    seconds: float
    verdict: Outcome


def proof_of(case: Evaluated, answers: EngineAnswers, own: Sequence[str] | None) -> Proof:
    """Score the answers of the engine, those that were scored, and the adapter's `own` where it was asked."""
    limits, rule = case.params.compare, case.prompt.rule
    before = [one.raw for one in case.asked]
    evaluated = _scored(case, [one.sql for one in case.asked])
    exported = _scored(case, [extract_sql(raw, rule) for raw in answers.texts])
    itself = None if own is None else _scored(case, [extract_sql(raw, rule) for raw in own])
    loss = Loss.of(_right(exported), _right(evaluated), limits)
    metrics: dict[str, Any] = {
        **_what(case, answers),
        "identical_answers": _share(answers.texts, before),
        "identical_sql": _share([verdict.sql for verdict in exported], [verdict.sql for verdict in evaluated]),
        "spider": loss.to_dict(),
        "distinguishable": distinguishable(loss.p, loss.loss_pts),
        "limit_pts": limits.max_export_loss_pts,
        "verdict": loss.verdict(limits),
    }
    if itself is not None and own is not None:
        by_dtype = Loss.of(_right(itself), _right(evaluated), limits)
        by_export = Loss.of(_right(exported), _right(itself), limits)
        metrics["by_dtype"] = {"identical_answers": _share(own, before), **by_dtype.to_dict()}
        metrics["by_export"] = {"identical_answers": _share(answers.texts, own), **by_export.to_dict()}
    if case.mmlu is not None and answers.said.log_likelihoods:
        metrics["mmlu"] = _mmlu(case.mmlu, answers.said.log_likelihoods, case.params)
    records = [
        {
            "index": one.example.index,
            "db_id": one.example.db_id,
            "question": one.example.question,
            "raw": answers.texts[position],
            "sql": exported[position].sql,
            "right": exported[position].execution_accuracy,
            "scored_raw": one.raw,
            "scored_sql": evaluated[position].sql,
            "scored_right": evaluated[position].execution_accuracy,
            **({"own_sql": itself[position].sql, "own_right": itself[position].execution_accuracy} if itself else {}),
        }
        for position, one in enumerate(case.asked)
    ]
    metrics["flipped"] = [line["index"] for line in records if line["right"] != line["scored_right"]]
    return Proof(metrics, records, answers.said.seconds, loss.verdict(limits))


def _what(case: Evaluated, answers: EngineAnswers) -> dict[str, Any]:
    """Return what was asked, by what, on what."""
    return {
        "model": case.record.model,
        "format": case.record.format,
        "weights": case.record.dtype,
        "megabytes": round(case.record.bytes / 1e6, 1),
        "engine": answers.said.engine,
        "engine_version": answers.said.version,
        "questions": len(case.asked),
        "also_stops_at": len(answers.said.also_stop),
        "computed_in": asdict(answers.used),
        "scored_in": asdict(case.scored),
    }


def _scored(case: Evaluated, queries: Sequence[str]) -> list[Verdict]:
    # All questions keep their places: `prepare` has refused a gold query that fails, or left out its question.
    return score_examples(
        [one.example for one in case.asked],
        [query.strip() for query in queries],
        lambda db_id: DATABASES / db_id / f"{db_id}.sqlite",
        Limits(**case.params.execution.model_dump()),
        cache_dir=user_cache() / "gold",
        failing_gold="wrong",
    )


def _right(verdicts: Sequence[Verdict]) -> list[bool]:
    return [verdict.execution_accuracy for verdict in verdicts]


def _share(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    return round(sum(one == other for one, other in zip(ours, theirs, strict=True)) / len(ours), 6)


def _mmlu(mmlu: Mmlu, rows: Sequence[Sequence[float]], params: Params) -> dict[str, Any]:
    choices = [row.index(max(row)) for row in rows]
    right = [choice == answer for choice, answer in zip(choices, mmlu.answers, strict=True)]
    scored = [choice == answer for choice, answer in zip(mmlu.choices, mmlu.answers, strict=True)]
    return {"identical_choices": _share(choices, mmlu.choices), **Loss.of(right, scored, params.compare).to_dict()}
