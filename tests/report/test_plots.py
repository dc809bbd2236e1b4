"""The rows that `dvc plots` draws."""

import pytest

from testkit import synthetic
from testkit.compared import compared
from text2sql.report.plots import accuracy_rows, category_rows


def test_plot_rows_hold_every_model_with_its_interval():
    found = compared(synthetic.results(examples=200, questions=30))
    rows = accuracy_rows(found)
    assert len(rows) == 9 and list(rows[0]) == ["model", "task", "accuracy", "low", "high"]
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    of_bird = accuracy_rows(compared(synthetic.as_of_bird(synthetic.results(examples=200, questions=30))))
    assert [row for row in of_bird if "BIRD's" not in row["task"]] == rows and len(of_bird) == 12
    rows = category_rows(found)
    assert len(rows) == 9 and list(rows[0]) == ["model", "category", "accuracy", "low", "high", "difference_pts"]
    for base, m1 in zip(rows[::3], rows[1::3]):
        assert base["difference_pts"] == 0
        assert m1["difference_pts"] == pytest.approx(100 * (m1["accuracy"] - base["accuracy"]), abs=1e-3)
