"""Adapters of a curve's points: what no point trains is said, and not trained as something else."""

import pytest

from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.params import changed, load_params
from text2sql.experiments.points import Run
from text2sql.experiments.trained import Trainings
from text2sql.model.loading import KeptBase


@pytest.mark.parametrize("objective", ["rejection", "dpo"])
def test_a_point_does_not_learn_from_answers(repository, tmp_path, objective):
    params = load_params(repository / "params.yaml")
    params = changed(params, {"train.objective": objective, "train.from": "plain"}, "a point")
    trainings = Trainings(tmp_path / "prepared", tmp_path / "work", Key.of({}), KeptBase())
    with pytest.raises(UserError, match=f"train.objective: {objective}: not among a curve's or a search's points"):
        trainings.adapter(Run("more@1", "more", 1, params, "more@1"))
    assert not (tmp_path / "work").exists()
