"""Which of a run's results that git tracks changed, and how to put them back."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

LOCK, METRICS = "dvc.lock", "metrics"  # what `dvc repro` writes and git holds


def changed_files(folder: str | Path = ".") -> list[str]:
    """Return the lock and metrics in `folder` that are not as the last commit has them; none where there is no git."""
    command = ["git", "diff", "--name-only", "-z", "--relative", "HEAD", "--", LOCK, METRICS]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        return []
    return sorted(filter(None, done.stdout.split("\0"))) if done.returncode == 0 else []


def changed_line(files: Sequence[str]) -> str | None:
    """Return the line that names the changed `files` and the command that puts them back, or None without any."""
    if not files:
        return None
    metrics = [file for file in files if file != LOCK]
    names = [LOCK] if LOCK in files else []
    if len(metrics) > 2:
        names.append(f"{len(metrics)} files in {METRICS}/")
    else:
        names += metrics
    paths = ([LOCK] if LOCK in files else []) + ([METRICS] if metrics else [])
    return (
        f"Changed since the last commit: {', '.join(names)}. "
        f"Commit them to keep them, or put them back: git checkout HEAD -- {' '.join(paths)}"
    )
