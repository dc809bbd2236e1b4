"""Imports without the search for garbage: it is on again afterwards."""

import gc

import pytest

from text2sql.core.startup import in_background, quick_imports


def test_garbage_is_searched_for_again_after_the_imports_whatever_came_of_them():
    with quick_imports("no_such_library"):
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), quick_imports("no_such_library"):
        raise ImportError
    assert gc.isenabled()


def test_where_the_library_is_there_nothing_changes():
    frozen = gc.get_freeze_count()
    with quick_imports("pytest"):
        assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen  # fewer, where some were freed meanwhile


def test_work_in_the_background_has_its_result_or_its_error():
    assert in_background(lambda: 3).result(timeout=60) == 3
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0).result(timeout=60)
