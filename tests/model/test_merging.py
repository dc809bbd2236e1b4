"""An adapter is merged into its base for evaluation on a CPU where that changes nothing but rounding."""

from unittest.mock import patch

import pytest

from testkit.random_models import save_random_adapter
from testkit.train_once import model_params
from text2sql.core.params import LoraParams
from text2sql.model import language_model
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import load_base
from text2sql.model.merging import merge_on_cpu

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def adapter(micro_model, tmp_path_factory):
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=PROJECTIONS)
    return save_random_adapter(str(micro_model), tmp_path_factory.mktemp("merging") / "adapter", lora)


@pytest.mark.parametrize("strength", [1, 0.5, 50])
def test_a_merged_model_has_its_bases_weights_alone_and_answers_as_unmerged(micro_model, adapter, prompts, strength):
    params = model_params(micro_model, strength=strength)
    merged, base = LanguageModel(params, adapter), LanguageModel(model_params(micro_model))
    with patch.object(language_model, "merge_on_cpu", lambda model: model):
        unmerged = LanguageModel(params, adapter)
    shapes = {name: value.shape for name, value in base.model.named_parameters()}
    assert {name: value.shape for name, value in merged.model.named_parameters()} == shapes
    found = merged.option_log_likelihoods(prompts, [" A", " B"])
    assert found == [pytest.approx(row, abs=1e-3) for row in unmerged.option_log_likelihoods(prompts, [" A", " B"])]
    assert found != base.option_log_likelihoods(prompts, [" A", " B"])
    assert merged.generate(prompts, 8) == unmerged.generate(prompts, 8)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("bfloat16", {}),
        ("float32", {"bias": "lora_only"}),
        ("float32", {"lora_bias": True}),
        ("float32", {"modules_to_save": ["lm_head"]}),
        ("float32", {"trainable_token_indices": [3]}),
        ("float32", {"target_modules": ["embed_tokens"]}),
        ("float32", {"layer_replication": [[0, 2], [1, 2]]}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value), "LoRA"),
)
def test_what_rounding_or_a_merge_would_change_stays_as_it_is(micro_model, dtype, options):
    from peft import LoraConfig, get_peft_model

    base, _ = load_base(model_params(micro_model, dtype=dtype))
    tuned = get_peft_model(base, LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": PROJECTIONS, **options}))
    assert merge_on_cpu(tuned) is tuned


def test_an_output_that_is_the_embedding_too_is_not_merged(micro_model):
    """The adapter changes the output alone: merged, it would change what the model reads as well."""
    from peft import LoraConfig, get_peft_model

    base, _ = load_base(model_params(micro_model))
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"]))
    tuned.get_output_embeddings().base_layer.weight = tuned.get_input_embeddings().weight
    assert merge_on_cpu(tuned) is tuned
