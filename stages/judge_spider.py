"""Have the verifier judge one model's samples: its log-odds that each is right, to choose by.

    python -m stages.judge_spider v1 base

Nothing is judged where generation.samples is 1. Gold is not read.
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.files import read_jsonl, read_object, write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.params import Params, load_params
from text2sql.core.paths import DATABASES, DEV, LOG_ODDS, SAMPLES, SCHEMAS, TIMINGS, VERIFIERS, database_of
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.schema import read_schemas
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.samples import read_answers


def main(arguments: Sequence[str]) -> None:
    """Write `data/log_odds/<model>.jsonl` and `data/timings/judge_spider_<model>.json`."""
    verifier, name, params = _parse(arguments)
    stopwatch = Stopwatch()
    timing = TIMINGS / f"judge_spider_{name}.json"
    if params.generation.samples == 1:
        write_jsonl(LOG_ODDS / f"{name}.jsonl", [])
        stopwatch.write(timing, "judge_spider", name, 0)
        return
    load_ahead()

    from text2sql.core.processes import current_processes
    from text2sql.evaluation.batching import JournaledRun
    from text2sql.evaluation.verifier import check_other_databases, judge, judgings
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.run_key import as_measured, run_key
    from text2sql.prompts.rich import in_folders
    from text2sql.prompts.verifier import VerifierPrompt

    records = read_jsonl(DEV, RECORD)
    trained_on = read_object(VERIFIERS / f"{verifier}.json", {"databases": list})["databases"]
    check_other_databases(verifier, trained_on, [record["db_id"] for record in records])
    answers = read_answers(SAMPLES / f"{name}.jsonl", [Example.from_record(record) for record in records])
    records = [record for record in records if record["index"] in answers]
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    prompt = VerifierPrompt.of(params.prompt, schemas, in_folders(DATABASES))
    texts = {index: [answer.sql for answer in of_one] for index, of_one in answers.items()}
    asked = judgings(records, texts, prompt, database_of, Limits(**params.execution.model_dump()))

    processes = current_processes()
    own = params.model.model_copy(update={"strength": 1})  # a tuned model's
    model = LanguageModel(own, VERIFIERS / verifier, template=params.prompt.template)
    print(f"judge_spider {name}: {model.description}; {len(asked)} answers", flush=True)
    key = run_key(f"judge_spider@{verifier}-{name}", own, model.model)
    journal = Journal(f"judge_spider-{name}", key, processes.index)
    journaled = JournaledRun(journal, f"judge_spider {name}", processes)
    lines = judge(model, asked, records, params.generation.batch_size, journaled)
    if lines is None:
        return
    unjudged = sum(one["log_odds"] is None for line in lines for one in line["judged"])
    if unjudged:
        print(f"judge_spider {name}: {unjudged} of {len(asked)} answers not judged: their prompts do not fit")
    write_jsonl(LOG_ODDS / f"{name}.jsonl", lines)
    stopwatch.write(timing, "judge_spider", name, len(asked), None, as_measured(own, model.model))
    journal.remove()


def _parse(arguments: Sequence[str]) -> tuple[str, str, Params]:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verifier", help="a name of `verifier` in params.yaml")
    parser.add_argument("model", help="a name of `models` in params.yaml")
    found, params = parser.parse_args(arguments), load_params()
    parser.check_choice("verifier", found.verifier, tuple(params.verifier))
    parser.check_choice("model", found.model, params.model_table.names)
    return found.verifier, found.model, params


if __name__ == "__main__":
    run(main)
