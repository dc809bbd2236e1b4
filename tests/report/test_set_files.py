"""The compressed files of a set: choices on MMLU, from which anyone tests a pair again as docs/results.md says."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from testkit import synthetic
from testkit.documents import fences
from text2sql.comparison.significance import discordant, mcnemar_p
from text2sql.core.errors import UserError
from text2sql.report.set_files import read_choices, write_choices, write_gzip

MODELS = ("base", "m1", "m2")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Invented choices, in the files that eval_mmlu leaves and as a set keeps them."""
    monkeypatch.chdir(tmp_path)
    made = synthetic.results(seed=3, questions=40)
    write_choices(Path("results/NAME/mmlu_all/choices.csv.gz"), made.mmlu_verdicts)
    return made


def test_the_documents_lines_test_a_pair_again(made, repository):
    (lines,) = [
        fence.text for fence in fences(repository / "docs/results.md", "docs/results.md") if "mcnemar" in fence.text
    ]
    named = Path(re.search(r'"(results/.*)"', lines)[1])
    named.parent.mkdir(parents=True)
    shutil.copy("results/NAME/mmlu_all/choices.csv.gz", named)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(lines, {})
    right, base = ([line["correct"] for line in made.mmlu_verdicts[model]] for model in ("m1", "base"))
    gained, lost = discordant(right, base)
    assert gained and lost
    assert float(printed.getvalue()) == pytest.approx(mcnemar_p(gained, lost))


def test_choices_are_small(made):
    assert len(read_choices(Path("results/NAME/mmlu_all/choices.csv.gz"), MODELS)) == 120
    assert Path("results/NAME/mmlu_all/choices.csv.gz").stat().st_size < 120 * 6


def test_models_that_were_asked_different_questions_are_no_set(made):
    others = [line | {"index": line["index"] + 1} for line in made.mmlu_verdicts["m2"]]
    with pytest.raises(UserError, match=r"base, m1, m2 were asked different questions; rerun eval_mmlu"):
        write_choices(Path("choices.csv.gz"), {**made.mmlu_verdicts, "m2": others})
    with pytest.raises(UserError, match=r"different questions"):
        write_choices(Path("choices.csv.gz"), {**made.mmlu_verdicts, "m2": made.mmlu_verdicts["m2"][:-1]})
    assert not Path("choices.csv.gz").exists()


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in ("one.gz", "other.gz"):
        write_gzip(tmp_path / name, b"a\n" * 1000)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
