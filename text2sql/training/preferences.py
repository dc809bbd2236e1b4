"""Training on pairs of a right and a wrong answer: TRL's DPOTrainer, from an adapter that is also the reference.

Rafailov et al. (2023), "Direct Preference Optimization": the loss of a pair is -log sigmoid(beta * margin), where the
margin is how much more than the reference the model prefers the right answer, in nats. It begins at log 2. With
`sft_weight` so much of the right answers' negative log-likelihood (nats a token) is added, which keeps them from
becoming unlikely along with the wrong ones (Pang et al. 2024, "Iterative Reasoning Preference Optimization").

Import it after the base is loaded.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from text2sql.model.adapters import adapter_in_float32
from text2sql.model.library_way import accepted
from text2sql.training.arguments import common_arguments, use_one_gpu
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.examples import IGNORED, TrainingExample
from text2sql.training.job import TrainingJob
from text2sql.training.kept_trainer import KeptTrainer
from text2sql.training.order import EpochOrder
from text2sql.training.parts import tokens_per_pass
from text2sql.training.plan import PassPlan

REFERENCE = "ref"  # the name of TRL's copy of the adapter that training starts from


class PairOrder(EpochOrder):
    """The order of pairs: that of examples, without fillers. A step's loss is the mean over its own pairs."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (position for position in super().__iter__() if position < self._count)


class PreferenceTrainer(KeptTrainer, DPOTrainer):
    """DPOTrainer with our own order of pairs and checkpoints, for a model with the adapter to start from.

    A step's pairs are cut into passes by what the machine holds, as `training.parts` does.
    """

    def __init__(
        self,
        job: TrainingJob,
        model: Any,
        tokenizer: Any,
        examples: Sequence[TrainingExample],
        store: CheckpointStore,
    ) -> None:
        """`examples` are the right answers, and then the wrong ones in the same order, none too long."""
        rows = _rows(examples)
        longest = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) + len(row["prompt_ids"]) for row in rows]
        read = [sum(map(len, (2 * row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]))) for row in rows]
        self.keep(job, store, PairOrder(read, job.step_size, job.recipe.seed))
        self.plan = PassPlan(tokens_per_pass(model, model.device))
        pairs = pairs_per_pass(job.step_size, max(longest), self.plan.tokens_per_pass)
        super().__init__(
            model=model,
            args=_arguments(job, model, store, pairs),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        for name, parameter in model.named_parameters():
            if f".{REFERENCE}." in name:
                parameter.requires_grad_(False)
        adapter_in_float32(model)  # TRL casts it to bfloat16 if the base is in 4 bit
        if model.device.type != "cuda":
            use_plain_head(model.get_base_model())
        self.show()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does; the model then has the trained adapter alone."""
        result = super().train(*args, **kwargs)
        self.model.delete_adapter(REFERENCE)
        return result

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Nothing of the plan changes in a run, so that one that resumes has no more to take over."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # token ids already, as evaluation reads them; TRL would drop long prompts without a count


def _rows(examples: Sequence[TrainingExample]) -> list[dict[str, list[int]]]:
    """Return pairs as TRL's collator takes them: token ids of the prompt, of the right answer, of the wrong one."""
    count = len(examples) // 2
    rows = []
    for right, wrong in zip(examples[:count], examples[count:], strict=True):
        prompt = right.labels.count(IGNORED)
        rows.append(
            {
                "prompt_ids": right.input_ids[:prompt],
                "chosen_ids": right.input_ids[prompt:],
                "rejected_ids": wrong.input_ids[prompt:],
            }
        )
    return rows


def pairs_per_pass(step_size: int, longest: int, tokens: int) -> int:
    """Return how many pairs of a step one pass takes: the most that divide it and have up to `tokens` tokens, or one.

    `longest`: the most tokens of an answer with its prompt.
    """
    fitting = max(1, tokens // (2 * longest))
    return max(number for number in range(1, step_size + 1) if step_size % number == 0 and number <= fitting)


def _arguments(job: TrainingJob, model: Any, store: CheckpointStore, pairs: int) -> DPOConfig:
    recipe = job.recipe
    on_gpu = torch.cuda.is_available()
    arguments = DPOConfig(
        **common_arguments(recipe, model, store.folder),
        beta=recipe.beta,
        loss_type=["sigmoid", "sft"] if recipe.sft_weight else ["sigmoid"],
        loss_weights=[1.0, recipe.sft_weight] if recipe.sft_weight else None,
        per_device_train_batch_size=pairs,
        gradient_accumulation_steps=job.step_size // pairs,
        max_length=None,  # none is too long, and TRL would cut without a count
        logging_steps=1,
        router_aux_loss_coef=0.0,
        dataloader_pin_memory=on_gpu,
    )
    use_one_gpu(arguments)
    return arguments


def use_plain_head(model: Any) -> None:
    """Have PyTorch alone compute what TRL's fused output layer does with Triton, which PyTorch for CPUs lacks.

    `model(..., labels=labels, fused_lm_head=True)` then returns the same fields, each of (rows, tokens - 1): of the
    next token its log-probability (nats), and of the model's distribution entropy, mean logit and likeliest token.
    """
    fused = model.forward
    keeps = "logits_to_keep" in accepted(model)

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return fused(*args, labels=labels, **kwargs)
        following = labels[:, 1:]
        mask = following != IGNORED
        positions = mask.any(dim=0).nonzero().flatten()  # the prompt's are never projected onto the vocabulary
        logits = fused(*args, **kwargs, **({"logits_to_keep": positions} if keeps else {})).logits
        logits = (logits if keeps else logits[:, positions])[mask[:, positions]].float()
        wanted = following[mask][:, None]
        log_shares = torch.log_softmax(logits, dim=-1)
        found = {
            "log_probs": log_shares.gather(-1, wanted).squeeze(-1),
            "entropy": -(log_shares.exp() * log_shares).sum(dim=-1),
            "mean_logits": logits.detach().mean(dim=-1),
            "is_top1": logits.argmax(dim=-1) == wanted.squeeze(-1),
        }
        fields = {name: one.new_zeros(mask.shape).masked_scatter(mask, one) for name, one in found.items()}
        return FusedCausalLMOutput(**fields, label_mask=mask)

    model.forward = types.MethodType(forward, model)
