"""Answers of a point's adapter to training questions, drawn once and judged: what other points learn from."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, read_jsonl, user_cache, write_json
from text2sql.core.journal import Journal
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.sampling import sample_answers
from text2sql.evaluation.spider import Predictor
from text2sql.execution.executor import Limits
from text2sql.experiments.asking import database_below, measure_anew, prompt_of
from text2sql.experiments.claims import claim
from text2sql.experiments.inputs import answers_key
from text2sql.experiments.points import Learning
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase
from text2sql.model.run_key import as_measured
from text2sql.scoring.judged import Drawn, JudgedQuestion, counts_of, judged, read_judged, write_judged

HOW = {"samples", "temperature", "top_p", "seed"}  # of the params, how answers are drawn


class TrainingAnswers:
    """Judged answers below the folder `work`, to the training questions of the prepared benchmarks in `data`.

    Neither held-out questions nor those of dev are read.
    """

    def __init__(self, data: Path, work: Path, shared: Key, load: KeptBase) -> None:
        self._data, self._work, self._shared, self._load = data, work, shared, load

    def of(self, learns: Learning, adapter: Path) -> tuple[list[JudgedQuestion], dict[str, Any]]:
        """Return the questions with their answers, drawn now unless they are there, their counts and `timings`.

        Waits where another process draws them. Raises UserError where no question's database is there or a prompt does
        not fit the model.
        """
        own = Key.of({"the adapter": digest_of_tree(adapter)})
        key = Key({**self._shared.parts, **answers_key(learns).parts, **own.parts})
        path, about = (self._work / "answers" / f"{key.digest}.{ending}" for ending in ("jsonl.gz", "json"))
        with claim(self._work, f"answers-{key.digest}", wait=True):
            journal = Journal(f"answers-{learns.teacher.trained_as}", key, folder=self._work / "journals")
            if not about.is_file():
                self._draw(learns, adapter, journal, path)
            journal.remove()  # also where a run was killed when it had written the answers
        return read_judged(path, self.examples())[1], read_json(about)

    def _draw(self, learns: Learning, adapter: Path, journal: Journal, path: Path) -> None:
        """Draw and judge answers, and write the file `path` and, at last, what is known of it beside it."""
        name, wanted = str(learns.teacher.trained_as), learns.answers
        asked = self.examples()[: wanted.limit]
        examples = [example for example in asked if database_below(self._data, example.db_id).is_file()]
        if not examples:
            raise UserError(f"answers: the database of none of the {len(asked)} training questions is there")
        samples, draw = self._samples(learns, adapter, examples, journal)
        measure_anew()
        stopwatch = Stopwatch()
        limits = Limits(**learns.teacher.params.execution.model_dump())
        database_of = partial(database_below, self._data)
        lines = judged(examples, samples, database_of, limits, cache_dir=user_cache() / "gold")
        judge = stopwatch.write(self._work / "timings" / f"{name}-judge.json", "judge", name, len(lines))
        header = Drawn(name, digest_of_tree(adapter), limit=wanted.limit, **wanted.model_dump(include=HOW))
        write_judged(path, header, lines)
        counts = asdict(header) | counts_of(read_judged(path, examples)[1])
        counts |= {"without_database": len(asked) - len(examples)}
        about = path.with_name(path.name.replace(".jsonl.gz", ".json"))
        write_json(about, {"drawn": counts, "timings": {"draw": draw, "judge": judge}})

    def _samples(
        self, learns: Learning, adapter: Path, examples: Sequence[Example], journal: Journal
    ) -> tuple[list[dict], dict[str, Any]]:
        """Return the samples of `examples`, as `sample_answers` does, and how long it took."""
        name, params = str(learns.teacher.trained_as), learns.teacher.params
        generation = params.generation.model_copy(update=learns.answers.model_dump(include=HOW))
        # At strength 1: training goes on from the adapter as it is.
        params = params.model_copy(update={"model": params.model.model_copy(update={"strength": 1})})
        model = LanguageModel(params.model, adapter, template=params.prompt.template, load=self._load)
        print(f"answers of {name}: {model.description}; {len(examples)} training questions", flush=True)
        went_on = {"went_on": True} if journal.records() else {}
        predictor = Predictor(model, prompt_of(params, self._data), generation.max_new_tokens, generation.grammar)
        records = [example.to_record() for example in examples]
        measure_anew()
        stopwatch = Stopwatch()
        samples = sample_answers(predictor, records, generation, JournaledRun(journal, f"answers of {name}"))
        assert samples is not None  # one process draws
        tokens = sum(sample["new_tokens"] for line in samples for sample in line["samples"])
        loaded = as_measured(params.model, model.model) | went_on
        path = self._work / "timings" / f"{name}-draw.json"
        return samples, stopwatch.write(path, "draw", name, len(samples), tokens, loaded)

    def examples(self) -> list[Example]:
        """Return the training split's examples."""
        return [Example.from_record(record) for record in read_jsonl(self._data / "spider/train.jsonl", RECORD)]
