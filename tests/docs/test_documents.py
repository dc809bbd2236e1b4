"""README and docs: every command says whether a test runs it, links lead somewhere, and README stays short."""

import re
import subprocess
import sys

import pytest

from testkit.documents import Fence, anchors, broken_links, complaint, documents, fences


def test_every_command_has_a_mark(repository):
    found = [fence for path in documents(repository) for fence in fences(path, path.relative_to(repository).as_posix())]
    lines = "".join(path.read_text(encoding="utf-8") for path in documents(repository)).splitlines()
    assert len(re.findall(r"^[ >]*(?:```|~~~)", "\n".join(lines), re.MULTILINE)) == 2 * len(found) > 40
    assert [said for fence in found if (said := complaint(fence))] == []


def test_every_relative_link_and_anchor_resolves(repository):
    paths = documents(repository)
    assert {"README.md", "docs/scoring.md", "benchmarks/README.md"} <= {
        path.relative_to(repository).as_posix() for path in paths
    }
    assert [line for path in paths for line in broken_links(path, path.relative_to(repository).as_posix())] == []


def test_readme_stays_a_front_door(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    pictures = [repository / target for target in re.findall(r"!\[[^\]]*\]\((.+?)\)", text)]
    assert pictures and sum(path.stat().st_size for path in pictures) <= 400_000


def test_readmes_figure_is_the_pipeline(repository):
    """Its arrows say which stage waits for which, as `dvc dag` does; those that follow from others may be left out."""
    (figure,) = [fence.text for fence in fences(repository / "README.md", "README.md") if fence.kind == "mermaid"]
    drawn = set()
    for line in figure.splitlines()[1:]:
        groups = [re.findall(r"(\w+)(?:[\[({].*?[\])}]+)?(?: & |$)", part) for part in line.strip().split(" --> ")]
        drawn |= {(one, other) for left, right in zip(groups, groups[1:]) for one in left for other in right}
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid"]
    shown = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    names = {node: name.partition("@")[0] for node, name in re.findall(r'(node\d+)\["(.+)"\]', shown)}
    wanted = {(names[one], names[other]) for one, other in re.findall(r"(node\d+)-->(node\d+)", shown)}
    assert {pair for pair in _closure(drawn) if set(pair) <= set(names.values())} == _closure(wanted)


def _closure(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs = pairs | more
    return pairs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- run -->\n```console\n$ ls\n```\n", None),
        ("<!-- shown: takes hours -->\n```console\n$ ls\n```\n", None),
        ("```text\nwhat it printed\n```\n", None),
        ("Thus:\n```console\n$ ls\n```\n", "page.md:2: wanted <!-- run -->"),
        ("<!-- shown -->\n```console\n$ ls\n```\n", "page.md:2: wanted <!-- run -->"),
        ("<!-- run -->\n\n```python\nprint()\n```\n", "page.md:3: wanted <!-- run -->"),
        ("<!-- run -->\n```\n$ ls\n```\n", "page.md:2: ```: wanted one of console, python"),
        ("<!-- run -->\n```console\n$ ls\na b\n```\n", "page.md:2: wanted a command a line"),
    ],
)
def test_a_command_without_a_mark_is_named(tmp_path, text, said):
    page = tmp_path / "page.md"
    page.write_text(text)
    (fence,) = fences(page, "page.md")
    found = complaint(fence)
    assert found is None if said is None else found.startswith(said)


def test_commands_are_what_stands_after_the_prompt():
    assert Fence("", "console", "$ one   # a comment\n$ two\n", "run").commands == ["one   # a comment", "two"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Title\n\n## Gold queries: what of them?\n\n## Twice\n\n## Twice\n")
    assert anchors(other.read_text()) == {"title", "gold-queries-what-of-them", "twice", "twice-1"}
    page.write_text(
        "[a](other.md) [b](other.md#twice-1) [c](#here) [d](https://example.com/x) `[e](code)`\n\n# Here\n\n"
        "[f](missing.md) [g](other.md#thrice)\n"
    )
    assert broken_links(page, "page.md") == [
        "page.md: (missing.md): no such file",
        "page.md: (other.md#thrice): no such heading",
    ]
