"""Generation and log-likelihoods on a real (micro) model: batches, prefixes and adapters change no answer."""

import shutil

import pytest

from text2sql.core.errors import RunError, UserError
from text2sql.core.params import LoraParams, ModelParams
from text2sql.model.language_model import LanguageModel, chat_text, load_base

QUESTIONS = [
    "How many singers are there?",
    "List the names of all ferries built after 2010, newest first.",
    "Which departments have more than ten employees and a budget above the average of all departments?",
    "Hi",
    "What is the average age?",
    "Show the title of every film that no cinema has shown.",
    "Count the dogs.",
]
OPTIONS = (" A", " B", " C", " D")


def model_params(base, **changes):
    settings = {"base": str(base), "loader": "transformers", "quantization": "none", "dtype": "float32"}
    return ModelParams(**{**settings, **changes})


@pytest.fixture(scope="module")
def model(micro_model):
    return LanguageModel(model_params(micro_model))


@pytest.fixture(scope="module")
def prompts(model):
    instruction = "Translate the question into one SQL query for SQLite. Answer with the query alone.\n\n"
    return [model.chat_ids([{"role": "user", "content": instruction + question}]) for question in QUESTIONS]


def test_a_batch_answers_as_one_by_one(model, prompts):
    together = model.generate(prompts, 24)
    assert together == [model.generate([prompt], 24)[0] for prompt in prompts]


def test_answers_are_those_of_transformers_generate(model, prompts):
    import torch

    for prompt, answer in zip(prompts, model.generate(prompts, 16), strict=True):
        reference = model.model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=16, do_sample=False, pad_token_id=2
        )
        assert answer == reference[0, len(prompt) :].tolist()


def test_an_answer_ends_with_its_end_token_and_leaves_the_others_alone(micro_model, prompts):
    ending = LanguageModel(model_params(micro_model))
    before = ending.generate(prompts, 12)
    # Let the third token of one answer be an end token: some answers now end earlier than others.
    end = before[0][2]
    ending._end_ids = {end}
    for old, new in zip(before, ending.generate(prompts, 12), strict=True):
        expected = old[: old.index(end) + 1] if end in old else old
        assert new == expected


def test_options_are_scored_alike_in_any_batch(model, prompts):
    together = model.option_log_likelihoods(prompts, OPTIONS)
    alone = [model.option_log_likelihoods([prompt], OPTIONS)[0] for prompt in prompts]
    for row, reference in zip(together, alone, strict=True):
        assert row == pytest.approx(reference, abs=1e-4)
        assert row.index(max(row)) == reference.index(max(reference))


def test_one_pass_chooses_as_four_full_prompts_do(model):
    """The paper's method: four prompts, each ending in one option, the whole sequence's likelihood compared."""
    import torch

    texts = [f"The following are multiple choice questions.\n\n{question}\nAnswer:" for question in QUESTIONS]
    rows = model.option_log_likelihoods(model.text_ids(texts), OPTIONS)
    for text, row in zip(texts, rows, strict=True):
        totals = []
        for option in OPTIONS:
            ids = torch.tensor(model.text_ids([text + option]))
            with torch.inference_mode():
                log_probabilities = torch.log_softmax(model.model(ids).logits[0, :-1].float(), dim=-1)
            totals.append(log_probabilities.gather(1, ids[0, 1:, None]).sum().item())
        assert row.index(max(row)) == totals.index(max(totals))


def test_an_option_must_be_one_token(model, prompts):
    with pytest.raises(UserError, match="not one token"):
        model.option_log_likelihoods(prompts, [" Aardvark of the north"])


def test_a_space_belongs_to_the_option(model):
    with_space = model.option_log_likelihoods(model.text_ids(["Answer:"]), OPTIONS)
    without = model.option_log_likelihoods(model.text_ids(["Answer:"]), ["A", "B", "C", "D"])
    assert with_space != without


def test_the_chat_template_is_applied_once(model):
    ids = model.chat_ids([{"role": "user", "content": "Hi"}])
    text = model.tokenizer.decode(ids)
    assert text.startswith("<|im_start|>system") and text.endswith("<|im_start|>assistant\n")
    assert text.count("<|im_start|>system") == 1


def test_a_date_in_the_template_is_pinned(model):
    tokenizer = type(model.tokenizer).from_pretrained(model.tokenizer.name_or_path)
    tokenizer.chat_template = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today Date: {{ date_string }}\n{{ messages[0]['content'] }}"
    )
    assert chat_text(tokenizer, [{"role": "user", "content": "Hi"}], False) == "Today Date: 26 Jul 2024\nHi"


def test_an_adapter_changes_answers_and_stays_unmerged(micro_model, prompts, tmp_path):
    import torch

    from text2sql.model.language_model import add_adapter

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

    from text2sql.model.language_model import add_adapter

    base, _ = load_base(model_params(micro_model, dtype="bfloat16"))
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj"])
    tuned = add_adapter(base, lora, seed=1, loader="transformers")
    dtypes = {name: parameter.dtype for name, parameter in tuned.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in dtypes.items() if "lora_" not in name} == {torch.bfloat16}


def test_pickled_weights_are_refused(micro_model, tmp_path):
    import torch

    pickled = tmp_path / "pickled"
    shutil.copytree(micro_model, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not load"):
        load_base(model_params(pickled))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("smollm3", "is no folder; takes smollm2-135m-instruct, a local folder, or a hub id"),
        ("./nowhere", "is no folder"),
        ("a/b/c", "is no folder"),
    ],
)
def test_an_unknown_base_is_named(base, message):
    with pytest.raises(UserError, match=message):
        load_base(model_params(base))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        load_base(model_params(tmp_path))


def test_a_hub_model_without_a_connection_says_what_to_do():
    with pytest.raises(RunError, match="could not be fetched from the hub"):
        load_base(model_params("nobody/no-such-model"))


@pytest.mark.parametrize("changes", [{"loader": "unsloth"}, {"quantization": "4bit"}], ids=["unsloth", "4bit"])
def test_what_needs_a_gpu_says_so(micro_model, changes, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a GPU"):
        load_base(model_params(micro_model, **changes))


def test_a_missing_adapter_is_named(micro_model, tmp_path):
    with pytest.raises(UserError, match="adapter_config.json"):
        LanguageModel(model_params(micro_model), tmp_path)


def test_a_batch_is_halved_where_gpu_memory_runs_out(model, prompts, monkeypatch, capsys):
    import torch

    expected = model.generate(prompts, 6)
    whole = model._generate

    def small_gpu(part, max_new_tokens):
        if len(part) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(part, max_new_tokens)

    monkeypatch.setattr(model, "_generate", small_gpu)
    assert model.generate(prompts, 6) == expected
    assert "going on with 3" in capsys.readouterr().out


def test_a_single_prompt_too_large_for_the_gpu_stops(model, prompts, monkeypatch):
    import torch

    def no_memory(part, max_new_tokens):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "_generate", no_memory)
    with pytest.raises(RunError, match="does not fit"):
        model.generate(prompts, 6)


def test_the_micro_model_answers_differently_to_different_questions(model, prompts):
    """Else the comparisons above would show nothing."""
    answers = model.generate(prompts, 16)
    assert len({tuple(answer) for answer in answers}) == len(prompts)
    assert all(len(set(answer)) > 3 for answer in answers)


def test_rows_that_end_leave_the_batch_and_change_no_other(model, prompts):
    import torch

    from text2sql.model.decoding import decode

    expected = model.generate(prompts, 21)
    end = expected[1][4]
    for ends in ({end}, {end, expected[0][2]}, set(model._end_ids)):
        with torch.inference_mode():
            logits, mask, cache = model._prefill(prompts)
            answers = decode(model.model, logits, mask, cache, 21, ends)
        for answer, whole in zip(answers, expected, strict=True):
            found = [whole.index(token) for token in ends if token in whole]
            assert answer == whole[: min(found, default=20) + 1]


def test_prompts_are_grouped_by_what_they_begin_with():
    from text2sql.model.prefill import groups_by_prefix, shared_prefix

    first, second = list(range(100)), [*range(40), *range(200, 260)]
    prompts = [[*first, 1, 2], [*second, 5], [*first, 3], [7], [*second, 4, 4], [*first, 1, 9]]
    groups = groups_by_prefix(prompts)
    assert sorted(map(sorted, groups)) == [[0, 2, 5], [1, 4], [3]]
    assert shared_prefix([prompts[0], prompts[5]]) == first[:96]  # in whole steps
    assert shared_prefix([first, first]) == first[:96]  # a token remains
    assert shared_prefix([first]) == first[:96] and shared_prefix([[1, 2], [1, 3]]) == []


def test_shared_prefixes_are_read_once_where_that_saves_tokens():
    from text2sql.model.prefill import groups_by_prefix, padded_tokens

    prompts = [[*([schema] * 160), question, question] for schema in range(3) for question in range(10)]
    assert padded_tokens(prompts, [list(range(30))]) == 30 * 162
    assert padded_tokens(prompts, groups_by_prefix(prompts)) == 3 * 160 + 30 * 2


@pytest.fixture(scope="module")
def prompts_with_schemas(model):
    schemas = ["singer(id, name, age, country), concert(id, singer_id, year, stadium)", "ferry(id, name, built, owner)"]
    return [
        model.chat_ids([{"role": "user", "content": f"{schemas[number % 2]}\n\n{question}"}])
        for number, question in enumerate(QUESTIONS)
    ]


def test_prompts_with_several_shared_prefixes_are_answered_as_alone(model, prompts_with_schemas):
    prompts = prompts_with_schemas
    assert model.generate(prompts, 12) == [model.generate([prompt], 12)[0] for prompt in prompts]
    likelihoods = model.option_log_likelihoods(prompts, OPTIONS)
    for row, prompt in zip(likelihoods, prompts, strict=True):
        assert row == pytest.approx(model.option_log_likelihoods([prompt], OPTIONS)[0], abs=1e-4)


def test_prefixes_of_different_lengths_are_read_in_one_pass(model, prompts_with_schemas):
    """As on a GPU; one of the prompts shares its prefix with no other."""
    import torch

    from text2sql.model.decoding import decode
    from text2sql.model.prefill import groups_by_prefix

    prompts = [*prompts_with_schemas, model.text_ids(["One that begins in a way of its own, and at some length."])[0]]
    groups = groups_by_prefix(prompts)
    assert len(groups) == 3
    with torch.inference_mode():
        logits, mask, cache = model._prefill._read(prompts, groups)
        answers = decode(model.model, logits, mask, cache, 12, model._end_ids)
    assert answers == [model.generate([prompt], 12)[0] for prompt in prompts]


def test_numbers_do_not_depend_on_what_was_asked_before(micro_model, prompts):
    fresh, used = (LanguageModel(model_params(micro_model)) for _ in range(2))
    used.option_log_likelihoods([prompt[:-1] for prompt in prompts], OPTIONS)
    used.generate(prompts[2:5], 3)
    assert used.option_log_likelihoods(prompts, OPTIONS) == fresh.option_log_likelihoods(prompts, OPTIONS)


def test_a_model_with_a_sliding_window_answers_through_transformers(micro_model, prompts, model, tmp_path):
    """Its cache is of another kind; a window wider than the prompts changes nothing else."""
    import json

    shutil.copytree(micro_model, tmp_path / "windowed")
    config = json.loads((micro_model / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
    (tmp_path / "windowed" / "config.json").write_text(json.dumps(config))
    windowed = LanguageModel(model_params(tmp_path / "windowed"))
    assert windowed.generate(prompts, 8) == model.generate(prompts, 8)
    for row, other in zip(
        windowed.option_log_likelihoods(prompts, OPTIONS), model.option_log_likelihoods(prompts, OPTIONS), strict=True
    ):
        assert row == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(
    ("rope", "recordable"),
    [
        ({"rope_type": "default"}, True),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, True),
        ({"rope_type": "dynamic", "factor": 2.0}, False),
        ({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}, False),
    ],
    ids=lambda value: value["rope_type"] if isinstance(value, dict) else str(value),
)
def test_a_model_that_chooses_its_rope_by_length_is_not_recorded(micro_model, rope, recordable):
    from transformers import AutoConfig, AutoModelForCausalLM

    from text2sql.model.cuda_graphs import can_be_recorded

    config = AutoConfig.from_pretrained(micro_model)
    config.rope_parameters = {**rope, "rope_theta": 10_000.0, "original_max_position_embeddings": 2048}
    assert can_be_recorded(AutoModelForCausalLM.from_config(config)) is recordable
