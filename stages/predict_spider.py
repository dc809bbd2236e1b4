"""Ask one model every question of Spider's dev split.

python -m stages.predict_spider base
"""

from collections.abc import Sequence
from functools import partial

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.paths import DATABASES, DEV, PREDICTIONS, SCHEMAS, TIMINGS, adapter_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD


def main(arguments: Sequence[str]) -> None:
    """Write `data/predictions/<model>.jsonl` and `data/timings/predict_spider_<model>.json`."""
    load_ahead()
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()

    from text2sql.core.processes import current_processes
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.spider import SpiderPrompt, predict
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.run_key import as_measured, run_key
    from text2sql.prompts.messages import load_few_shot
    from text2sql.prompts.rich import in_folders

    processes = current_processes()
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    prompt = SpiderPrompt.of(params.prompt, schemas, few_shot, in_folders(DATABASES))
    examples = read_jsonl(DEV, RECORD)
    adapter = adapter_of(name, params.model_table.base)
    texts = partial(prompt.texts, examples)
    model = LanguageModel(params.model, adapter, template=params.prompt.template, texts=texts)
    print(f"predict_spider {name}: {model.description}", flush=True)
    key = run_key(f"predict_spider@{name}", params.model, model.model, params.generation.grammar)
    journal = Journal(f"predict_spider-{name}", key, processes.index)
    journaled = JournaledRun(journal, f"predict_spider {name}", processes)
    predictions = predict(model, examples, prompt, params.generation, journaled)
    if predictions is None:
        return
    write_jsonl(PREDICTIONS / f"{name}.jsonl", predictions)
    tokens = sum(prediction["new_tokens"] for prediction in predictions)
    loaded = as_measured(params.model, model.model)
    stopwatch.write(TIMINGS / f"predict_spider_{name}.json", "predict_spider", name, len(predictions), tokens, loaded)
    journal.remove()


if __name__ == "__main__":
    run(main)
