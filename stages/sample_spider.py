"""Draw further answers to the dev split's questions from one model, to choose among.

    python -m stages.sample_spider base

Nothing is drawn where generation.samples is 1.
"""

from collections.abc import Sequence
from functools import partial

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.params import Params
from text2sql.core.paths import DATABASES, DEV, PREDICTIONS, SAMPLES, SCHEMAS, TIMINGS, adapter_of, database_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.choice import failing
from text2sql.scoring.predictions import read_predictions


def main(arguments: Sequence[str]) -> None:
    """Write `data/samples/<model>.jsonl` and `data/timings/sample_spider_<model>.json`."""
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()
    timing = TIMINGS / f"sample_spider_{name}.json"
    if params.generation.samples == 1:
        write_jsonl(SAMPLES / f"{name}.jsonl", [])
        stopwatch.write(timing, "sample_spider", name, 0)
        return

    load_ahead()

    from text2sql.core.processes import current_processes
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.sampling import sample_answers
    from text2sql.evaluation.spider import Predictor, SpiderPrompt
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.run_key import as_measured, run_key
    from text2sql.prompts.messages import load_few_shot
    from text2sql.prompts.rich import in_folders

    processes = current_processes()
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    prompt = SpiderPrompt.of(params.prompt, schemas, few_shot, in_folders(DATABASES))
    examples = asked(name, params)
    adapter = adapter_of(name, params.model_table.base)
    texts = partial(prompt.texts, examples)
    model = LanguageModel(params.model, adapter, template=params.prompt.template, texts=texts)
    print(f"sample_spider {name}: {model.description}; {len(examples)} questions", flush=True)
    key = run_key(f"sample_spider@{name}", params.model, model.model, params.generation.grammar)
    journal = Journal(f"sample_spider-{name}", key, processes.index)
    predictor = Predictor(model, prompt, params.generation.max_new_tokens, params.generation.grammar)
    journaled = JournaledRun(journal, f"sample_spider {name}", processes)
    samples = sample_answers(predictor, examples, params.generation, journaled)
    if samples is None:
        return
    write_jsonl(SAMPLES / f"{name}.jsonl", samples)
    tokens = sum(sample["new_tokens"] for line in samples for sample in line["samples"])
    stopwatch.write(timing, "sample_spider", name, len(samples), tokens, as_measured(params.model, model.model))
    journal.remove()


def asked(name: str, params: Params) -> list[dict]:
    """Return the records of the questions that get samples: all, or those whose greedy answer does not run."""
    records = read_jsonl(DEV, RECORD)
    if params.generation.when == "always":
        return records
    examples = [Example.from_record(record) for record in records]
    greedy = read_predictions(PREDICTIONS / f"{name}.jsonl", examples, stage="predict_spider")
    pairs = [(example.db_id, sql) for example, sql in zip(examples, greedy, strict=True)]
    failed = failing(pairs, database_of, Limits(**params.execution.model_dump()))
    return [record for record, pair in zip(records, pairs, strict=True) if pair in failed]


if __name__ == "__main__":
    run(main)
