"""Train a verifier: an adapter that says whether an answer to a training question is right.

python -m stages.train_verifier v1
"""

from collections.abc import Sequence

from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl, write_json
from text2sql.core.params import Params
from text2sql.core.paths import DATABASES, METRICS, SCHEMAS, TIMINGS, TRAIN, TRAIN_SAMPLES, VERIFIERS
from text2sql.core.stage_arguments import entry_and_params
from text2sql.core.startup import load_ahead
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD, Example
from text2sql.scoring.contrasts import contrasts
from text2sql.scoring.judged import read_judged


def main(arguments: Sequence[str]) -> int | None:
    """Write `data/verifiers/<name>/` and `<name>.json`, `metrics/verifier/<name>.json` and the timing."""
    load_ahead()
    name, params = entry_and_params(__doc__.splitlines()[0], arguments, "verifier", "verifier")
    from text2sql.training.run import interruptible

    return interruptible(lambda: train(name, params))


def train(name: str, params: Params) -> None:
    """Train and publish; the main process alone publishes."""
    from text2sql.core.processes import current_processes
    from text2sql.model.model_card import verifier_card
    from text2sql.model.run_key import as_measured
    from text2sql.prompts.rich import in_folders
    from text2sql.prompts.verifier import VerifierPrompt
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob
    from text2sql.training.verifier import verifier_pairs

    recipe = params.train_for_verifier(name)
    examples = [Example.from_record(record) for record in read_jsonl(TRAIN, RECORD)]
    path = TRAIN_SAMPLES / f"{recipe.from_}.jsonl.gz"
    chosen = contrasts(read_judged(path, examples)[1], recipe.per_question)
    if not chosen.picked:
        count = chosen.counts["questions"]
        raise UserError(f"{path}: none of its {count} questions has right and wrong answers that run")
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    prompt = VerifierPrompt.of(params.prompt, schemas, in_folders(DATABASES))
    stage = f"train_verifier@{name}"
    job = TrainingJob(
        f"verifier_{name}", params.model, recipe, current_processes(), stage, template=params.prompt.template
    )
    training = train_adapter(job, verifier_pairs(chosen, prompt))
    if training is None:
        return
    metrics = training.metrics | {"from": recipe.from_, "per_question": recipe.per_question} | chosen.counts
    loaded = as_measured(params.model, training.model)
    timing = TIMINGS / f"train_verifier_{name}.json"
    training.stopwatch.write(timing, "train_verifier", name, metrics["examples"], metrics["tokens"], loaded)
    training.save(VERIFIERS / name, verifier_card(params, recipe, metrics))
    write_json(VERIFIERS / f"{name}.json", {"databases": sorted({question.db_id for question, _ in chosen.picked})})
    write_json(METRICS / f"verifier/{name}.json", metrics)
    training.checkpoints.remove()


if __name__ == "__main__":
    run(main)
