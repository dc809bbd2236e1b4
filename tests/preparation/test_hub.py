"""Downloads from the hub, against a small server that answers as the hub does: huggingface_hub itself is real."""

import errno
import hashlib
import http.server
import json
import os
import threading
import types
import urllib.parse

import pytest

from text2sql.core.errors import RunError, UserError
from text2sql.preparation import hub
from text2sql.preparation.hub import fetch_mmlu, fetch_spider, load_manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ZIP = b"the archive " * 1000
MMLU_FILES = {
    f"{subject}/{split}-00000-of-00001.parquet": f"{subject} {split}".encode() * 100
    for subject in ("philosophy", "virology")
    for split in ("dev", "test", "validation")
}


class Hub:
    """What the server serves, and what it was asked for."""

    def __init__(self):
        self.files = {"someone/spider": {"spider.zip": ZIP}, "someone/mmlu": dict(MMLU_FILES)}
        self.sums = {}
        self.asked = []

    def answer(self, path):
        """Return (status, headers, body)."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
        self.asked.append(path)
        for repo, files in self.files.items():
            if path.startswith(f"/api/datasets/{repo}"):
                siblings = [
                    {"rfilename": name, "size": len(data), "blobId": "b", "lfs": self.lfs(name, data)}
                    for name, data in files.items()
                ]
                if "/tree/" in path:
                    entries = [
                        {"type": "file", "oid": "b", "path": name, "size": len(data)} for name, data in files.items()
                    ]
                    return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()
                info = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
                return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
            if path.startswith(f"/datasets/{repo}/resolve/"):
                name = path.removeprefix(f"/datasets/{repo}/resolve/").split("/", 1)[1]
                if name in files:
                    tag = hashlib.sha256(files[name]).hexdigest()
                    return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, files[name]
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def lfs(self, name, data):
        return {"sha256": self.sums.get(name, hashlib.sha256(data).hexdigest()), "size": len(data), "pointerSize": 130}


@pytest.fixture
def server(monkeypatch, tmp_path):
    served = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, body = served.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    point_at(monkeypatch, tmp_path, f"http://127.0.0.1:{listener.server_port}")
    yield served
    listener.shutdown()
    listener.server_close()


def point_at(monkeypatch, tmp_path, address):
    import huggingface_hub.constants
    from huggingface_hub import hf_api

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    huggingface_hub.close_session()


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "hub"
    sha256 = hashlib.sha256(ZIP).hexdigest()
    path.write_text(
        f"spider: {{repo: someone/spider, revision: null, file: spider.zip, sha256: {sha256}}}\n"
        "mmlu: {repo: someone/mmlu, revision: null}\n"
    )
    return load_manifest(path)


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_committed_manifest_pins_what_is_known_and_nothing_else(repository):
    manifest = load_manifest(repository / "hub")
    assert manifest.spider.repo == "HAL-9001/spider-databases"
    assert manifest.spider.sha256 == "00636695dabed6b5f4b8328a16b13e069a2f16591d5efcce57660669c85b121b"
    assert (manifest.mmlu.repo, manifest.mmlu.revision) == ("cais/mmlu", None)


def test_spider_is_downloaded_once_and_used_again(server, manifest, tmp_path):
    said = []
    assert fetch_spider(manifest, tmp_path / "raw", said.append) == tmp_path / "raw/spider/spider.zip"
    assert files_below(tmp_path / "raw") == {"spider/spider.zip": ZIP}
    server.asked.clear()
    assert fetch_spider(manifest, tmp_path / "raw", said.append).read_bytes() == ZIP
    assert not server.asked
    assert "downloading spider.zip" in said[0] and "is there, with the right sum" in said[1]
    (tmp_path / "raw/spider/spider.zip").write_bytes(ZIP[:-1])
    assert fetch_spider(manifest, tmp_path / "raw", said.append).read_bytes() == ZIP
    assert server.asked


def test_another_file_than_the_pinned_one_is_not_used(server, manifest, tmp_path):
    server.files["someone/spider"]["spider.zip"] = b"something else"
    with pytest.raises(RunError, match="spider.zip of the hub's data set someone/spider: found sha256 .*, wanted "):
        fetch_spider(manifest, tmp_path / "raw")
    assert files_below(tmp_path / "raw") == {}


def test_mmlu_comes_with_its_commit_and_only_what_is_asked_for(server, manifest, tmp_path):
    said = []
    folder = fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw", said.append)
    files = files_below(folder)
    record = json.loads(files.pop("revision.json"))
    names = {f"philosophy/{split}-00000-of-00001.parquet" for split in ("dev", "test")}
    assert files == {name: MMLU_FILES[name] for name in names}
    assert (record["commit"], record["revision"], set(record["sha256"])) == (COMMIT, None, names)
    assert f"to pin it: `revision: {COMMIT}`" in said[-1]
    assert set(path.name for path in (tmp_path / "raw").iterdir()) == {"mmlu"}

    server.asked.clear()
    fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw", said.append)
    pinned = manifest.model_copy(update={"mmlu": manifest.mmlu.model_copy(update={"revision": COMMIT})})
    fetch_mmlu(pinned, ["philosophy"], tmp_path / "raw", said.append)
    assert not server.asked and f"is there, from commit {COMMIT}" in said[-1]

    fetch_mmlu(manifest, ["philosophy", "virology"], tmp_path / "raw", said.append)
    assert server.asked and len(files_below(folder)) == 5
    (folder / "virology/dev-00000-of-00001.parquet").write_bytes(b"damaged")
    server.asked.clear()
    fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw", said.append)
    assert server.asked


def test_mmlu_that_is_not_what_the_hub_says_leaves_nothing(server, manifest, tmp_path):
    name = "philosophy/test-00000-of-00001.parquet"
    server.sums[name] = "0" * 64
    with pytest.raises(RunError, match=f"{name} of the hub's data set someone/mmlu: found sha256 .*, wanted 000"):
        fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw")
    with pytest.raises(RunError, match="holds no astronomy/dev-"):
        fetch_mmlu(manifest, ["astronomy"], tmp_path / "raw")
    assert not (tmp_path / "raw/mmlu").exists()


def test_no_connection_says_what_to_do_instead(manifest, tmp_path, monkeypatch):
    point_at(monkeypatch, tmp_path, "http://127.0.0.1:9")
    with pytest.raises(RunError) as error:
        fetch_spider(manifest, tmp_path / "raw")
    assert str(error.value).startswith("spider.zip of the hub's data set someone/spider: cannot download it (")
    assert str(error.value).endswith("without a connection, data.spider can name a folder or zip instead")
    with pytest.raises(RunError, match="data.mmlu can name a folder or zip instead") as error:
        fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "raw/spider").exists() and not (tmp_path / "raw/mmlu").exists()


def test_a_repository_that_is_not_there_is_named(server, manifest, tmp_path):
    server.files.clear()
    with pytest.raises(RunError, match="someone/spider: cannot download it"):
        fetch_spider(manifest, tmp_path / "raw")
    with pytest.raises(RunError, match="someone/mmlu: cannot download it"):
        fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw")


def test_a_full_disk_is_named(server, manifest, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(RunError, match="not enough disk space below"):
        fetch_spider(manifest, tmp_path / "raw")
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1))
    with pytest.raises(RunError, match="2900 bytes to download, 1 free on the disk"):
        fetch_mmlu(manifest, ["philosophy"], tmp_path / "raw")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spider: 3\nmmlu: {repo: a/b, revision: null}", "spider: "),
        ("mmlu: {repo: a/b, revision: null}", "spider: Field required"),
        ("spider: {repo: a/b, revision: null, file: ../x.zip, sha256: " + "0" * 64 + "}", "spider.file: "),
        ("spider: {repo: a/b, revision: null, file: x.zip, sha256: abc}", "spider.sha256: "),
        ("spider: {repo: a, revision: null, file: x.zip, sha256: " + "0" * 64 + "}", "spider.repo: "),
        ("mmlu: {repo: a/b, revision: null, branch: main}", "mmlu.branch: "),
    ],
)
def test_a_manifest_that_is_not_right_is_named_with_its_key(tmp_path, text, message):
    (tmp_path / "hub").write_text(text)
    with pytest.raises(UserError) as error:
        load_manifest(tmp_path / "hub")
    assert str(error.value).startswith(f"{tmp_path}/hub: ") and message in str(error.value)
    assert "\n" not in str(error.value)
