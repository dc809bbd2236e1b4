"""What `data.spider` names: Spider's layout, BIRD's, or a user's own data; told apart by the files that are there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.data.archives import open_archive
from text2sql.data.layouts import layout_at
from text2sql.data.own import WANTED, OwnSource, question_files
from text2sql.data.spider import SpiderSource


@contextlib.contextmanager
def open_source(path: str | Path, holdout: float | None = None) -> Iterator[SpiderSource]:
    """Open a folder or zip of questions and databases. `holdout`: of own data without splits, the share of dev.

    Raises UserError where it is missing, damaged or something else, or where its questions change while it is open.
    """
    with open_archive(path) as archive:
        archive.enter_top_folder(
            lambda here: layout_at(here) is not None or bool(question_files(here)), f"dev.json or {WANTED}"
        )
        layout = layout_at(archive)
        if layout is not None:
            if holdout is not None:
                raise UserError(
                    f"data.holdout: got {holdout:g}, and {path} has splits already; `text2sql holdout` makes others"
                )
            yield SpiderSource(archive, layout)
            return
        source = OwnSource(archive, holdout)
        try:
            yield source
        except Exception:
            source.require_unchanged()  # else it is the reason for whatever failed
            raise
        source.require_unchanged()
