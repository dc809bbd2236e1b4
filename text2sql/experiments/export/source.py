"""What is exported: one of the project's models, or an adapter in a folder of its own that brings its params."""

from dataclasses import dataclass
from pathlib import Path

from text2sql.core.errors import UserError, did_you_mean
from text2sql.core.params import Params, load_params
from text2sql.core.paths import METRICS, adapter_of
from text2sql.model.adapters import WEIGHTS, check_adapter
from text2sql.model.whole_model import is_whole
from text2sql.report import lock
from text2sql.report.stale import LOCK

RESULTS = Path("results")
PARAMS = "params.yaml"


@dataclass(frozen=True)
class Source:
    """A model with the params that it was evaluated with.

    `folder` holds its adapter, or a whole model; None is the base itself. `measured` holds its metrics as the project's
    `metrics/` does, None where they are not there or are another adapter's; `model` is its name in them.
    """

    name: str
    model: str
    params: Params
    folder: Path | None
    measured: Path | None

    @property
    def is_adapter(self) -> bool:
        """Whether it is a base with an adapter."""
        return self.folder is not None and not is_whole(self.folder)


def find_source(name: str, params_file: Path | None = None) -> Source:
    """Return the model `name` of params.yaml, or the adapter in the folder `name`.

    A folder's own params.yaml comes before the project's. Raises UserError where there is no such model, or its adapter
    is missing, damaged or unfinished.
    """
    folder = Path(name)
    if folder.is_dir() and (folder / PARAMS).is_file():
        check(folder)
        # The set that the adapter is of, as `text2sql results adapter` stores them.
        measured = RESULTS / folder.name / METRICS
        params = load_params(params_file or folder / PARAMS)
        return Source(folder.name, params.model_table.tuned[0], params, folder, measured if measured.is_dir() else None)
    params = load_params(params_file or PARAMS)
    table = params.model_table
    if name not in table.names:
        known = ", ".join(table.names)
        raise UserError(
            f"{name}: no model of params.yaml ({known}){did_you_mean(name, table.names)}, and no folder of an "
            f"adapter with a {PARAMS}"
        )
    adapter = adapter_of(name, table.base)
    if adapter is not None:
        check(adapter)
    return Source(name, name, params, adapter, METRICS if _is_measured(name, adapter) else None)


def check(folder: Path) -> None:
    """Raise UserError unless `folder` holds a finished adapter, or a whole model."""
    if not is_whole(folder):
        if folder.is_dir() and not (folder / WEIGHTS).is_file():
            raise UserError(f"{folder}: has no {WEIGHTS}: its training has not finished; `dvc repro` goes on with it")
        check_adapter(folder)


def _is_measured(name: str, adapter: Path | None) -> bool:
    """Whether metrics/ is of this adapter, as far as dvc.lock tells: without one, what lies there is taken."""
    if not (METRICS / f"spider/{name}.json").is_file():
        return False
    return adapter is None or is_of_last_run(f"predict_spider@{name}", adapter)


def is_of_last_run(stage: str, path: Path) -> bool:
    """Whether `path` is as `stage` last read it, by dvc.lock; True where that says nothing of it."""
    if not LOCK.is_file():
        return True
    stages = lock.read_stages(LOCK)
    known = {dep: md5 for _, dep, md5 in lock.read({stage: stages[stage]})} if stage in stages else {}
    return path.as_posix() not in known or lock.md5(path) == known[path.as_posix()]
