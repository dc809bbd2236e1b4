"""Adapters on a base: they change answers, are trained in float32, and are applied whole or refused."""

import json
import shutil

import pytest

from testkit.random_models import save_random_adapter
from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.model.adapters import add_adapter, save_adapter, scale_adapter
from text2sql.model.base_identity import check_trained_on
from text2sql.model.bases import CARRIED, EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import load_base


def test_an_adapter_changes_answers(micro_model, prompts, tmp_path):
    import torch

    base, _ = load_base(model_params(micro_model))
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "down_proj"])
    tuned = add_adapter(base, lora, seed=1, loader="transformers")
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(2))
    tuned.save_pretrained(tmp_path / "adapter")
    model = LanguageModel(model_params(micro_model), tmp_path / "adapter")
    answers = model.generate(prompts, 8)
    assert answers != LanguageModel(model_params(micro_model)).generate(prompts, 8)
    assert answers == [model.generate([prompt], 8)[0] for prompt in prompts]


def test_adapter_weights_are_float32_on_a_bfloat16_base(micro_model):
    import torch

    base, _ = load_base(model_params(micro_model, dtype="bfloat16"))
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj"])
    tuned = add_adapter(base, lora, seed=1, loader="transformers")
    dtypes = {name: parameter.dtype for name, parameter in tuned.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in dtypes.items() if "lora_" not in name} == {torch.bfloat16}


def test_an_adapter_is_evaluated_in_the_dtype_of_its_bfloat16_base(micro_model, prompts, tmp_path):
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", LORA)
    model = LanguageModel(model_params(micro_model, dtype="bfloat16"), adapter)
    products = []
    for name, module in model.model.named_modules():
        if name.endswith(("lora_A.default", "lora_B.default")):
            module.register_forward_hook(lambda module, inputs, output: products.append(str(output.dtype)))
    model.generate(prompts, 2)
    assert set(products) == {"torch.bfloat16"}


def test_strength_scales_what_the_adapter_adds(micro_model, prompts, tmp_path):
    """From the base at 0 to the adapter as trained at 1; twice as much is something else again."""
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", LORA)

    def likelihoods(strength, folder=adapter):
        model = LanguageModel(model_params(micro_model, strength=strength), folder)
        assert (f"strength {strength:g}" in model.description) == (model.strength != 1)
        return model.option_log_likelihoods(prompts, [" A", " B"])

    base, none, half, whole, twice = (
        likelihoods(1, None), likelihoods(0), likelihoods(0.5), likelihoods(1), likelihoods(2)
    )  # fmt: skip
    assert [pytest.approx(row, abs=1e-4) for row in none] == base
    assert whole == LanguageModel(model_params(micro_model), adapter).option_log_likelihoods(prompts, [" A", " B"])
    assert len({str(found) for found in (base, half, whole, twice)}) == 4


@pytest.mark.parametrize(
    ("held", "value"), [("use_dora", True), ("modules_to_save", ["lm_head"]), ("trainable_token_indices", [3])]
)
def test_strength_of_an_adapter_that_holds_more_than_pairs_of_matrices_is_refused(tmp_path, held, value):
    (tmp_path / "adapter_config.json").write_text(json.dumps({held: value}))
    with pytest.raises(UserError, match=f"model.strength: got 0.5, takes 1: .* has {held}"):
        scale_adapter(None, tmp_path, 0.5)
    scale_adapter(None, tmp_path, 1)


def test_a_missing_adapter_is_named(micro_model, tmp_path):
    with pytest.raises(UserError, match="adapter_config.json"):
        LanguageModel(model_params(micro_model), tmp_path)


LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "down_proj"])  # 8 matrices in two layers


@pytest.fixture
def adapter(micro_model, tmp_path):
    """An adapter from elsewhere, which does not say what its base is."""
    folder = save_random_adapter(str(micro_model), tmp_path / "adapter", LORA)
    change_config(folder, base_model_name_or_path=None)
    return folder


@pytest.fixture
def own(micro_model, tmp_path):
    """One of our own adapters, its second matrices random."""
    import torch

    base, _ = load_base(model_params(micro_model))
    tuned = add_adapter(base, LORA, seed=1, loader="transformers")
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    save_adapter(tuned, tmp_path / "own", model_params(micro_model), "# card\n")
    return tmp_path / "own"


def change_weights(adapter, change):
    """Rewrite the adapter's weights as `change` of {name: tensor}."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def change_config(adapter, **changes):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(base, adapter):
    """Return the one line with which the adapter is refused."""
    with pytest.raises(UserError) as error:
        LanguageModel(model_params(base), adapter)
    text = str(error.value)
    assert text.startswith(f"{adapter}: ") and "\n" not in text and len(text) < 800
    return text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda weights: {
                name.replace("model.model.", "model._orig_mod.model.", 1): weights[name] for name in weights
            },
            "0 of its 8 weights have a place in the model (not base_model._orig_mod.model.model.layers.0.",
        ),
        (
            lambda weights: {name.replace("layers", "language_model.layers"): weights[name] for name in weights},
            "8 of the model's 8 places get none",
        ),
        (
            lambda weights: {name: weights[name] for name in weights if "layers.0" in name},
            "4 of its 4 weights have a place in the model, 4 of the model's 8 places get none",
        ),
        (
            lambda weights: weights | {name.replace("layers.1", "layers.2"): weights[name].clone() for name in weights},
            "8 of its 12 weights have a place in the model (not base_model.model.model.layers.2.",
        ),
        (
            lambda weights: {name: weights[name] * ("lora_A" in name) for name in weights},
            "its second matrices are all zero: it changes nothing",
        ),
        (lambda weights: {name: weights[name][:, :2].contiguous() for name in weights}, "size mismatch"),
    ],
    ids=["compiled", "multimodal", "half", "deeper", "untrained", "narrow"],
)
def test_an_adapter_that_does_not_land_whole_is_refused(micro_model, adapter, change, says):
    change_weights(adapter, change)
    assert says in refusal(micro_model, adapter)


def test_an_adapter_does_not_fit_a_deeper_base(micro_model, adapter, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    deeper = tmp_path / "deeper"
    shutil.copytree(micro_model, deeper)
    config = AutoConfig.from_pretrained(micro_model, num_hidden_layers=3, layer_types=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(deeper)
    assert "8 of its 8 weights have a place in the model, 4 of the model's 12 places get none" in refusal(
        deeper, adapter
    )


def test_a_misspelt_target_of_an_adapter_is_named(micro_model, adapter):
    change_config(adapter, target_modules=["q_proj", "down_proj", "v_pro"])
    text = refusal(micro_model, adapter)
    assert (
        "v_pro: matches no module of the base that LoRA has a form for (did you mean v_proj?); it has down_proj, "
        in text
    )


def test_our_own_adapter_loads_wherever_its_base_lies_and_on_no_other(micro_model, own, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    moved, other = tmp_path / "moved", tmp_path / micro_model.name
    shutil.copytree(micro_model, moved)
    (moved / "README.md").write_text("Copied.")
    LanguageModel(model_params(moved), own)
    # Another base, under the same name, of the same shape.
    shutil.copytree(micro_model, other)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(load_base(model_params(other))[0].config).save_pretrained(other)
    text = refusal(other, own)
    assert f"was trained on {micro_model.name} (sha256 " in text and f"model.base is {other}" in text
    assert LanguageModel(model_params(other), own, other_base=True)


@pytest.mark.parametrize("kind", ["own", "adapter"])
def test_an_adapter_that_names_another_base_is_refused_with_both_names(micro_model, kind, request):
    folder = request.getfixturevalue(kind)
    change_config(folder, base_model_name_or_path="HuggingFaceTB/SmolLM2-135M", revision="0123456")
    text = refusal(micro_model, folder)
    assert "was trained on HuggingFaceTB/SmolLM2-135M (revision 0123456), " in text and str(micro_model) in text
    assert LanguageModel(model_params(micro_model), folder, other_base=True)


def test_a_foreign_adapter_may_call_its_base_by_another_path_of_the_same_weights(micro_model, adapter, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(micro_model, copy)
    for named in (str(copy), str(micro_model), "/nowhere/to/be/found", None, f"somebody/{micro_model.name}"):
        change_config(adapter, base_model_name_or_path=named)
        LanguageModel(model_params(micro_model), adapter)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    change_config(adapter, base_model_name_or_path=str(copy))
    assert f"was trained on {copy}" in refusal(micro_model, adapter)


def test_the_unquantised_model_is_not_the_carried_base(tmp_path):
    carried = CARRIED[EMBEDDED_BASE]
    adapter = save_random_adapter(EMBEDDED_BASE, tmp_path / "adapter", LORA)
    for named in (EMBEDDED_BASE, carried.repository):
        change_config(adapter, base_model_name_or_path=named)
        check_trained_on(
            adapter, json.loads((adapter / "adapter_config.json").read_text()), model_params(EMBEDDED_BASE)
        )
    change_config(adapter, base_model_name_or_path=carried.origin)
    text = refusal(EMBEDDED_BASE, adapter)
    assert carried.origin in text and carried.repository in text and carried.file in text and "--other-base" in text
