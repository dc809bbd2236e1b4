"""Each step is divided among the processes."""

import pytest

from text2sql.core.errors import UserError
from text2sql.training.job import step_share


def test_the_effective_batch_is_the_same_for_any_number_of_processes():
    for batch_size, grad_accum, processes in [(8, 1, 1), (2, 4, 2), (2, 4, 8), (6, 2, 4), (3, 4, 6)]:
        assert step_share(batch_size, grad_accum, processes) * processes == batch_size * grad_accum


def test_an_effective_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="batch_size 2 × grad_accum 4 cannot be divided among 3 processes"):
        step_share(2, 4, 3)
