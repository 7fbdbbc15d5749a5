"""Archives of others: what lands in the folder, and what is refused without a trace."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import unpacking
from harness.data.unpacking import unpack
from harness.errors import UsageError

FILES = {"set/a.txt": b"one", "set/deep/b.bin": bytes(5000)}


def tar(path: Path, *members: tuple[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def special(name: str, kind: bytes, to: str = "") -> tuple[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return name, info


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def of_kind(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_files_land_in_a_new_folder_or_beside_others(tmp_path, suffix):
    path = tmp_path / f"set.{suffix}"
    if suffix == "zip":
        zipped(path, *FILES.items(), (of_kind("set/empty/", stat.S_IFDIR), b""))
    else:
        tar(path, *FILES.items(), special("set/empty", tarfile.DIRTYPE), mode=f"w:{suffix[4:]}")
    unpack(path, tmp_path / "new" / "place")
    assert tree(tmp_path / "new" / "place") == FILES
    assert (tmp_path / "new" / "place" / "set" / "empty").is_dir()
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "old.txt").write_bytes(b"kept")
    (there / "a.txt").write_bytes(b"replaced")
    unpack(path, there, inside="set")
    assert tree(there) == {"a.txt": b"one", "deep/b.bin": bytes(5000), "deep/old.txt": b"kept"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", path.name, "there"]


BAD_TARS = {
    "an absolute name": [("/tmp/evil.txt", b"x")],
    "leads out": [("../evil.txt", b"x")],
    "out of the folder": [("set/../../evil.txt", b"x")],
    "is a link": [special("set/link", tarfile.SYMTYPE, "/etc/passwd")],
    "'set/hard' is a link": [("set/a.txt", b"x"), special("set/hard", tarfile.LNKTYPE, "set/a.txt")],
    "a device": [special("set/null", tarfile.CHRTYPE)],
    "or a pipe": [special("set/pipe", tarfile.FIFOTYPE)],
    "of another system": [("C:\\evil.txt", b"x")],
    "two entries": [("set/a.txt", b"x"), ("set/a.txt", b"y")],
    "entries called 'set/a.txt/b'": [("set/a.txt", b"x"), ("set/a.txt/b", b"y")],
    "more than 1,048,576 bytes": [("set/bomb", bytes(3 * 2**20))],
    "not in set/": [("set/a.txt", b"x"), ("other/b.txt", b"x")],
}


@pytest.mark.parametrize("said", BAD_TARS)
def test_a_tar_that_does_not_stay_in_its_folder_is_refused_as_a_whole(tmp_path, said):
    (tmp_path / "box").mkdir()
    refused(tar(tmp_path / "box" / "bad.tar.gz", ("set/good.txt", b"g"), *BAD_TARS[said]), tmp_path, said)


BAD_ZIPS: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
    "an absolute name": [("/tmp/evil.txt", b"x")],
    "leads out": [("../evil.txt", b"x")],
    "out of the folder": [("set/../../evil.txt", b"x")],
    "is a link": [(of_kind("set/link", stat.S_IFLNK), b"/etc/passwd")],
    "a device": [(of_kind("set/null", stat.S_IFCHR), b"")],
    "of another system": [("set\\..\\evil.txt", b"x")],
    "more than 1,048,576 bytes": [("set/bomb", bytes(3 * 2**20))],
    "not in set/": [("other/b.txt", b"x")],
}


@pytest.mark.parametrize("said", BAD_ZIPS)
def test_a_zip_that_does_not_stay_in_its_folder_is_refused_as_a_whole(tmp_path, said):
    (tmp_path / "box").mkdir()
    refused(zipped(tmp_path / "box" / "bad.zip", ("set/good.txt", b"g"), *BAD_ZIPS[said]), tmp_path, said)


def refused(path: Path, outside: Path, said: str) -> None:
    with pytest.raises(UsageError, match=r"bad\.(tar\.gz|zip): ") as error:
        unpack(path, path.parent / "target", inside="set")
    assert said in str(error.value)
    assert sorted(str(p.relative_to(outside)) for p in outside.rglob("*")) == ["box", f"box/{path.name}"]
    assert not Path("/tmp/evil.txt").exists()


def test_a_zip_with_a_password_is_refused(tmp_path):
    path = zipped(tmp_path / "bad.zip", ("a.txt", b"x"))
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag, in the local header and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="password"):
        unpack(path, tmp_path / "target")


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path):
    path = zipped(tmp_path / "bad.zip", ("a.txt", bytes(3 * 2**20)))
    content = path.read_bytes().replace((3 * 2**20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "a page": lambda b: b"<html>not found</html>",
    "a changed byte": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 255]) + b[len(b) // 2 + 1 :],
}


@pytest.mark.parametrize(
    ("suffix", "damage"),  # tar has no sum of its own: a changed byte is what the published sum is for
    [(s, d) for s in ("tar.gz", "zip") for d in DAMAGE if (s, d) != ("tar.gz", "a changed byte")],
)
def test_a_damaged_archive_is_one_error_and_leaves_nothing(tmp_path, suffix, damage):
    noise = bytes(range(256)) * 40
    path = tmp_path / f"bad.{suffix}"
    tar(path, ("a.bin", noise)) if suffix != "zip" else zipped(path, ("a.bin", noise))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack(path, tmp_path / "target")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_unpacking_that_was_killed_begins_again(tmp_path, monkeypatch):
    path = tar(tmp_path / "set.tar.gz", *FILES.items())
    (tmp_path / "there").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(unpacking.shutil, "rmtree", lambda *_, **__: None)  # what a kill does not come to
        patch.setattr(unpacking, "_move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            unpack(path, tmp_path / "there")
    assert tree(tmp_path / "there") == {}
    unpack(path, tmp_path / "there")
    assert tree(tmp_path / "there") == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.tar.gz", "there"]
