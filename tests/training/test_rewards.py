"""Training by reward: verdicts on a real database, and steps of TRL's GRPOTrainer on a CPU with a micro model."""

import contextlib
import sqlite3

import pytest

from testkit.tiny_models import END
from testkit.train_once import model_params, recipe
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.model.adapters import WEIGHTS, save_adapter
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import bare_messages
from text2sql.scoring.judged import JudgedAnswer, JudgedQuestion
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob
from text2sql.training.rewards import VerdictReward, asked_for_reward, train_by_reward
from text2sql.training.snapshots import Snapshots

QUESTIONS = ("How many dogs?", "Hi", "Count the dogs.", "And now?", "Dogs?")
GOLD = "SELECT 3"
LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "v_proj", "down_proj"])
GROUP = 4


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "zoo.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE dog (name TEXT)")
        connection.executemany("INSERT INTO dog VALUES (?)", [("Rex",), ("Bo",), ("Bo",)])
        connection.commit()
    return path


def reward_of(database, *golds, group=GROUP):
    examples = [Example(index, "zoo", "?", gold) for index, gold in enumerate(golds)]
    return VerdictReward(examples, lambda db_id: database, Limits(), group, max_new_tokens=8)


def test_a_right_answer_earns_1_whatever_its_text_and_all_else_0(database):
    reward = reward_of(database, "SELECT count(*) FROM dog", "SELECT name FROM dog")
    answers = {
        "SELECT count(*) FROM dog": 1.0,
        "```sql\nSELECT 1 + 2;\n```": 1.0,
        "SELECT count(DISTINCT name) FROM dog": 0.0,
        "SELECT nothing FROM nowhere": 0.0,
        "I do not know": 0.0,
        "": 0.0,
        "DROP TABLE dog": 0.0,
        "SELECT name FROM dog": 0.0,
    }
    assert reward(list(answers), place=[0] * 8) == list(answers.values())
    # Another question; and a set of rows that is right by one definition alone is not right.
    assert reward(["SELECT name FROM dog", "SELECT name FROM dog GROUP BY 1"] * 2, place=[1] * 4) == [1.0, 0.0] * 2


def test_a_reward_that_is_constant_over_a_group_is_counted(database):
    reward = reward_of(database, GOLD, GOLD, "SELECT nothing FROM nowhere")
    reward([GOLD] * 4 + [GOLD, "", "", ""] + [GOLD] * 4, place=[0] * 4 + [1] * 4 + [2] * 4)
    reward([""] * 4, place=[1] * 4)
    assert reward.summary() == {
        "reward_answers": 16, "reward_right_answers": 5, "reward_groups": 4, "reward_groups_all_right": 1,
        "reward_groups_all_wrong": 2,
    }  # fmt: skip


def test_questions_whose_samples_earned_the_same_are_not_asked():
    def question(*right, gold_rows=1):
        answers = [JudgedAnswer(str(n), 1, -1.0, one, one, "", None, None) for n, one in enumerate(right)]
        return JudgedQuestion(0, "zoo", "?", GOLD, gold_rows, None, tuple(answers))

    both = question(True, False)
    asked, counts = asked_for_reward([question(True), both, question(False), question(True, False, gold_rows=0)])
    assert asked == [both]
    assert counts == {"questions": 4, "not_telling": 1, "none_right": 1, "none_wrong": 1}
    with pytest.raises(UserError, match="grpo: none of 1 questions has right and wrong answers"):
        asked_for_reward([question(False)])


@pytest.fixture(scope="module")
def start(micro_model, tmp_path_factory):
    """An adapter that has half learnt to answer: some of what it draws is right."""
    folder = tmp_path_factory.mktemp("start")
    pairs = [(bare_messages(question), GOLD) for question in QUESTIONS]
    job = TrainingJob("m1", model_params(micro_model), recipe(epochs=12, lora=LORA))
    training = train_adapter(job, pairs, folder / "checkpoints")
    save_adapter(training.model, folder / "m1", model_params(micro_model), "# card\n")
    return folder / "m1"


def job_of(micro_model, start, snapshots=None, **changes):
    settings = {"objective": "grpo", "group": 8, "lora": LORA, "beta": 0.1, "lr": 2e-3, "warmup": 0, "epochs": 3}
    settings |= {"scheduler": "constant", "batch_size": 4}
    settings = recipe(**{**settings, **changes})
    return TrainingJob("m3", model_params(micro_model), settings, start=start, snapshots=snapshots)


def trained(micro_model, start, database, gold=GOLD, **changes):
    reward = reward_of(database, *[gold] * len(QUESTIONS), group=changes.get("group", 8))
    pairs = [(bare_messages(question), gold) for question in QUESTIONS]
    return train_by_reward(job_of(micro_model, start, **changes), pairs, reward)


def likelihoods(model, tokenizer):
    """Return the log-likelihood of the right answer to each question."""
    import torch

    tokens = ChatTokens(tokenizer)
    found = []
    for question in QUESTIONS[:4]:
        prompt = tokens.chat_ids(bare_messages(question))
        answer = tokenizer(f"{GOLD}{END}", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        found.append(sum(row[token].item() for row, token in zip(logits.log_softmax(-1), answer, strict=True)))
    return found


def test_steps_on_a_cpu_make_right_answers_likelier(micro_model, start, database, tmp_path):
    before = LanguageModel(model_params(micro_model), start)
    training = trained(micro_model, start, database, snapshots=Snapshots(tmp_path, 3))
    adapters = [folder / WEIGHTS for folder in (start, tmp_path / "1", tmp_path / "2")]
    assert len({path.read_bytes() for path in adapters}) == 3 and len(list(tmp_path.iterdir())) == 2
    metrics = training.metrics
    assert metrics["steps"] == 3 and metrics["examples"] == 4 and metrics["examples_beyond_steps"] == 1
    assert metrics["reward_groups"] == 12 and metrics["reward_answers"] == 96
    assert 0 < metrics["reward_right_answers"] < 96 and len(training.loss_curve) == 3
    after = likelihoods(training.model, training.tokenizer)
    assert all(now > then for now, then in zip(after, likelihoods(before.model, before.tokenizer), strict=True))


def test_a_step_of_constant_rewards_leaves_the_adapter_as_it_was(micro_model, start, database):
    """Nothing that is drawn is right: there is no advantage, and the reference is where training starts."""
    from safetensors.torch import load_file

    training = trained(micro_model, start, database, gold="SELECT 'never'", epochs=1, weight_decay=0)
    assert training.metrics["reward_groups_all_wrong"] == training.metrics["reward_groups"] == 4
    kept = load_file(start / "adapter_model.safetensors")
    found = {
        name.replace(".default.", "."): value
        for name, value in training.model.named_parameters()
        if ".default." in name
    }
    assert found.keys() == kept.keys()
    assert all((found[name] - kept[name]).abs().max() < 1e-4 for name in kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": None}, "train.objective: grpo: goes on from an adapter, and train.from names none"),
        ({"method": "full"}, "train.objective: grpo: takes train.method: lora or dora"),
        ({"max_seq_len": 20}, "0 of 5 questions fit into train.max_seq_len 20 with 8 tokens for the answer"),
        ({"batch_size": 6}, "5 of 5 questions fit into train.max_seq_len 128 with 8 tokens for the answer, and a step"),
    ],
)
def test_what_cannot_be_trained_is_one_line(micro_model, start, database, changes, message):
    start = changes.pop("start", start)
    with pytest.raises(UserError) as error:
        trained(micro_model, start, database, **changes)
    assert message in str(error.value) and "\n" not in str(error.value)
