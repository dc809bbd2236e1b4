"""A set's HTML report, made again from the set: the run's own page, byte for byte but for where it comes from."""

import re
from pathlib import Path

import pytest

from text2sql.cli.results import main
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, write_json
from text2sql.report import result_sets

pytestmark = pytest.mark.usefixtures("finished_project")  # one of the processes has it


@pytest.fixture
def exported(project, monkeypatch):
    """The project and its set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.cache))
    result_sets.export("micro")
    return project


def test_the_page_is_the_runs_own(exported, capsys):
    assert main(["html", "micro", "--spider", "data/sample/spider"]) == 0
    assert re.fullmatch(r"reports/micro.html: 0\.\d MB\n", capsys.readouterr().out)
    before, page = Path("reports/report.html").read_text(), Path("reports/micro.html").read_text()
    assert page.count("made from results/micro") == 1
    revision = re.search(r"(?<=>)[0-9a-f]{40}(?=<)", before)[0]
    assert page.replace("made from results/micro", revision) == before


def test_another_count_than_the_sets_is_said(exported, capsys):
    file = Path("results/micro/metrics/spider/m1.json")
    found = read_json(file)
    write_json(file, found | {"successes": found["successes"] + 1, "sqlite_version": "3.1"})
    main(["html", "micro", "--spider", "data/sample/spider", "--out", "page.html"])
    now = found["successes"]
    line = f"m1: successes {now}, {now + 1} in the set (SQLite {found['sqlite_version']}, 3.1"
    assert capsys.readouterr().out.startswith(line) and Path("page.html").is_file()


def test_what_the_page_cannot_be_made_of_is_refused(exported):
    with pytest.raises(UserError, match=r"results/mico: no such set; there are micro"):
        main(["html", "mico", "--spider", "data/sample/spider"])
    with pytest.raises(UserError, match=r"nowhere: no such folder or zip file"):
        main(["html", "micro", "--spider", "nowhere"])
    Path("results/micro/choices.csv.gz").unlink()
    with pytest.raises(UserError, match=r"results/micro: was made before sets kept choices.csv.gz"):
        main(["html", "micro", "--spider", "data/sample/spider"])
    assert not Path("reports/micro.html").exists()
