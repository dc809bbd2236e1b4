"""Ask one model every question of Spider's dev split.

python -m stages.predict_spider base|m1|m2
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.files import read_json, read_jsonl, write_jsonl
from text2sql.core.journal import Journal, digest_of_code, digest_of_tree
from text2sql.core.params import load_params
from text2sql.core.timing import Stopwatch
from text2sql.data.schema import Schema

DEV = Path("data/prepared/spider/dev.jsonl")
SCHEMAS = Path("data/prepared/spider/schemas.json")


def main(arguments: Sequence[str]) -> None:
    """Write `data/predictions/<model>.jsonl` and `data/timings/predict_spider_<model>.json`."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["base", "m1", "m2"])
    name = parser.parse_args(arguments).model
    params = load_params()
    stopwatch = Stopwatch()

    from text2sql.core.processes import current_processes
    from text2sql.evaluation.spider import predict
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import load_few_shot

    processes = current_processes()
    adapter = None if name == "base" else Path("models") / name
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    key = [
        params.model.model_dump(),
        params.prompt.model_dump(),
        params.generation.model_dump(),
        digest_of_tree(DEV),
        digest_of_tree(SCHEMAS),
        digest_of_tree(params.prompt.few_shot_file),
        adapter and digest_of_tree(adapter),
        digest_of_code("core", "data", "prompts", "model", "evaluation"),
    ]
    journal = Journal(f"predict_spider-{name}", key, processes.index)
    model = LanguageModel(params.model, adapter)
    print(f"predict_spider {name}: {model.description}", flush=True)
    predictions = predict(
        model,
        read_jsonl(DEV, {"index": int, "db_id": str, "question": str, "query": str}),
        {db_id: Schema.from_dict(schema) for db_id, schema in read_json(SCHEMAS).items()},
        params.prompt.schema_,
        few_shot,
        params.generation.max_new_tokens,
        params.generation.batch_size,
        journal,
        processes,
        f"predict_spider {name}",
    )
    if predictions is None:
        return
    write_jsonl(f"data/predictions/{name}.jsonl", predictions)
    tokens = sum(prediction["new_tokens"] for prediction in predictions)
    stopwatch.write(f"data/timings/predict_spider_{name}.json", "predict_spider", name, len(predictions), tokens)
    journal.remove()


if __name__ == "__main__":
    run(main)
