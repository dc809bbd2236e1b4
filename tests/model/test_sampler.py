"""Sampling: shares of tokens are the model's, and no answer depends on the batch that it is drawn in."""

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.errors import RunError
from text2sql.model.language_model import LanguageModel
from text2sql.model.sampler import MOST_LIKELY, Sampler
from text2sql.model.streams import Sampling, stream

SAMPLING = Sampling(temperature=0.8, top_p=0.95, seed=5)
SAMPLES = 3
TOKENS = 21


def sampled(model, prompts, samples=SAMPLES, tokens=TOKENS, sampling=SAMPLING):
    """Return what is drawn for each of `prompts`, whose place is its question's number, all as one batch."""
    streams = [stream(sampling.seed, place, number) for place in range(len(prompts)) for number in range(samples)]
    return model.sample([prompt for prompt in prompts for _ in range(samples)], streams, sampling, tokens)


def test_the_batch_changes_no_answer(model, prompts):
    together = sampled(model, prompts)
    assert len({tuple(answer.ids) for answer in together}) == len(together)
    again = sampled(model, prompts)
    assert together == again
    for place, prompt in enumerate(prompts):
        for number in range(SAMPLES):
            (alone,) = model.sample([prompt], [stream(SAMPLING.seed, place, number)], SAMPLING, TOKENS)
            answer = together[place * SAMPLES + number]
            assert alone.ids == answer.ids
            assert alone.log_likelihood == pytest.approx(answer.log_likelihood, abs=1e-3)


def test_fewer_samples_are_the_first_of_more(model, prompts):
    more, fewer = sampled(model, prompts, 4), sampled(model, prompts, 2)
    first = [answer for place in range(len(prompts)) for answer in more[place * 4 : place * 4 + 2]]
    assert [answer.ids for answer in fewer] == [answer.ids for answer in first]


def test_rows_that_end_leave_the_batch_and_change_no_other(micro_model, prompts):
    """A quarter of the batch that has ended is dropped, with its streams and likelihoods."""
    model = LanguageModel(model_params(micro_model))
    whole = sampled(model, prompts)
    early = {answer.ids[2] for answer in whole[::2] if len(answer.ids) > 2}
    ends = {*early, *(answer.ids[4] for answer in whole[1::6] if len(answer.ids) > 4), *model._end_ids}
    assert len(ends) > 5
    model._end_ids = ends
    for answer, before in zip(sampled(model, prompts), whole, strict=True):
        found = [before.ids.index(token) for token in ends if token in before.ids]
        assert answer.ids == before.ids[: min(found, default=TOKENS) + 1]
        if len(answer.ids) == TOKENS:
            assert answer.log_likelihood == pytest.approx(before.log_likelihood, abs=1e-3)


def test_log_likelihoods_are_the_models_own(model, prompts):
    import torch

    for place, answer in enumerate(sampled(model, prompts[:2], 1)):
        prompt = prompts[place]
        with torch.inference_mode():
            logits = model.model(torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(answer.ids)[:, None]).sum().item()
        assert answer.log_likelihood == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.6)])
def test_tokens_come_as_often_as_the_nucleus_says(temperature, top_p):
    import torch

    probabilities = torch.tensor([0.05, 0.4, 0.15, 0.3, 0.1])
    number = 20_000
    sampler = Sampler([stream(1, row, 0) for row in range(number)], Sampling(temperature, top_p, 1), 2, "cpu")
    tokens = sampler(probabilities.log().repeat(number, 1), torch.tensor([1])).flatten()
    expected = probabilities ** (1 / temperature)
    if top_p < 1:
        expected = torch.tensor([0, 0.4, 0, 0.3, 0])  # 0.4 alone is less than 0.6, with 0.3 it is more
    expected = expected / expected.sum()
    counts = torch.bincount(tokens, minlength=5) / number
    assert torch.allclose(counts, expected, atol=0.015)
    assert not counts[expected == 0].any()


def test_a_stream_gives_other_numbers_at_each_position():
    import torch

    logits = torch.zeros(1, MOST_LIKELY)
    sampler = Sampler([stream(0, 0, 0)], Sampling(1, 1, 0), 64, "cpu")
    tokens = [int(sampler(logits, torch.tensor([position]))) for position in range(64)]
    assert len(set(tokens)) > 32 and 40 < sum(tokens) / 64 < 90


def test_a_low_temperature_is_greedy(model, prompts):
    cold = sampled(model, prompts, 1, sampling=Sampling(1e-4, 0.9, 0))
    assert [answer.ids for answer in cold] == model.generate(prompts, TOKENS)


@pytest.mark.parametrize("architecture", ["mistral", "mamba", "rwkv"])
def test_a_model_that_the_library_runs_draws_the_same_in_any_batch(tmp_path, architecture):
    model = LanguageModel(model_params(write_tiny_model(tmp_path / "base", architecture)))
    assert model._prefill is None
    prompts = [[5, 6, 7, 8, 9], [9, 8, 7], [4, 5, 6, 7, 11]]
    together = sampled(model, prompts, 2, 6)
    assert len({tuple(answer.ids) for answer in together}) == 6
    alone = [
        model.sample([prompt], [stream(SAMPLING.seed, place, number)], SAMPLING, 6)[0]
        for place, prompt in enumerate(prompts)
        for number in range(2)
    ]
    assert [answer.ids for answer in alone] == [answer.ids for answer in together]
    assert [answer.log_likelihood for answer in alone] == pytest.approx(
        [answer.log_likelihood for answer in together], abs=1e-3
    )


def test_a_batch_is_halved_where_memory_runs_out(model, prompts, monkeypatch, capsys):
    import torch

    expected = sampled(model, prompts)
    whole = model._generate

    def small_gpu(part, *rest, **options):
        if len(part) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(part, *rest, **options)

    monkeypatch.setattr(model, "_generate", small_gpu)
    assert [answer.ids for answer in sampled(model, prompts)] == [answer.ids for answer in expected]
    assert "going on with 10" in capsys.readouterr().out


def test_a_model_whose_numbers_overflow_stops_with_a_line(micro_model, prompts):
    import torch

    model = LanguageModel(model_params(micro_model))
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(RunError, match="not finite"):
        sampled(model, prompts)
