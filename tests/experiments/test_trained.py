"""Adapters of a curve's points and a search's trials: what each takes, and what none trains."""

from dataclasses import replace

import pytest

from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.params import TrainSamplesParams, changed, load_params
from text2sql.experiments.points import Learning, Run, Verifier
from text2sql.experiments.trained import Trainings
from text2sql.model.loading import KeptBase


@pytest.fixture
def params(repository):
    return load_params(repository / "params.yaml")


@pytest.fixture
def trainings(tmp_path):
    return Trainings(tmp_path / "prepared", tmp_path / "work", Key.of({}), KeptBase())


def learning(params, objective, **learns):
    params = changed(params, {"train.objective": objective, "train.from": "plain"}, "a point")
    return Run("more@1", "more", 1, params, "more@1", **learns)


@pytest.mark.parametrize("objective", ["rejection", "dpo"])
def test_a_trial_does_not_learn_from_answers(params, trainings, tmp_path, objective):
    with pytest.raises(UserError, match=f"train.objective: {objective}: not among a search's trials"):
        trainings.adapter(learning(params, objective))
    assert not (tmp_path / "work").exists()


def test_a_process_takes_a_learning_point_with_the_training_that_it_waits_for(params, trainings):
    teacher = Run("plain@1", "plain", 1, params, "plain@1")
    runs = [
        learning(params, "rejection", learns=Learning(teacher, TrainSamplesParams(samples=count))) for count in (2, 4)
    ]
    for run in runs:
        assert trainings.to_come(run) == [trainings.folder(run), trainings.folder(teacher)]
    assert trainings.folder(runs[0]) != trainings.folder(runs[1])
    folder = trainings.folder(teacher)
    folder.mkdir(parents=True)
    folder.with_suffix(".json").write_text("{}")
    assert trainings.to_come(runs[0]) == [trainings.folder(runs[0])] and trainings.to_come(teacher) == []


def test_a_process_takes_a_judged_point_with_its_verifier_and_each_training_once(params, trainings):
    teacher = Run("plain@1", "plain", 1, params, "plain@1")
    learns = Learning(teacher, TrainSamplesParams(samples=2))
    verifier = Verifier("v1", "v1", 1, params, "verifier-v1", learns=learns)
    folders = [trainings.folder(teacher), trainings.folder(verifier)]
    assert trainings.to_come(replace(teacher, verifier=verifier)) == folders
    folds = replace(verifier, learns=Learning(teacher, TrainSamplesParams(folds=2)))
    assert trainings.to_come(folds) == [trainings.folder(folds)]  # other models answer
    base = Run("base", "base", None, params)
    assert trainings.to_come(replace(base, verifier=verifier)) == folders[::-1] and trainings.to_come(base) == []
    assert trainings.folder(Run("v1", "v1", 1, params, "v1", learns=learns)) != folders[1]
