"""The user's cache, also where the user has no home."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from text2sql.core.errors import RunError
from text2sql.core.files import user_cache


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def test_the_cache_lies_where_the_user_says_or_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "text2sql"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_cache() == tmp_path / "cache" / "text2sql"


def no_home(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)


def home_is_no_folder(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))


def home_is_anothers(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    # Root, as whom tests run in containers, may write anywhere.
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "home" and real(path, mode))


@pytest.mark.parametrize("home", [no_home, home_is_no_folder, home_is_anothers])
def test_without_a_home_to_write_to_the_cache_is_temporary_and_the_users_alone(home, monkeypatch, tmp_path):
    home(monkeypatch, tmp_path)
    folder = user_cache()
    assert folder == tmp_path / "temporary" / f"text2sql-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert user_cache() == folder
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    folder.rename(folder.with_name(f"text2sql-{other}"))
    with pytest.raises(RunError, match="belongs to another user; set XDG_CACHE_HOME to a folder"):
        user_cache()
