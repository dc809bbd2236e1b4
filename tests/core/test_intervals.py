"""Intervals of shares over clusters: what is known of a share when draws fall together."""

import math

import numpy as np
import pytest

from text2sql.core.intervals import clustered_interval, wilson_interval


def test_clusters_of_one_draw_are_draws():
    ones = [1] * 30 + [0] * 70
    assert clustered_interval(ones, 1) == pytest.approx(wilson_interval(30, 100), abs=2e-3)


def test_draws_that_fall_together_count_for_one():
    assert clustered_interval([4] * 30 + [0] * 70, 4) == pytest.approx(wilson_interval(30, 100), abs=2e-3)


def test_draws_that_balance_one_another_count_for_no_more_than_they_are():
    """A model that always takes one letter is right once in each question's four rotations."""
    assert clustered_interval([1] * 100, 4) == wilson_interval(100, 400)


@pytest.mark.parametrize("all_", [0, 4])
def test_where_all_are_alike_each_cluster_counts_for_one(all_):
    assert clustered_interval([all_] * 50, 4) == wilson_interval(50 * all_ / 4, 50)


def test_nothing_is_known_of_nothing():
    assert clustered_interval([], 4) == (0, 1)
    assert clustered_interval([4], 4)[0] < 0.3


def test_it_covers_the_true_share_as_often_as_it_says():
    """Clusters of four with a share of their own each, a mean of 0.3: the interval holds it 95 times of 100."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        successes = rng.binomial(4, rng.beta(0.6, 1.4, size=150))
        low, high = clustered_interval(successes.tolist(), 4)
        held += low <= 0.3 <= high
    assert abs(held / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)
