"""params.yaml: what is taken, however it was written, and what is said of the rest."""

import copy
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from text2sql.core.errors import UserError
from text2sql.core.files import read_yaml
from text2sql.core.params import changed as changed_params
from text2sql.core.params import load_params, validate
from text2sql.data.mmlu import SUBJECT_CATEGORY, subject_categories


@pytest.fixture
def changed(repository, tmp_path):
    """Return params.yaml with `section.key` set to a value, as YAML text."""
    text = (repository / "params.yaml").read_text()

    def change(key, value):
        *_, name = key.split(".")
        section = key.split(".")[0]
        head, start, rest = text.partition(f"\n{section}:")
        pattern = rf"(?m)^( +){name}:[^\n]*(\n\1 +[^\n]*)*"
        new, count = re.subn(pattern, lambda match: f"{match[1]}{name}: {value}", rest, count=1)
        assert count == 1
        path = tmp_path / "params.yaml"
        path.write_text(head + start + new)
        return path

    return change


def test_the_committed_params_and_all_recipes_are_valid(repository):
    paths = [repository / "params.yaml", *sorted((repository / "recipes").glob("*.yaml"))]
    assert len(paths) > 1
    for path in paths:
        load_params(path)


def test_params_of_before_ask_as_it_was_asked_then(repository, tmp_path):
    text = (repository / "params.yaml").read_text()
    named = "rotations|chat|chat_limit|table_order|also|name|holdout|evidence|descriptions"
    named += "|schema_tokens|augment|grammar|samples|temperature|top_p|choice|when"
    older = re.sub(rf"(?m)^  ({named}): .*\n", "", text)
    assert len(text.splitlines()) - len(older.splitlines()) == 17
    path = tmp_path / "params.yaml"
    path.write_text(older)
    assert load_params(path) == load_params(repository / "params.yaml")
    assert load_params(path).mmlu.rotations == 1 and load_params(path).mmlu.chat == []
    assert load_params(path).prompt.table_order == "given"
    assert not (load_params(path).prompt.evidence or load_params(path).prompt.descriptions)


@pytest.mark.parametrize(
    "written", ["2e-8", "2e-08", "2E-8", "2.0e-8", "'2e-8'", '"2e-08"', "0.00000002", "+2e-8", "20e-9"]
)
def test_a_number_counts_however_it_was_written(changed, written):
    """`dvc exp run -S train.lr=2e-8` writes 2e-08, which YAML 1.1 (and so PyYAML) reads as text."""
    assert load_params(changed("train.lr", written)).train.lr == 2e-8


@pytest.mark.parametrize("written", ["8", "8.0", "'8'", "8e0", "0x8"])
def test_a_whole_number_counts_however_it_was_written(changed, written):
    batch_size = load_params(changed("train.batch_size", written)).train.batch_size
    assert batch_size == 8 and isinstance(batch_size, int)


def test_null_limits_and_all_subjects_are_taken(changed):
    assert load_params(changed("mmlu.limit", "null")).mmlu.limit is None
    assert load_params(changed("mmlu.limit", "")).mmlu.limit is None
    assert subject_categories(load_params(changed("mmlu.subjects", "all")).mmlu.subjects) == SUBJECT_CATEGORY
    subjects = load_params(changed("mmlu.subjects", "{other: [virology], stem: [astronomy]}")).mmlu.subjects
    assert subject_categories(subjects) == {"virology": "other", "astronomy": "stem"}


@pytest.mark.parametrize(("written", "read"), [("0.2", 0.2), ("2e-1", 0.2), ("null", None)])
def test_a_share_to_hold_out_is_taken(changed, written, read):
    assert load_params(changed("data.holdout", written)).data.holdout == read


def test_the_chat_templates_variables_and_the_projections_of_an_architecture_are_taken(changed):
    template = load_params(
        changed("prompt.template", '{enable_thinking: false, date_string: "26 Jul 2024"}')
    ).prompt.template
    assert template == {"enable_thinking": False, "date_string": "26 Jul 2024"}
    for written in ("auto", "[auto]"):
        assert load_params(changed("train.target_modules", written)).train.lora.target_modules == ["auto"]


def test_further_evaluation_sets_are_data_or_orders_and_take_the_rest_from_what_all_are_asked(changed):
    params = load_params(
        changed(
            "data.also",
            "{syn: {spider: data/raw/syn}, dk: {spider: dk, failing_gold: skip}, "
            "turned: {spider: data/sample/spider, table_order: reversed}}",
        )
    )
    assert list(params.data.also) == ["syn", "dk", "turned"]
    assert [params.order_in(name) for name in params.data.also] == ["given", "given", "reversed"]
    assert [params.failing_gold_in(name) for name in params.data.also] == ["refuse", "skip", "refuse"]


SETS = "takes a mapping of further evaluation sets, each {spider: FOLDER}, or {} for none"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3", f"data.also: got 3 (int), {SETS}"),
        ("[syn]", f"data.also: got ['syn'] (list), {SETS}"),
        ("{syn: data/raw/syn}", "data.also: syn: got 'data/raw/syn' (str), takes a mapping such as {spider: FOLDER}"),
        ("{syn: {}}", "data.also.syn.spider: missing"),
        ("{syn: {folder: a, spider: b}}", "data.also.syn.folder: unknown key; the keys here are spider, table_order,"),
        ("{a_b: {spider: a}}", "data.also: got the name 'a_b' (str), takes small letters and digits, and not `all`"),
        ("{all: {spider: a}}", "data.also: got the name 'all' (str), takes small letters and digits"),
        ("{no: {spider: a, table_order: sorted}}", "data.also.no.table_order: got 'sorted' (str), takes "),
        (
            "{syn: {spider: data/sample/spider}}",
            "prompt: data.also.syn asks what the dev split asks",
        ),
    ],
)
def test_sets_that_are_none_are_refused(changed, value, message):
    with pytest.raises(UserError) as error:
        load_params(changed("data.also", value))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "choice",
            "majority",
            "generation.choice: got majority, which chooses among samples, and",
        ),
        ("when", "failed", "generation.when: got failed, which chooses among samples, and generation.samples is 1"),
        ("samples", "0", "generation.samples: got 0 (int), takes a whole number from 1 to 256"),
        ("samples", "8.5", "generation.samples: got 8.5 (float), takes a whole number from 1 to 256"),
        (
            "choice",
            "best",
            "generation.choice: got 'best' (str), takes majority, first_executable, verifier, weighted_majority",
        ),
        ("temperature", "0", "generation.temperature: got 0 (int), takes a number above 0 and at most 10"),
        ("temperature", ".nan", "generation.temperature: got nan (float), takes a number above 0 and at most 10"),
        ("top_p", "1.5", "generation.top_p: got 1.5 (float), takes a number above 0 and at most 1"),
    ],
)
def test_a_choice_without_samples_and_numbers_that_are_none_are_refused(changed, key, value, message):
    with pytest.raises(UserError) as error:
        load_params(changed(f"generation.{key}", value))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_samples_are_chosen_by_majority_unless_a_rule_is_named(changed):
    path = changed("generation.samples", "8")
    assert load_params(path).generation.rule == "majority"
    path.write_text(path.read_text().replace("  choice: null ", "  choice: first_executable "))
    assert load_params(path).generation.rule == "first_executable"


VERIFIER = "\nsample_train: {m1: {samples: 4}}\nverifier: {v1: {from: m1, epochs: 2, max_seq_len: 900}}\n"


@pytest.fixture
def with_verifier(repository, tmp_path):
    """Return params.yaml with a verifier, changed as `replace` says."""
    text = re.sub("\n(sample_train|verifier): {}", "", (repository / "params.yaml").read_text()) + VERIFIER
    assert "sample_train: {}" not in text and "verifier: {}" not in text

    def with_verifier(*replace):
        path = tmp_path / "params.yaml"
        path.write_text(text.replace(*replace) if replace else text)
        return path

    return with_verifier


def test_a_verifiers_recipe_is_model_1s_with_its_changes(with_verifier):
    params = load_params(with_verifier("augment: none", "augment: table_order"))
    recipe = params.train_for_verifier("v1")
    assert (recipe.from_, recipe.epochs, recipe.max_seq_len) == ("m1", 2, 900)
    assert (recipe.objective, recipe.augment, recipe.lr) == ("sft", "none", params.train.lr)
    chosen = ("  samples: 1 ", "  samples: 8\n  choice: verifier #"), ("  choice: null", "  # choice: null")
    path = with_verifier(*chosen[0])
    path.write_text(path.read_text().replace(*chosen[1]))
    assert load_params(path).generation.rule == "verifier"


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (("from: m1", "from: m2"), "verifier: v1.from: got m2, takes a model that sample_train names: m1"),
        (("from: m1, ", ""), "verifier: v1.from: got none, takes a model that sample_train names: m1"),
        (("{m1: {samples: 4}}", "{}"), "takes a model that sample_train names: none yet"),
        (("from: m1,", "from: m1, objective: dpo,"), "verifier: v1.objective: got dpo, takes sft"),
        (("from: m1,", "from: m1, augment: table_order,"), "verifier: v1.augment: got table_order, takes none"),
        (("verifier: {v1", "verifier: {m2"), "verifier: m2: is one of `models`; takes another name"),
        (("900}}", "900}, v2: {from: m1}}"), "takes a mapping of one verifier, such as {v1: {from: m1}}, or {}"),
        (("from: m1,", "form: m1,"), "verifier.v1.form: unknown key; the keys here are method, lr,"),
    ],
)
def test_a_verifier_that_is_none_is_one_line(with_verifier, replace, message):
    with pytest.raises(UserError) as error:
        load_params(with_verifier(*replace))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["verifier", "weighted_majority"])
def test_a_choice_by_a_verifier_that_is_not_there_is_refused(changed, rule):
    path = changed("generation.samples", "8")
    path.write_text(path.read_text().replace("  choice: null ", f"  choice: {rule} "))
    with pytest.raises(UserError, match=f"verifier: names none, and generation.choice: {rule} chooses by one"):
        load_params(path)


def test_an_order_of_tables_that_the_prompt_does_not_show_is_refused(changed):
    path = changed("data.also", "{turned: {spider: hub, table_order: reversed}}")
    path.write_text(path.read_text().replace("schema: tables", "schema: name"))
    with pytest.raises(UserError, match="prompt: schema: name shows no tables, which data.also.turned.table_order"):
        load_params(path)


def test_a_further_model_is_an_entry_and_a_section(repository, tmp_path):
    text = (repository / "params.yaml").read_text()
    text = text.replace("recipe: train_m2}", "recipe: train_m2}\n  m3: {title: Long, recipe: train_m3}")
    path = tmp_path / "params.yaml"
    path.write_text(text + "\ntrain_m3:\n  epochs: 7\n")
    params = load_params(path)
    assert params.model_table.tuned == ("m1", "m2", "m3") and params.model_table.titles["m3"] == "Long"
    assert params.train_for("m3") == params.train.model_copy(update={"epochs": 7.0})
    for section, message in (
        ("", "train_m3: missing"),
        ("train_m3:\n  epoch: 7\n", "train_m3.epoch: unknown key; the keys here are method, lr, epochs,"),
        ("train_m3:\n  epochs: null\n", "train_m3.epochs: got null, takes a number above 0"),
        ("train_m3:\n  warmup: 1.5\n", "train_m3.warmup: got 1.5, takes a share"),
    ):
        path.write_text(f"{text}\n{section}")
        with pytest.raises(UserError) as error:
            load_params(path)
        assert message in str(error.value)


@pytest.mark.parametrize("model", ["base", "m3", "M1", ""])
def test_a_model_that_is_not_tuned_has_no_recipe(repository, model):
    with pytest.raises(UserError, match=f"models: no tuned model '{model}'; there are m1, m2"):
        load_params(repository / "params.yaml").train_for(model)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("{base: {title: Base}}", "models: takes the base first"),
        ("{m1: {title: Model 1, recipe: train}, base: {title: Base}}", "models: takes the base first"),
        ("{base: {title: Base}, m1: {title: Model 1}}", "models: takes the base first"),
        ("{base: {title: Base}, M 1: {title: Model 1, recipe: train}}", "models.M 1"),
        ("3", "models: got 3 (int), takes a mapping of models"),
        *(
            (
                f"{{base: {{title: Base}}, {name}: {{title: One, recipe: train}}}}",
                f"models: {name}: the report's explorer",
            )
            for name in ("example", "search", "hardness", "database", "judged")
        ),
        ("{search: {title: Base}, m1: {title: One, recipe: train}}", "models: search: the report's explorer"),
        ("{base: {title: Base}, low_m1: {title: One, recipe: train}}", "models: low_m1: metrics/compare.json has keys"),
        (
            "{base: {title: Base}, m1: {title: One, recipe: train}, m2: {title: Two, recipe: train}, "
            "m1_m2: {title: Three, recipe: train}}",
            "models: m1_m2: stands for m1 against m2 in metrics/compare.json",
        ),
    ],
)
def test_models_that_make_no_experiment_are_refused(repository, tmp_path, models, message):
    text = (repository / "params.yaml").read_text()
    start, end = text.index("models:"), text.index("\ntrain:")
    (tmp_path / "params.yaml").write_text(f"{text[:start]}models: {models}\n{text[end:]}")
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_older_file_is_read_with_what_it_implied_and_only_where_that_is_asked_for(repository):
    files = sorted((repository / "results").glob("*/params.yaml"))
    sets = [path for path in files if "version" not in read_yaml(path)]
    assert sets
    for path in sets:
        params = load_params(path, older=True)
        assert params.model_table.titles == {"base": "Base", "m1": "Model 1", "m2": "Model 2"}
        changes = read_yaml(path)["train_m2"]
        assert {name: getattr(params.train_for("m2"), name) for name in changes} == changes
        assert params.train_for("m1") == params.train
        assert params.prompt.template == {}
        with pytest.raises(UserError, match="version: missing"):
            load_params(path)
    assert load_params(repository / "params.yaml", older=True) == load_params(repository / "params.yaml")


def test_model_2_takes_the_rest_of_its_recipe_from_model_1(changed):
    params = load_params(changed("train.lr", "3e-4"))
    m1, m2 = params.train_for("m1"), params.train_for("m2")
    assert (m1.lr, m1.seed, m2.lr, m2.seed) == (3e-4, 3407, 2e-8, 8000)
    assert m2.lora == m1.lora and m2.optim == m1.optim


LR = "a number above 0 and at most 1"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.lr", "foo", f"train.lr: got 'foo' (str), takes {LR}"),
        ("train.lr", "-1", f"train.lr: got -1 (int), takes {LR}"),
        ("train.lr", "0", f"train.lr: got 0 (int), takes {LR}"),
        ("train.lr", "1.5", f"train.lr: got 1.5 (float), takes {LR}"),
        ("train.lr", ".nan", f"train.lr: got nan (float), takes {LR}"),
        ("train.lr", "nan", f"train.lr: got 'nan' (str), takes {LR}"),
        ("train.lr", "true", f"train.lr: got True (bool), takes {LR}"),
        ("train.lr", "", f"train.lr: got null, takes {LR}"),
        ("train.lr", "[1e-3]", f"train.lr: got [0.001] (list), takes {LR}"),
        ("train.epochs", "0", "train.epochs: got 0 (int), takes a number above 0"),
        ("train.epochs", "1e400", "train.epochs: got inf (float), takes a number above 0"),
        ("train.batch_size", "2.5", "train.batch_size: got 2.5 (float), takes a whole number from 1"),
        ("train.batch_size", "0", "train.batch_size: got 0 (int), takes a whole number from 1"),
        ("train.seed", "4294967296", "takes a whole number from 0 to 2**32 - 1"),
        ("train.optim", "adam", "train.optim: got 'adam' (str), takes 'adamw_torch', "),
        ("train.warmup", "1.5", "train.warmup: got 1.5, takes a share of all steps below 1, or a whole number"),
        ("train.max_seq_len", "4", "train.max_seq_len: got 4 (int), takes a whole number of at least 8"),
        ("train.lora", "3", "train.lora: got 3 (int), takes a mapping of r, alpha, dropout, target_modules"),
        ("train.dropout", "1", "train.lora.dropout: got 1 (int), takes a number from 0 to below 1"),
        ("train.target_modules", "[]", "train.lora.target_modules: got [] (list), takes a list of module names"),
        ("train.target_modules", "[3]", "train.lora.target_modules.0: got 3 (int), takes a text"),
        ("train.scheduler", "linear\n  extra: 1", "train.extra: unknown key; the keys here are method, lr, epochs, "),
        ("model.base", "''", "model.base: got '' (str), takes one line of text, not empty"),
        ("model.base", '"a\\nb"', "model.base: got 'a\\nb' (str), takes one line of text"),
        ("model.base", "3", "model.base: got 3 (int), takes one line of text"),
        ("model.loader", "vllm", "model.loader: got 'vllm' (str), takes 'transformers' or 'unsloth'"),
        ("model.quantization", "8bit", "model.quantization: got '8bit' (str), takes 'none' or '4bit'"),
        ("model.dtype", "float64", "model.dtype: got 'float64' (str), takes 'auto', "),
        ("data.holdout", "1", "data.holdout: got 1 (int), takes a share above 0 and below 1, or null"),
        ("data.holdout", "0", "data.holdout: got 0 (int), takes a share above 0 and below 1, or null"),
        ("data.name", "", "data.name: got null, takes one line of text, not empty"),
        ("data.dev_limit", "0", "data.dev_limit: got 0 (int), takes a whole number of at least 1, or null for all"),
        ("data.dev_limit", "all", "data.dev_limit: got 'all' (str), takes a whole number of at least 1, or null"),
        ("prompt.schema", "yes", "prompt.schema: got 'yes' (str), takes 'none', 'name', 'tables', 'ddl' or 'rich'"),
        ("prompt.few_shot", "-1", "prompt.few_shot: got -1 (int), takes a whole number from 0"),
        (
            "prompt.template",
            "3",
            "prompt.template: got 3 (int), takes a mapping of variables of the base's chat template",
        ),
        ("prompt.table_order", "null", "prompt.table_order: got null, takes 'given', 'reversed' or 'shuffled'"),
        ("prompt.template", "{tokenize: true}", "prompt.template: got the name 'tokenize' (str), takes variables"),
        (
            "prompt.template",
            "{date: 2024-07-26}",
            "prompt.template: date: got datetime.date(2024, 7, 26) (date), takes",
        ),
        ("prompt.template", "{tools: []}", "prompt.template: got the name 'tools' (str), takes variables"),
        (
            "prompt.template",
            "{x: [1]}",
            "prompt.template: x: got [1] (list), takes a text, a whole number, true or false",
        ),
        (
            "train.target_modules",
            "all",
            "train.lora.target_modules: got 'all' (str), takes a list of module names, or auto",
        ),
        ("mmlu.shots", "6", "mmlu.shots: got 6 (int), takes a whole number from 0 to 5"),
        ("mmlu.rotations", "3", "mmlu.rotations: got 3 (int), takes 1 or 4"),
        ("mmlu.chat", "base", "mmlu.chat: got 'base' (str), takes a list of models' names, or [] for none"),
        ("mmlu.chat", "[base, m9]", "mmlu: chat: got 'm9' (str), takes names of `models`: base, m1, m2"),
        ("mmlu.chat", "[m1, m1]", "mmlu: chat: m1 is named twice"),
        ("mmlu.chat_limit", "0", "mmlu.chat_limit: got 0 (int), takes a whole number of at least 1, or null for all"),
        ("train.optim", "sgd\n  objective: ppo", "train.objective: got 'ppo' (str), takes"),
        ("execution.timeout_s", "-1", "execution.timeout_s: got -1 (int), takes a number above 0"),
        ("compare.bootstrap_samples", "10", "takes a whole number of at least 100"),
        ("compare.seed", "*nothing", "not valid YAML: found undefined alias 'nothing'"),
        ("compare.seed", "!!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        ("compare.seed", "0\n  seed: 1", 'not valid YAML: found duplicate key "seed"'),
    ],
)
def test_a_wrong_value_is_named_with_its_key_what_it_got_and_what_it_takes(changed, key, value, message):
    path = changed(key, value)
    with pytest.raises(UserError) as error:
        load_params(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mmlu.subjects", "some", "mmlu.subjects: got 'some' (str), takes 'all', or lists of subjects by category"),
        ("mmlu.subjects", "{}", "mmlu.subjects: names no subject"),
        ("mmlu.subjects", "{arts: [philosophy]}", "mmlu.subjects: unknown category 'arts' (str); takes"),
        ("mmlu.subjects", "{stem: astronomy}", "mmlu.subjects: stem: got 'astronomy' (str), takes a list"),
        ("mmlu.subjects", "{stem: [astrology]}", "'astrology' (str) is none of MMLU's 57 subjects"),
        ("mmlu.subjects", "{stem: [philosophy]}", "mmlu.subjects: stem: 'philosophy' belongs to humanities"),
        ("mmlu.subjects", "{stem: [astronomy, astronomy]}", "'astronomy' is named twice"),
    ],
)
def test_a_subject_that_mmlu_does_not_have_is_named(changed, key, value, message):
    with pytest.raises(UserError) as error:
        subject_categories(load_params(changed(key, value)).mmlu.subjects)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_problems_are_named_at_once(repository, tmp_path):
    path = tmp_path / "params.yaml"
    text = (repository / "params.yaml").read_text()
    path.write_text(text.replace("  lr: 2e-4", "  lr: foo").replace("compare:", "comparison:"))
    with pytest.raises(UserError) as error:
        load_params(path)
    assert all(part in str(error.value) for part in ("train.lr: got 'foo'", "compare: missing", "comparison: unknown"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found null, wanted a mapping"),
        ("3", "found 3 (int), wanted a mapping"),
        ("- a", "found ['a'] (list), wanted a mapping"),
        ("a: [", "line 1: not valid YAML"),
        ("a: &a [*a]", "a: unknown key"),
        ("1: 2", "1: unknown key"),
        ('"a\\nb": 2', "'a\\nb': unknown key"),
        ("a: " + "[" * 800 + "]" * 800, "not valid YAML: maximum recursion depth exceeded"),
        (b"a: \xff", "not valid YAML: 'utf-8' codec"),
        ("a: \x00", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
        ("--- {}\n--- {}", "not valid YAML"),
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load_params(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="none.yaml: no such file"):
        load_params(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is a folder, wanted a YAML file"):
        load_params(tmp_path)


def test_the_command_validates_the_files_it_is_given(repository, changed):
    def command(*paths):
        return subprocess.run(
            [sys.executable, "-m", "text2sql", "check", *map(str, paths)],
            cwd=repository,
            capture_output=True,
            text=True,
        )

    good = command("params.yaml")
    assert good.returncode == 0 and good.stdout.startswith("params.yaml: valid (qwen2.5-coder-0.5b-instruct, ")
    bad = command("params.yaml", changed("train.lr", "foo"))
    assert bad.returncode == 2
    (line,) = bad.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(f"train.lr: got 'foo' (str), takes {LR}")


@pytest.mark.parametrize(
    ("entry", "sampled", "says"),
    [
        (None, {"m1": {}}, "learn: has no entry m3, which models.m3.recipe names"),
        ({"objective": "sft", "from": "m1"}, {"m1": {}}, "learn: m3.objective: got sft, takes rejection, dpo or grpo"),
        ({"from": "m1"}, {"m1": {}}, "learn: m3.objective: got none, takes rejection, dpo or grpo"),
        ({"objective": "dpo"}, {"m1": {}}, "learn: m3.from: got none, takes another model that sample_train names: m1"),
        ({"objective": "dpo", "from": "m2"}, {"m1": {}}, "learn: m3.from: got m2, takes another model"),
        (
            {"objective": "dpo", "from": "m3"},
            {"m3": {}},
            "m3.from: got m3, takes another model that sample_train names: none",
        ),
        (
            {"objective": "dpo", "from": "m1", "beta": 0},
            {"m1": {}},
            "learn.m3.beta: got 0 (int), takes a number above 0",
        ),
        ({"objective": "dpo", "form": "m1"}, {"m1": {}}, "learn.m3.form: unknown key"),
        (
            {"objective": "grpo", "from": "m1", "group": 1},
            {"m1": {}},
            "learn.m3.group: got 1 (int), takes a whole number from 2 to 256",
        ),
        ({"objective": "grpo", "from": "m2"}, {"m1": {}}, "learn: m3.from: got m2, takes another model"),
        ({"objective": "dpo", "from": "m1"}, {"m9": {}}, "sample_train: got 'm9' (str), takes tuned models"),
        ({"objective": "dpo", "from": "m1"}, {"base": {}}, "sample_train: got 'base' (str), takes tuned models"),
        ({"objective": "dpo", "from": "m1"}, {"m1": {"samples": 0}}, "sample_train.m1.samples: got 0 (int), takes"),
        (
            {"objective": "dpo", "from": "m1"},
            {"m1": {"folds": 2}, "m3": {"folds": 2}},
            "sample_train: m3.folds: got 2, takes 1: m3 learns from answers itself, to questions of all folds",
        ),
        ({"objective": "dpo", "from": "m1"}, {"m1": {"folds": 0}}, "sample_train.m1.folds: got 0 (int), takes a whole"),
    ],
)
def test_a_model_that_cannot_learn_is_named(good_params, entry, sampled, says):
    params = copy.deepcopy(good_params)
    params["models"]["m3"] = {"title": "Model 3", "recipe": "learn.m3"}
    params["sample_train"], params["learn"] = sampled, {} if entry is None else {"m3": entry}
    with pytest.raises(UserError) as error:
        validate(params, "params.yaml")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_who_learns_is_one_of_the_models(good_params):
    entries = {"sample_train": {"m1": {}}, "learn": {"m3": {"objective": "dpo", "from": "m1"}}}
    with pytest.raises(UserError, match="learn: m3: is none of `models`: takes an entry there"):
        validate(copy.deepcopy(good_params) | entries, "params.yaml")


def test_a_model_that_learns_takes_model_1s_recipe_with_its_changes(good_params):
    params = copy.deepcopy(good_params)
    params["models"]["m3"] = {"title": "Model 3", "recipe": "learn.m3"}
    params["sample_train"], params["learn"] = {"m1": {}}, {"m3": {"objective": "dpo", "from": "m1", "lr": "5e-6"}}
    found = validate(params, "params.yaml")
    assert found.train_for("m3") == found.train.model_copy(update={"objective": "dpo", "from_": "m1", "lr": 5e-6})
    assert found.train_for("m1").objective == "sft" and found.train_for("m1").from_ is None
    # A point of a curve may name another point: that is for it to check.
    point = changed_params(found, {"train.objective": "rejection", "train.from": "plain"}, "here")
    assert (point.train.objective, point.train.from_) == ("rejection", "plain")


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=3)
    | st.dates() | st.sampled_from(["2e-8", "1e400", "nan", "all", 10**400, float("inf"), "\ud800", "a\0b"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(data=st.data(), value=VALUE)
def test_any_mapping_gives_params_or_a_message(good_params, data, value):
    params = copy.deepcopy(good_params)
    place = params
    while True:
        key = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=4) | st.integers(0, 1))
        if not (isinstance(place.get(key), dict) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.integers(0, 3)) == 0:
        place.pop(key, None)
    else:
        place[key] = value
    try:
        validate(params, "params.yaml")
    except UserError as error:
        assert str(error).startswith("params.yaml: ") and "\n" not in str(error)
    else:
        assert isinstance(place.get(key), (int, float, str, list, dict, type(None)))


@pytest.fixture(scope="module")
def good_params(repository):
    """The committed params as a plain mapping."""
    return read_yaml(repository / "params.yaml")


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
       | st.text(alphabet="ab:-[]{}&*!|>'\"#%@\n \t0.", max_size=40).map(str.encode))  # fmt: skip
def test_any_text_gives_a_mapping_or_a_message(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed_params.yaml"
    path.write_bytes(data)
    try:
        assert isinstance(read_yaml(path), dict)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_what_dvc_writes_is_read_back(repository, tmp_path):
    """DVC rewrites params with ruamel: the numbers come out as they went in."""
    yaml = YAML()
    params = yaml.load((repository / "params.yaml").read_text())
    params["train"]["lr"] = float("2e-8")
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    assert "lr: 2e-08" in (tmp_path / "params.yaml").read_text()
    assert load_params(tmp_path / "params.yaml").train.lr == 2e-8
