"""`train.augment: table_order`: each epoch shows an example's tables in an order of its own, the same in any run."""

import json
import shutil

import pytest

from testkit.train_once import model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams, load_params
from text2sql.core.params import changed as params_with
from text2sql.data.schema import Column, Schema, Table
from text2sql.training.examples import encode, training_pairs, variants
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob
from text2sql.training.order import EpochOrder

NAMES = ("singer", "song", "concert", "stadium", "band")
SCHEMA = Schema("music", tuple(Table(name, (Column(f"{name}_id", "int"),)) for name in NAMES))
QUESTIONS = ("How many singers?", "Which songs?", "Who sang where?", "How large is the stadium?", "Hi")
RECORDS = [
    {"db_id": "music", "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "SELECT 1"}]}
    for text in QUESTIONS
]
AUGMENTED = {
    "augment": "table_order",
    "epochs": 3,
    "checkpoint_minutes": 1e-6,
    "max_seq_len": 256,
    "lora": LoraParams(r=2, alpha=4, dropout=0, target_modules=["q_proj"]),
}


@pytest.fixture
def params(repository):
    return load_params(repository / "params.yaml")


def pairs_of(params, **changes):
    return training_pairs(RECORDS, {"music": SCHEMA}, params.prompt, [], recipe=recipe(**{**AUGMENTED, **changes}))


def orders(pairs):
    """Return the tables of each pair's prompt, in order."""
    return [
        tuple(line.partition("(")[0] for line in messages[0]["content"].splitlines()[1:-1]) for messages, _ in pairs
    ]


def test_orders_are_drawn_for_each_epoch_and_example_by_the_seed_alone(params):
    pairs = pairs_of(params)
    assert len(pairs) == 15 and all(sorted(order) == sorted(NAMES) for order in orders(pairs))
    assert len(set(orders(pairs))) > 10
    assert [messages[0]["content"].splitlines()[-1] for messages, _ in pairs] == [*QUESTIONS] * 3
    assert pairs_of(params) == pairs and pairs_of(params, seed=1) != pairs
    assert pairs_of(params, epochs=2) == pairs[:10]
    plain = orders(pairs_of(params, augment="none"))
    assert plain == [NAMES] * 5


def test_a_part_of_an_epoch_takes_an_epochs_orders():
    assert [variants(recipe(**{**AUGMENTED, "epochs": epochs})) for epochs in (0.25, 1, 1.5, 3)] == [1, 1, 2, 3]
    assert variants(recipe(epochs=3)) == 1


def test_each_epoch_trains_all_examples_in_its_own_order():
    lengths = [10, 20, 30, 11, 21, 31]
    order = EpochOrder(lengths, 2, seed=1, ways=2)
    assert order.steps_per_epoch == 2 and len(order) == 4
    for epoch, own in ((0, [0, 1, 2]), (1, [3, 4, 5]), (2, [0, 1, 2])):
        order.epoch = epoch
        assert sorted(order) == [*own, 6]  # a filler makes the last step whole
    assert order.tokens(2) == 60 and order.tokens(4) == 123


def test_an_example_that_is_too_long_in_one_order_is_left_out_in_all(params, smollm2):
    pairs = pairs_of(params)
    lengths = [len(example.input_ids) for example in encode(smollm2, pairs, 512, ways=3)[0]]
    limit = max(lengths) - 1
    kept, left_out = encode(smollm2, pairs, limit, ways=3)
    too_long = {place % 5 for place, length in enumerate(lengths) if length > limit}
    assert left_out == len(too_long) > 0 and len(kept) == 3 * (5 - left_out)


def test_what_shows_no_tables_in_training_is_not_augmented(params, repository):
    for changes, said in (
        ({"prompt.schema": "name"}, "draws orders of tables, and the prompt in training shows none"),
        ({"prompt.training": "bare"}, "draws orders of tables, and the prompt in training shows none"),
        ({"prompt.table_order": "reversed"}, "draws orders of tables; takes prompt.table_order: given"),
    ):
        with pytest.raises(UserError, match=f"augment: table_order {said}"):
            params_with(params, {**changes, "train.augment": "table_order"}, "params")
        plain = params_with(params, changes, "params")
        with pytest.raises(UserError, match=f"augment: table_order {said}"):  # a further model's recipe
            pairs_of(plain)


def test_a_training_that_goes_on_in_a_later_epoch_gives_the_same_bytes(params, micro_model, tmp_path, capsys):
    pairs = pairs_of(params)

    def train(folder, **changes):
        job = TrainingJob("m1", model_params(micro_model), recipe(**{**AUGMENTED, **changes}))
        return train_adapter(job, pairs if not changes else pairs[:5], folder)

    whole = train(tmp_path / "checkpoints")
    assert whole.metrics["steps"] == 9 and whole.metrics["examples"] == 5 and whole.metrics["examples_left_out"] == 0
    wanted = adapter_bytes(whole.model, tmp_path / "adapter")
    whole.checkpoints.unlock()
    *_, last = sorted((tmp_path / "checkpoints").glob("*/step-*"))
    shutil.rmtree(last)
    capsys.readouterr()
    again = train(tmp_path / "checkpoints")
    assert "going on from the checkpoint at step 8" in capsys.readouterr().out
    assert adapter_bytes(again.model, tmp_path / "again") == wanted
    plain = train(tmp_path / "plain", augment="none")
    assert adapter_bytes(plain.model, tmp_path / "other") != wanted
    assert json.dumps(plain.metrics) != json.dumps(whole.metrics)
