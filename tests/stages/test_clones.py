"""What another clone gets: adapters through a DVC remote, and the same bytes whatever git does to line ends."""

import hashlib
import shutil
import subprocess

import pytest

from testkit.project import Project

UP_TO_DATE = "Data and pipelines are up to date."


@pytest.fixture(scope="module")
def shared(finished_project, tmp_path_factory):
    """A finished project whose commit names a remote, a folder, to which all is pushed."""
    folder = tmp_path_factory.mktemp("remote")
    project = finished_project.copy(folder / "project")
    project.run("dvc", "remote", "add", "--default", "shared", str(folder / "remote"))
    project.commit("a remote")
    project.run("dvc", "push")
    return project


def clone(project: Project, folder, *options: str) -> Project:
    """Return a clone of `project` in `folder`, without its DVC cache."""
    subprocess.run(["git", *options, "clone", "-q", project.folder, folder], check=True)
    return Project(folder, project.cache, project.python)


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tracked(project: Project) -> dict[str, bytes]:
    names = project.run("git", "ls-files", "-z").stdout.split("\0")[:-1]
    return {name: (project.folder / name).read_bytes() for name in names}


def test_adapters_pushed_from_one_clone_are_pulled_in_another(shared, tmp_path):
    other = clone(shared, tmp_path / "other")
    assert {path.name for path in (other.folder / "models").iterdir()} == {"README.md", "base"}
    other.run("dvc", "pull", "models/m1", "models/m2")
    assert hashes(other.folder / "models") == hashes(shared.folder / "models")
    assert not (other.folder / "data/predictions").exists()
    other.run("dvc", "pull")
    assert UP_TO_DATE in other.run("dvc", "repro").stdout
    assert other.run("git", "status", "--porcelain").stdout == ""


def test_without_a_remote_the_message_names_what_works(finished_project, tmp_path):
    other = clone(finished_project, tmp_path / "other")
    assert other.run("dvc", "pull", check=False).returncode != 0
    done = other.run("python", "-m", "stages.compare", "--show", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: reports/report.md: no such file; `dvc repro` writes it")
    assert "execution_accuracy" in other.run("dvc", "metrics", "show").stdout


def test_a_clone_that_converts_line_ends_is_not_stale(shared, tmp_path):
    other = clone(shared, tmp_path / "other", "-c", "core.autocrlf=true")
    other.run("git", "config", "core.autocrlf", "true")
    assert tracked(other) == tracked(shared)
    other.run("dvc", "pull")
    assert UP_TO_DATE in other.run("dvc", "status").stdout
    other.run("git", "add", "--renormalize", "-A")
    assert other.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("ours", [True, False])
def test_git_converts_line_ends_but_for_our_attributes(repository, tmp_path, ours):
    small = tmp_path / "small"
    small.mkdir()
    (small / "metrics.json").write_bytes(b'{\n  "a": 1\n}\n')
    (small / "windows.csv").write_bytes(b"a,b\r\n1,2\r\n")
    if ours:
        shutil.copyfile(repository / ".gitattributes", small / ".gitattributes")
    project = Project(small)
    project.commit("two files")
    other = clone(project, tmp_path / "other", "-c", "core.autocrlf=true")
    assert (tracked(other) == tracked(project)) is ours


def test_a_run_leaves_the_folder_of_adapters_with_its_readme(finished_project, repository):
    models = finished_project.folder / "models"
    assert {path.name for path in models.iterdir()} == {"README.md", "base", "m1", "m2"}
    assert (models / "README.md").read_bytes() == (repository / "models/README.md").read_bytes()
    assert finished_project.run("git", "status", "--porcelain").stdout == ""
