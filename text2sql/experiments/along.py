"""Ask Spider's questions of a run's adapter at several places of its training: what it had learnt by then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from text2sql.comparison.result import EXECUTION, OFFICIAL
from text2sql.core.dependencies import Key
from text2sql.core.digests import file_sha256
from text2sql.core.journal import Journal
from text2sql.experiments.asking import Asking
from text2sql.experiments.points import Run
from text2sql.experiments.timings import as_one
from text2sql.experiments.trained import Place
from text2sql.model.adapters import WEIGHTS, is_idle
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import KeptBase, free_memory

# Of the metrics on Spider, what is kept of a place.
SHOWN = (
    EXECUTION, "successes", "total", OFFICIAL, f"{OFFICIAL}_low", f"{OFFICIAL}_high", "official_successes",
)  # fmt: skip


@dataclass
class Along:
    """What a run's adapters answered before the end of their training, which the run itself is asked about."""

    places: list[dict[str, Any]]
    end: dict[str, Any]
    timings: dict[str, Any]
    journals: list[Journal]

    def with_end(self, spider: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return all places, the end with the metrics `spider` of the trained adapter."""
        return [*self.places, self.end | _shown(spider)]

    def finished(self) -> None:
        """Remove the journals: the figures are kept elsewhere."""
        for journal in self.journals:
            journal.remove()


def ask_along(run: Run, places: Sequence[Place], data: Path, work: Path, key: Key, load: KeptBase) -> Along:
    """Ask the adapters of all `places` but the last, greedily; see `Asking` for `data`, `work` and `key`."""
    *before, end = places
    along = Along([], _known(end), {}, [])
    timings = []
    for place in before:
        # The rate of a first step may be 0: such an adapter is its base, and does not load.
        adapter = None if is_idle(place.adapter / WEIGHTS) else place.adapter
        model = LanguageModel(run.params.model, adapter, template=run.params.prompt.template, load=load)
        print(f"tradeoff: {run.name}: after step {place.step} of {place.total}: {model.description}", flush=True)
        known = _known(place)
        own = Key.of({"the adapter's weights": known["adapter"]})
        named = replace(run, name=f"{run.name}-at-{place.step}")
        asked = Key({**key.parts, **own.parts})
        asking = Asking(named, model, data, work, asked, mmlu_key=asked)
        along.places.append(known | _shown(asking.spider()[1]))
        along.journals.append(asking.journal("spider"))
        timings.append(asking.timings["spider"])
        del model, asking
        free_memory()
    if timings:
        along.timings["along"] = as_one(timings, stage="along", model=run.name)
    return along


def _known(place: Place) -> dict[str, Any]:
    adapter = file_sha256(place.adapter / WEIGHTS)
    return {"step": place.step, "of": place.total, "examples": place.examples, "adapter": adapter}


def _shown(spider: Mapping[str, Any]) -> dict[str, Any]:
    return {name: spider[name] for name in SHOWN}
