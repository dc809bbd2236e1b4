"""Adapters that add tokens: with their tokenizer and their embeddings, or not at all."""

import json

import pytest

from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.model.language_model import LanguageModel
from text2sql.model.loading import load_base

ADDED = ["<schema>", "</schema>"]


def tuned_with_tokens(base_folder, folder, save_tokenizer=True, save_embeddings=True, **options):
    """Add tokens to the base, write an adapter with random weights, and return what the model then computes."""
    import torch
    from peft import LoraConfig, get_peft_model

    base, tokenizer = load_base(model_params(base_folder))
    if options.get("trainable_token_indices") == ADDED:
        options["trainable_token_indices"] = [len(tokenizer), len(tokenizer) + 1]
    tokenizer.add_special_tokens({"additional_special_tokens": ADDED})
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], **options))
    generator = torch.Generator().manual_seed(1)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    tuned.save_pretrained(folder, save_embedding_layers=save_embeddings)
    if save_tokenizer:
        tokenizer.save_pretrained(folder)
    ids = tokenizer(f"{ADDED[0]}CREATE TABLE t{ADDED[1]}", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        return ids, tuned.eval()(torch.tensor([ids])).logits


@pytest.fixture(scope="module")
def tied_model(micro_model, tmp_path_factory):
    """The micro model, its output tied to its input."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("tied") / "model"
    base, tokenizer = load_base(model_params(micro_model))
    base.config.tie_word_embeddings = True
    AutoModelForCausalLM.from_config(base.config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("tied", "options"),
    [
        (False, {}),
        (True, {}),
        (False, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (True, {"trainable_token_indices": ADDED, "save_embeddings": False}),
    ],
    ids=["saved beside it", "saved beside it, tied", "trained", "tokens alone, tied"],
)
def test_added_tokens_come_with_the_adapter(micro_model, tied_model, tmp_path, tied, options):
    import torch

    folder = tied_model if tied else micro_model
    ids, logits = tuned_with_tokens(folder, tmp_path / "adapter", **options)
    model = LanguageModel(model_params(folder), tmp_path / "adapter")
    assert model.tokenizer(f"{ADDED[0]}CREATE TABLE t{ADDED[1]}", add_special_tokens=False)["input_ids"] == ids
    with torch.inference_mode():
        loaded = model.model(torch.tensor([ids])).logits
    assert torch.allclose(loaded, logits, atol=1e-4)
    assert model.generate([ids], 4) and model.tokenizer.chat_template
    assert ADDED[0] not in LanguageModel(model_params(folder)).tokenizer.get_vocab()


@pytest.mark.parametrize(
    "options",
    [{}, {"trainable_token_indices": ADDED}, {"modules_to_save": ["embed_tokens"]}],
    ids=["no embeddings", "no output's rows", "no output layer"],
)
def test_added_tokens_without_embeddings_are_refused(micro_model, tmp_path, options):
    tuned_with_tokens(micro_model, tmp_path / "adapter", save_embeddings=False, **options)
    with pytest.raises(UserError, match="no.* embedding for each token that it adds .'</schema>'") as error:
        LanguageModel(model_params(micro_model), tmp_path / "adapter")
    assert "\n" not in str(error.value)


def test_embeddings_without_a_tokenizer_are_refused(micro_model, tmp_path):
    tuned_with_tokens(micro_model, tmp_path / "adapter", save_tokenizer=False)
    with pytest.raises(UserError, match="embeddings for 2 tokens more than the base, and no tokenizer"):
        LanguageModel(model_params(micro_model), tmp_path / "adapter")


def test_a_tokenizer_of_another_base_is_refused(micro_model, tmp_path):
    tuned_with_tokens(micro_model, tmp_path / "adapter")
    file = tmp_path / "adapter/tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["SELECT"], vocabulary["the"] = vocabulary["the"], vocabulary["SELECT"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="its tokenizer is another: 2 of the base's tokens have other ids"):
        LanguageModel(model_params(micro_model), tmp_path / "adapter")
