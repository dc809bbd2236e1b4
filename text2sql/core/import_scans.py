"""What transformers reads of the installed packages each time it is imported, kept in the user's cache.

It opens the 3,000 files of its models twice to list what they define, and the metadata of all installed packages: two
thirds of all files that a stage opens until its first batch. The answers change only where packages do.
"""

import contextlib
import functools
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from text2sql.core.digests import digest_of
from text2sql.core.files import user_cache, write_text

IMPORT_UTILS = "transformers.utils.import_utils"
Structure = dict[frozenset[str], dict[str, set[str]]]


@contextlib.contextmanager
def kept_scans() -> Iterator[None]:
    """While the block imports transformers, let it find what an earlier start has read.

    Where its functions have other names, or the cache cannot be written, it reads as usual.
    """
    ask, finder = importlib.metadata.packages_distributions, _AfterImport(IMPORT_UTILS, _keep_structure)
    importlib.metadata.packages_distributions = lambda: kept_packages(ask)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = ask
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def kept_packages(ask: Callable[[], Mapping[str, list[str]]]) -> Mapping[str, list[str]]:
    """Return `ask()`, the distributions of each top-level package; kept until a folder of `sys.path` changes.

    Whatever installs or removes a package adds or removes a folder there.
    """
    folders = [(path, Path(path).stat().st_mtime_ns) for path in sys.path if Path(path).is_dir()]
    return _kept(["packages", sys.version, folders], ask)


def kept_structure(define: Callable[..., Structure], path: str, prefix: str | None = None) -> Structure:
    """Return `define(path, prefix)`: what the modules below `path` define, by the packages that they need.

    Kept until transformers is installed anew, by the time of its list of files; not kept where it has none, as where
    it is installed from a folder that is worked on.
    """
    record = _list_of_files("transformers", Path(path))
    if record is None:
        return define(path, prefix)
    status = record.stat()
    identity = ["structure", str(record), status.st_mtime_ns, status.st_size, str(path), prefix]
    rows = _kept(
        identity,
        lambda: [
            [sorted(needs), {module: sorted(names) for module, names in modules.items()}]
            for needs, modules in define(path, prefix).items()
        ],
    )
    return {frozenset(needs): {module: set(names) for module, names in modules.items()} for needs, modules in rows}


def _kept(identity: list, find: Callable[[], Any]) -> Any:
    """Return the JSON value that an earlier start kept under `identity`, or `find()`, which is kept."""
    path = user_cache() / "imports" / f"{digest_of(identity)}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = find()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_text(path, json.dumps(found))
    return found


def _list_of_files(package: str, path: Path) -> Path | None:
    """Return the RECORD of the installed `package`, if `path` lies in that installation."""
    found = importlib.metadata.distribution(package)
    root = Path(str(found.locate_file("")))
    record = root / f"{package}-{found.version}.dist-info" / "RECORD"
    return record if record.is_file() and (root / package) in path.parents else None


def _keep_structure(module: Any) -> None:
    define = getattr(module, "define_import_structure", None)
    if define is None:
        return

    @functools.wraps(define)
    def define_or_read(module_path: str, prefix: str | None = None) -> Structure:
        folder = Path(module_path) if Path(module_path).is_dir() else Path(module_path).parent
        if folder.name != "models":
            return define(module_path, prefix)  # one model's folder
        return kept_structure(define, str(module_path), prefix)

    module.define_import_structure = define_or_read


class _AfterImport:
    """A finder that calls `change(module)` as soon as the module `name` has run."""

    def __init__(self, name: str, change: Callable[[Any], None]) -> None:
        self._name, self._change = name, change

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the module's own spec; None for any other module."""
        if name != self._name or (spec := PathFinder.find_spec(name, path, target)) is None:
            return None
        execute: Any = spec.loader.exec_module  # type: ignore[union-attr]

        def execute_and_change(module: Any) -> None:
            execute(module)
            self._change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign, union-attr]
        return spec
