"""Ask one model MMLU's questions, few-shot, by log-likelihood.

python -m stages.eval_mmlu base|m1|m2
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError, run
from text2sql.core.files import write_json, write_jsonl
from text2sql.core.journal import Journal, digest_of_code, digest_of_tree
from text2sql.core.params import load_params
from text2sql.core.timing import Stopwatch

QUESTIONS = Path("data/prepared/mmlu")


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/mmlu/<model>.json`, `data/verdicts/mmlu/<model>.jsonl` and the timing."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["base", "m1", "m2"])
    name = parser.parse_args(arguments).model
    params = load_params()
    stopwatch = Stopwatch()

    from text2sql.core.processes import current_processes
    from text2sql.data.mmlu import read_parquet, subject_categories
    from text2sql.evaluation.mmlu import answer_questions, summarise
    from text2sql.model.language_model import LanguageModel

    processes = current_processes()
    adapter = None if name == "base" else Path("models") / name
    categories = subject_categories(params.mmlu.subjects)
    files = {subject: QUESTIONS / f"{subject}.parquet" for subject in categories}
    questions = [
        question for subject in categories for question in read_parquet(files[subject], "test", params.mmlu.limit)
    ]
    shots = {subject: read_parquet(files[subject], "dev", params.mmlu.shots) for subject in categories}
    for subject, examples in shots.items():
        if len(examples) < params.mmlu.shots:
            raise UserError(f"mmlu.shots: got {params.mmlu.shots}, and {subject} has {len(examples)} dev questions")
    key = [
        params.model.model_dump(),
        params.mmlu.model_dump(),
        digest_of_tree(QUESTIONS),
        adapter and digest_of_tree(adapter),
        digest_of_code("core", "data", "prompts", "model", "evaluation"),
    ]
    journal = Journal(f"eval_mmlu-{name}", key, processes.index)
    model = LanguageModel(params.model, adapter)
    print(f"eval_mmlu {name}: {model.description}", flush=True)
    answered = answer_questions(
        model, questions, shots, categories, params.mmlu.batch_size, journal, processes, f"eval_mmlu {name}"
    )
    if answered is None:
        return
    records, tokens = answered
    write_jsonl(f"data/verdicts/mmlu/{name}.jsonl", records)
    write_json(f"metrics/mmlu/{name}.json", summarise(records))
    stopwatch.write(f"data/timings/eval_mmlu_{name}.json", "eval_mmlu", name, len(records), tokens)
    journal.remove()


if __name__ == "__main__":
    run(main)
