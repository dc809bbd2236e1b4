"""The statistics against scipy, statsmodels, simulation and published examples, and what they say of the paper."""

import time

import numpy as np
import pytest

from text2sql.comparison import significance as statistics
from text2sql.report import paper


def random_pairs(seed, total, accuracy=0.4, flips=0.3):
    rng = np.random.default_rng(seed)
    first = rng.random(total) < accuracy
    second = np.where(rng.random(total) < flips, rng.random(total) < accuracy, first)
    return first, second


def test_over_questions_of_one_draw_clusters_change_nothing():
    for gained, lost, same in ((12, 2, 30), (0, 0, 5), (7, 7, 0), (40, 55, 300)):
        differences = {1: gained, -1: lost, 0: same}
        total = gained + lost + same
        assert statistics.sign_flip_p(differences) == pytest.approx(statistics.mcnemar_p(gained, lost))
        ours = statistics.clustered_bootstrap_interval(differences, 1, 4000, 0)
        assert ours == pytest.approx(statistics.paired_bootstrap_interval(gained, lost, total, 4000, 0), abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_sign_flip_test_agrees_with_scipys_over_all_flips(seed):
    from scipy.stats import permutation_test

    values = np.random.default_rng(seed).integers(-4, 5, size=9)
    expected = permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    differences = dict(zip(*np.unique(values, return_counts=True)))
    assert statistics.sign_flip_p({int(k): int(n) for k, n in differences.items()}) == pytest.approx(expected)


def test_tails_far_out_keep_their_digits_and_many_questions_take_no_time():
    assert statistics.sign_flip_p({1: 200}) == pytest.approx(2 * 0.5**200, rel=1e-9)
    started = time.process_time()
    p = statistics.sign_flip_p({1: 2000, -1: 1500, 2: 1500, -2: 1000, 3: 700, -3: 500, 4: 300, -4: 300, 0: 6000})
    assert 0 < p < 1e-20 and time.process_time() - started < 5


def test_questions_whose_draws_fall_together_give_a_wider_interval():
    from scipy.stats import bootstrap

    together = statistics.clustered_bootstrap_interval({4: 20, -4: 20, 0: 60}, 4, 4000, 0)
    apart = statistics.paired_bootstrap_interval(80, 80, 400, 4000, 0)
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])
    expected = bootstrap((np.repeat([4, -4, 0], [20, 20, 60]) / 4,), np.mean, n_resamples=4000, method="percentile")
    assert together == pytest.approx(tuple(expected.confidence_interval), abs=0.02)


def test_discordant_counts_each_direction():
    assert statistics.discordant([True, True, False, False, True], [True, False, True, False, False]) == (2, 1)


@pytest.mark.parametrize("pair", [([True], [True, False]), ([], []), ([[True]], [[True]])])
def test_discordant_refuses_lists_that_do_not_pair(pair):
    with pytest.raises(ValueError, match="one length"):
        statistics.discordant(*pair)


@pytest.mark.parametrize("seed", range(20))
def test_mcnemar_agrees_with_statsmodels_on_random_pairs(seed):
    from statsmodels.stats.contingency_tables import mcnemar

    first, second = random_pairs(seed, total=20 + 30 * seed)
    table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    expected = mcnemar(table, exact=True).pvalue
    assert statistics.mcnemar_p(*statistics.discordant(first, second)) == pytest.approx(min(expected, 1.0))


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (12, 2, 0.0129),  # two media for tubercle bacilli: Armitage and Berry 1994, page 127
        (7, 1, 0.0703),  # airways before and after a transplant: Fagerland, Lydersen and Laake 2013
        (5, 0, 2 / 2**5),
        (11, 1, 2 * (1 + 12) / 2**12),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_on_known_examples(gained, lost, p):
    assert statistics.mcnemar_p(gained, lost) == pytest.approx(p, rel=5e-3)
    assert statistics.mcnemar_p(lost, gained) == statistics.mcnemar_p(gained, lost)


def test_holm_on_the_published_example():
    # Holm-Bonferroni in Wikipedia: p = 0.01, 0.04, 0.03, 0.005; at 5 % the first and the last are rejected.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_agrees_with_its_definition_on_random_data():
    for seed in range(20):
        p_values = np.random.default_rng(seed).random(seed + 1) ** 3
        order = np.argsort(p_values)
        steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
        expected = np.empty(len(p_values))
        expected[order] = np.minimum(steps, 1)
        assert statistics.holm(list(p_values)) == pytest.approx(list(expected))
    assert statistics.holm([]) == []


@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_interval_agrees_with_scipys_on_the_pairs_themselves(seed):
    from scipy.stats import bootstrap

    first, second = random_pairs(seed, total=200)
    gained, lost = statistics.discordant(first, second)
    ours = statistics.paired_bootstrap_interval(gained, lost, 200, samples=20_000, seed=seed)
    difference = first.astype(float) - second
    theirs = bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", vectorized=True, rng=seed
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1 / 200)  # one question


def test_bootstrap_interval_is_near_walds_where_questions_are_many():
    gained, lost, total = 900, 700, 14_042
    low, high = statistics.paired_bootstrap_interval(gained, lost, total, samples=20_000, seed=1)
    difference = (gained - lost) / total
    half = 1.96 * ((gained + lost) / total - difference**2) ** 0.5 / total**0.5
    assert (low, high) == pytest.approx((difference - half, difference + half), abs=3e-4)


def test_bootstrap_interval_depends_on_the_seed_alone():
    once, again, other = (statistics.paired_bootstrap_interval(30, 12, 1034, 1000, seed) for seed in (7, 7, 8))
    assert once == again != other
    assert statistics.paired_bootstrap_interval(0, 0, 50, 1000, 0) == (0.0, 0.0)


@pytest.mark.parametrize(("correct", "against", "total"), [(7, 3, 12), (12, 12, 12), (0, 5, 9), (9, 8, 10), (6, 6, 30)])
def test_bounds_are_the_extremes_over_every_pairing(correct, against, total):
    from scipy.stats import binomtest

    p_values = []
    for both in range(total + 1):
        gained, lost = correct - both, against - both
        if min(gained, lost) >= 0 and gained + lost + both <= total:
            p_values.append(binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    assert statistics.mcnemar_bounds(correct, against, total) == pytest.approx((min(p_values), max(p_values)))


def exact_power_by_simulation(difference, discordance, total, draws=20_000):
    rng = np.random.default_rng(0)
    gained_share = (discordance + difference) / 2
    counts = rng.multinomial(total, [gained_share, discordance - gained_share, 1 - discordance], size=draws)
    unique, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    shown = [gained > lost and statistics.mcnemar_p(int(gained), int(lost)) <= 0.05 for gained, lost in unique]
    return (times * shown).sum() / draws


@pytest.mark.parametrize(("gained", "lost", "total"), [(9, 6, 80), (60, 21, 400), (4, 0, 50), (0, 0, 50)])
def test_the_smallest_detectable_difference_is_shown_four_times_in_five(gained, lost, total):
    difference = statistics.smallest_detectable_difference(gained, lost, total)
    discordance = max((gained + lost) / total, difference)
    # The simulation's own error is 0.003.
    assert exact_power_by_simulation(difference, discordance, total) == pytest.approx(0.80, abs=0.012)


@pytest.mark.parametrize(("discordants", "total"), [(250, 1034), (900, 5000), (3000, 14_042)])
def test_the_smallest_detectable_difference_is_near_connors_formula(discordants, total):
    # Connor 1987, the sample size of McNemar's test by the normal approximation, solved for the difference.
    share = discordants / total
    found = statistics.smallest_detectable_difference(discordants, 0, total)
    needed = (1.959964 * share**0.5 + 0.841621 * (share - found**2) ** 0.5) ** 2 / found**2
    assert needed == pytest.approx(total, rel=0.06)


def test_the_smallest_detectable_difference_at_its_ends():
    assert statistics.smallest_detectable_difference(2, 1, 5) is None  # five questions never reach 5 %
    assert statistics.smallest_detectable_difference(0, 0, 6) == pytest.approx(0.8 ** (1 / 6), abs=1e-4)  # all six
    fewer, more = (statistics.smallest_detectable_difference(10, 5, total) for total in (100, 1000))
    assert more < fewer


class TestThePaper:
    """Its counts are printed, how they pair is not: what holds whatever the pairing, at 5 %?"""

    BASE, M1, M2 = (paper.SPIDER_SUCCESSES[model] for model in ("base", "m1", "m2"))

    def test_both_models_beat_base_whatever_the_pairing(self):
        assert statistics.mcnemar_bounds(self.M1, self.BASE, 1034)[1] == pytest.approx(0.000272, abs=1e-6)
        assert statistics.mcnemar_bounds(self.M2, self.BASE, 1034)[1] == pytest.approx(0.01117, abs=1e-5)
        worst = [
            statistics.mcnemar_bounds(*pair, 1034)[1]
            for pair in ((self.M1, self.BASE), (self.M2, self.BASE), (self.M1, self.M2))
        ]
        adjusted = statistics.holm(worst)
        assert adjusted[0] < 0.001 and adjusted[1] < 0.025

    def test_model_1_against_model_2_is_open(self):
        bounds = statistics.mcnemar_bounds(self.M1, self.M2, 1034)
        assert bounds == pytest.approx((0.000244, 0.305), rel=2e-3)

    @pytest.mark.parametrize(("points", "total", "least"), [(-8.0, 50, 0.125), (2.0, 50, 1.0), (-2.0, 150, 0.25)])
    def test_no_difference_on_mmlu_can_be_told_from_chance(self, points, total, least):
        assert points in paper.MMLU_DIFFERENCE_PTS.values()
        questions = round(points * total / 100)
        bounds = [
            statistics.mcnemar_bounds(base + questions, base, total)
            for base in range(max(0, -questions), total + 1 - max(0, questions))
        ]
        assert min(low for low, _ in bounds) == pytest.approx(least)
