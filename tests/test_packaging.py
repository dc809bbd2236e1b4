"""The wheel in an environment of its own, with base dependencies alone and so no torch; and the locks."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LOCKS = ("base.txt", "develop.txt", "gpu.txt", "llama-cpp.txt")
# Brought by torch alone: which of them there are is its build's affair.
TORCHS_OWN = re.compile(r"^(torch|sympy|mpmath|cuda-|nvidia-)", re.MULTILINE)


def pins(path):
    return dict(re.findall(r"^([\w.-]+)==([^ \\\n]+)", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_has_a_hash_and_none_says_where_from(repository, name):
    text = (repository / "requirements" / name).read_text(encoding="utf-8")
    assert len(re.findall(r"==.*\\\n    --hash=sha256:", text)) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE))
    assert "://" not in text and "-url" not in text


def test_locks_leave_torchs_build_to_the_machine_and_agree_otherwise(repository):
    folder = repository / "requirements"
    assert [key for name in LOCKS[:2] for key in pins(folder / name) if TORCHS_OWN.match(key)] == []
    assert "torch" not in pins(folder / "gpu.txt") and list(pins(folder / "torch.txt")) == ["torch"]
    base, develop, gpu, llama_cpp = (pins(folder / name) for name in LOCKS)
    assert base.items() <= develop.items() and base.items() <= llama_cpp.items()
    assert "llama-cpp-python" in llama_cpp and "llama-cpp-python" not in develop
    assert {key: gpu[key] for key in gpu.keys() & develop.keys()} == {
        key: develop[key] for key in gpu.keys() & develop.keys()
    }
    assert {"transformers", "trl", "peft"} <= develop.keys() - base.keys()


@pytest.fixture(scope="module")
def environment(repository, tmp_path_factory):
    """The `bin` folder of an environment that has the wheel and what requirements/base.txt pins, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    for name in ("text2sql", "stages", "tests", "testkit", "benchmarks"):  # as a checkout has them
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results"))

    def uv(*command):
        return subprocess.run([sys.executable, "-m", "uv", *command], capture_output=True, text=True)

    probe = folder / "probe.in"
    probe.write_text("setuptools>=77\n")
    if uv("pip", "compile", "--quiet", "--no-cache", str(probe)).returncode:
        pytest.skip("needs a package index")
    built = uv("build", "--wheel", "--out-dir", str(folder / "dist"), str(source))
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    place = ("pip", "install", "--quiet", "--no-deps", "--python", str(folder / "venv"))
    locked = uv(*place, "--require-hashes", "-r", str(repository / "requirements/base.txt"))
    assert locked.returncode == 0, locked.stderr
    installed = uv(*place, str(wheel))
    assert installed.returncode == 0, installed.stderr
    return folder / "venv/bin", wheel


def run(bin_folder, cwd, *command):
    settings = {"PATH": f"{bin_folder}:{os.defpath}", "HOME": str(cwd), "DEEPEVAL_TELEMETRY_OPT_OUT": "YES"}
    done = subprocess.run(
        [bin_folder / command[0], *command[1:]], cwd=cwd, env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
class TestWheel:
    def test_it_brings_text2sql_alone_with_its_templates(self, environment):
        names = zipfile.ZipFile(environment[1]).namelist()
        assert {Path(name).parts[0] for name in names if "dist-info" not in name} == {"text2sql"}
        assert {"report.html.jinja", "report.css", "report.js"} <= {
            Path(name).name for name in names if "templates/" in name
        }

    def test_it_brings_no_torch(self, environment, tmp_path):
        code = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'stages') if u.find_spec(n)])"
        assert run(environment[0], tmp_path, "python", "-c", code) == "[]\n"

    def test_it_scores(self, environment, tmp_path, repository):
        sample = repository / "data/sample/spider"
        golds = [example["query"] for example in json.loads((sample / "dev.json").read_text())]
        predictions = tmp_path / "predictions.sql"
        predictions.write_text("".join(f"{' '.join(gold.split())}\n" for gold in golds))
        printed = run(environment[0], tmp_path, "text2sql", "score", predictions, "--spider", sample)
        assert "100.00 %" in printed

    def test_rooms_without_a_model_import(self, environment, tmp_path):
        rooms = ("comparison.compare", "comparison.significance", "report.html", "report.review", "scoring.metric")
        code = "".join(f"import text2sql.{room}\n" for room in (*rooms, "preparation.prepare", "preparation.hub"))
        run(environment[0], tmp_path, "python", "-c", code)

    def test_it_reviews_and_holds_the_gate(self, environment, tmp_path, repository):
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "-q", repository, clone], check=True)
        printed = run(environment[0], clone, "text2sql", "review", "--base", "HEAD")
        assert "### Verdict" in printed and "No param changed." in printed
