"""`make sweep`: experiments over learning rates through DVC's own queue."""

import re
import shutil

import pytest

# The environment is this one: nothing is installed. The tests may themselves be run by a make, with options of its own.
MAKE = ("env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "-o", ".venv/installed", "sweep")


@pytest.fixture
def project(finished_project, repository, tmp_path):
    copy = finished_project.copy(tmp_path / "project")
    shutil.copy(repository / "Makefile", copy.folder)
    return copy


def test_without_rates_it_says_what_it_wants_and_queues_nothing(project):
    done = project.run(*MAKE, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: LR: is empty; wanted rates, as in make sweep LR="5e-4 1e-3"\n')
    assert "Queued" not in project.run("dvc", "queue", "status").stdout


@pytest.mark.long
def test_each_rate_is_an_experiment_and_the_best_comes_first(project):
    # A copy of the data that git does not hold, as a person's spider_data.zip.
    shutil.copytree(project.folder / "data/sample/spider", project.folder / "untracked")
    (project.folder / ".git/info/exclude").write_text("/untracked\n")
    project.set_params({"data": {"spider": "untracked"}})
    params = (project.folder / "params.yaml").read_bytes()
    metrics = (project.folder / "metrics/compare.json").read_bytes()
    done = project.run(*MAKE, "LR=foo 5e-4 1e-2", "COPY=untracked")
    printed = done.stdout
    assert len(re.findall("Running stage 'train_m1'", printed)) == 2
    assert "Failed to reproduce experiment(s)" in printed + done.stderr  # the rate that is none
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[:1] == "|"]
    headings, experiments = rows[0], [row for row in rows[2:] if row[0][0] in "├└"]
    assert headings[1] == "spider_execution_accuracy_m1"
    assert {row[headings.index("train.lr")] for row in experiments} == {"0.0005", "0.01"}
    accuracies = [float(row[1]) for row in experiments]
    assert accuracies == sorted(accuracies, reverse=True)
    # The workspace stays as it was.
    assert (project.folder / "params.yaml").read_bytes() == params
    assert (project.folder / "metrics/compare.json").read_bytes() == metrics
