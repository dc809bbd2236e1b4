"""Ask one model MMLU's questions in chat: how many answers are letters, how many SQL, and how many are right?

python -m stages.eval_mmlu_chat base
"""

from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.files import write_json, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.paths import METRICS, QUESTIONS, TIMINGS, VERDICTS, adapter_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/mmlu_chat/<model>.json`, `data/verdicts/mmlu_chat/<model>.jsonl` and the timing."""
    load_ahead()
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()

    from text2sql.core.processes import current_processes
    from text2sql.data.mmlu import draw, read_questions
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.mmlu_chat import DRAW_SEED, ask_in_chat
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.run_key import as_measured, run_key

    processes = current_processes()
    questions = read_questions(QUESTIONS, params.mmlu.subjects, params.mmlu.limit, shots=0)
    drawn = draw(questions.test, params.mmlu.chat_limit, DRAW_SEED)
    model = LanguageModel(params.model, adapter_of(name, params.model_table.base), template=params.prompt.template)
    print(f"eval_mmlu_chat {name}: {model.description}", flush=True)
    key = run_key(f"eval_mmlu_chat@{name}", params.model, model.model)
    journal = Journal(f"eval_mmlu_chat-{name}", key, processes.index)
    journaled = JournaledRun(journal, f"eval_mmlu_chat {name}", processes)
    answers = ask_in_chat(
        model, drawn, questions.categories, params.generation.batch_size, journaled, len(questions.test)
    )
    if answers is None:
        return
    metrics = answers.metrics() | model.scaled
    write_jsonl(VERDICTS / f"mmlu_chat/{name}.jsonl", answers.records)
    write_json(METRICS / f"mmlu_chat/{name}.json", metrics)
    loaded = as_measured(params.model, model.model)
    timing = TIMINGS / f"eval_mmlu_chat_{name}.json"
    stopwatch.write(timing, "eval_mmlu_chat", name, len(drawn), answers.new_tokens, loaded)
    journal.remove()
    kinds = ", ".join(f"{metrics[f'{kind}_answers']} {kind}" for kind in ("letter", "sql", "other"))
    print(f"eval_mmlu_chat {name}: {metrics['correct']} of {metrics['total']} right; {kinds}")


if __name__ == "__main__":
    run(main)
