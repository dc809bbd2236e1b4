"""From typing a stage's command to its first batch, in this checkout and in an older one.

Each has a project of its own: its code, its params.yaml with the same base, data and sizes, prepared by its own stage.
The command of a stage is a process of its own, which `benchmarks/hook` ends where the first batch goes into the model.
Each command is started once to warm up, then in turns: what a first start keeps, the next one finds.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.machine import on_gpu
from benchmarks.material import REPOSITORY, SAMPLE_MMLU, SAMPLE_SPIDER
from benchmarks.measuring import Side, Unavailable, compared, in_turns, result
from benchmarks.projects import packages_on_path
from benchmarks.targets import TARGETS, row

HOOK = Path(__file__).parent / "hook"
STAGES = {"predict": ("predict_spider", "base"), "mmlu": ("eval_mmlu", "base"), "train": ("train", "m1")}
SECONDS = {"predict": 6, "mmlu": 6, "train": 8}
CODE = ("stages", "text2sql", "hub", "data/few_shot.json", "models/base", "dvc.yaml", "params.yaml")


def measure_against(
    older: Path,
    model: str,
    spider: Path = SAMPLE_SPIDER,
    mmlu: str = str(SAMPLE_MMLU),
    repeats: int = 3,
    stages: Sequence[str] = tuple(STAGES),
    profile: Path | None = None,
) -> dict:
    """Return the seconds of both checkouts' commands, this one's and that in the folder `older`.

    `model` is a base's folder. With `profile`, a folder, this checkout's commands then run once more under cProfile.
    """
    if not (older / "stages").is_dir():
        raise Unavailable(f"{older} is no checkout of this project: it has no stages/")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        projects = {"now": Path(folder) / "now", "before": Path(folder) / "before"}
        for checkout, project in zip((REPOSITORY, older), projects.values(), strict=True):
            _create(checkout.resolve(), project, Path(model).resolve(), spider, mmlu)
        sides = {
            (stage, name): CommandSide(f"{stage}, {name}", project, STAGES[stage])
            for stage in stages
            for name, project in projects.items()
        }
        in_turns(list(sides.values()), repeats)
        for stage in stages if profile else ():
            sides[stage, "now"].profile(Path(profile) / f"{stage}.prof")
    rows = []
    for stage in stages if on_gpu() and "0.5b" in str(model).lower() else ():
        now, before = sides[stage, "now"], sides[stage, "before"]
        rows.append(row(f"start-{stage}", now.median, before.median, command=_command(model, spider, mmlu, repeats)))
    return result(
        "first batch",
        f"from typing a stage's command to its first batch, {Path(model).name}, second start",
        {"repeats": repeats},
        list(sides.values()),
        [_compared(stage, sides[stage, "now"], sides[stage, "before"]) for stage in stages],
        rows=rows,
        notes=[f"{side.name}: {side.processor_seconds:.2f} s of processor time" for side in sides.values()],
    )


def _compared(stage: str, now: Side, before: Side) -> dict:
    goal = TARGETS[f"start-{stage}"].goal
    found, quick = compared(now, before, goal, None), now.median <= SECONDS[stage]
    words = {True: "met", False: "missed"}
    text = f"≥ {goal:g} ×: {words[found['goal_met']]}; {SECONDS[stage]} s: {words[quick]}"
    return found | {"ours": now.name, "goal_text": text}


def _command(model: str, spider: Path, mmlu: str, repeats: int) -> str:
    data = f" --spider {spider.name}" if spider != SAMPLE_SPIDER else ""
    data += f" --mmlu {Path(mmlu).name}" if mmlu != str(SAMPLE_MMLU) else ""
    base = Path(model).name
    return f"python -m benchmarks.bench_startup --against FOLDER --model {base}{data} --repeats {repeats} --save"


def _create(checkout: Path, project: Path, model: Path, spider: Path, mmlu: str) -> None:
    """Make a project in the folder `project` with the code of `checkout`, and prepare its data."""
    project.mkdir()
    for name in CODE:
        source, target = checkout / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copyfile(source, target)
    base = str(model)
    train = {"batch_size": 8, "grad_accum": 1, "optim": "adamw_torch", "max_seq_len": 2048}
    dtype = "bfloat16" if on_gpu() else "float32"
    _set_params(
        project / "params.yaml",
        {
            "model": {"base": base, "files": base, "dtype": dtype, "loader": "transformers", "quantization": "none"},
            "data": {"spider": str(spider), "mmlu": str(mmlu), "train_limit": None, "dev_limit": None},
            "prompt": {"schema": "ddl", "few_shot": 0},
            "train": train,
            "generation": {"max_new_tokens": 256, "batch_size": 256},
            "mmlu": {"subjects": "all" if mmlu != str(SAMPLE_MMLU) else None, "limit": None, "batch_size": 128},
        },
    )
    subprocess.run([sys.executable, "-m", "stages.prepare"], cwd=project, env=_environment(project), check=True)


def _set_params(path: Path, changes: dict) -> None:
    """Change those params that the file has: an older one lacks some, and would not take them. None stays as it is."""
    yaml = YAML()
    params = yaml.load(path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        known = {key: value for key, value in values.items() if key in params[section]}
        keep = {"subjects"} if values.get("subjects", "") is None else set()
        params[section].update({key: value for key, value in known.items() if key not in keep})
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def _environment(project: Path, hook: Path | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a command: as a user types it, with a cache of the project's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    path = os.pathsep.join([*([str(hook)] if hook else []), *packages_on_path()])
    cache = project.with_name(f"{project.name}-cache")
    return {**kept, "PYTHONPATH": path, "XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1", **more}


class CommandSide(Side):
    """A side that is a command, timed from its start to its first batch."""

    processor_seconds = 0.0  # of the last run, all of its threads together

    def __init__(self, name: str, project: Path, stage: tuple[str, str]) -> None:
        super().__init__(name, lambda: None)
        self._project, self._stage = project, stage

    def run(self) -> float:
        """Start the command, and return the seconds until its first batch. Raises RuntimeError where it has none."""
        return self._start({})

    def profile(self, path: Path) -> None:
        """Start the command under cProfile, which writes `path`; print what took longest."""
        import pstats

        path.parent.mkdir(parents=True, exist_ok=True)
        self._start({"FIRST_BATCH_PROFILE": str(path.resolve())})
        print(f"{self.name}, under cProfile, which makes all of it slower:")
        pstats.Stats(str(path)).sort_stats("cumulative").print_stats(60)
        pstats.Stats(str(path)).sort_stats("tottime").print_stats(30)

    def _start(self, more: dict[str, str]) -> float:
        found = self._project / "first-batch"
        found.unlink(missing_ok=True)
        environment = _environment(self._project, HOOK, FIRST_BATCH_FILE=str(found), **more)
        before = _processor_seconds()
        started = time.time()
        command = [sys.executable, "-m", f"stages.{self._stage[0]}", *self._stage[1:]]
        done = subprocess.run(command, cwd=self._project, env=environment, capture_output=True, text=True)
        self.processor_seconds = _processor_seconds() - before
        if not found.is_file():
            raise RuntimeError(f"{self.name}: ended without a batch:\n{done.stdout[-500:]}\n{done.stderr[-2000:]}")
        return float(found.read_text()) - started


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
