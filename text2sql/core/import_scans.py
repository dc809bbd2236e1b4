"""What `import transformers` does each time and need not: reads of installed packages, and imports of no use here.

It opens the 3,000 files of its models twice to list what they define, walks through their folders, and reads the
metadata of all installed packages: most of the files that a stage opens until its first batch. The answers change only
where packages do, and are kept in the user's cache. For each of its own operators PyTorch looks up the file of every
module, to note a line of source. For one function each, scipy and scikit-learn are imported, some 390 modules and more.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from text2sql.core.digests import digest_of
from text2sql.core.files import user_cache, write_text

IMPORT_UTILS = "transformers.utils.import_utils"
# {module: functions of it} that transformers imports by name, and calls for images and for assisted generation alone.
LATER = {
    "scipy.optimize": ("linear_sum_assignment",),
    "sklearn.metrics": ("roc_curve",),
    "transformers.image_transforms": ("center_to_corners_format",),
}
Structure = dict[frozenset[str], dict[str, set[str]]]


class Later(ModuleType):
    """Stands for a module whose functions are wanted by name, until one is called or anything else is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = _PathOf(self)  # type: ignore[assignment]  # any iterable does

    def __getattr__(self, name: str) -> Any:
        """Return a function that imports the module when it is called; anything else from the module itself."""
        if name.startswith("__"):
            raise AttributeError(name)  # who looks through all modules wants none of them imported
        if name not in LATER[self.__name__]:
            return getattr(self.module(), name)
        return lambda *args, **options: getattr(self.module(), name)(*args, **options)

    def module(self) -> ModuleType:
        """Return the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


class _PathOf:
    """The folders of a package, which is imported when they are looked through: a module in it is wanted."""

    def __init__(self, package: Later) -> None:
        self._package = package

    def __iter__(self) -> Iterator[str]:
        return iter(getattr(self._package.module(), "__path__", ()))


@contextlib.contextmanager
def imported_later() -> Iterator[None]:
    """Let the block import functions of the modules of `LATER` that are not imported yet without those modules."""
    wanted = [name for name in LATER if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0])]
    stand_ins = [Later(name) for name in wanted]
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        yield
    finally:
        for module in stand_ins:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


@contextlib.contextmanager
def kept_scans() -> Iterator[None]:
    """While the block imports transformers, let it find what an earlier start has read.

    Where its functions have other names, or the cache cannot be written, it reads as usual.
    """
    packages, frame, walk = importlib.metadata.packages_distributions, inspect.getframeinfo, Path.rglob
    finder = _AfterImport(IMPORT_UTILS, _keep_structure)
    changed: Any = [
        (importlib.metadata, "packages_distributions", packages, lambda: kept_packages(packages)),
        (inspect, "getframeinfo", frame, lambda one, context=0: frame(one, context)),  # file and line without its text
        (Path, "rglob", walk, lambda folder, pattern, **options: kept_walk(walk, folder, pattern, **options)),
    ]
    sys.meta_path.insert(0, finder)
    for place, name, _, quick in changed:
        setattr(place, name, quick)
    try:
        yield
    finally:
        for place, name, usual, _ in changed:
            setattr(place, name, usual)
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def kept_packages(ask: Callable[[], Mapping[str, list[str]]]) -> Mapping[str, list[str]]:
    """Return `ask()`, the distributions of each top-level package; kept until one is installed, removed or changed."""
    known = [
        (entry.path, entry.stat().st_mtime_ns)
        for folder in dict.fromkeys(sys.path)
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name.endswith((".dist-info", ".egg-info"))
    ]
    return _kept(["packages", sys.version, sorted(known)], ask)


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


def kept_walk(walk: Callable[..., Iterator[Path]], folder: Path, pattern: str, **options: Any) -> Iterator[Path]:
    """Yield `walk(folder, pattern)`; of the folder of transformers' models kept as `kept_structure` is."""
    record = _list_of_files("transformers", folder) if folder.parts[-2:] == ("transformers", "models") else None
    if record is None or options:
        yield from walk(folder, pattern, **options)
        return
    status = record.stat()
    identity = ["walk", str(record), status.st_mtime_ns, status.st_size, str(folder), pattern]
    for name in _kept(identity, lambda: [path.relative_to(folder).as_posix() for path in walk(folder, pattern)]):
        yield folder / name


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
