"""Folders and zips that are not trusted: what is read, and what is refused."""

import random
import stat
import zipfile

import pytest

from text2sql.core.errors import UserError
from text2sql.data import archives
from text2sql.data.archives import is_safe_name, open_archive


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


@pytest.fixture(params=["folder", "zip"])
def archive_path(request, tmp_path):
    files = {"top/a.txt": "été\r\n", "top/sub/b.txt": "b", "top/sub/c.txt": "c"}
    if request.param == "zip":
        return make_zip(tmp_path / "data.zip", [*files.items(), ("__MACOSX/top/a.txt", "noise")])
    for name, text in files.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    (tmp_path / "data" / ".DS_Store").write_text("noise")
    return tmp_path / "data"


def test_a_folder_and_a_zip_read_alike_below_one_top_folder(archive_path, tmp_path):
    with open_archive(archive_path) as archive:
        archive.enter_top_folder(lambda here: here.has("a.txt"), "a.txt")
        assert archive.names() == ["a.txt", "sub"]
        assert archive.names("sub") == ["b.txt", "c.txt"]
        assert archive.names("missing") == []
        assert archive.has("sub/b.txt") and not archive.has("sub") and not archive.has("sub/d.txt")
        assert archive.read("sub/b.txt") == b"b"
        assert archive.describe("a.txt") == f"{archive_path}/top/a.txt"
        with archive.open_text("a.txt") as file:
            assert file.read() == "été\r\n"
        archive.copy("sub/c.txt", tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == "c"


@pytest.mark.parametrize("name", ["../data/top/a.txt", "/etc/passwd", "sub/../a.txt", "", ".", "C:/a", "a\\b", "a\0b"])
def test_no_name_leads_out_of_the_archive(archive_path, name):
    assert not is_safe_name(name)
    with open_archive(archive_path) as archive:
        assert not archive.has(name)
        with pytest.raises(UserError, match="no such file"):
            archive.read(name)


def test_data_in_no_folder_or_in_several_is_an_error(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("one/x", ""), ("two/x", ""), ("three/y/z", "")])
    with open_archive(path) as archive:
        with pytest.raises(UserError, match=r"found x in several folders \(one/, two/\), wanted one"):
            archive.enter_top_folder(lambda here: here.has("x"), "x")
        with pytest.raises(UserError, match="found no z, neither at the top nor in one top folder"):
            archive.enter_top_folder(lambda here: here.has("z"), "z")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:/evil", "a//b", "./a", "a\x01b", "..\\evil"])
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path, name):
    path = make_zip(tmp_path / "evil.zip", [("good", "x"), (name, "x")])
    with pytest.raises(UserError, match="its name leads out of the archive"), open_archive(path):
        pass


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = make_zip(tmp_path / "link.zip", [(link, "/etc/passwd")])
    with pytest.raises(UserError, match="is a link or a special file"), open_archive(path):
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_two_files_of_one_name_is_refused(tmp_path):
    path = make_zip(tmp_path / "twice.zip", [("a", "1"), ("a", "2")])
    with pytest.raises(UserError, match="'a': appears twice"), open_archive(path):
        pass


def test_size_bombs_are_refused(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "bomb.zip", [("zeros", bytes(archives.RATIO_APPLIES_FROM_BYTES + 1))])
    with pytest.raises(UserError, match="decompression bomb"), open_archive(path):
        pass
    small = make_zip(tmp_path / "small.zip", [("a", "x" * 90), ("b", "x" * 90)])
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 100)
    with pytest.raises(UserError, match="'b': unpacks to 90 bytes, 180 with those before it"), open_archive(small):
        pass
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(UserError, match="declares 2 files, takes at most 1"), open_archive(small):
        pass


def test_a_member_that_holds_more_than_it_declares_is_damaged(tmp_path):
    path = make_zip(tmp_path / "liar.zip", [("a", b"x" * 1000)], zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with open_archive(path) as archive, pytest.raises(UserError, match="liar.zip/a: damaged"):
        archive.read("a")


def test_damage_anywhere_in_a_zip_is_an_error_that_names_it(tmp_path):
    text = random.Random(0).randbytes(3000).hex()
    good = make_zip(tmp_path / "good.zip", [("a.txt", text)]).read_bytes()
    path = tmp_path / "bad.zip"
    damaged = 0
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        try:
            with open_archive(path) as archive:
                names = archive.names()
                assert names != ["a.txt"] or archive.read("a.txt").decode() == text
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            damaged += 1
    assert damaged > 100
    for length in range(0, len(good), 211):
        path.write_bytes(good[:length])
        with pytest.raises(UserError, match="readable zip file"), open_archive(path):
            pass


def test_nothing_is_left_of_a_copy_that_failed(tmp_path):
    path = make_zip(tmp_path / "a.zip", [("a", random.Random(0).randbytes(5000))])
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with open_archive(path) as archive, pytest.raises(UserError, match="damaged"):
        archive.copy("a", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_is_neither_folder_nor_zip_is_named(tmp_path):
    for path, message in [
        (tmp_path / "missing", "no such folder or zip file"),
        (tmp_path / ("x" * 300), "no such folder or zip file"),
        ("nul\0", "no such folder or zip file"),
    ]:
        with pytest.raises(UserError, match=message), open_archive(path):
            pass
    text = tmp_path / "a.zip"
    text.write_text("not a zip")
    with pytest.raises(UserError, match="a.zip: neither a folder nor a readable zip file"), open_archive(text):
        pass


def test_text_that_is_not_utf8_is_named(archive_path, tmp_path):
    path = make_zip(tmp_path / "latin.zip", [("a.txt", b"caf\xe9 au lait")])
    with (
        open_archive(path) as archive,
        pytest.raises(UserError, match="latin.zip/a.txt: not UTF-8"),
        archive.open_text("a.txt") as file,
    ):
        file.read()


def test_folders_that_a_zip_does_not_list_are_found(tmp_path):
    with open_archive(make_zip(tmp_path / "a.zip", [("a/b/c/d", "x")])) as archive:
        assert archive.names("a/b") == ["c"]
