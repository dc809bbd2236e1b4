"""Training on pairs: it starts from Model 1 and is compared with Model 1, whatever the base on disk is."""

import json
import math
import os
import signal

import pytest

from testkit.train_once import PAIRS, model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.core.processes import Processes
from text2sql.model.adapters import save_adapter
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.fine_tune import Interrupted, train_adapter
from text2sql.training.job import TrainingJob

WRONG = [(messages, "SELECT nothing FROM nowhere") for messages, _ in PAIRS]
LOG_2 = math.log(2)
ALONE = Processes()


@pytest.fixture(scope="module")
def m1(micro_model, tmp_path_factory):
    """The folder of a Model 1 that differs from its base."""
    folder = tmp_path_factory.mktemp("m1")
    training = train_adapter(TrainingJob("m1", model_params(micro_model), recipe()), PAIRS, folder / "checkpoints")
    save_adapter(training.model, folder / "m1", model_params(micro_model), "# card\n")
    return folder / "m1"


def job(base, start, processes=ALONE, model=None, **changes):
    return TrainingJob(
        "m3",
        model_params(base, **(model or {})),
        recipe(**{"objective": "dpo", "from": "m1", "lr": 1e-3, **changes}),
        processes,
        start=start,
    )


@pytest.fixture
def train(micro_model, m1, tmp_path):
    def run(pairs=(*PAIRS, *WRONG), checkpoints=tmp_path / "checkpoints", **changes):
        return train_adapter(job(micro_model, m1, **changes), pairs, checkpoints)

    return run


@pytest.fixture
def trainer(micro_model, m1, tmp_path):
    return trainer_of(job(micro_model, m1), m1, tmp_path)


def trainer_of(one, m1, folder):
    from text2sql.model.adapters import load_adapter
    from text2sql.model.loading import load_base
    from text2sql.training.examples import encode
    from text2sql.training.preferences import PreferenceTrainer

    base, tokenizer = load_base(one.model, one.recipe.max_seq_len)
    model = load_adapter(base, tokenizer, m1, one.model, trainable=True)[0]
    examples = encode(tokenizer, [*PAIRS, *WRONG], one.recipe.max_seq_len, ways=2)[0]
    return PreferenceTrainer(one, model, tokenizer, examples, CheckpointStore("m3", Key.of({}), folder))


def test_the_right_answers_likelihood_may_count_too(micro_model, m1, tmp_path):
    import torch

    trainer = trainer_of(job(micro_model, m1, sft_weight=0.5), m1, tmp_path)
    trainer.model.train()
    batch = first_batch(trainer)
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
        logits = trainer.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    right = len(logits) // 2  # those of the pairs' right answers come first
    wanted = batch["completion_mask"][:right, 1:].bool()
    chosen = batch["input_ids"][:right, 1:][wanted]
    likelihood = torch.log_softmax(logits[:right][wanted], -1).gather(-1, chosen[:, None]).mean()
    assert loss == pytest.approx(LOG_2 - 0.5 * float(likelihood), abs=1e-5) and loss > LOG_2 + 0.1


def test_the_first_loss_is_log_2_since_the_reference_is_model_1(trainer):
    import torch

    trainer.model.train()
    batch = first_batch(trainer)
    with torch.no_grad():
        assert float(trainer.compute_loss(trainer.model, batch)) == pytest.approx(LOG_2, abs=1e-6)
        # With the base for a reference it is another: Model 1 has learnt to prefer these answers.
        with trainer.model.disable_adapter():
            ours = trainer.compute_ref_log_probs(trainer.model, batch)
        batch |= dict(zip(("ref_chosen_logps", "ref_rejected_logps"), ours, strict=True))
        assert abs(float(trainer.compute_loss(trainer.model, batch)) - LOG_2) > 1e-2
    assert list(trainer.model.peft_config) == ["default"]  # no second adapter that each pass would switch to


def first_batch(trainer):
    return trainer.padded(next(iter(trainer.get_train_dataloader())))


def test_a_step_in_many_passes_trains_as_one_in_one(train, monkeypatch, tmp_path):
    from text2sql.training import preferences

    losses = []
    for tokens in (1, 10_000):
        monkeypatch.setattr(preferences, "tokens_per_pass", lambda *_, tokens=tokens: tokens)
        training = train(checkpoints=tmp_path / str(tokens), batch_size=4)
        losses.append([row["loss"] for row in training.loss_curve])
    assert losses[0] == pytest.approx(losses[1], abs=2e-5) and losses[0][0] > losses[0][-1]


def test_right_answers_come_to_be_preferred(train):
    training = train(epochs=4)
    losses = [row["loss"] for row in training.loss_curve]
    assert losses[0] == round(LOG_2, 6) and losses[-1] < LOG_2 - 0.05
    assert training.metrics["steps"] == 16 and training.metrics["examples"] == len(PAIRS)


def test_the_adapter_is_an_ordinary_one_of_the_base(train, m1, micro_model, tmp_path):
    import torch

    from text2sql.model.language_model import LanguageModel

    training = train()
    training.save(tmp_path / "m3", "# card\n")
    assert sorted(path.name for path in (tmp_path / "m3").iterdir()) == sorted(path.name for path in m1.iterdir())
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (tmp_path / "m3", m1)]
    assert configs[0] == configs[1]
    models = [LanguageModel(model_params(micro_model), folder) for folder in (tmp_path / "m3", m1)]
    prompt = torch.tensor([models[0].chat_ids(PAIRS[0][0])])
    training.model.eval()
    with torch.inference_mode():
        trained, loaded, first = (model(prompt).logits for model in (training.model, *(one.model for one in models)))
    assert torch.allclose(loaded, trained, atol=1e-4) and not torch.allclose(first, trained, atol=1e-2)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(train, tmp_path, monkeypatch, capsys):
    from text2sql.training.callbacks import Progress

    whole = adapter_bytes(train(checkpoints=tmp_path / "whole").model, tmp_path / "a")
    shown = Progress.on_step_end

    def stopping(self, args, state, control, **kwargs):
        shown(self, args, state, control, **kwargs)
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Progress, "on_step_end", stopping)
        train()
    training = train()
    assert "going on from the checkpoint at step 3" in capsys.readouterr().out
    assert adapter_bytes(training.model, tmp_path / "b") == whole


def test_pairs_that_are_too_long_are_counted(train):
    long = [(messages, f"SELECT {', '.join(['nothing'] * 90)}") for messages, _ in PAIRS[:2]]
    training = train(pairs=[*PAIRS, *long, *WRONG[2:]])
    assert training.metrics["examples"] == len(PAIRS) - 2 and training.metrics["examples_left_out"] == 2


def test_the_plain_output_layer_is_the_models_own(micro_model):
    import torch

    from text2sql.model.loading import load_base
    from text2sql.training.preferences import use_plain_head

    model, _ = load_base(model_params(micro_model), 128)
    ids = torch.arange(3, 23).reshape(2, 10)
    labels = ids.clone()
    labels[0, :4] = labels[1, :7] = labels[1, 9] = -100
    logits = model(ids).logits[:, :-1].float()
    shares = logits.log_softmax(-1)
    wanted = shares.gather(-1, ids[:, 1:, None]).squeeze(-1).where(labels[:, 1:] != -100, torch.tensor(0.0))
    use_plain_head(model)
    found = model(ids, labels=labels, fused_lm_head=True)
    assert torch.allclose(found.log_probs, wanted, atol=1e-5)
    assert torch.allclose(found.entropy[0, 5], -(shares[0, 5].exp() * shares[0, 5]).sum(), atol=1e-4)
    assert torch.allclose(found.mean_logits[1, 7], logits[1, 7].mean(), atol=1e-5)
    assert found.is_top1.tolist() == ((logits.argmax(-1) == ids[:, 1:]) & (labels[:, 1:] != -100)).tolist()
    assert found.label_mask.tolist() == (labels[:, 1:] != -100).tolist()
    assert torch.equal(model(ids).logits[:, :-1].float(), logits)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "full"}, "takes train.method: lora or dora"),
        ({"augment": "table_order"}, "takes train.augment: none"),
        ({"model": {"loader": "unsloth"}}, "takes model.loader: transformers"),
        ({"processes": Processes(0, 2)}, "trains in one process, and there are 2"),
        ({"lora": LoraParams(r=8, alpha=8, dropout=0, target_modules=["q_proj"])}, "takes its train.lora.r 4"),
    ],
)
def test_what_it_does_not_take_is_one_line(micro_model, m1, changes, says):
    one = job(micro_model, m1, **changes)
    with pytest.raises(UserError) as error:
        one.check_start()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_without_an_adapter_to_start_from_it_is_one_line(micro_model, tmp_path):
    with pytest.raises(UserError, match="goes on from an adapter, and train.from names none"):
        train_adapter(job(micro_model, None), [*PAIRS, *WRONG], tmp_path)
