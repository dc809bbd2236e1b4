"""The documents for readers: their fenced blocks with the mark that each command carries, links, and anchors.

A fence of commands (`console`, `python`) is marked by a comment on the line before it, which GitHub does not show:

    <!-- run -->                        runs in a copy of the repository
    <!-- run with the micro model -->   runs in a project whose base is the micro model, after `dvc repro`
    <!-- shown: REASON -->              does not run, for this reason
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("console", "python")
OTHERS = ("mermaid", "text", "yaml")  # a figure; what a command printed; a part of a file
RUN, MICRO, SHOWN = "run", "run with the micro model", "shown"
_FENCE = re.compile(r"^(?P<before>.*)\n```(?P<kind>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
_MARK = re.compile(rf"<!-- (?:({RUN}|{MICRO})|({SHOWN}): (.+)) -->")
_LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """One fenced block: what it is, its text, and its mark, None where it has none."""

    place: str  # file and line, for messages
    kind: str
    text: str
    mark: str | None

    @property
    def commands(self) -> list[str]:
        """The commands of a console, without their prompt; the whole text of any other block."""
        if self.kind != "console":
            return [self.text]
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]


def documents(repository: Path) -> list[Path]:
    """Return the repository's documents for readers; generated ones, such as result sets' reports, are left out."""
    folders = ("docs", "benchmarks", "findings", "data/sample", "models")
    return sorted([*repository.glob("*.md"), *(path for name in folders for path in (repository / name).glob("*.md"))])


def fences(path: Path, name: str) -> list[Fence]:
    """Return the fenced blocks of the document `path`, which messages call `name`."""
    text = "\n" + path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = _MARK.fullmatch(match["before"])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Fence(f"{name}:{line}", match["kind"], match["text"], mark and (mark[1] or mark[2])))
    return found


def complaint(fence: Fence) -> str | None:
    """Say what is wrong with a block's kind or mark, None where nothing is."""
    if fence.kind in OTHERS:
        return None
    if fence.kind not in COMMANDS:
        return f"{fence.place}: ```{fence.kind}: wanted one of {', '.join((*COMMANDS, *OTHERS))}"
    if fence.mark is None:
        return f"{fence.place}: wanted <!-- {RUN} -->, <!-- {MICRO} --> or <!-- {SHOWN}: REASON --> on the line before"
    if fence.kind == "console" and len(fence.commands) != len(fence.text.splitlines()):
        return f"{fence.place}: wanted a command a line, each after `$ `; what it prints goes into ```text"
    return None


def links(text: str) -> Iterator[str]:
    """Yield the targets of a document's links and pictures, but not those within code or to other sites."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "`code`", text, flags=re.DOTALL | re.MULTILINE)
    for target in _LINK.findall(prose):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings; a repeated heading's has a number behind it."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.M):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken_links(path: Path, name: str) -> list[str]:
    """Say a line for each relative link of the document `path` whose file or anchor is not there."""
    found = []
    text = path.read_text(encoding="utf-8")
    for target in links(text):
        file, _, anchor = target.partition("#")
        other = path.parent / file if file else path
        if not other.exists():
            found.append(f"{name}: ({target}): no such file")
        elif anchor and anchor not in anchors(other.read_text(encoding="utf-8")):
            found.append(f"{name}: ({target}): no such heading")
    return found
