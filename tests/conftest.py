"""What several test files share."""

import functools
import gc
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

# Before any library is imported: no network, no telemetry.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] = "YES"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The models are so small that a second thread waits more than it works, and `make test` has a process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parent.parent
# Fixtures that run a whole pipeline. Whoever uses one, by another fixture too, names it in the file.
PIPELINES = ("finished_project", "run_stages")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Have one of pytest-xdist's processes run all tests of a group, in the order in which they were found.

    `--dist loadgroup` would do it, but in 3.8 has no effect under pytest 9.2: it writes an attribute that is not read.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid.partition("::")[0])

    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: the pipelines, and the files with long tests. Skip what needs a GPU or an engine
    that is not here.
    """
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: (_group_of(item.nodeid.partition("::")[0]) not in PIPELINES, item.path not in long))
    needs = (("gpu", _has_gpu, "needs a GPU"), ("engine", _has_llama_cpp, "needs llama.cpp: `make llama-cpp`"))
    for name, is_there, reason in needs:
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    """Leave what is imported by now, some millions of objects, out of every later search for garbage.

    A full one would take half a second, and statsmodels asks for one at each adjustment of p values.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Say in one line each what was skipped and what it needs."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")


@functools.cache
def _group_of(file: str) -> str:
    """Return the whole pipeline that tests in `file`, relative to the repository, make or share; or else `file`."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    return next((pipeline for pipeline in PIPELINES if pipeline in text), file)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _has_llama_cpp() -> bool:
    from text2sql.core.errors import UserError
    from text2sql.experiments.export.engines import ENGINES

    try:
        ENGINES["llama.cpp"].require()
    except UserError:
        return False
    return True


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory) -> Path:
    """A Llama of two small layers with SmolLM2's template and some of its tokens, random but fixed: quick."""
    from testkit.random_models import write_micro_model

    return write_micro_model(tmp_path_factory.mktemp("micro") / "model")


@pytest.fixture(scope="session")
def warm():
    """The folder of a `python`, a `dvc` and a `text2sql` that have the libraries loaded: see `testkit.warm`."""
    from testkit.warm import warm_python

    with warm_python() as folder:
        yield folder


@pytest.fixture(scope="session")
def finished_project(repository, micro_model, warm, tmp_path_factory):
    """A project of its own after `dvc repro` with the micro model, committed. Tests work on copies of it.

    Three of its stages start as a user's do; the others have the libraries loaded.
    """
    from testkit.project import Project

    project = Project.create(repository, tmp_path_factory.mktemp("finished") / "project", micro_model)
    project.commit("the project")
    project.first_run = project.run("dvc", "repro", "predict_spider@m1").stdout
    project.python = warm
    project.first_run += project.run("dvc", "repro").stdout
    project.commit("its results")
    return project


@pytest.fixture(scope="session")
def run_stages(micro_model, tmp_path_factory):
    """The folder of a project in which every stage has run undisturbed, and how many seconds each took.

    Meanwhile `testkit.forked.Stage` starts processes that have the libraries loaded.
    """
    from testkit.forked import SETTINGS, Stage, stages_ready
    from testkit.project import Project

    folder = tmp_path_factory.mktemp("finished") / "project"
    Project.create(REPOSITORY, folder, micro_model, SETTINGS)
    seconds = {}
    stages = ["prepare", "train m1", "train m2"]
    stages += [f"{s} {model}" for s in ("predict_spider", "eval_spider", "eval_mmlu") for model in ("base", "m1", "m2")]
    with stages_ready(folder.with_name("cache")):
        for name in [*stages, "sample_spider m1", "choose_spider m1", "eval_mmlu_chat base", "compare"]:
            stage = Stage(name, folder)
            assert stage.wait() == 0, stage.output.read_text()
            seconds[name] = stage.seconds
        yield folder, seconds


@pytest.fixture
def copy(run_stages, tmp_path):
    """The folder of a copy of that project."""
    folder = tmp_path / "project"
    shutil.copytree(run_stages[0], folder)
    return folder


@pytest.fixture(scope="session")
def spider_zip() -> Path:
    """The real Spider archive, where `SPIDER_ZIP` names it or it lies beside the repository."""
    return _real_data("SPIDER_ZIP", "spider_data.zip")


@pytest.fixture(scope="session")
def mmlu_zip() -> Path:
    """The real MMLU archive, where `MMLU_ZIP` names it or it lies beside the repository."""
    return _real_data("MMLU_ZIP", "mmlu.zip")


def _real_data(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or REPOSITORY.parent / "shared" / "data" / name)
    if not path.is_file():
        pytest.skip(f"needs the real {name}: {variable} names no file")
    return path
