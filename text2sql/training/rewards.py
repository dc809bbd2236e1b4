"""Training by reward: answers to training questions are drawn anew, and the sandbox's verdict rewards them.

Shao et al. (2024), "DeepSeekMath", section 4.1 (GRPO): of the answers to one question, those that earn more than their
mean become likelier. Where all earn the same, nothing is learnt: such groups are counted.

One process, and no checkpoints: a run that was cut begins anew. Not tried on a GPU.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import user_cache
from text2sql.core.params import ModelParams, Params, TrainParams
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.model.adapters import adapter_in_float32, load_adapter
from text2sql.model.bases import check_base
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.context import check_prompts
from text2sql.model.loading import check_hardware, load_base
from text2sql.model.whole_model import how_loaded
from text2sql.prompts.answers import AnswerRule, extract_sql
from text2sql.scoring.judged import JudgedQuestion
from text2sql.scoring.verdicts import score_examples
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.fine_tune import Training, check_finite, count_parameters, loss_curve
from text2sql.training.job import TrainingJob

RIGHT, WRONG = 1.0, 0.0


@dataclass
class VerdictReward:
    """Rewards completions: 1 for SQL that both definitions of accuracy find right, 0 for any other text.

    Called as TRL calls a reward function: with `completions` (texts) and, at the same places, the `place` of each one's
    question among `examples`; the `group` answers to one question stand in a row. `counts` says how many groups there
    were, and how many of one reward alone.
    """

    examples: Sequence[Example]
    database_of: Callable[[str], Path]
    limits: Limits
    group: int
    max_new_tokens: int
    rule: AnswerRule = "standard"
    cache_dir: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, completions: Sequence[str], place: Sequence[int], **_: Any) -> list[float | None]:
        """Return the reward of each completion. To a question whose gold query fails nothing is right."""
        asked = [(number, extract_sql(text, self.rule)) for number, text in zip(place, completions, strict=True)]
        different = list(dict.fromkeys(asked))
        verdicts = score_examples(
            [self.examples[number] for number, _ in different],
            [sql for _, sql in different],
            self.database_of,
            self.limits,
            cache_dir=self.cache_dir,
            failing_gold="wrong",
        )
        right = {
            one: verdict.execution_accuracy and verdict.official_execution_accuracy
            for one, verdict in zip(different, verdicts, strict=True)
        }
        rewards: list[float | None] = [RIGHT if right[one] else WRONG for one in asked]
        for start in range(0, len(rewards), self.group):
            earned = set(rewards[start : start + self.group])
            self.counts.update(groups=1, groups_all_right=earned == {RIGHT}, groups_all_wrong=earned == {WRONG})
        self.counts.update(answers=len(rewards), right_answers=rewards.count(RIGHT))
        return rewards

    def summary(self) -> dict[str, int]:
        """Return the counts for metrics: of answers that were drawn, and of groups of them with one reward alone."""
        names = ("answers", "right_answers", "groups", "groups_all_right", "groups_all_wrong")
        return {f"reward_{name}": int(self.counts[name]) for name in names}


def asked_for_reward(questions: Sequence[JudgedQuestion]) -> tuple[list[JudgedQuestion], dict[str, int]]:
    """Return those of `questions` that have right and wrong answers already, and how many are left out, and why.

    Of the others all answers are likely to earn the same, and teach nothing. Raises UserError where none is left.
    """
    telling = [question for question in questions if question.telling]
    asked = [question for question in telling if question.right and question.wrong]
    counts = {
        "questions": len(questions),
        "not_telling": len(questions) - len(telling),
        "none_right": sum(not question.right for question in telling),
        "none_wrong": sum(bool(question.right) and not question.wrong for question in telling),
    }
    if not asked:
        raise UserError(f"grpo: none of {len(questions)} questions has right and wrong answers to learn from")
    return asked, counts


def reward_for(
    asked: Sequence[JudgedQuestion],
    examples: Sequence[Example],
    params: Params,
    recipe: TrainParams,
    database_of: Callable[[str], Path],
) -> VerdictReward:
    """Return the reward of answers to `asked`, which are some of the training split's `examples`."""
    by_index = {example.index: example for example in examples}
    return VerdictReward(
        [by_index[question.index] for question in asked],
        database_of,
        Limits(**params.execution.model_dump()),
        recipe.group,
        params.generation.max_new_tokens,
        params.prompt.answer,
        cache_dir=user_cache() / "gold",
    )


def train_by_reward(
    job: TrainingJob,
    pairs: Sequence[tuple[list[dict], str]],
    reward: VerdictReward,
    load: Callable[[ModelParams, int], tuple[Any, Any]] = load_base,
) -> Training:
    """Go on training the adapter `job.start` on answers that it draws to the chat messages of `pairs`, one for each of
    the reward's examples; what stands beside them, gold, is read by the reward alone. `load` returns the base and its
    tokenizer.

    Left out, and counted, are questions whose prompt and answer do not fit into `train.max_seq_len`, and the last ones
    that fill no whole step. Raises UserError where none is left, and RunError if weights are no longer finite.
    """
    check_hardware(job.model, job.recipe.optim)
    job.check_method()
    job.check_start()
    assert job.start is not None, "check_start refuses that"
    if job.stage:
        check_base(job.model)
    base, tokenizer = load(job.model, job.recipe.max_seq_len)
    loaded, tokens = how_loaded(base), ChatTokens(tokenizer, job.template)
    prompts = [tokens.chat_ids(one) for one, _ in pairs]
    room = job.recipe.max_seq_len - reward.max_new_tokens
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) <= room]
    kept = fitting[: len(fitting) - len(fitting) % job.step_size]
    if not kept:
        raise UserError(
            f"train.objective: grpo: {len(fitting)} of {len(prompts)} questions fit into train.max_seq_len "
            f"{job.recipe.max_seq_len} with {reward.max_new_tokens} tokens for the answer, and a step takes "
            f"{job.step_size}"
        )
    check_prompts(base, [prompts[place] for place in kept], reward.max_new_tokens, "train.max_seq_len", "prompts")
    reward = replace(reward, examples=[reward.examples[place] for place in kept])
    model = adapter_in_float32(load_adapter(base, tokenizer, job.start, job.model, trainable=True)[0])
    from text2sql.training.reward_trainer import RewardTrainer

    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="text2sql-") as folder:
        trainer = RewardTrainer(job, model, tokenizer, [prompts[place] for place in kept], reward, Path(folder))
        trainer.train()
    check_finite(job.name, model)
    curve = loss_curve(trainer.state.log_history)
    losses = [row["loss"] for row in curve]
    trained, total = count_parameters(model)
    metrics = {
        "final_loss": losses[-1],
        "mean_loss": round(sum(losses) / len(losses), 6),
        "steps": trainer.state.global_step,
        "epochs": job.recipe.epochs,
        "examples": len(kept),
        "examples_left_out": len(prompts) - len(fitting),
        "examples_beyond_steps": len(fitting) - len(kept),
        "tokens": int(trainer.state.num_input_tokens_seen),
        "trainable_parameters": trained,
        "total_parameters": total,
        "trainable_share": round(trained / total, 6),
        **reward.summary(),
    }
    store = CheckpointStore(f"train_{job.name}", Key.of({}))
    return Training(model, metrics, curve, stopwatch, store, job, tokenizer, loaded)
