"""The carried bases, and what is kept of them and of local GGUF files in the user's cache.

text2sql bases               the bases that `model.base` may name without the hub, and what is kept
text2sql bases remove NAME   remove what is kept of one: its file, its converted folder, a download that stopped
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError, did_you_mean


def main(arguments: Sequence[str]) -> None:
    """List what there is, or remove what is kept of one base."""
    parser = ArgumentParser(prog="text2sql bases", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    removing = actions.add_parser("remove", help="remove what is kept of one base")
    removing.add_argument("name", help="a name that `text2sql bases` lists")
    options = parser.parse_args(arguments)
    if options.action == "remove":
        _remove(options.name)
    else:
        _list()


def _list() -> None:
    from tabulate import tabulate

    from text2sql.model.base_files import cache
    from text2sql.model.bases import CARRIED

    rows = [
        [base.name, base.licence, base.quantisation, _size(base.size), _size(base.folder_size), _kept(base.name)]
        for base in CARRIED.values()
    ]
    rows += [[folder.name, "", "", "", _size(_bytes(folder)), "folder"] for folder in _local_folders()]
    heads = ["base", "licence", "quantisation", "file", "folder", "kept"]
    print(tabulate(rows, headers=heads, disable_numparse=True))
    print(f"\nKept in {cache()}: {_size(_bytes(cache()))}")


def _remove(name: str) -> None:
    from text2sql.model.base_files import cache
    from text2sql.model.bases import CARRIED, lock

    local = {folder.name: folder for folder in _local_folders()}
    if name not in CARRIED and name not in local:
        raise UserError(f"bases: no base {name!r}{did_you_mean(name, [*CARRIED, *local])}; `text2sql bases` lists them")
    folder = _folder(name) if name in CARRIED else local[name]
    paths = [path for path in (_files(name) if name in CARRIED else [folder]) if path.exists()]
    if not paths:
        print(f"{name}: nothing is kept in {cache()}")
        return
    freed = sum(map(_bytes, paths))
    with lock(folder):
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{name}: removed {', '.join(path.name for path in paths)} from {cache()} ({_size(freed)})")


def _folder(name: str) -> Path:
    from text2sql.model.bases import CARRIED, converted_folder

    return converted_folder(CARRIED[name].file, CARRIED[name].sha256)


def _files(name: str) -> list[Path]:
    """Return where the file, the converted folder and the stopped download of a carried base lie, if they are there."""
    from text2sql.model.base_files import cache, partial
    from text2sql.model.bases import CARRIED

    base = CARRIED[name]
    return [cache() / base.file, _folder(name), partial(base)]


def _kept(name: str) -> str:
    from text2sql.model.base_files import kept_parts
    from text2sql.model.bases import CARRIED

    base = CARRIED[name]
    file, folder, stopped = (path.exists() for path in _files(name))
    parts = f"{len(kept_parts(base))} of {len(base.wheels)} wheels"
    return ", ".join(
        what for what, there in ((parts, stopped and not file), ("file", file), ("folder", folder)) if there
    )


def _local_folders() -> list[Path]:
    """Return the folders that were converted from local files, or by an earlier version's conversion."""
    from text2sql.model.base_files import cache
    from text2sql.model.bases import CARRIED

    carried = {_folder(name) for name in CARRIED}
    return sorted(path for path in cache().glob("[!.]*") if path.is_dir() and path not in carried)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
