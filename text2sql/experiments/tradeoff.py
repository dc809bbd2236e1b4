"""Run the points of a curve one after another, in one process and without DVC: what specialising gains and costs.

Each run trains (or takes an adapter that is there), answers Spider and MMLU, and is kept, see `kept_runs`. What a kill
leaves unfinished lies below `.tradeoff/`: checkpoints, adapters and answers, all of which the next call goes on from.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_jsonl
from text2sql.data.spider import RECORD
from text2sql.evaluation.verifier import check_other_databases
from text2sql.experiments.along import ask_along
from text2sql.experiments.asking import Asking
from text2sql.experiments.claims import claim
from text2sql.experiments.curve import write_curve
from text2sql.experiments.inputs import mmlu_key, own_key, prepared, prepared_held_out, shared_key
from text2sql.experiments.kept_runs import Answered, changed_since, keep_run, read_run
from text2sql.experiments.points import Curve, Run, Verifier
from text2sql.experiments.trained import Trainings
from text2sql.model.base_identity import base_identity
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase, check_hardware, free_memory
from text2sql.report.curve import CURVES
from text2sql.training.fine_tune import Interrupted
from text2sql.training.reproducible import fix_workspace

WORK = Path(".tradeoff")
POLL_S = 0.5  # between two looks at what other processes are at


def run_curve(curve: Curve, only: Sequence[str] = (), replace: bool = False) -> Path:
    """Run what is not kept of the points of `curve`, or of those named `only`, the base in any case; return the folder.

    Where other processes run the same curve in the same folder, each takes a run that nobody is at, and ends when all
    are kept. A point whose training fails is said and passed over: RunError at the end names all of them. Raises
    UserError where kept points come from another base, other data or other code, unless `replace`, which runs those
    again; Interrupted as `train_adapter` does.
    """
    fix_workspace()  # before anything is computed on a GPU, as training wants it
    check_hardware(curve.params.model, curve.params.train.optim)
    folder = CURVES / curve.name
    # Further seeds last: a curve that is cut short has its points all the same.
    runs = [point.runs[0] for point in curve.points]
    runs += [run for point in curve.points for run in point.runs[1:]]
    if not replace:
        _refuse_another_base(folder, runs, curve)
    runner = _Runner(curve, folder)
    if not replace:
        runner.refuse_others(runs)
    failed = runner.finish_all([run for number, run in enumerate(runs) if not only or not number or run.point in only])
    if failed:
        raise RunError(f"{curve.file}: failed: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))
    return folder


def _refuse_another_base(folder: Path, runs: Sequence[Run], curve: Curve) -> None:
    """Raise UserError where kept runs are of another base: before anything is prepared, which may take minutes."""
    ours = base_identity(curve.params.model).known()
    for run in runs:
        kept = read_run(folder / run.name)
        if kept and kept.get("base") != ours:
            theirs = kept.get("base", {}).get("name", "another base")
            raise UserError(
                f"{folder / run.name}: is of {theirs}, and {curve.file} of {ours['name']}: never drawn together; give "
                "the file another name, or --replace runs its points again"
            )


class _Runner:
    """Finishes the runs of one curve, with one base in memory."""

    def __init__(self, curve: Curve, folder: Path) -> None:
        self._curve, self._folder, self._work = curve, folder, WORK / curve.name
        if curve.held_out:
            self._data = prepared_held_out(curve.params, self._work, curve.held_out)
        else:
            self._data = prepared(curve.params, self._work)
        self.shared = shared_key(curve.params, self._data)
        self._load = KeptBase()
        runs = [run for point in curve.points for run in point.runs]
        self._trainings = Trainings(self._data, self._work, self.shared, self._load, runs)

    def refuse_others(self, runs: Sequence[Run]) -> None:
        """Raise UserError where a kept run comes from other data, code or params than it would now."""
        for run in runs:
            kept = read_run(self._folder / run.name)
            changed = changed_since(kept, self.shared, own_key(run)) if kept else []
            if changed:
                raise UserError(
                    f"{self._folder / run.name}: comes from another {', '.join(changed)}: never drawn together with "
                    f"what {self._curve.file} gives now; --replace runs such points again"
                )

    def finish_all(self, runs: Sequence[Run]) -> dict[str, str]:
        """Finish `runs`, those first that no other process is at; return {run: why} of those whose training failed."""
        failed: dict[str, str] = {}
        waiting = False
        while runs:
            busy = []
            for run in runs:
                with claim(self._work, *self._claimed(run)) as ours:
                    if not ours:
                        busy.append(run)
                        continue
                    try:
                        self._finish(run)
                    except Interrupted:
                        raise
                    except RunError as error:
                        failed[run.name] = str(error)
                        print(f"tradeoff: {run.name}: failed: {error}", flush=True)
                with claim(self._work, "curve", wait=True):
                    write_curve(self._curve, self._folder, self.shared)
            if busy == runs:
                # Not for the first of them alone: what a run waits for may be there before the other process ends it.
                if not waiting:
                    print(f"tradeoff: {busy[0].name}: another process is at it; waiting", flush=True)
                time.sleep(POLL_S)
            waiting, runs = busy == runs, busy
        return failed

    def _claimed(self, run: Run) -> list[str]:
        """Return what a process has to itself while it is at `run`: the run, and trainings that it waits for.

        In one order for all runs, so that no two processes wait for one another.
        """
        return [run.name, *sorted(f"train-{folder.name}" for folder in self._trainings.to_come(run))]

    def _finish(self, run: Run) -> None:
        """Train, answer and keep `run`, unless it is kept already."""
        folder, own = self._folder / run.name, own_key(run)
        kept = read_run(folder)
        if kept and not changed_since(kept, self.shared, own):
            print(f"tradeoff: {run.name}: kept", flush=True)
            return
        key = Key({**self.shared.parts, **own.parts})
        adapter, training = self._trainings.adapter(run) if run.trains else (None, None)
        along = None
        if run.along:
            along = ask_along(run, self._trainings.along(run), self._data, self._work, key, self._load)
        if run.verifier:
            self._train(run.verifier)
        model = LanguageModel(run.params.model, adapter, template=run.params.prompt.template, load=self._load)
        print(f"tradeoff: {run.name}: {model.description}", flush=True)
        of_mmlu = Key({**self.shared.parts, **mmlu_key(run).parts})
        asking = Asking(run, model, self._data, self._work, key, of_mmlu)
        predictions, spider = asking.spider()
        drawn = asking.samples() if run.sampled else None
        choices, mmlu = asking.mmlu()
        answers, chat = asking.chat() if run.in_chat else (None, None)
        del model
        samples, choice = self._chosen(asking, drawn, predictions) if drawn else (None, None)
        content = {
            "point": run.point,
            "seed": run.seed,
            "base": base_identity(run.params.model).known(),
            "spider": spider,
            "mmlu": mmlu,
            **({"choice": choice} if choice else {}),
            **({"chat": chat} if chat else {}),
            **({"along": along.with_end(spider)} if along else {}),
            "training": training and training["metrics"],
            "timings": (training["timings"] if training else {}) | (along.timings if along else {}) | asking.timings,
            "shared": dict(self.shared.parts),
            "own": dict(own.parts),
        }
        keep_run(folder, content, Answered(predictions, choices, answers, samples))
        asking.finished()
        if along:
            along.finished()
        del asking
        free_memory()

    def _train(self, verifier: Verifier) -> None:
        """Train a verifier unless it is there. Raises RunError where it learnt from a database that is asked about."""
        _, about = self._trainings.adapter(verifier)
        asked = [record["db_id"] for record in read_jsonl(self._data / "spider/dev.jsonl", RECORD)]
        try:
            check_other_databases(verifier.name, about["databases"], asked)
        except UserError as error:  # of the points that it would judge: the others go on
            raise RunError(str(error)) from None

    def _chosen(
        self, asking: Asking, drawn: Sequence[dict], predictions: Sequence[dict]
    ) -> tuple[list[dict], dict[str, Any]]:
        """Return what `Asking.chosen` does, where the run has a verifier by what that says of the samples `drawn`.

        In memory it takes the place of the model that drew them.
        """
        verifier = asking.run.verifier
        if verifier is None:
            return asking.chosen(drawn, predictions)
        folder, training = self._trainings.adapter(verifier)
        del asking.model
        free_memory()
        params = verifier.params.model.model_copy(update={"strength": 1})
        asking.model = LanguageModel(params, folder, template=verifier.params.prompt.template, load=self._load)
        print(f"tradeoff: {asking.run.name}: verifier {verifier.name}: {asking.model.description}", flush=True)
        samples, choice = asking.chosen(drawn, predictions, asking.verify(drawn, verifier))
        choice["verifier"] = {"name": verifier.name, **choice.get("verifier", {}), "training": training["metrics"]}
        asking.timings |= {f"verifier_{task}": timing for task, timing in training["timings"].items()}
        return samples, choice
