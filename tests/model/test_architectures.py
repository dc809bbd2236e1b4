"""Architectures, most with a cache of more than keys and values: they train, answer and choose as transformers does."""

import pytest

from testkit.tiny_models import ARCHITECTURES, write_tiny_model
from testkit.train_once import PAIRS, model_params, recipe
from tests.model.conftest import OPTIONS, QUESTIONS
from text2sql.core.files import read_json
from text2sql.core.params import LoraParams
from text2sql.model.adapters import save_adapter
from text2sql.model.language_model import LanguageModel
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules="auto")
ATTENTION_AND_MLP = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
# What `auto` adapts: all projections, but for those that PEFT refuses in state space models.
ADAPTED = {
    "llama": ATTENTION_AND_MLP,
    "gpt2": ["c_attn", "c_fc", "c_proj"],
    "lfm2": ["in_proj", "k_proj", "out_proj", "q_proj", "v_proj", "w1", "w2", "w3"],
    "falcon_h1": sorted([*ATTENTION_AND_MLP, "in_proj"]),
    # Not its own small adapters, which a list numbers: those names are layers' too.
    "zamba2": ["down_proj", "gate_up_proj", "in_proj", "k_proj", "linear", "o_proj", "out_proj", "q_proj", "v_proj"],
    "mamba": ["dt_proj", "in_proj", "x_proj"],
}


# Two whose cache we handle ourselves, one whose cache holds more than keys and values. The others are long.
QUICK = {"llama", "gpt2", "lfm2"}


def by_length(name):
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.long)


@pytest.fixture(scope="module", params=map(by_length, ARCHITECTURES))
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def base(architecture, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp(architecture) / "model", architecture)


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """The model with an adapter of four training steps on all its projections, and without."""
    folder = tmp_path_factory.mktemp("tuned")
    job = TrainingJob("m1", model_params(base), recipe(lora=LORA))
    training = train_adapter(job, PAIRS, folder / "checkpoints")
    losses = [row["loss"] for row in training.loss_curve]
    half = len(losses) // 2  # an epoch
    assert sum(losses[half:]) < sum(losses[:half])
    save_adapter(training.model, folder / "adapter", model_params(base), "# card\n")
    training.checkpoints.remove()
    model = LanguageModel(model_params(base), folder / "adapter")
    model.adapted = read_json(folder / "adapter/adapter_config.json")["target_modules"]  # it may be merged by now
    return model, LanguageModel(model_params(base))


def test_its_adapter_answers_and_chooses_as_transformers_does_in_any_batch(architecture, tuned):
    import torch

    model, untuned = tuned
    adapted = ADAPTED.get(architecture)
    assert adapted is None or sorted(model.adapted) == adapted
    # Of different lengths, two of them of one length.
    prompts = [model.chat_ids([{"role": "user", "content": question}]) for question in (*QUESTIONS, "Ho")]
    answers = model.generate(prompts, 10)
    rows = model.option_log_likelihoods(prompts, OPTIONS)
    assert answers != untuned.generate(prompts, 10)
    for prompt, answer, row in zip(prompts, answers, rows, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            whole = model.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, eos_token_id=2
            )
            logits = model.model(ids).logits[0, -1].float()
        assert answer == whole[0, len(prompt) :].tolist()
        expected = torch.log_softmax(logits, dim=-1)[model._option_ids(OPTIONS)].tolist()
        assert row == pytest.approx(expected, abs=1e-4)


def test_our_own_way_is_taken_where_the_cache_is_keys_and_values(architecture, tuned):
    assert (tuned[0]._prefill is not None) is (architecture in ("llama", "gpt2"))


def test_auto_leaves_out_what_routes_tokens_to_experts_under_any_name():
    """DBRX's router has a linear layer of its own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from text2sql.model.adapters import target_modules

    attention = {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10_000.0}
    experts = {"hidden_size": 64, "ffn_hidden_size": 64, "moe_num_experts": 2, "moe_top_k": 1}
    made = AutoConfig.for_model(
        "dbrx", d_model=64, n_heads=4, n_layers=1, vocab_size=300, attn_config=attention, ffn_config=experts
    )
    assert target_modules(AutoModelForCausalLM.from_config(made), LORA) == ["Wqkv", "out_proj"]
