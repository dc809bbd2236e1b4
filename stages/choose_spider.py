"""Choose one model's answers among its samples by what they return, and score the chosen.

    python -m stages.choose_spider base

The choice reads no gold query. Nothing is chosen where generation.samples is 1.
"""

from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, user_cache, write_json, write_jsonl
from text2sql.core.paths import (
    CHOSEN,
    CHOSEN_VERDICTS,
    DEV,
    LOG_ODDS,
    METRICS,
    PREDICTIONS,
    SAMPLES,
    TIMINGS,
    database_of,
)
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.choice import run_answers
from text2sql.scoring.chosen import score_answers
from text2sql.scoring.golds import Gold
from text2sql.scoring.predictions import read_predictions, strength_of
from text2sql.scoring.samples import in_halves, read_questions


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/spider_choice/<model>.json`, the chosen answers, verdicts on them and the timing."""
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()
    generation = params.generation
    timing = TIMINGS / f"choose_spider_{name}.json"
    if generation.samples == 1:
        write_jsonl(CHOSEN / f"{name}.jsonl", [])
        write_jsonl(CHOSEN_VERDICTS / f"{name}.jsonl", [])
        write_json(METRICS / f"spider_choice/{name}.json", {"samples": 1})
        stopwatch.write(timing, "choose_spider", name, 0)
        return
    examples = [Example.from_record(line) for line in read_jsonl(DEV, RECORD)]
    predictions, samples = PREDICTIONS / f"{name}.jsonl", SAMPLES / f"{name}.jsonl"
    greedy = read_predictions(predictions, examples, stage="predict_spider")
    log_odds = LOG_ODDS / f"{name}.jsonl" if params.verifier else None
    questions = read_questions(samples, greedy, examples, log_odds)
    limits = Limits(**params.execution.model_dump())
    outcomes = run_answers(questions, database_of, limits)
    golds: list[Gold] = []
    scored = score_answers(
        examples,
        questions,
        outcomes,
        database_of,
        limits,
        cache_dir=user_cache() / "gold",
        failing_gold=params.data.failing_gold,
        on_golds=golds.extend,
    )
    chosen = scored.chosen(generation.samples, generation.rule, generation.when)
    metrics = scored.metrics(
        chosen, generation, golds, in_halves(predictions, samples, *([log_odds] if log_odds else []))
    ) | strength_of(predictions)
    write_jsonl(CHOSEN / f"{name}.jsonl", (one.record(q) for q, one in zip(scored.questions, chosen, strict=True)))
    write_jsonl(CHOSEN_VERDICTS / f"{name}.jsonl", (one.to_dict() for one in scored.chosen_verdicts(chosen)))
    write_json(METRICS / f"spider_choice/{name}.json", metrics)
    stopwatch.write(timing, "choose_spider", name, len(chosen))
    print(
        f"choose_spider {name}: {metrics['successes']} of {metrics['total']} right; among {generation.samples} samples "
        f"{metrics['rescued']} rescued, {metrics['lost']} lost (officially)"
    )


if __name__ == "__main__":
    run(main)
