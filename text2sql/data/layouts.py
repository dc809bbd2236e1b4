"""Where the files of a text-to-SQL benchmark lie, and what they call things: Spider's layout and BIRD's.

BIRD (Li et al., 2023) comes in two archives, of which each holds one more with its databases: `dev_20240627/` with
`dev.json`, `dev_tables.json` and `dev_databases/<db_id>/<db_id>.sqlite`, and `train/` likewise. Both may lie side by
side as unpacked, or their files together in one folder. BIRD's mini-dev split is a file of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from text2sql.core.errors import UserError
from text2sql.data.archives import Archive


@dataclass(frozen=True)
class Layout:
    """The files of a benchmark, by their names in an archive.

    splits: {split: its file}. databases: the folders that hold `<db_id>/<db_id>.sqlite`, the first that has one counts.
    tables: files like Spider's `tables.json`, which may be missing. query: the field of an example that holds its SQL.
    bird: whether it is BIRD's: all examples have evidence, maybe empty, and are scored by its definition too.
    """

    splits: Mapping[str, str]
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    query: str
    bird: bool = False


# Spider-DK (Gan et al., 2021) is a file of its own, which needs Spider's databases beside its own three.
SPIDER = Layout(
    {"train": "train_spider.json", "dev": "dev.json", "dk": "Spider-DK.json"}, ("database",), ("tables.json",), "query"
)
_BIRD_FILES = {"dev": ("dev.json", "mini_dev_sqlite.json"), "train": ("train.json",)}


def find_layout(archive: Archive) -> Layout:
    """Step into the top folder that holds the data, if they lie in one, and return their layout.

    Raises UserError where the archive holds neither, or BIRD's databases still packed.
    """
    archive.enter_top_folder(lambda here: layout_at(here) is not None, "dev.json")
    found = layout_at(archive)
    assert found is not None
    return found


def layout_at(archive: Archive) -> Layout | None:
    """Return the layout of what lies at `archive.root`, or None where it is neither.

    BIRD's is told by `dev_databases` beside `dev.json`, and where it is there is no Spider's.
    """
    found = _bird(archive)
    if found is not None or archive.has(SPIDER.splits["dev"]):
        return found or SPIDER
    if archive.has(SPIDER.splits["dk"]):
        return Layout({**SPIDER.splits, "dev": SPIDER.splits["dk"]}, SPIDER.databases, SPIDER.tables, SPIDER.query)
    return None


def _bird(archive: Archive) -> Layout | None:
    folders = {split: _bird_folder(archive, split) for split in _BIRD_FILES}
    if folders["dev"] is None:
        return None
    splits = {}
    for split, names in _BIRD_FILES.items():
        folder = folders[split] or ""
        splits[split] = next((folder + name for name in names if archive.has(folder + name)), folder + names[0])
    there = [(split, folder) for split, folder in folders.items() if folder is not None]
    return Layout(
        splits,
        tuple(f"{folder}{split}_databases" for split, folder in there),
        tuple(f"{folder}{split}_tables.json" for split, folder in there),
        "SQL",
        bird=True,
    )


def _bird_folder(archive: Archive, split: str) -> str | None:
    """Return where one split's file and databases lie, as a prefix of names: at the top, or in one folder."""
    for folder in ("", *(f"{name}/" for name in archive.names())):
        if not any(archive.has(folder + name) for name in _BIRD_FILES[split]):
            continue
        if archive.names(f"{folder}{split}_databases"):
            return folder
        packed = f"{folder}{split}_databases.zip"
        if archive.has(packed):
            raise UserError(f"{archive.describe(packed)}: holds the databases; unpack it there, wanted a folder")
        if not folder:
            return None  # the file at the top is another benchmark's
    return None
