"""A merge answers as its adapter does, a tensor at a time, whatever is tied, adapted or in the files."""

import importlib.util
import json

import pytest

from testkit.random_models import save_random_adapter
from testkit.tiny_models import edit_json, write_tiny_model
from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.model import shards
from text2sql.model.language_model import LanguageModel
from text2sql.model.merged_model import MergedModel

PROJECTIONS = ["q_proj", "v_proj", "down_proj"]
PROMPTS = [[5, 9, 33, 12], [7, 7, 100, 41, 3, 8]]


def lora(modules=PROJECTIONS) -> LoraParams:
    return LoraParams(r=4, alpha=8, dropout=0, target_modules=modules)


def adapter_of(base, folder, modules=PROJECTIONS, **config):
    """Write an adapter of PEFT's own making for `base`: random, and large enough to change every logit."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=modules, **config)
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape) * 0.05
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


def write_merged(base, adapter, folder, dtype="float32", **params):
    merged = MergedModel(model_params(base, **params), adapter)
    folder.mkdir()
    merged.write_weights(folder, dtype)
    merged.tokenizer.save_pretrained(folder)
    return folder


def logits(base, adapter=None, **params):
    import torch

    model = LanguageModel(model_params(base, **params), adapter)
    with torch.no_grad():
        return [model.model(torch.tensor([prompt])).logits for prompt in PROMPTS]


def assert_alike(found, wanted):
    import torch

    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "architecture,modules,config",
    [
        ("llama", PROJECTIONS, {}),
        ("llama", PROJECTIONS, {"use_dora": True}),
        ("llama", PROJECTIONS, {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
        ("llama", ["q_proj"], {"modules_to_save": ["lm_head"]}),
        ("gpt2", ["c_attn", "c_proj"], {"fan_in_fan_out": True}),
    ],
    ids=["plain", "dora", "patterns", "whole layers", "transposed"],
)
def test_a_merge_answers_as_its_adapter_does(architecture, modules, config, tmp_path):
    base = write_tiny_model(tmp_path / "base", architecture)
    adapter = adapter_of(base, tmp_path / "adapter", modules, **config)
    wanted = logits(base, adapter)
    assert_alike(logits(write_merged(base, adapter, tmp_path / "merged")), wanted)
    with pytest.raises(AssertionError):
        assert_alike(logits(base), wanted)


@pytest.mark.parametrize("modules", [PROJECTIONS, ["embed_tokens", "q_proj"], ["lm_head", "q_proj"]])
def test_tied_embeddings_stay_tied_unless_the_adapter_changes_one(modules, tmp_path):
    from safetensors import safe_open

    base = write_tiny_model(tmp_path / "base", tie_word_embeddings=True)
    adapter = adapter_of(base, tmp_path / "adapter", modules)
    merged = write_merged(base, adapter, tmp_path / "merged")
    assert_alike(logits(merged), logits(base, adapter))
    tied = modules == PROJECTIONS
    assert json.loads((merged / "config.json").read_text())["tie_word_embeddings"] is tied
    with safe_open(merged / "model.safetensors", framework="pt") as file:
        assert ("lm_head.weight" in file.keys()) is not tied


def test_a_scaled_adapter_is_merged_as_it_was_evaluated(micro_model, tmp_path):
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", lora())
    merged = write_merged(micro_model, adapter, tmp_path / "merged", strength=0.5)
    assert_alike(logits(merged), logits(micro_model, adapter, strength=0.5))


def test_shards_hold_the_same_and_bfloat16_is_what_is_asked_for(micro_model, tmp_path, monkeypatch):
    import torch

    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", lora())
    whole = write_merged(micro_model, adapter, tmp_path / "whole", "bfloat16")
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    cut = write_merged(micro_model, adapter, tmp_path / "cut", "bfloat16")
    assert len(list(cut.glob("*.safetensors"))) > 2
    one, other = (LanguageModel(model_params(folder, dtype="bfloat16")).model for folder in (whole, cut))
    assert one.config.dtype == torch.bfloat16
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_a_base_in_4_bit_is_dequantised_first(micro_model, tmp_path):
    """By bitsandbytes on a CPU: what it multiplies with after loading, tensor by tensor, is what is merged into."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    functional = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes").functional
    settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    loaded = AutoModelForCausalLM.from_pretrained(
        micro_model,
        dtype=torch.bfloat16,
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16, **settings),
    )
    loaded.save_pretrained(tmp_path / "stored")
    LanguageModel(model_params(micro_model)).tokenizer.save_pretrained(tmp_path / "stored")
    merged = MergedModel(model_params(micro_model, quantization="4bit", dtype="bfloat16"), None)
    stored = MergedModel(model_params(tmp_path / "stored", dtype="bfloat16"), None)
    seen = 0
    for name, module in loaded.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            wanted = functional.dequantize_4bit(module.weight.data, state).float()
            assert torch.equal(merged.tensor(f"{name}.weight"), wanted)
            assert torch.equal(stored.tensor(f"{name}.weight"), wanted)
            seen += 1
    assert seen == 14 and merged.tensor("lm_head.weight").shape == stored.tensor("lm_head.weight").shape


def test_a_base_in_4_bit_needs_what_dequantises_it(micro_model):
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is here")
    merged = MergedModel(model_params(micro_model, quantization="4bit"), None)
    assert merged.tensor("lm_head.weight").shape
    with pytest.raises(UserError, match="is dequantised by the package bitsandbytes, which is not installed"):
        merged.tensor("model.layers.0.mlp.up_proj.weight")


def test_what_cannot_be_merged_is_one_line(micro_model, tmp_path):
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", lora())
    edit_json(adapter / "adapter_config.json", trainable_token_indices=[1])
    with pytest.raises(UserError, match="has trainable_token_indices, which is not merged layer by layer; takes --to"):
        MergedModel(model_params(micro_model), adapter)
    other = write_tiny_model(tmp_path / "other", "llama", num_hidden_layers=1)
    edit_json(adapter / "adapter_config.json", trainable_token_indices=None)
    with pytest.raises(UserError, match="was trained on .* and model.base is"):
        MergedModel(model_params(other), adapter)
    (other / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no .*safetensors"):
        MergedModel(model_params(other), adapter)
