"""`export.json`: what an export is of, so that its proof asks the right model and prompt."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_object, write_json

RECORD = "export.json"
_FIELDS = {"name": str, "model": str, "form": str, "dtype": str, "base": dict, "loaded": dict, "bytes": int}


@dataclass(frozen=True)
class Record:
    """An export. `form` is adapter, merged or gguf, what its files are; `format` is what was asked for.

    dtype: of the weights in it, by torch's name, or a GGUF quantisation.
    base: what is known of it, by name.
    loaded: the params by which it was evaluated, those of the section `model`.
    adapter: the sha256 of the weights that were trained, None for the base; source: their folder.
    files: what it holds besides this record; bytes: the size of all of them.
    """

    name: str
    model: str
    format: str
    form: str
    dtype: str
    base: dict[str, Any]
    loaded: dict[str, Any]
    adapter: str | None
    source: str | None
    files: list[str] = field(default_factory=list)
    bytes: int = 0

    def write(self, folder: Path) -> None:
        """Write `export.json`, last, with the names and the size of all files that are there: what has it is whole."""
        files = sorted(folder.iterdir())
        size = sum(path.stat().st_size for path in files)
        write_json(folder / RECORD, asdict(replace(self, files=[path.name for path in files], bytes=size)))


def read_record(folder: Path) -> Record:
    """Return the record of the export in `folder`. Raises UserError for a folder that is no finished export."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; wanted one that `text2sql export` wrote")
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder}: has no {RECORD}; wanted a folder that `text2sql export` wrote")
    found = read_object(folder / RECORD, _FIELDS)
    try:
        record = Record(**found)
    except TypeError:
        raise UserError(f"{folder / RECORD}: is of another version of text2sql; export again") from None
    missing = [name for name in record.files if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: has no {missing[0]}, which it was exported with; export again")
    return record
