"""What this project uses of other libraries' insides: each is still there, and takes what it took.

Libraries rename these without a word, and an override that nothing calls any more fails in silence. After raising a
bound in pyproject.toml, a failure here says which upstream file to read.
"""

import importlib
import inspect

import pytest

TRANSFORMERS = "huggingface/transformers: src/transformers/trainer.py"
TRL_SFT = "huggingface/trl: trl/trainer/sft_trainer.py"
TRL_DPO = "huggingface/trl: trl/trainer/dpo_trainer.py"
TRL_GRPO = "huggingface/trl: trl/trainer/grpo_trainer.py"
TRL_BASE = "huggingface/trl: trl/trainer/base_trainer.py"

# Private methods that training overrides or calls: parameters without `self`, and where upstream defines them.
TRAINER = {
    "_clip_grad_norm": (["model"], TRANSFORMERS),
    "_get_learning_rate": ([], TRANSFORMERS),
    "_get_output_dir": (["trial"], TRANSFORMERS),
    "_get_train_sampler": (["train_dataset"], TRANSFORMERS),
    "_load_from_checkpoint": (["resume_from_checkpoint", "model"], TRANSFORMERS),
    "_prepare_inputs": (["inputs"], TRANSFORMERS),
    "_save": (["output_dir", "state_dict"], TRANSFORMERS),
    "_save_checkpoint": (["model", "trial"], TRL_SFT),
    "_send_telemetry": ([], TRL_BASE),
}
# Those of training on pairs alone.
DPO = {"_prepare_dataset": ["dataset", "processing_class", "args", "dataset_name"]}
# Those of training by reward alone.
GRPO = {"_tokenize_prompts": ["prompts"]}
# What is imported from modules that promise nothing, or is private: its parameters that we pass or receive, in order.
INSIDES = {
    "torch.cpu.get_capabilities": ([], "pytorch/pytorch: torch/cpu/__init__.py"),
    "torch._C._cuda_endAllocateToPool": (None, "pytorch/pytorch: torch/csrc/cuda/Module.cpp"),
    "transformers.integrations.sdpa_attention.sdpa_attention_forward": (
        ["module", "query", "key", "value", "attention_mask", "dropout", "scaling", "is_causal", "position_bias"],
        "huggingface/transformers: src/transformers/integrations/sdpa_attention.py",
    ),
    "transformers.masking_utils.sdpa_mask": (None, "huggingface/transformers: src/transformers/masking_utils.py"),
    "transformers.loss.loss_utils.ForCausalLMLoss": (
        ["logits", "labels", "vocab_size", "num_items_in_batch", "ignore_index", "shift_labels"],
        "huggingface/transformers: src/transformers/loss/loss_utils.py",
    ),
    # What `text2sql.core.import_scans` takes the place of; without it, an import reads as many files as before.
    "transformers.utils.import_utils.define_import_structure": (
        ["module_path", "prefix"],
        "huggingface/transformers: src/transformers/utils/import_utils.py",
    ),
    "trl.trainer.utils.FusedCausalLMOutput": (None, "huggingface/trl: trl/trainer/utils.py"),
    "peft.helpers.disable_input_dtype_casting": (["model", "active"], "huggingface/peft: src/peft/helpers.py"),
}
# Ours that inherit. Named, not imported: each process of a run reads this file, and one needs the libraries.
TRAINER_CLASS = "text2sql.training.trainer.AdapterTrainer"
KEPT = "text2sql.training.kept_trainer.KeptTrainer"
PAIRS = "text2sql.training.preferences.PreferenceTrainer"
REWARDS = "text2sql.training.reward_trainer.RewardTrainer"
WATCH = "text2sql.training.callbacks.Watch"
PROGRESS = "text2sql.training.callbacks.Progress"
METRIC = "text2sql.scoring.metric.ExecutionAccuracyMetric"
# Public, and called by the libraries under these names: a new name would leave ours uncalled.
HOOKS = {
    TRAINER_CLASS: ("compute_loss", "create_optimizer", "log", "training_step", TRANSFORMERS),
    PAIRS: ("train", TRANSFORMERS),
    WATCH: ("on_step_end", "huggingface/transformers: src/transformers/trainer_callback.py"),
    METRIC: (
        "a_measure",
        "is_successful",
        "measure",
        "confident-ai/deepeval: deepeval/metrics/base_metric.py",
    ),
}


def imported(path):
    """Return what the dotted `path` names, None where its module has no such name."""
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name, None)


def defined_upstream(cls, name):
    """Return the first definition of `name` in the classes that `cls` inherits from, None where there is none."""
    for parent in cls.__mro__[1:]:
        if not parent.__module__.startswith("text2sql") and name in vars(parent):
            return vars(parent)[name]
    return None


@pytest.mark.parametrize("name", TRAINER)
def test_the_trainers_private_methods(name):
    parameters, where = TRAINER[name]
    method = defined_upstream(imported(TRAINER_CLASS), name)
    assert method is not None, f"{name} is no longer in {where}"
    assert [key for key in inspect.signature(method).parameters if key != "self"] == parameters, where


@pytest.mark.parametrize("path", [TRAINER_CLASS, KEPT, PAIRS, REWARDS, WATCH, PROGRESS, METRIC])
def test_the_table_has_every_private_method_that_is_overridden(path):
    cls = imported(path)
    private = {name for name in vars(cls) if name.startswith("_") and not name.startswith("__") and name != "_abc_impl"}
    assert {name for name in private if defined_upstream(cls, name)} <= {*TRAINER, *DPO, *GRPO}


def test_what_training_by_reward_overrides_and_what_it_is_given():
    cls = imported(REWARDS)
    for name, parameters in GRPO.items():
        method = defined_upstream(cls, name)
        assert method is not None, f"{name} is no longer in {TRL_GRPO}"
        assert [key for key in inspect.signature(method).parameters if key != "self"] == parameters, TRL_GRPO
    source = inspect.getsource(inspect.getmodule(defined_upstream(cls, "_tokenize_prompts")))
    # Its fused output layer is called so, the reference is named so, and the reward function is given so.
    assert "labels=labels, fused_lm_head=True)" in source, TRL_GRPO
    assert 'model.add_adapter("ref", default_config)' in source, TRL_GRPO
    assert "prompts=prompts, completions=completions, completion_ids=completion_ids_list" in source, TRL_GRPO


def test_what_training_on_pairs_overrides_and_calls():
    from trl import DPOConfig

    cls = imported(PAIRS)
    for name, parameters in DPO.items():
        method = defined_upstream(cls, name)
        assert method is not None, f"{name} is no longer in {TRL_DPO}"
        assert [key for key in inspect.signature(method).parameters if key != "self"] == parameters, TRL_DPO
    source = inspect.getsource(inspect.getmodule(defined_upstream(cls, "_prepare_dataset")))
    # The copy of the adapter that is the reference, what is asked of the output layer, and what the collator takes.
    for said in ('add_adapter("ref"', "fused_lm_head=True", '"prompt_ids"', '"chosen_ids"', '"rejected_ids"'):
        assert said in source, TRL_DPO
    for field in ("log_probs", "entropy", "mean_logits", "is_top1"):
        assert f"outputs.{field}" in source, TRL_DPO
    assert DPOConfig.__dataclass_fields__["disable_dropout"].default is True


@pytest.mark.parametrize("path", INSIDES)
def test_what_is_imported_from_their_insides(path):
    parameters, where = INSIDES[path]
    found = imported(path)
    assert found is not None, f"{path} is no longer in {where}"
    if parameters is not None:
        assert [key for key in inspect.signature(found).parameters if key != "kwargs"] == parameters, where


@pytest.mark.parametrize("path", HOOKS)
def test_hooks_that_the_libraries_call(path):
    *names, where = HOOKS[path]
    cls = imported(path)
    for name in names:
        assert name in vars(cls)
        assert defined_upstream(cls, name) is not None, f"{name} is no longer in {where}"


def test_flash_attention_takes_what_packed_rows_and_strips_give_it():
    """pytorch/pytorch: aten/src/ATen/native/native_functions.yaml; without it, a GPU pads and masks as a CPU does."""
    import torch

    names = [argument.name for argument in torch.ops.aten._flash_attention_forward.default._schema.arguments]
    assert names[:10] == [
        *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
        *("dropout_p", "is_causal", "return_debug_mask"),
    ]
    assert {"scale", "seqused_k"} <= set(names)
