"""Ask one model MMLU's questions, and count how many it answers.

python -m stages.eval_mmlu base
"""

from collections.abc import Sequence
from functools import partial

from text2sql.core.errors import run
from text2sql.core.files import write_json, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.paths import METRICS, QUESTIONS, TIMINGS, VERDICTS, adapter_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/mmlu/<model>.json`, `data/verdicts/mmlu/<model>.jsonl` and the timing."""
    load_ahead()
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()

    from text2sql.core.processes import current_processes
    from text2sql.data.mmlu import read_questions
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.mmlu import answer_questions, prompt_texts
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.run_key import as_measured, run_key

    processes = current_processes()
    questions = read_questions(QUESTIONS, params.mmlu.subjects, params.mmlu.limit, params.mmlu.shots)
    adapter = adapter_of(name, params.model_table.base)
    texts = partial(prompt_texts, questions.test, questions.shots, params.mmlu.rotations)
    model = LanguageModel(params.model, adapter, texts=lambda tokens: texts())
    print(f"eval_mmlu {name}: {model.description}", flush=True)
    key = run_key(f"eval_mmlu@{name}", params.model, model.model)
    journal = Journal(f"eval_mmlu-{name}", key, processes.index)
    journaled = JournaledRun(journal, f"eval_mmlu {name}", processes)
    choices = answer_questions(
        model,
        questions.test,
        questions.shots,
        questions.categories,
        params.mmlu.batch_size,
        journaled,
        params.mmlu.rotations,
    )
    if choices is None:
        return
    records = choices.records
    write_jsonl(VERDICTS / f"mmlu/{name}.jsonl", records)
    write_json(METRICS / f"mmlu/{name}.json", choices.metrics())
    loaded = as_measured(params.model, model.model)
    tokens = choices.prompt_tokens
    stopwatch.write(TIMINGS / f"eval_mmlu_{name}.json", "eval_mmlu", name, len(records), tokens, loaded)
    journal.remove()


if __name__ == "__main__":
    run(main)
