"""Answers of a point's adapter to training questions, drawn once and judged: what other points learn from."""

from collections.abc import Callable, Sequence
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
from text2sql.experiments.inputs import answers_key, training_key
from text2sql.experiments.points import Learning, Run
from text2sql.experiments.timings import as_one
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase
from text2sql.model.run_key import as_measured
from text2sql.scoring.judged import Drawn, JudgedQuestion, counts_of, judged, read_judged, write_judged
from text2sql.training.folds import Fold, folds_of

HOW = {"samples", "temperature", "top_p", "seed"}  # of the params, how answers are drawn


class TrainingAnswers:
    """Judged answers below the folder `work`, to the training questions of the prepared benchmarks in `data`.

    `adapter_of` trains or finds the adapter of a run, without a fold's databases where there are folds, and says how
    long that took. Neither held-out questions nor those of dev are read.
    """

    def __init__(
        self,
        data: Path,
        work: Path,
        shared: Key,
        load: KeptBase,
        adapter_of: Callable[[Run, Fold | None], tuple[Path, dict[str, Any]]],
    ) -> None:
        self._data, self._work, self._shared, self._load = data, work, shared, load
        self._adapter_of = adapter_of

    def of(self, learns: Learning) -> tuple[list[JudgedQuestion], dict[str, Any]]:
        """Return the questions with their answers, drawn now unless they are there; what is known of them, `timings`.

        Where other processes draw them, those of another fold are drawn meanwhile. Raises UserError where no
        question's database is there or a prompt does not fit the model.
        """
        asked = self.examples()[: learns.answers.limit]
        there = {db_id for db_id in {one.db_id for one in asked} if database_below(self._data, db_id).is_file()}
        examples = [example for example in asked if example.db_id in there]
        if not examples:
            raise UserError(f"answers: the database of none of the {len(asked)} training questions is there")
        folds = folds_of((example.db_id for example in self.examples()), learns.answers.folds)
        folds = [fold for fold in folds if fold is None or fold.databases & there]  # `limit` may leave some unasked
        found: dict[Fold | None, tuple[Path, dict[str, Any]]] = {}
        for wait in (False, True):
            for fold in folds:
                if fold not in found:
                    name = f"answers-{self._key(learns, fold).digest}"
                    with claim(self._work, name, wait=wait) as ours:
                        if ours:
                            found[fold] = self._of_fold(learns, fold, examples)
        questions = [question for path, _ in found.values() for question in read_judged(path, examples)[1]]
        questions.sort(key=lambda question: question.index)
        drawn = {"model": str(learns.teacher.trained_as), **learns.answers.model_dump()} | counts_of(questions)
        drawn |= {"without_database": len(asked) - len(examples)}
        timings = [about for _, about in found.values()]
        return questions, {
            "drawn": drawn,
            "timings": {task: as_one([one[task] for one in timings]) for task in timings[0]},
        }

    def _key(self, learns: Learning, fold: Fold | None) -> Key:
        training = {"the training": dict(training_key(learns.teacher, fold).parts)}
        return Key({**self._shared.parts, **answers_key(learns).parts, **Key.of(training).parts})

    def _of_fold(self, learns: Learning, fold: Fold | None, examples: Sequence[Example]) -> tuple[Path, dict[str, Any]]:
        """Return the file of answers to one fold's questions, or to all, and the timings."""
        adapter, about_adapter = self._adapter_of(learns.teacher, fold)
        key = self._key(learns, fold)
        own = Key.of({"the adapter": digest_of_tree(adapter)})
        journal_key = Key({**key.parts, **own.parts})
        path, about = (self._work / "answers" / f"{journal_key.digest}.{ending}" for ending in ("jsonl.gz", "json"))
        name = f"{learns.teacher.trained_as}{f'-{fold.name}' if fold else ''}"
        journal = Journal(f"answers-{name}", journal_key, folder=self._work / "journals")
        if not about.is_file():
            asked = [example for example in examples if fold is None or example.db_id in fold.databases]
            timings = self._draw(learns, name, adapter, asked, journal, path)
            write_json(about, timings | ({"train_folds": about_adapter["timings"]["train"]} if fold else {}))
        journal.remove()  # also where a run was killed when it had written the answers
        return path, read_json(about)

    def _draw(
        self,
        learns: Learning,
        name: str,
        adapter: Path,
        examples: Sequence[Example],
        journal: Journal,
        path: Path,
    ) -> dict[str, Any]:
        """Draw and judge answers, write the file `path`, and return how long either took."""
        wanted = learns.answers
        samples, draw = self._samples(learns, name, adapter, examples, journal)
        measure_anew()
        stopwatch = Stopwatch()
        limits = Limits(**learns.teacher.params.execution.model_dump())
        database_of = partial(database_below, self._data)
        lines = judged(examples, samples, database_of, limits, cache_dir=user_cache() / "gold")
        judge = stopwatch.write(self._work / "timings" / f"{name}-judge.json", "judge", name, len(lines))
        header = Drawn(name, digest_of_tree(adapter), limit=wanted.limit, **wanted.model_dump(include=HOW))
        write_judged(path, header, lines)
        return {"draw": draw, "judge": judge}

    def _samples(
        self, learns: Learning, name: str, adapter: Path, examples: Sequence[Example], journal: Journal
    ) -> tuple[list[dict], dict[str, Any]]:
        """Return the samples of `examples`, as `sample_answers` does, and how long it took."""
        params = learns.teacher.params
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
