"""Tokens as users' bases have them: another end, none, one that is added behind each text, one without an embedding."""

import shutil

import pytest

from testkit.tiny_models import END, edit_json, write_tiny_model
from testkit.train_once import model_params
from tests.model.conftest import OPTIONS
from text2sql.core.errors import UserError
from text2sql.model.language_model import LanguageModel

# All of these change what transformers generates by default.
UNGREEDY = {
    "do_sample": True,
    "temperature": 3.0,
    "repetition_penalty": 1.9,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(8, 2_000)),
    "bad_words_ids": [[3_000]],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 7,
    "min_new_tokens": 12,
}
OTHER_END = {"eos_token_id": 0}
WITHOUT_EMBEDDING = r"its tokenizer makes token (\d,\d+), and it has embeddings for \1"  # the first one more


@pytest.fixture(scope="module")
def ending(micro_model, model, prompts, tmp_path_factory):
    """The micro model, but that some answers end: the third token of the first is now the template's end token."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("ending") / "model"
    shutil.copytree(micro_model, folder)
    third = model.generate(prompts, 3)[0][2]
    weights = load_file(folder / "model.safetensors")
    rows = weights["lm_head.weight"]
    end = model.tokenizer.convert_tokens_to_ids(END)
    rows[[third, end]] = rows[[end, third]]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def answers(folder, prompts):
    model = LanguageModel(model_params(folder))
    return model.generate(prompts, 12), model


def other_end_token(folder):
    edit_json(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    for name in ("config.json", "generation_config.json"):
        edit_json(folder / name, **OTHER_END)


def no_end_token(folder):
    edit_json(folder / "tokenizer_config.json", eos_token=None, pad_token=None)
    for name in ("config.json", "generation_config.json"):
        edit_json(folder / name, eos_token_id=None, pad_token_id=None)


def no_generation_config(folder):
    other_end_token(folder)
    (folder / "generation_config.json").unlink()


def ungreedy(folder):
    edit_json(folder / "generation_config.json", **UNGREEDY)


def windowed(folder):
    """Through transformers' own `generate`."""
    edit_json(folder / "config.json", model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=4096)


@pytest.mark.parametrize("through_library", [False, True], ids=["ours", "library"])
@pytest.mark.parametrize("change", [other_end_token, no_end_token, no_generation_config, ungreedy])
def test_a_turn_ends_with_the_templates_token_and_nothing_else_changes_an_answer(
    ending, prompts, tmp_path, change, through_library
):
    expected, _ = answers(ending, prompts)
    assert expected[0][2:] == [2] and max(map(len, expected)) == 12
    shutil.copytree(ending, tmp_path / "changed")
    change(tmp_path / "changed")
    if through_library:
        windowed(tmp_path / "changed")
    found, model = answers(tmp_path / "changed", prompts)
    assert (model._prefill is None) is through_library
    assert found == expected
    assert END not in model.decode(found[0])


def test_a_special_token_in_an_answer_stays_where_the_sql_ends(model):
    ids = model.tokenizer("SELECT 1<|endoftext|>system", add_special_tokens=False)["input_ids"]
    assert model.decode([*ids, 2]) == "SELECT 1<|endoftext|>system"


@pytest.mark.parametrize(
    ("single", "ids"),
    [("$A <|im_end|>", [2]), ("<|im_start|> $A <|im_end|>", [1, 2]), ("<|im_start|> $A", [1])],
    ids=["end", "both", "start"],
)
def test_what_a_tokenizer_puts_behind_a_text_is_left_away(single, ids, micro_model, model, tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = LanguageModel(model_params(micro_model)).tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    assert [token for token in tokenizer("Answer:")["input_ids"] if token < 3] == ids
    shutil.copytree(micro_model, tmp_path / "adding")
    tokenizer.save_pretrained(tmp_path / "adding")
    adding = LanguageModel(model_params(tmp_path / "adding"))
    texts = ["Which one?\nA. 1\nB. 2\nAnswer:", "Answer:"]
    start = [token for token in ids if token == 1]
    expected = [[*start, *text] for text in model.text_ids(texts)]
    assert adding.text_ids(texts) == expected
    assert adding.option_log_likelihoods(expected, OPTIONS) == model.option_log_likelihoods(expected, OPTIONS)


def test_padding_without_an_embedding_changes_no_answer(prompts, tmp_path):
    def padded(tokenizer):
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})

    plain = write_tiny_model(tmp_path / "plain")
    grown = write_tiny_model(tmp_path / "grown", change=padded, resize=False)
    expected, model = answers(plain, prompts)
    found, other = answers(grown, prompts)
    assert found == expected
    assert other.option_log_likelihoods(prompts, OPTIONS) == model.option_log_likelihoods(prompts, OPTIONS)


def test_a_prompt_with_a_token_that_has_no_embedding_is_one_line(tmp_path):
    def own_tokens(tokenizer):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
        tokenizer.chat_template = "{% for m in messages %}{{ '<|turn|>' + m['content'] + '<|im_end|>' }}{% endfor %}"

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "model", change=own_tokens, resize=False)))
    prompts = [model.chat_ids([{"role": "user", "content": "Hi"}])]
    with pytest.raises(UserError, match=WITHOUT_EMBEDDING):
        model.check_prompts(prompts, 8, "nothing")


def test_a_turn_without_an_end_token_is_one_line_in_generation(tmp_path):
    def next_turn_ends(tokenizer):
        tokenizer.chat_template = "{% for m in messages %}{{ '<|im_start|>' + m['content'] }}{% endfor %}"

    def end_without_embedding(tokenizer):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]})
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<|eot|>' }}{% endfor %}"

    for change, message in (
        (next_turn_ends, "ends an assistant's turn without a special token"),
        (end_without_embedding, WITHOUT_EMBEDDING),
    ):
        folder = write_tiny_model(tmp_path / change.__name__, change=change, resize=False)
        model = LanguageModel(model_params(folder))
        with pytest.raises(UserError, match=message):
            model.generate([[5, 6, 7]], 4)
        assert model.option_log_likelihoods(model.text_ids(["Answer:"]), OPTIONS)  # needs no turns
