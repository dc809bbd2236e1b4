"""Adapters on a base: they change answers, stay unmerged, and keep float32."""

import pytest

from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.model.adapters import add_adapter
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import load_base


def test_an_adapter_changes_answers_and_stays_unmerged(micro_model, prompts, tmp_path):
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
    adapter_weights = [parameter for name, parameter in model.model.named_parameters() if "lora_" in name]
    assert adapter_weights and all(parameter.dtype == torch.float32 for parameter in adapter_weights)


def test_adapter_weights_are_float32_on_a_bfloat16_base(micro_model):
    import torch

    base, _ = load_base(model_params(micro_model, dtype="bfloat16"))
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj"])
    tuned = add_adapter(base, lora, seed=1, loader="transformers")
    dtypes = {name: parameter.dtype for name, parameter in tuned.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in dtypes.items() if "lora_" not in name} == {torch.bfloat16}


def test_a_missing_adapter_is_named(micro_model, tmp_path):
    with pytest.raises(UserError, match="adapter_config.json"):
        LanguageModel(model_params(micro_model), tmp_path)
