"""Ask one model every question of a further evaluation set.

python -m stages.predict_also syn base
"""

from collections.abc import Sequence
from functools import partial

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.paths import ALSO, DATABASES, PREDICTIONS, TIMINGS, adapter_of
from text2sql.core.stage_arguments import set_model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD


def main(arguments: Sequence[str]) -> None:
    """Write `data/predictions/also/<set>/<model>.jsonl` and the timing."""
    load_ahead()
    asked, name, params = set_model_and_params(__doc__.splitlines()[0], arguments)
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
    schemas = read_schemas(ALSO / asked / "schemas.json", params.prompt.descriptions)
    files = in_folders(ALSO / asked / "databases", DATABASES)
    prompt = SpiderPrompt.of(params.prompt, schemas, few_shot, files, params.order_in(asked))
    examples = read_jsonl(ALSO / asked / "dev.jsonl", RECORD)
    adapter = adapter_of(name, params.model_table.base)
    model = LanguageModel(params.model, adapter, template=params.prompt.template, texts=partial(prompt.texts, examples))
    print(f"predict_also {asked} {name}: {model.description}", flush=True)
    key = run_key(f"predict_also@{asked}-{name}", params.model, model.model, params.generation.grammar)
    journal = Journal(f"predict_also-{asked}-{name}", key, processes.index)
    journaled = JournaledRun(journal, f"predict_also {asked} {name}", processes)
    predictions = predict(model, examples, prompt, params.generation, journaled)
    if predictions is None:
        return
    write_jsonl(PREDICTIONS / f"also/{asked}/{name}.jsonl", predictions)
    tokens = sum(prediction["new_tokens"] for prediction in predictions)
    loaded = as_measured(params.model, model.model)
    timing = TIMINGS / f"predict_also_{asked}_{name}.json"
    stopwatch.write(timing, f"predict_also@{asked}", name, len(predictions), tokens, loaded)
    journal.remove()


if __name__ == "__main__":
    run(main)
