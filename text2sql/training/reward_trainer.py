"""TRL's GRPOTrainer for one adapter: answers to training questions are drawn, and the better ones become likelier.

Import it after the base is loaded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from text2sql.model.adapters import adapter_in_float32
from text2sql.prompts.chat import assistant_turn
from text2sql.training.arguments import common_arguments, use_one_gpu
from text2sql.training.callbacks import KeepSnapshots, Progress
from text2sql.training.job import TrainingJob
from text2sql.training.preferences import REFERENCE, use_plain_head
from text2sql.training.rewards import VerdictReward


class RewardTrainer(GRPOTrainer):
    """GRPOTrainer of the adapter of `model`, which begins as its own reference, on prompts as evaluation reads them."""

    def __init__(
        self,
        job: TrainingJob,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[list[int]],
        reward: VerdictReward,
        folder: Path,
    ) -> None:
        """`prompts` are token ids, one for each of the examples that `reward` knows: a multiple of a step's.

        `folder` is where TRL might write, and has nothing to.
        """
        self._prompts = prompts
        # A drawn answer ends where the template ends a turn, whatever else the base's files name.
        model.generation_config.eos_token_id = assistant_turn(tokenizer, job.template).end_id
        super().__init__(
            model=model,
            reward_funcs=reward,
            args=_arguments(job, model, reward.max_new_tokens, folder),
            # TRL's name for what it asks is `prompt`; here it is the prompt's number, see `_tokenize_prompts`.
            train_dataset=Dataset.from_list([{"prompt": str(place), "place": place} for place in range(len(prompts))]),
            processing_class=tokenizer,
        )
        for name, parameter in model.named_parameters():
            if f".{REFERENCE}." in name:
                parameter.requires_grad_(False)
        self.remove_callback(PrinterCallback)
        self.add_callback(KeepSnapshots(job, model))
        self.add_callback(Progress(job.name))
        adapter_in_float32(model)  # TRL casts it to bfloat16 if the base is in 4 bit
        if model.device.type != "cuda":
            use_plain_head(model.get_base_model())

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, Mapping]:
        # TRL would render the chat template itself, with today's date, or put a second BOS before a text.
        return [self._prompts[int(prompt)] for prompt in prompts], None, {}

    def _send_telemetry(self) -> None:
        """TRL would report each training to its makers."""


def _arguments(job: TrainingJob, model: Any, max_new_tokens: int, folder: Path) -> GRPOConfig:
    recipe = job.recipe
    arguments = GRPOConfig(
        **common_arguments(recipe, model, folder),
        num_generations=recipe.group,
        per_device_train_batch_size=recipe.batch_size * recipe.group,
        gradient_accumulation_steps=recipe.grad_accum,
        max_completion_length=max_new_tokens,
        temperature=1.0,
        beta=recipe.beta,
        logging_steps=1,
    )
    use_one_gpu(arguments)
    return arguments
