"""A recipe takes params.yaml's place only when that is safe."""

import subprocess

import pytest

from text2sql.core.dependencies import read_stages
from text2sql.core.errors import UserError
from text2sql.core.files import read_yaml
from text2sql.core.params import load_params
from text2sql.core.recipes import find_recipe, needs_gpu, put_in_place


@pytest.fixture
def checkout(tmp_path, repository, monkeypatch):
    """A git repository with this project's params and recipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for path in [repository / "params.yaml", *repository.glob("recipes/*.yaml")]:
        (tmp_path / path.relative_to(repository)).write_bytes(path.read_bytes())
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_every_recipe_is_complete_and_valid(repository):
    recipes = sorted(repository.glob("recipes/*.yaml"))
    assert recipes
    for recipe in recipes:
        load_params(recipe)


def test_every_recipe_has_the_params_that_its_stages_name(repository):
    """DVC runs no stage that names a param which params.yaml does not have, whatever Python would take for it."""
    for path in [repository / "params.yaml", *sorted(repository.glob("recipes/*.yaml"))]:
        values = read_yaml(path)
        for stage in read_stages(repository / "dvc.yaml", path).values():
            assert [param for param in stage.params if not has(values, param)] == [], f"{path.name}: {stage.name}"


def has(values, key):
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def test_a_recipe_shows_both_ways_of_learning(repository):
    params = load_params(repository / "recipes/qwen05-learn.yaml")
    assert {params.train_for(name).objective for name in params.learn} == {"rejection", "dpo"}
    assert set(read_stages(repository / "dvc.yaml", repository / "recipes/qwen05-learn.yaml")) >= {
        *("sample_train@m1", "learn@m3", "learn@m4", "predict_spider@m3", "eval_mmlu@m4"),
    }
    like = load_params(repository / "recipes/qwen05-ddl.yaml")
    assert (params.model, params.prompt, params.train) == (like.model, like.prompt, like.train)


def test_the_papers_recipe_is_its_table_i(repository):
    params = load_params(repository / "recipes/paper.yaml")
    assert params.model.base == "unsloth/Llama-3.2-3B-Instruct-bnb-4bit"
    m1, m2 = params.train_for("m1"), params.train_for("m2")
    assert (m1.lr, m1.epochs, m1.batch_size, m1.grad_accum, m1.seed) == (2e-4, 1, 2, 4, 3407)
    assert (m2.lr, m2.epochs, m2.batch_size, m2.grad_accum, m2.seed) == (2e-8, 3, 4, 4, 8000)
    assert m1.optim == m2.optim == "adamw_8bit"
    assert (m1.lora.r, m1.lora.alpha, m1.lora.dropout, len(m1.lora.target_modules)) == (16, 16, 0, 7)
    assert (params.prompt.schema_, params.prompt.few_shot, params.prompt.training) == ("none", 3, "bare")
    assert needs_gpu(params) and not needs_gpu(load_params(repository / "params.yaml"))


def test_a_recipe_is_put_in_place(checkout):
    put_in_place(find_recipe("paper"), checkout / "params.yaml")
    assert (checkout / "params.yaml").read_text() == (checkout / "recipes/paper.yaml").read_text()


def test_uncommitted_edits_are_kept(checkout):
    params = checkout / "params.yaml"
    edited = params.read_text().replace("lr: 2e-4", "lr: 1e-3")
    params.write_text(edited)
    with pytest.raises(UserError, match="has edits that git does not hold"):
        put_in_place(find_recipe("paper"), params)
    assert params.read_text() == edited


def test_an_uncommitted_recipe_is_no_edit(checkout):
    put_in_place(find_recipe("paper"), checkout / "params.yaml")
    (checkout / "recipes/other.yaml").write_text((checkout / "recipes/paper.yaml").read_text().replace("3407", "1"))
    put_in_place(find_recipe("other"), checkout / "params.yaml")
    assert load_params(checkout / "params.yaml").train.seed == 1


def test_an_unknown_recipe_lists_those_there_are(checkout):
    with pytest.raises(UserError, match=r"recipe papre: .* \(did you mean paper\?\); there are .*paper"):
        find_recipe("papre")
