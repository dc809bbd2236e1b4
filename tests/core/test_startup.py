"""Imports without the search for garbage: it is on again afterwards."""

import gc
import importlib
import weakref

import pytest

from text2sql.core.startup import in_background, quick_imports


def test_garbage_is_searched_for_again_after_the_imports_whatever_came_of_them():
    with quick_imports("no_such_library"):
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), quick_imports("no_such_library"):
        raise ImportError
    assert gc.isenabled()


def test_what_the_importing_function_names_is_freed_though_the_library_met_an_error(tmp_path, monkeypatch):
    """A library that tries what is not there leaves the error in a cycle, with all frames that it went through."""
    tries = "try:\n    import not_there\nexcept ImportError as error:\n    found = [error]\n"
    text = f"{tries}    found.append(found)\n    del found\n"
    (tmp_path / "tries_others.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    class Weights:
        pass

    def load():
        weights = Weights()
        with quick_imports("tries_others"):
            importlib.import_module("tries_others")
        return weakref.ref(weights)

    weights = load()
    gc.collect()
    assert weights() is None


def test_where_the_library_is_there_nothing_changes():
    frozen = gc.get_freeze_count()
    with quick_imports("pytest"):
        assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen  # fewer, where some were freed meanwhile


def test_work_in_the_background_has_its_result_or_its_error():
    assert in_background(lambda: 3).result(timeout=60) == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0).result(timeout=60)
