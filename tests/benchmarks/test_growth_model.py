"""The prediction of growth follows from what limits it."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import growth_model
from benchmarks.growth_model import Figures, Lengths, Link, all_reduce_s, asked_speedup, rows, train_speedup
from benchmarks.material import SAMPLE_MMLU, SAMPLE_SPIDER

FREE = Link(float("inf"), 0)
IDEAL = Figures(0.05, 0.0, 1e8, 10, 10, 0.0, FREE, FREE, batch_size=4)
ALIKE = [7] * 1024


def test_without_any_limit_n_gpus_are_n_times_as_fast():
    for gpus in (1, 2, 8, 64):
        assert train_speedup(IDEAL, ALIKE, gpus, 8) == pytest.approx(gpus)
        assert growth_model.whole_batch_speedup(IDEAL, gpus) == pytest.approx(gpus)
        assert asked_speedup(ALIKE, 4, gpus) == pytest.approx(gpus)


def test_a_ring_sends_twice_the_gradients_less_ones_own_part_over_the_slowest_link():
    """Patarasuk and Yuan, 2009: 2 (n - 1) / n of the bytes."""
    figures = dataclasses.replace(IDEAL, inside=Link(1e9, 1e-3), between=Link(1e8, 0))
    assert all_reduce_s(1e9, 1, figures) == 0
    assert all_reduce_s(1e9, 2, figures) == pytest.approx(1 + 2e-3)
    assert all_reduce_s(1e9, 8, figures) == pytest.approx(1.75 + 14e-3)
    assert all_reduce_s(1e9, 16, figures) == pytest.approx(18.75)


def test_the_last_batch_and_the_longest_one_are_waited_for():
    assert asked_speedup([10] * 12, 4, 2) == pytest.approx(1.5)  # three batches, two of them after one another
    assert asked_speedup([100, 1, 1, 1], 1, 4) == pytest.approx(1.03)
    # A step's examples are dealt so that no GPU has many more tokens; one that is far longer than all others stays.
    assert train_speedup(IDEAL, [40, 30, 20, 10] * 256, 2, 8) == pytest.approx(2, rel=0.02)
    assert train_speedup(IDEAL, [1000, *[1] * 15], 2, 8) == pytest.approx(2 * 1015 / (2 * 1007), rel=1e-6)


def test_start_up_limits_a_whole_command_however_many_gpus_there_are():
    lengths = Lengths(ALIKE, ALIKE, ALIKE, ["one"] * len(ALIKE))
    table = {row[0]: row[1:] for row in rows(dataclasses.replace(IDEAL, start_s=5), lengths, (1, 64))}
    assert table["prediction of 1,024 answers"] == ("1", "64")
    assert table["prediction, the whole command"] == ("1", f"{15 / (5 + 10 / 64):.3g}")


def test_the_command_prints_a_column_for_each_number_of_gpus(capsys):
    growth_model.main(["--gpus", "1,2,16", "--spider", str(SAMPLE_SPIDER), "--mmlu", str(SAMPLE_MMLU)])
    head, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["predicted: times as fast as one GPU", "1", "2", "16"]
    assert len(lines) == 6 and all(line.split("|")[2].strip() == "1" for line in lines)


def test_the_page_shows_what_the_command_prints(repository):
    """The numbers of docs/growth.md are for real lengths; the works are the same."""
    page = Path(repository / "docs" / "growth.md").read_text()
    lengths = Lengths(ALIKE, [7] * 8000, [7] * 14042, ["one"] * 14042)
    for work, *_ in rows(IDEAL, lengths, (1, 2)):
        assert f"| {work} " in page
