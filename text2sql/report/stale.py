"""What of the last run no longer belongs to the working tree, by dvc.lock alone: no data and no DVC needed."""

from collections.abc import Iterator
from pathlib import Path

from text2sql.core.files import read_yaml
from text2sql.report import lock

LOCK = Path("dvc.lock")
CODE = ("text2sql", "stages")  # the folders whose files a stage runs


def stale_parts(lock_file: Path) -> Iterator[str]:
    """Say each stage whose recorded params are not those of params.yaml, and each metrics file edited since its run.

    A commit that changes params but not the results would otherwise be judged by the old run's metrics.
    """
    if not lock_file.is_file():
        return
    params = read_yaml("params.yaml")
    stages = lock.listed(lock.read_stages(lock_file), params)
    for stage, changed in lock.changed_params(stages, params):
        yield f"stage {stage} last ran with another {', '.join(changed)}; `dvc repro` runs it again"
    for name, (stage, checksum) in lock.written(stages).items():
        path = Path(name)
        # What git holds; DVC's own outs are not here.
        if path.parts[0] == "metrics" and path.exists() and lock.md5(path) != checksum:
            yield f"{path} is not what stage {stage} wrote; `dvc repro` writes it again"


def changed_code(lock_file: Path) -> list[str]:
    """Return the files and folders of code that are not as any stage last ran them.

    No reason to refuse a commit: most changes of code move no metric, and the weekly run judges those that do.
    """
    if not lock_file.is_file():
        return []
    stages = lock.listed(lock.read_stages(lock_file), read_yaml("params.yaml"))
    seen = {(path, md5) for _, path, md5 in lock.read(stages) if Path(path).parts[0] in CODE}
    return sorted({path for path, md5 in seen if not Path(path).exists() or lock.md5(Path(path)) != md5})
