"""dvc.yaml names all the code that each stage runs: a change in it reruns the stage, and begins kept work anew."""

import ast
import functools

import grimp
import pytest

from text2sql.core.dependencies import read_stages


@pytest.fixture(scope="module")
def stages(repository, tmp_path_factory):
    """All stages, those that are off by default too."""
    params = tmp_path_factory.mktemp("params") / "params.yaml"
    text = (repository / "params.yaml").read_text()
    assert "  chat: []" in text and "  also: {}" in text
    sets = "{syn: {spider: data/raw/syn}, turned: {spider: hub, table_order: reversed}}"
    text = text.replace("  chat: []", "  chat: [base, m1]").replace("  also: {}", f"  also: {sets}")
    tables = {
        "sample_train": "{m1: {samples: 8}}",
        "learn": "{m3: {objective: dpo, from: m1}}",
        "verifier": "{v1: {from: m1}}",
    }
    for table, entry in tables.items():
        assert f"\n{table}: {{}}" in text
        text = text.replace(f"\n{table}: {{}}", f"\n{table}: {entry}")
    assert "\nexport: {}" in text
    params.write_text(text.replace("\nexport: {}", "\nexport: {m1_q8: {model: m1, format: gguf}}"))
    return read_stages(repository / "dvc.yaml", params)


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("text2sql", "stages")


def script_of(stage) -> str:
    (script,) = [dep for dep in stage.deps if dep.startswith("stages/")]
    return script.removesuffix(".py").replace("/", ".")


def missing(stage, imports, repository) -> list[str]:
    """Return the files that the stage's script imports, anywhere in it, and that no dependency covers."""
    files = imported_code(script_of(stage), imports, repository)
    return [file for file in files if not any(file == dep or file.startswith(f"{dep}/") for dep in stage.deps)]


@functools.cache
def imported_code(script, imports, repository) -> list[str]:
    """Return the files with code that a script imports, anywhere in it."""
    files = []
    for module in imports.find_upstream_modules(script):
        path = module.replace(".", "/")
        files.append(f"{path}.py" if (repository / f"{path}.py").is_file() else f"{path}/__init__.py")
    return sorted(file for file in files if holds_code(repository / file))


@functools.cache
def holds_code(path) -> bool:
    statements = ast.parse(path.read_text()).body
    return any(not isinstance(statement, ast.Expr) for statement in statements)


def test_each_stage_depends_on_all_code_that_it_imports(stages, imports, repository):
    assert len(stages) >= 31
    assert {name: missing(stage, imports, repository) for name, stage in stages.items()} == dict.fromkeys(stages, [])


def test_a_dependency_taken_out_is_missed(stages, imports, repository):
    """Each folder of code is there because something in it is imported."""
    for stage in stages.values():
        for dep in stage.deps:
            if dep.startswith("text2sql/") and (repository / dep).is_dir():
                fewer = type(stage)(stage.name, tuple(d for d in stage.deps if d != dep), stage.params)
                assert any(f.startswith(dep) for f in missing(fewer, imports, repository)), f"{stage.name}: {dep}"


def test_templates_are_resolved_as_dvc_resolves_them(stages):
    assert "models/m1" in stages["predict_spider@m1"].deps
    assert "data/few_shot.json" in stages["train_m2"].deps
    assert "data/predictions/base.jsonl" in stages["eval_spider@base"].deps
    assert "models/m1" in stages["export@m1_q8"].deps and "export.m1_q8" in stages["export@m1_q8"].params
    assert "models/base" in stages["eval_mmlu_chat@base"].deps and "eval_mmlu_chat@m2" not in stages
    assert {"hub", "data/prepared/databases"} <= set(stages["prepare_also@turned"].deps)
    assert {"data/also/syn", "models/m2"} <= set(stages["predict_also@syn-m2"].deps)
    assert "models/m1" in stages["sample_train@m1"].deps and "sample_train.m1" in stages["sample_train@m1"].params
    # With folds it trains, on gold and by the recipe.
    assert "data/prepared/spider/qa_sharegpt.jsonl" in stages["sample_train@m1"].deps
    of_recipe = {param for param in stages["train_m1"].params if param.startswith(("train.", "prompt.", "models."))}
    assert of_recipe <= set(stages["sample_train@m1"].params)
    assert {"data/samples/train/m1.jsonl.gz", "models/m1"} <= set(stages["learn@m3"].deps)
    assert "models/base" in stages["predict_spider@base"].deps
    assert "data.also.syn" in stages["eval_also@syn-base"].params
    assert "data/samples/train/m1.jsonl.gz" in stages["train_verifier@v1"].deps
    assert "data/verifiers/v1" in stages["judge_spider@v1-base"].deps
    assert not any("$" in dep for stage in stages.values() for dep in stage.deps)


def test_what_is_off_by_default_is_no_stage(repository):
    names = read_stages(repository / "dvc.yaml", repository / "params.yaml")
    off = ("eval_mmlu_chat", "export", "verify", "sample_train", "learn", "train_verifier", "judge_spider")
    assert not any(name.startswith(off) or "also" in name for name in names)
