"""The order of the examples."""

from text2sql.training.order import EpochOrder


def test_an_epoch_trains_each_example_once_and_its_order_depends_on_seed_and_epoch_alone():
    order = EpochOrder(list(range(10, 31)), 4, seed=1)
    first = list(order)
    assert first == list(order) and len(first) == len(order) == 24 and order.steps_per_epoch == 6
    assert sorted(first) == [*range(21), 21, 21, 21]  # three fillers make the last step whole
    for start in range(0, 20, 4):
        assert first[start : start + 4] == sorted(first[start : start + 4], reverse=True)  # the longest first
    order.epoch = 1
    assert list(order) != first and sorted(order) == sorted(first)
    assert list(EpochOrder(list(range(10, 31)), 4, seed=2)) != first
    assert order.tokens(6) == sum(range(10, 31)) and order.tokens(12) == 2 * sum(range(10, 31))
    assert order.tokens(1) == sum(10 + position for position in first[:4])


def test_a_step_is_dealt_so_that_no_process_has_many_more_tokens():
    lengths = [900, 500, 400, 300, 200, 200, 150, 50, *[100] * 12]
    alone, shared = EpochOrder(lengths, 8, seed=3), EpochOrder(lengths, 8, seed=3, processes=2)
    for whole, dealt in zip(alone.steps(0), shared.steps(0), strict=True):
        assert sorted(whole) == sorted(dealt)  # the same examples in the same step
        blocks = dealt[:4], dealt[4:]
        tokens = [sum(lengths[p] for p in block if p < len(lengths)) for block in blocks]
        longest = max(lengths[p] for p in whole if p < len(lengths))
        assert abs(tokens[0] - tokens[1]) <= longest
        unbalanced = sum(lengths[p] for p in whole[:4] if p < len(lengths))
        assert max(tokens) <= unbalanced
    assert shared.tokens(3) == alone.tokens(3) == sum(lengths)
