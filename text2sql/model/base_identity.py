"""Which base a run measured, and whether an adapter was trained on it.

Our own adapters record their base in adapter_config.json, under `auto_mapping`, a field that PEFT reads and ignores
where the task is given: any other field would make it warn.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from text2sql.core.digests import file_sha256
from text2sql.core.errors import UserError
from text2sql.core.params import ModelParams
from text2sql.model.bases import CARRIED, carried_base, hub_snapshot, is_gguf, is_local, local_gguf

RECORD = "text2sql_base"  # in `auto_mapping`


@dataclass(frozen=True)
class BaseIdentity:
    """A base by what anyone can look up: never a path of this machine."""

    name: str  # the hub's id of the weights, the repository of a carried GGUF, or a local folder's or GGUF file's name
    revision: str | None = None  # on the hub: the commit
    file: str | None = None  # a carried base's GGUF
    sha256: str | None = None  # of a GGUF file, or of the safetensors files, see `weights_sha256`

    def known(self) -> dict[str, str]:
        """Return what is known, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        name = f"{self.name}/{self.file}" if self.file else self.name
        known = [f"revision {self.revision}"] if self.revision else []
        known += [f"sha256 {self.sha256[:12]}…"] if self.sha256 else []
        return name + (f" ({', '.join(known)})" if known else "")


def base_identity(model: ModelParams) -> BaseIdentity:
    """Return the identity of `model.base`. Of a base on the hub that is not in the hub's cache, only its name."""
    if model.base in CARRIED:
        carried = CARRIED[model.base]
        return BaseIdentity(carried.repository, carried.commit, carried.file, carried.sha256)
    if is_local(model.base):
        path = Path(model.base).expanduser().resolve()
        if is_gguf(model.base):
            return BaseIdentity(path.name, sha256=file_sha256(path) if path.is_file() else None)
        return BaseIdentity(path.name, sha256=weights_sha256(path))
    snapshot = hub_snapshot(model.base, model.revision)
    if snapshot is None:
        return BaseIdentity(model.base, model.revision)
    return BaseIdentity(model.base, snapshot.name, sha256=weights_sha256(snapshot))


def weights_sha256(folder: Path) -> str | None:
    """Return the sha256 of a model's one safetensors file, or of the list of its shards' sums; None without any."""
    sums = [file_sha256(path) for path in sorted(folder.glob("model*.safetensors"))]
    if len(sums) > 1:
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return sums[0] if sums else None


def check_trained_on(adapter: Path, config: Mapping[str, Any], model: ModelParams) -> None:
    """Raise UserError if the adapter's `config`, the content of adapter_config.json, tells of another base.

    Our own adapters hold the digest of their base's weights. Others name it: by a hub id, which is compared, or by a
    path, which tells nothing unless a model lies there.
    """
    named, loaded = config.get("base_model_name_or_path"), base_identity(model)
    named = named if isinstance(named, str) else ""
    recorded = _recorded(config)
    if recorded is None:
        other = None if _may_be(named, model, loaded) else _as_named(named, config)
    elif recorded.sha256 and loaded.sha256:
        other = None if recorded.sha256 == loaded.sha256 else str(recorded)
        if other is None and named != recorded.name:
            other = _as_named(named, config)  # the file was edited, or belongs to other weights
    else:
        other = None if _same(recorded.name, loaded.name) else str(recorded)
    if other is not None:
        raise UserError(
            f"{adapter}: was trained on {other}, and model.base is {model.base}"
            + (f", {loaded}" if str(loaded) != model.base else "")
            + "; set model.base to its own, or train again (`text2sql ask --other-base` loads it all the same)"
        )


def _recorded(config: Mapping[str, Any]) -> BaseIdentity | None:
    """Return the base that one of our own adapters records, None for an adapter from elsewhere."""
    mapping = config.get("auto_mapping")
    record = mapping.get(RECORD) if isinstance(mapping, dict) else None
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        return None
    known = {field.name for field in fields(BaseIdentity)}
    return BaseIdentity(**{name: value for name, value in record.items() if name in known and isinstance(value, str)})


def _as_named(named: str, config: Mapping[str, Any]) -> str:
    return str(BaseIdentity(named, config.get("revision")))


def _may_be(named: str, model: ModelParams, loaded: BaseIdentity) -> bool:
    """Whether the base that a foreign adapter calls `named` may be `model.base`."""
    if not named:
        return True
    path = os.path.expanduser(named)
    if named.startswith((".", "/", "~")) or named.count("/") > 1 or os.path.isdir(path):
        theirs = weights_sha256(Path(path)) if os.path.isdir(path) else None
        return theirs is None or theirs == _files_sha256(model, loaded)
    if _same(named, loaded.name) or _same(named, model.base):
        return True
    # A copy of the hub's repository, in a folder of the same name.
    return is_local(model.base) and _same(named.rpartition("/")[2], loaded.name)


def _files_sha256(model: ModelParams, loaded: BaseIdentity) -> str | None:
    """Return the digest of the safetensors files that `model.base` loads from."""
    if model.base in CARRIED:
        return weights_sha256(carried_base(CARRIED[model.base], model.source))
    if is_gguf(model.base):
        return weights_sha256(local_gguf(Path(model.base).expanduser()))
    return loaded.sha256


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()
