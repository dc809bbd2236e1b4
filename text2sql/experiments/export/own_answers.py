"""The adapter's own answers, on its base, as evaluation asks.

    python -m text2sql.experiments.export.own_answers JOB.json ANSWERS.jsonl

In a process of its own, so that its memory is free before and after.
"""

import json
import sys
from pathlib import Path

from text2sql.core.params import ModelParams
from text2sql.evaluation.batching import batches_by_length
from text2sql.model.language_model import LanguageModel


def main(job_file: str, answers_file: str) -> None:
    """Answer the prompts of the job, which are token ids, in the batches of evaluation."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    adapter = job["adapter"]
    model = LanguageModel(ModelParams(**job["model"]), adapter and Path(adapter), template=job["variables"])
    with open(answers_file, "w", encoding="utf-8") as file:
        for batch in batches_by_length([len(prompt) for prompt in job["prompts"]], job["batch_size"]):
            answers = model.generate([job["prompts"][position] for position in batch], job["max_new_tokens"])
            for position, ids in zip(batch, answers, strict=True):
                file.write(json.dumps({"position": position, "ids": ids}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
