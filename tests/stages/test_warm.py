"""What `testkit.warm` replaces in DVC, so that tests need not wait for it, leaves what DVC leaves."""

import pytest


@pytest.mark.parametrize("name", ["dvc.lock", "results/qwen05-ddl/dvc.lock", "results/qwen15-ddl-4bit/dvc.lock"])
def test_a_lock_that_is_read_quickly_is_written_as_dvc_writes_it(repository, name):
    from dvc.utils.serialize._yaml import dumps_yaml, loads_yaml

    text = (repository / name).read_text(encoding="utf-8")
    assert dumps_yaml(loads_yaml(text)) == text
    stages = loads_yaml(text)["stages"]
    odd = {"rate": 2e-08, "revision": "12e4567", "no": "no", "of": ["1_000", None, {}, []], "lines": "a\nb"}
    added = dumps_yaml({"schema": "2.0", "stages": stages | {"odd": {"params": {"params.yaml": odd}}}})
    for kind in ("safe", "rt"):
        assert dumps_yaml(loads_yaml(added, typ=kind)) == added
