"""Fine-tune one model on the executed answers of another: right ones beside gold, or pairs of right and wrong ones.

python -m stages.learn m3
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl
from text2sql.core.params import Params
from text2sql.core.paths import CONVERSATIONS, MODELS, TRAIN, TRAIN_SAMPLES, database_of
from text2sql.core.stage_arguments import entry_and_params
from text2sql.core.startup import load_ahead
from text2sql.data.spider import RECORD, Example
from text2sql.scoring.judged import JudgedQuestion, read_judged

if TYPE_CHECKING:
    from text2sql.training.run import StageRun


def main(arguments: Sequence[str]) -> int | None:
    """Write what `stages.train` writes; metrics say besides what became of the answers (docs/learning.md)."""
    load_ahead()
    name, params = entry_and_params(__doc__.splitlines()[0], arguments, "learn")
    recipe = params.train_for(name)
    questions = answers_of(str(recipe.from_), name)
    from text2sql.training.judged_answers import lessons
    from text2sql.training.run import StageRun, interruptible, train_and_publish

    if recipe.objective == "grpo":
        return interruptible(lambda: train_and_publish(drawn_anew(name, params, questions), params))
    learnt = lessons(recipe, read_jsonl(CONVERSATIONS), questions)
    print(f"learn {name}: {', '.join(f'{key} {count}' for key, count in learnt.counts.items())}", flush=True)
    counts = {"objective": recipe.objective, "from": recipe.from_, "answers": dict(learnt.counts)}
    start = MODELS / str(recipe.from_) if recipe.objective == "dpo" else None
    stage = StageRun(name, f"learn@{name}", [*learnt.conversations, *learnt.rejected], start, counts)
    return interruptible(lambda: train_and_publish(stage, params))


def drawn_anew(name: str, params: Params, questions: Sequence[JudgedQuestion]) -> "StageRun":
    """Return the training of `name` on answers that are drawn as it goes on, to questions that samples are there of."""
    from text2sql.training.rewards import asked_for_reward, reward_for, train_by_reward
    from text2sql.training.run import StageRun

    recipe = params.train_for(name)
    asked, left_out = asked_for_reward(questions)
    conversations = read_jsonl(CONVERSATIONS)
    examples = [Example.from_record(record) for record in read_jsonl(TRAIN, RECORD)]
    reward = reward_for(asked, examples, params, recipe, database_of)
    return StageRun(
        name,
        f"learn@{name}",
        [conversations[question.index] for question in asked],
        MODELS / str(recipe.from_),
        {"objective": recipe.objective, "from": recipe.from_, "answers": left_out},
        partial(train_by_reward, reward=reward),
    )


def answers_of(teacher: str, name: str) -> list[JudgedQuestion]:
    """Return the judged answers of the model `teacher`, which the model `name` learns from.

    Raises UserError where that model is not trained, or its answers are not there, or those of an older adapter.
    """
    from text2sql.model.adapters import check_adapter

    try:
        check_adapter(MODELS / teacher)
    except UserError as error:
        raise UserError(f"learn.{name}.from: {teacher} is not trained: {error}") from None
    path = TRAIN_SAMPLES / f"{teacher}.jsonl.gz"
    drawn, questions = read_judged(path, [Example.from_record(record) for record in read_jsonl(TRAIN, RECORD)])
    if (drawn.model, drawn.adapter) != (teacher, digest_of_tree(MODELS / teacher)):
        raise UserError(f"{path}: answers of another {teacher} than {MODELS / teacher} holds; run sample_train again")
    return questions


if __name__ == "__main__":
    run(main)
