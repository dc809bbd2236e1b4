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

from text2sql.model.adapters import adapter_in_float32, without_needless_casts
from text2sql.model.library_way import accepted
from text2sql.training.arguments import common_arguments, use_one_gpu
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.examples import IGNORED, TrainingExample
from text2sql.training.job import TrainingJob
from text2sql.training.kept_trainer import KeptTrainer
from text2sql.training.order import EpochOrder
from text2sql.training.parts import cut, tokens_per_pass
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

    What the reference, that adapter, makes of all pairs is computed once, before training. A step's pairs are cut into
    passes by what the machine holds, as `training.parts` does.
    """

    data_collator: Any  # Trainer's annotation allows for what never is here

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
        read = [sum(map(len, (2 * row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]))) for row in rows]
        self.keep(job, store, PairOrder(read, job.step_size, job.recipe.seed))
        self.plan = PassPlan(tokens_per_pass(model, model.device))
        super().__init__(
            model=model,
            args=_arguments(job, model, store),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        adapter_in_float32(model)  # TRL casts it to bfloat16 if the base is in 4 bit
        if model.device.type != "cuda":
            use_plain_head(model.get_base_model())
        self._collate: Any = self.data_collator
        self.data_collator = list
        self.train_dataset = Dataset.from_list(self._with_reference(rows))
        self.precompute_ref_logps = True
        model.delete_adapter(REFERENCE)
        self.show()

    def _with_reference(self, rows: Sequence[dict]) -> list[dict]:
        """Return `rows` with the log-probability (nats) of either answer under the reference, as TRL names them."""
        self.model.eval()
        found: list[dict] = [{}] * len(rows)
        longest_first = sorted(range(len(rows)), key=lambda place: -_tokens(rows[place]))
        with without_needless_casts(self.model):
            for some in self._cut([rows[place] for place in longest_first]):
                places = longest_first[some.start : some.stop]
                batch = self.padded([rows[place] for place in places])
                pairs = zip(*(one.tolist() for one in self.compute_ref_log_probs(self.model, batch)), strict=True)
                for place, (chosen, rejected) in zip(places, pairs, strict=True):
                    found[place] = rows[place] | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        return found

    def padded(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Return `rows` as TRL's loss takes them: on the model's device, the right answers first, then the wrong."""
        return self._prepare_inputs(self._collate(rows))

    def _cut(self, rows: Sequence[dict]) -> list[range]:
        """Return the places of `rows`, the longest first, as passes: both answers of a pair are in the same."""
        return cut([2 * _tokens(row) for row in rows], self.plan.tokens_per_pass, padded=True)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Sum the gradients of a step, pass by pass; return its loss, the mean over its pairs, the rows `inputs`."""
        model.train()
        rows = sorted(inputs, key=_tokens, reverse=True)
        losses = []
        for some in self._cut(rows):
            batch = self.padded(rows[some.start : some.stop])
            with self.compute_loss_context_manager():
                loss = self.compute_loss(model, batch) * (len(some) / len(rows))
            self.accelerator.backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does, without needless casts."""
        with without_needless_casts(self.model):
            return super().train(*args, **kwargs)

    def go_on(self, kept: Mapping[str, Any]) -> None:
        """Nothing of the plan changes in a run, so that one that resumes has no more to take over."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # token ids already, as evaluation reads them; TRL would drop long prompts without a count


def _tokens(row: Mapping[str, Any]) -> int:
    """Return the tokens of a pair's prompt with the longer of its answers."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


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


def _arguments(job: TrainingJob, model: Any, store: CheckpointStore) -> DPOConfig:
    recipe = job.recipe
    on_gpu = torch.cuda.is_available()
    arguments = DPOConfig(
        **common_arguments(recipe, model, store.folder),
        beta=recipe.beta,
        loss_type=["sigmoid", "sft"] if recipe.sft_weight else ["sigmoid"],
        loss_weights=[1.0, recipe.sft_weight] if recipe.sft_weight else None,
        per_device_train_batch_size=job.step_size,  # `training_step` cuts it into passes
        gradient_accumulation_steps=1,
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
