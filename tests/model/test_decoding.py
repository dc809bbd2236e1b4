"""Decoding: rows that end are dropped."""


def test_rows_that_end_leave_the_batch_and_change_no_other(model, prompts):
    import torch

    from text2sql.model.decoding import decode

    expected = model.generate(prompts, 21)
    end = expected[1][4]
    for ends in ({end}, {end, expected[0][2]}, set(model._end_ids)):
        with torch.inference_mode():
            answers = decode(model.model, model._prefill(prompts), 21, ends)
        for answer, whole in zip(answers, expected, strict=True):
            found = [whole.index(token) for token in ends if token in whole]
            assert answer == whole[: min(found, default=20) + 1]
