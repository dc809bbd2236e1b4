"""GitHub's workflows: pinned, with the least permissions, and out of reach of a pull request's author."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from text2sql.report import review

WORKFLOWS = Path(__file__).parents[1] / ".github/workflows"
POSTS = ("review.yaml", "comment")  # the one job that may write


def read(name):
    return YAML(typ="safe").load((WORKFLOWS / name).read_text(encoding="utf-8"))


@pytest.fixture(params=sorted(path.name for path in WORKFLOWS.iterdir()))
def name(request):
    return request.param


def steps(name):
    return [step for job in read(name)["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_by_commit_with_their_version_beside_it(name):
    used = re.findall(r"uses: (.*)", (WORKFLOWS / name).read_text(encoding="utf-8"))
    assert used and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v[\d.]+", action) for action in used)


def test_only_the_job_that_posts_may_write(name):
    workflow = read(name)
    assert workflow["permissions"] == {"contents": "read"}
    for job_name, job in workflow["jobs"].items():
        wanted = {"pull-requests": "write"} if (name, job_name) == POSTS else None
        assert job.get("permissions") == wanted


def test_the_job_that_posts_runs_no_code_of_the_pull_request():
    job = read(POSTS[0])["jobs"][POSTS[1]]
    assert not [step for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert "head.repo.full_name == github.repository" in job["if"]


def test_no_credentials_stay_on_disk(name):
    checkouts = [step for step in steps(name) if "actions/checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_text_of_a_pull_request_enters_a_script(name):
    assert not [step for step in steps(name) if "${{" in step.get("run", "")]


def test_jobs_with_caches_have_different_keys():
    keys = []
    for path in WORKFLOWS.iterdir():
        for job_name, job in read(path.name)["jobs"].items():
            for step in job["steps"]:
                if step.get("with", {}).get("cache"):
                    keys.append((step["with"]["cache-dependency-path"], step["with"]["python-version"]))
                    assert (WORKFLOWS.parents[1] / keys[-1][0]).is_file(), f"{path.name}: {job_name}"
    assert len(set(keys)) == len(keys) > 1


def test_the_review_finds_its_comment_and_ends_with_the_gate():
    text = (WORKFLOWS / "review.yaml").read_text(encoding="utf-8")
    assert f'startswith("{review.MARKER}")' in text
    job = read("review.yaml")["jobs"]["review"]
    assert job["steps"][-1]["run"] == "python -m stages.compare --gate"
    # Not GitHub's merge with the base: the comparison is with the commit at which the work left it.
    assert job["steps"][0]["with"]["ref"] == "${{ github.event.pull_request.head.sha }}"


def test_what_the_documents_name_runs_on_github():
    """Every kind of check that a contributor is asked to run has a job."""
    runs = " ".join(step.get("run", "") for name in ("checks.yaml", "weekly.yaml") for step in steps(name))
    for command in (
        "make check",
        "make test ",
        "make test-long",
        "make coverage",
        "make bench SHORT=1",
        "make repro",
        "make moved",
    ):
        assert command in runs
    assert read("checks.yaml")["jobs"]["tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
