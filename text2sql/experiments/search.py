"""Search for a recipe on held-out training databases: trials drawn by Optuna, each trained, asked and scored.

The dev split is never read: `hold_out` takes the train split apart, and its held-out part stands where dev would. What
a kill leaves unfinished lies below `.search/`: Optuna's journal, checkpoints, adapters and answers, all of which the
next call goes on from. Finished trials are kept, see `kept_runs`.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text2sql.comparison.result import EXECUTION
from text2sql.core.dependencies import Key
from text2sql.core.digests import digest_of
from text2sql.core.errors import RunError, UserError, is_out_of_memory
from text2sql.core.files import write_json, write_text
from text2sql.core.params import changed
from text2sql.experiments.asking import Asking
from text2sql.experiments.claims import claim
from text2sql.experiments.inputs import own_key, prepared_held_out, shared_key
from text2sql.experiments.kept_runs import Answered, changed_since, keep_run, read_run
from text2sql.experiments.points import Run
from text2sql.experiments.search_space import Search
from text2sql.experiments.trained import Trainings
from text2sql.model.base_identity import base_identity
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase, check_hardware, free_memory
from text2sql.report.search import search_table
from text2sql.training.fine_tune import Interrupted
from text2sql.training.reproducible import fix_workspace

SEARCHES = Path("results/search")
WORK = Path(".search")
STARTING_TRIALS = 3  # drawn at random before Optuna's model of what is good takes over
REDRAWN = 20  # how often a draw that repeats a trial is drawn anew, before it counts


def run_search(search: Search, trials: int, replace: bool = False) -> Path:
    """Run trials until so many are finished, those of earlier calls included; return the folder of the results.

    The first is the recipe as it stands, where it lies in the space. A trial that fails (its training diverges, memory
    runs out, its values do not go together) is finished too, and says why. Raises UserError where earlier trials come
    from other data, code, base or space, unless `replace`, which begins anew; RunError where another process is at it;
    Interrupted as `train_adapter` does.
    """
    fix_workspace()  # before anything is computed on a GPU, as training wants it
    check_hardware(search.params.model, search.params.train.optim)
    work, folder = WORK / search.name, SEARCHES / search.name
    with claim(work, "search") as ours:
        if not ours:
            raise RunError(f"{work}: another process is at this search")
        data = prepared_held_out(search.params, work, search.held_out, mmlu=False)
        shared = shared_key(search.params, data)
        study = _Study(search, work / "journal.log", shared, replace)
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        runner = _Runner(search, folder, work, data, shared)
        if len(study.finished()) < trials:
            runner.load_base()  # what is wrong with it is no trial's failure
        while len(study.finished()) < trials:
            with study.trial() as trial:
                number = len(study.finished())
                runner.finish(trial, number)
            runner.write(study.finished())
        runner.write(study.finished())
    return folder


class _Study:
    """Optuna's study of one search, in a journal on disk."""

    def __init__(self, search: Search, journal: Path, shared: Key, replace: bool) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError("text2sql search needs Optuna: pip install optuna") from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self._search, self._optuna = search, optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if replace:
            journal.unlink(missing_ok=True)
        # A killed process may have left Optuna's lock, for which it would wait; this one has the search to itself.
        Path(f"{journal}.lock").unlink(missing_ok=True)
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._distributions = {name: place.distribution() for name, place in search.space.items()}
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal.absolute()))),
            study_name=search.name,
            direction="maximize",
            load_if_exists=True,
        )
        self._check(shared)

    def _check(self, shared: Key) -> None:
        """Raise UserError where earlier trials come from something else; take what a kill left up again."""
        space = {name: self._optuna.distributions.distribution_to_json(d) for name, d in self._distributions.items()}
        own = Key.of({"space": space, "seed": self._search.seed, "recipe": _recipe(self._search)})
        key = Key({**shared.parts, **own.parts})
        before = self._study.user_attrs.get("key")
        if before is None:
            self._study.set_user_attr("key", dict(key.parts))
            recipes_own = self._search.recipes_own()
            if recipes_own is None:
                print("search: the recipe as it stands lies outside the space, and is no trial", flush=True)
            else:
                self._study.enqueue_trial(recipes_own)
        elif changes := key.changed_from(Key(before)):
            raise UserError(
                f"{self._search.file}: its trials come from another {', '.join(changes)}: never compared with what it "
                "gives now; --replace begins anew"
            )
        for trial in self._study.get_trials(states=(self._optuna.trial.TrialState.RUNNING,)):
            self._leave_out(trial.number)
            if not _counts(trial):
                self._study.enqueue_trial(trial.params)

    def _leave_out(self, number: int) -> None:
        """End a trial that does not count: it was killed, or repeats another."""
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def finished(self) -> list[Any]:
        """Return the trials that count, in the order in which they ran: those that gave a value, or say why not."""
        return [trial for trial in self._study.get_trials() if trial.state.is_finished() and _counts(trial)]

    @contextlib.contextmanager
    def trial(self) -> Iterator[Any]:
        """Yield the next trial; at the end it counts, with its value or the line that says how it failed.

        A signal, or an error that is none of the trial's, leaves it to the next call.
        """
        state = self._optuna.trial.TrialState
        trial = self._ask()
        try:
            yield trial
        except Interrupted:
            raise
        except (UserError, RunError) as error:
            line = str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            line = "out of memory"
        else:
            self._study.tell(trial, trial.user_attrs["trial"]["spider"][EXECUTION])
            return
        print(f"search: trial {len(self.finished())}: failed: {line}", flush=True)
        trial.set_user_attr("trial", {"changes": self._search.changes(trial.params), "failed": line})
        self._study.tell(trial, state=state.FAIL)

    def _ask(self) -> Any:
        """Return the next trial: the same one in a search that was interrupted as in one that was not."""
        done = self.finished()
        drawn_before = [trial.params for trial in done]
        for attempt in range(REDRAWN + 1):
            seed = int(digest_of([self._search.seed, len(done), attempt])[:8], 16)
            # TPE insists on what it takes for the best: drawn anew, a trial is drawn at random.
            starting = STARTING_TRIALS if attempt == 0 else len(done) + 1
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=starting)
            trial = self._study.ask(self._distributions)
            if trial.params not in drawn_before or attempt == REDRAWN:
                break
            self._leave_out(trial.number)
        return trial


def _counts(trial: Any) -> bool:
    """Whether a trial has its value, or the line that says how it failed."""
    return trial.value is not None or bool(trial.user_attrs.get("trial", {}).get("failed"))


def _recipe(search: Search) -> dict[str, Any]:
    """Return what all trials share of the params, but for the data, whose content is part of the shared key."""
    return search.params.model_dump(include={"prompt": True, "train": True})


class _Runner:
    """Trains, asks and keeps trials, with one base in memory."""

    def __init__(self, search: Search, folder: Path, work: Path, data: Path, shared: Key) -> None:
        self._search, self._folder, self._work, self._data, self._shared = search, folder, work, data, shared
        self._load = KeptBase()
        self._trainings = Trainings(data, work, shared, self._load)

    def load_base(self) -> None:
        """Load the base, which trials then find in memory. Raises as `load_base` of `text2sql.model.loading` does."""
        self._load(self._search.params.model)
        free_memory()

    def finish(self, trial: Any, number: int) -> None:
        """Train and ask one trial, keep its answers, and note what came of it. Raises as training and asking do."""
        free_memory()  # of a trial that failed, whose error has held its tensors until now
        changes = self._search.changes(trial.params)
        print(f"search: trial {number}: " + ", ".join(f"{key} {value}" for key, value in changes.items()), flush=True)
        params = changed(self._search.params, changes, f"{self._search.file}: trial {number}")
        name = f"trial-{digest_of(dict(sorted(changes.items())))[:8]}"
        run = Run(name, name, params.train.seed, params, trained_as=name)
        own = own_key(run)
        kept = read_run(self._folder / name)
        if kept is None or changed_since(kept, self._shared, own):
            kept = self._run(run, own)
        print(f"search: trial {number}: {100 * kept['spider'][EXECUTION]:.2f} % right", flush=True)
        trial.set_user_attr("trial", {"changes": changes, "failed": None, "run": name, **_figures(kept)})

    def _run(self, run: Run, own: Key) -> dict[str, Any]:
        key = Key({**self._shared.parts, **own.parts})
        adapter, training = self._trainings.adapter(run)
        model = LanguageModel(run.params.model, adapter, template=run.params.prompt.template, load=self._load)
        asking = Asking(run, model, self._data, self._work, key, key)
        predictions, spider = asking.spider()
        content = {
            "base": base_identity(run.params.model).known(),
            "spider": spider,
            "mmlu": {},
            "training": training["metrics"],
            "timings": training["timings"] | asking.timings,
            "shared": dict(self._shared.parts),
            "own": dict(own.parts),
        }
        keep_run(self._folder / run.name, content, Answered(predictions))
        asking.finished()
        shutil.rmtree(adapter)  # a search's recipe is trained again, on all databases
        del model, asking
        free_memory()
        return content

    def write(self, finished: list[Any]) -> None:
        """Write `search.json` and `search.md` of the trials that are finished."""
        trials = [trial.user_attrs["trial"] | {"number": number} for number, trial in enumerate(finished)]
        right = {trial["number"]: trial["spider"][EXECUTION] for trial in trials if not trial["failed"]}
        varied = list(dict.fromkeys(key for trial in trials for key in trial["changes"]))
        totals = [trial["spider"]["total"] for trial in trials if not trial["failed"]]
        content = {
            "name": self._search.name,
            "recipe": self._search.recipe,
            "base": base_identity(self._search.params.model).known(),
            "held_out": self._search.held_out.model_dump(),
            "databases": self._search.held_out.databases,
            "questions": totals[0] if totals else 0,
            "varied": varied,
            # Of equal ones the first, which is the recipe as it stands if it is among them.
            "best": max(right, key=lambda number: (right[number], -number)) if right else None,
            "trials": trials,
            "made_of": dict(self._shared.parts),
        }
        write_json(self._folder / "search.json", content)
        write_text(self._folder / "search.md", search_table(content))


def _figures(kept: Mapping[str, Any]) -> dict[str, Any]:
    timings = kept["timings"]
    return {
        "spider": kept["spider"],
        "final_loss": kept["training"]["final_loss"],
        "examples_left_out": kept["training"]["examples_left_out"],
        "seconds": {task: timing["seconds"] for task, timing in timings.items()},
        "peak_memory_gb": {
            task: timing["peak_gpu_memory_gb"] or timing["peak_memory_gb"] for task, timing in timings.items()
        },
    }
