"""A copy of this project in a folder of its own, with a micro model: real stages, real DVC, seconds, not minutes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

COPIED = (
    ".dvc/config",
    ".dvc/plots",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitattributes",
    ".gitignore",
    "data/few_shot.json",
    "data/log_odds",
    "data/sample",
    "dvc.yaml",
    "hub",
    "models/README.md",
    "models/base",
    "params.yaml",
    "results/tradeoff",
    "stages",
    "text2sql",
)
NOT_COPIED = ("*.gz", "run.json")  # of the curves' runs: megabytes that no stage reads

# As small as shows everything: a model of two layers learns, answers and is compared.
SMALL = {
    "model": {"dtype": "float32"},
    "data": {"train_limit": 24, "dev_limit": 10},
    "train": {"lr": 2e-3, "batch_size": 4, "max_seq_len": 512},
    "train_m2": {"epochs": 1, "batch_size": 4},
    "generation": {"max_new_tokens": 6, "batch_size": 4},
    "mmlu": {"limit": 4, "batch_size": 3},
    "compare": {"bootstrap_samples": 200},
}


class Project:
    """The copy in `folder`, and commands in it."""

    first_run = ""  # what `dvc repro` printed until all stages had run

    def __init__(self, folder: Path, cache: Path | None = None, python: Path = Path(sys.executable).parent) -> None:
        """Commands keep what they compute once a user, such as results of gold queries, in the folder `cache`.

        `python` is the folder in which they find `python`: this one's, or that of `testkit.warm`.
        """
        self.folder, self.cache, self.python = folder, cache or folder.with_name("cache"), python

    @classmethod
    def create(cls, repository: Path, folder: Path, base: Path, changes: dict | None = None) -> "Project":
        """Copy `repository` into `folder`, with the model `base` and small params, `changes` among them."""
        for name in COPIED:
            source, target = repository / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", *NOT_COPIED))
            else:
                shutil.copyfile(source, target)
        project = cls(folder)
        for part in (SMALL, {"model": {"base": str(base), "files": str(base)}}, changes or {}):
            project.set_params(part)
        return project

    def copy(self, folder: Path) -> "Project":
        """Return a copy of the whole project in `folder`, which is not there yet: its data, DVC's cache and commits."""
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=_copy_or_link)
        return Project(folder, self.cache, self.python)

    def set_params(self, changes: dict) -> None:
        """Change params.yaml, section by section, keeping the rest."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        params = yaml.load(path.read_text())
        for section, values in changes.items():
            params[section].update(values)
        with path.open("w") as file:
            yaml.dump(params, file)

    def environment(self, **changes: str) -> dict[str, str]:
        """Return an environment in which `python` is this one, as after `. .venv/bin/activate`."""
        path = os.pathsep.join([str(self.python), str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
        fixed = {"PATH": path, "XDG_CACHE_HOME": str(self.cache), "DVC_NO_ANALYTICS": "true", "HF_HUB_OFFLINE": "1"}
        return {**kept, **fixed, **changes}

    def run(self, *command: str, check: bool = True, **changes: str) -> subprocess.CompletedProcess:
        """Run `command` in the copy; with `check`, show its output where it fails."""
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment(**changes), capture_output=True, text=True
        )
        if check and result.returncode:
            output = f"{result.stdout}\n{result.stderr}"
            raise AssertionError(f"{' '.join(command)}: exit code {result.returncode}\n{output}")
        return result

    def commit(self, message: str) -> None:
        """Commit all that is not ignored."""
        if not (self.folder / ".git").exists():
            self.run("git", "init", "-q", "-b", "main")
            self.run("git", "config", "user.name", "Somebody")
            self.run("git", "config", "user.email", "somebody@example.com")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)


def _copy_or_link(source: str, target: str) -> None:
    """Copy a file; a link does for those of git's and DVC's stores, which are named by their content."""
    stored = any(f"{os.sep}{store}{os.sep}" in source for store in (".git/objects", ".dvc/cache"))
    os.link(source, target) if stored else shutil.copy2(source, target)
