"""Kept work is used again only where all that it depends on is the same; a run that starts over says what changed."""

import json
import shutil
from types import SimpleNamespace

import pytest

from testkit.project import Project
from text2sql.core.dependencies import Key
from text2sql.core.journal import Journal
from text2sql.core.params import load_params
from text2sql.model import run_key as keys
from text2sql.training.checkpoints import CheckpointStore


def on_its_own_base(finished_project, micro_model, folder):
    """Return a copy of the finished project, in `folder` with a copy of its base."""
    project = finished_project.copy(folder / "project")
    base = shutil.copytree(micro_model, folder / "base")
    project.set_params({"model": {"base": str(base), "files": str(base)}})
    return project


@pytest.fixture
def project(finished_project, micro_model, tmp_path, monkeypatch):
    """A copy of the finished project, on a copy of its base, as the working directory."""
    project = on_its_own_base(finished_project, micro_model, tmp_path)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return project


@pytest.fixture(scope="module")
def unchanged(finished_project, micro_model, tmp_path_factory):
    """Such a copy for many tests, the content of its files, and the keys of its stages."""
    project = on_its_own_base(finished_project, micro_model, tmp_path_factory.mktemp("unchanged"))
    project.set_params({"mmlu": {"chat": ["m1"]}, "data": {"also": {"syn": {"spider": "data/raw/syn"}}}})
    project.set_params({"sample_train": {"m1": {"samples": 2}}})
    shutil.copytree(project.folder / "data/prepared/spider", project.folder / "data/also/syn")
    parent = project.folder.parent
    files = {
        path: path.read_bytes()
        for path in parent.rglob("*")
        if path.is_file() and not {".git", ".dvc"} & set(path.relative_to(parent).parts)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        yield project, files, {stage: key(stage) for stage in OF_STAGE}


@pytest.fixture
def changeable(unchanged, monkeypatch):
    """That project as the working directory; what a test changes in it is put back. Journals go elsewhere."""
    project, files, _ = unchanged
    monkeypatch.chdir(project.folder)
    yield project
    for path, content in files.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


MODEL = SimpleNamespace(device=SimpleNamespace(type="cpu"), dtype="torch.float32")


def key(stage: str, model=MODEL):
    return keys.run_key(stage, load_params().model, model)


def append(path: str):
    def change(project: Project) -> None:
        with (project.folder / path).open("ab") as file:
            file.write(b"\n")

    return change


def other_weights(project: Project) -> None:
    path = project.folder.with_name("base") / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def param(section: str, name: str, value):
    return lambda project: project.set_params({section: {name: value}})


EVERYWHERE = {
    "code of core": (append("text2sql/core/files.py"), "text2sql/core"),
    "code of data": (append("text2sql/data/archives.py"), "text2sql/data"),
    "code of prompts": (append("text2sql/prompts/messages.py"), "text2sql/prompts"),
    "code of model": (append("text2sql/model/attention.py"), "text2sql/model"),
    "the base's weights": (other_weights, "the base's weights"),
    "a param of the model": (param("model", "quantization", "4bit"), "model.quantization"),
}
OF_STAGE = {
    "train_m1": {
        "code": (append("text2sql/training/plan.py"), "text2sql/training"),
        "the stage": (append("stages/train.py"), "stages/train.py"),
        "training examples": (append("data/prepared/spider/qa_sharegpt.jsonl"), "qa_sharegpt.jsonl"),
        "schemas": (append("data/prepared/spider/schemas.json"), "data/prepared/spider/schemas.json"),
        "the rate": (param("train", "lr", 1e-5), "train.lr"),
    },
    "predict_spider@m1": {
        "code": (append("text2sql/evaluation/batching.py"), "text2sql/evaluation"),
        "questions": (append("data/prepared/spider/dev.jsonl"), "data/prepared/spider/dev.jsonl"),
        "schemas": (append("data/prepared/spider/schemas.json"), "data/prepared/spider/schemas.json"),
        "worked examples": (append("data/few_shot.json"), "data/few_shot.json"),
        "the adapter": (append("models/m1/adapter_model.safetensors"), "models/m1"),
        "the adapter's strength": (param("model", "strength", 0.5), "model.strength"),
        "the prompt": (param("prompt", "schema", "ddl"), "prompt.schema"),
        "the order of tables": (param("prompt", "table_order", "reversed"), "prompt.table_order"),
        "the answer's length": (param("generation", "max_new_tokens", 7), "generation.max_new_tokens"),
        "the grammar": (param("generation", "grammar", True), "generation.grammar"),
    },
    "sample_spider@m1": {
        "code": (append("text2sql/evaluation/sampling.py"), "text2sql/evaluation"),
        "questions": (append("data/prepared/spider/dev.jsonl"), "data/prepared/spider/dev.jsonl"),
        "the adapter": (append("models/m1/adapter_model.safetensors"), "models/m1"),
        "which answers fail": (append("data/predictions/m1.jsonl"), "data/predictions/m1.jsonl"),
        "the number of samples": (param("generation", "samples", 3), "generation.samples"),
        "the temperature": (param("generation", "temperature", 0.5), "generation.temperature"),
        "the seed": (param("generation", "seed", 1), "generation.seed"),
        "the grammar": (param("generation", "grammar", True), "generation.grammar"),
    },
    "sample_train@m1": {
        "code": (append("text2sql/evaluation/drawing.py"), "text2sql/evaluation"),
        "code of scoring": (append("text2sql/scoring/judged.py"), "text2sql/scoring"),
        "questions": (append("data/prepared/spider/train.jsonl"), "data/prepared/spider/train.jsonl"),
        "code of training": (append("text2sql/training/folds.py"), "text2sql/training"),
        "training examples": (append("data/prepared/spider/qa_sharegpt.jsonl"), "qa_sharegpt.jsonl"),
        "the recipe": (param("train", "lr", 1e-5), "train.lr"),
        "the adapter": (append("models/m1/adapter_model.safetensors"), "models/m1"),
        "how they are drawn": (param("sample_train", "m1", {"samples": 2, "seed": 1}), "sample_train.m1"),
        "the limits": (param("execution", "max_steps", 1000), "execution.max_steps"),
    },
    "eval_mmlu@m1": {
        "code": (append("text2sql/evaluation/mmlu.py"), "text2sql/evaluation"),
        "the adapter": (append("models/m1/adapter_config.json"), "models/m1"),
        "worked examples": (param("mmlu", "shots", 2), "mmlu.shots"),
        "the adapter's strength": (param("model", "strength", 0.5), "model.strength"),
        "rotations": (param("mmlu", "rotations", 4), "mmlu.rotations"),
    },
    "predict_also@syn-m1": {
        "code": (append("text2sql/evaluation/spider.py"), "text2sql/evaluation"),
        "the adapter": (append("models/m1/adapter_config.json"), "models/m1"),
        "questions": (append("data/also/syn/dev.jsonl"), "data/also/syn"),
        "the set itself": (param("data", "also", {"syn": {"spider": "data/sample/mmlu"}}), "data.also.syn"),
        "the order of tables": (param("prompt", "table_order", "reversed"), "prompt.table_order"),
    },
    "eval_mmlu_chat@m1": {
        "code": (append("text2sql/evaluation/mmlu_chat.py"), "text2sql/evaluation"),
        "code of scoring": (append("text2sql/scoring/parsing.py"), "text2sql/scoring"),
        "the adapter": (append("models/m1/adapter_config.json"), "models/m1"),
        "questions": (append("data/prepared/mmlu/philosophy.parquet"), "data/prepared/mmlu"),
        "the draw": (param("mmlu", "chat_limit", 5), "mmlu.chat_limit"),
    },
}  # fmt: skip
CASES = [
    pytest.param(stage, *case, id=f"{stage}-{name}")
    for stage, own in OF_STAGE.items()
    for name, case in {**EVERYWHERE, **own}.items()
]


@pytest.mark.parametrize(("stage", "change", "said"), CASES)
def test_a_change_begins_anew_and_is_named(unchanged, changeable, stage, change, said, tmp_path, capsys):
    Journal("work", unchanged[2][stage], folder=tmp_path).append([{"index": 0}])
    capsys.readouterr()
    change(changeable)
    assert Journal("work", key(stage), folder=tmp_path).records() == {}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("work: starts over; changed since the run that was cut: ") and said in line


@pytest.mark.parametrize("stage", OF_STAGE)
def test_without_a_change_it_goes_on(unchanged, changeable, stage):
    """After the cases above as before them: each put back what it had changed."""
    assert key(stage) == unchanged[2][stage]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype="torch.float32"), ["device"]),
        (SimpleNamespace(device=SimpleNamespace(type="cpu"), dtype="torch.bfloat16"), ["device", "dtype"]),
    ],
)
def test_another_device_or_dtype_begins_anew(changeable, model, said):
    assert key("eval_mmlu@base", model).changed_from(key("eval_mmlu@base")) == said


def test_another_version_of_a_library_begins_anew(changeable, monkeypatch):
    before = key("eval_mmlu@base")
    for library in ("torch", "transformers", "peft", "accelerate"):
        real = keys.versions
        changed = {library: "99"}
        monkeypatch.setattr(keys, "versions", lambda names, real=real, changed=changed: {**real(names), **changed})
        assert key("eval_mmlu@base").changed_from(before) == [f"{library}'s version"]
        monkeypatch.setattr(keys, "versions", real)


def test_in_half_precision_the_chip_counts(changeable, monkeypatch):
    half = SimpleNamespace(device=SimpleNamespace(type="cpu"), dtype="torch.bfloat16")
    before = {dtype: key("eval_mmlu@base", model) for dtype, model in (("half", half), ("whole", MODEL))}
    monkeypatch.setattr(keys, "_chip", lambda device: "another chip")
    assert key("eval_mmlu@base", half).changed_from(before["half"]) == ["device"]
    assert key("eval_mmlu@base") == before["whole"]


def test_nothing_is_said_where_nothing_changed_or_the_work_was_published(changeable, tmp_path, capsys):
    old = key("eval_mmlu@base")
    Journal("work", old, folder=tmp_path).append([{"index": 0}])
    assert Journal("work", old, folder=tmp_path).records() == {0: {"index": 0}}
    param("mmlu", "shots", 1)(changeable)
    new = key("eval_mmlu@base")
    capsys.readouterr()
    journal = Journal("work", new, folder=tmp_path)
    journal.append([{"index": 1}])
    assert "mmlu.shots" in capsys.readouterr().out
    journal.remove()
    param("mmlu", "shots", 3)(changeable)
    Journal("work", key("eval_mmlu@base"), folder=tmp_path)
    assert capsys.readouterr().out == ""


def test_a_checkpoint_of_another_key_is_not_used_and_the_difference_is_named(changeable, tmp_path, capsys):
    before = CheckpointStore("train_m1", key("train_m1"), tmp_path / "checkpoints")
    before.lock()
    before.say_what_changed()
    (before.begin() / "weights").write_text("1")
    before.finish(before.unfinished, 1, 1.0, {})
    before.unlock()
    assert before.latest()
    param("train", "lr", 1e-5)(changeable)
    after = CheckpointStore("train_m1", key("train_m1"), tmp_path / "checkpoints")
    capsys.readouterr()
    after.lock()
    after.say_what_changed()
    assert after.latest() is None
    assert capsys.readouterr().out == "train_m1: starts over; changed since the run that was cut: train.lr\n"


def test_work_under_way_whose_name_begins_alike_is_other_work(tmp_path, capsys):
    """A fold's training and its answers, beside those of the whole: nothing was cut, and what it kept stays."""
    fold, whole = Key.of({"databases": "some"}), Key.of({"databases": "all"})
    name = "train_tuned@3407"
    stores = [CheckpointStore(f"{name}-without-fold-1-of-2", fold, tmp_path), CheckpointStore(name, whole, tmp_path)]
    for store in stores:
        store.lock()
        store.say_what_changed()
    journals = [Journal(one, key, folder=tmp_path) for one, key in (("answers-fold-1", fold), ("answers", whole))]
    journals[0].append([{"index": 0}])
    Journal("answers", whole, folder=tmp_path)
    assert capsys.readouterr().out == ""
    stores[1].remove()
    journals[1].remove()
    assert (stores[0].folder / "key.json").is_file() and journals[0].records() == {0: {"index": 0}}
    assert len(list(tmp_path.glob("answers-fold-1-*.key.json"))) == 1


def test_a_killed_stage_that_goes_on_with_other_params_says_so(project):
    command = ("python", "-m", "stages.predict_spider", "m1")
    expected = (project.folder / "data/predictions/m1.jsonl").read_text()
    parts = dict(key("predict_spider@m1").parts) | {"generation.max_new_tokens": "other"}
    journals = project.folder / ".journals"
    journals.mkdir(exist_ok=True)
    (journals / "predict_spider-m1-0123456789abcdef.key.json").write_text(json.dumps(parts))
    (journals / "predict_spider-m1-0123456789abcdef-0.jsonl").write_text('{"index": 0, "raw": "x", "new_tokens": 1}\n')
    said = project.run(*command).stdout
    assert "predict_spider-m1: starts over; changed since the run that was cut: generation.max_new_tokens\n" in said
    assert (project.folder / "data/predictions/m1.jsonl").read_text() == expected


def test_a_file_of_a_local_base_reruns_its_stages_and_no_others(project):
    assert project.run("dvc", "commit", "-f").returncode == 0  # of the base's copy, another path
    project.run("dvc", "repro")
    assert "up to date" in project.run("dvc", "status").stdout
    append("../base/config.json")(project)
    changed = set(json.loads(project.run("dvc", "status", "--json").stdout))
    asking = ("predict_spider", "sample_spider", "eval_mmlu")
    of_models = {f"{stage}@{model}" for stage in asking for model in ("base", "m1", "m2")}
    assert {"train_m1", "train_m2", *of_models} == changed
