"""A verifier's log-odds that a question's samples are right, for `text2sql.scoring.choice` to choose by.

Only samples that run are judged, equal ones once. The verifier is asked as MMLU's questions are: one forward pass an
answer, which shares question and schema with the others of its question in a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.journal import HALVED
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.execution.executor import Limits, Result
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.verifier import RIGHT, WRONG, VerifierPrompt, shown_result
from text2sql.scoring.case import preview
from text2sql.scoring.choice import run_queries

DIGITS = 4  # of log-odds: rounding in float32 differs beyond these


@dataclass(frozen=True)
class Judging:
    """An answer that a verifier is asked about: the place of its question among those asked, and what is shown."""

    place: int
    sql: str
    messages: list[dict]


def judgings(
    examples: Sequence[Mapping],
    answers: Mapping[int, Sequence[str]],
    prompt: VerifierPrompt,
    database_of: Callable[[str], Path],
    limits: Limits,
) -> list[Judging]:
    """Return what is asked about the `answers` (SQL, by index) to `examples` (records of `dev.jsonl`), each text once.

    All run in the sandbox; what fails is not asked about. Raises as `run_queries` and `VerifierPrompt` do.
    """
    texts = [dict.fromkeys(answers[example["index"]]) for example in examples]
    pairs = list(zip(examples, texts, strict=True))
    queries = {(example["db_id"], sql): example["index"] for example, of_one in pairs for sql in of_one}
    results = run_queries(queries, database_of, limits, _shown_if_it_runs)
    found = []
    for place, (example, of_one) in enumerate(pairs):
        for sql in of_one:
            shown = results[example["db_id"], sql]
            if shown is not None:
                evidence = example.get("evidence")
                messages = prompt.messages(example["question"], example["db_id"], sql, shown, evidence)
                found.append(Judging(place, sql, messages))
    return found


def _shown_if_it_runs(result: Result) -> str | None:
    return None if result.error is not None else shown_result(preview(result))


def check_other_databases(verifier: str, trained_on: Sequence[str], asked: Sequence[str]) -> None:
    """Raise UserError where the `verifier` was trained on a database that it shall judge answers about."""
    both = sorted(set(trained_on) & set(asked))
    if both:
        raise UserError(
            f"verifier {verifier}: was trained on {len(both)} of the databases that it shall judge answers about: "
            f"{', '.join(both):.200}; takes other ones"
        )


def judge(
    model: LanguageModel, asked: Sequence[Judging], examples: Sequence[Mapping], batch_size: int, run: JournaledRun
) -> list[dict] | None:
    """Judge the answers `asked` about; return a record for each of `examples`, in their order.

    A record holds `index`, `db_id` and `judged`: each answer's `sql` and `log_odds`, the logarithm (nats) of how much
    likelier the verifier begins with Yes than with No, rounded to `DIGITS`; null where its prompt does not fit the
    model's context. Those of a batch that was halved for lack of memory also hold `HALVED`. Finished batches are
    journaled. Returns None in all processes but the main one.
    """
    prompts = [model.chat_ids(one.messages) for one in asked]
    fitting = [place for place, prompt in enumerate(prompts) if model.context is None or len(prompt) <= model.context]
    model.check_prompts([prompts[place] for place in fitting], 0, "generation.choice")

    def answer(positions: list[int]) -> Callable[[], list[dict]]:
        rows = model.begin_answer_log_likelihoods([prompts[fitting[place]] for place in positions], (RIGHT, WRONG))
        return lambda: [{"log_odds": round(right - wrong, DIGITS)} for right, wrong in rows()]

    lengths = [len(prompts[place]) for place in fitting]
    groups = [str(asked[place].place) for place in fitting]
    run_batches(lengths, batch_size, answer, run, groups, lambda: model.halvings)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    finished = run.journal.records()
    lines = [{"index": example["index"], "db_id": example["db_id"], "judged": []} for example in examples]
    of_prompt = {place: finished[number] for number, place in enumerate(fitting)}
    for place, one in enumerate(asked):
        record, line = of_prompt.get(place, {}), lines[one.place]
        line["judged"].append({"sql": one.sql, "log_odds": record.get("log_odds")})
        if HALVED in record:
            line[HALVED] = True
    return lines
