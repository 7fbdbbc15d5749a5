"""Fetching: resumed, checked before it is used, nothing twice, and an error that says what to do by hand."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import types
from pathlib import Path

import pytest
from file_server import Shop, serving

from harness.data import downloads
from harness.data.downloads import Download, Fetcher
from harness.errors import UsageError

BODY = bytes(range(256)) * 4000  # about 1 MB
BY_HAND = "1. open the page\n2. put it there"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(downloads, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(downloads, "BLOCK", 2**14)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shop():
    with serving({"data.bin": BODY}) as made:
        yield made


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def one(shop: Shop, content: bytes = BODY, name: str = "data.bin", **more) -> Download:
    return Download(f"{shop.address}/{name}", name, md5(content), **more)


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_a_file_is_fetched_once(shop, tmp_path):
    seen = []
    fetcher = Fetcher(tmp_path / "new", BY_HAND, lambda *a: seen.append(a))
    assert fetcher.fetch([one(shop, size=len(BODY))]) == ["data.bin"]
    assert (tmp_path / "new" / "data.bin").read_bytes() == BODY
    assert seen[-1] == ("data.bin", len(BODY), len(BODY))
    assert fetcher.fetch([one(shop, size=len(BODY))]) == []
    assert len(shop.asked) == 1
    assert names(tmp_path / "new") == ["data.bin"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_other_sums(shop, tmp_path, algorithm):
    right = hashlib.new(algorithm, BODY).hexdigest().upper()
    download = Download(f"{shop.address}/data.bin", "data.bin", right, algorithm)
    assert Fetcher(tmp_path, BY_HAND).fetch([download]) == ["data.bin"]


def test_an_archive_is_unpacked_removed_and_not_fetched_again(shop, tmp_path):
    content = archive({"set/a.txt": b"one", "set/deep/b.txt": b"two"})
    shop.files["set.tar.gz"] = content
    download = one(shop, content, "set.tar.gz", unpack=".", inside="set")
    fetcher = Fetcher(tmp_path, BY_HAND)
    assert fetcher.fetch([download]) == ["set.tar.gz"]
    assert names(tmp_path) == [".downloads.json", "a.txt", "deep/b.txt"]
    assert fetcher.fetch([download]) == []
    assert len(shop.asked) == 1


def test_an_archive_that_lies_there_is_not_fetched(shop, tmp_path):
    content = archive({"a.txt": b"one"})
    (tmp_path / "set.tar.gz").write_bytes(content)
    Fetcher(tmp_path, BY_HAND).fetch([one(shop, content, "set.tar.gz", unpack="x")])
    assert shop.asked == []
    assert (tmp_path / "x" / "a.txt").read_bytes() == b"one"


def test_a_file_of_the_user_is_kept_aside(shop, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"mine")
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert (tmp_path / "data.bin.other").read_bytes() == b"mine"


def test_a_broken_connection_goes_on_where_it_broke(shop, tmp_path):
    shop.break_after = [300_000, 200_000, 5, 0, 0, 100_000]
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert (tmp_path / "data.bin").read_bytes() == BODY
    starts = [r for _, r in shop.asked]
    assert starts == ["", "bytes=300000-", "bytes=500000-", *["bytes=500005-"] * 3, "bytes=600005-"]
    assert shop.sent == len(BODY)
    assert names(tmp_path) == ["data.bin"]


def test_what_came_is_kept_for_the_next_command(shop, tmp_path):
    shop.break_after = [400_000, 0, 0, 0, 0]
    with pytest.raises(
        UsageError, match=r"(?s)data\.bin: cannot be fetched \(the connection broke\).*1\. open the page"
    ):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert (tmp_path / "data.bin.part").stat().st_size == 400_000
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert shop.sent == len(BODY)


def test_without_ranges_it_begins_again(shop, tmp_path):
    shop.ranges, shop.break_after = False, [300_000]
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert shop.sent == len(BODY) + 300_000


def test_a_file_that_changes_in_between_begins_again(shop, tmp_path):
    new = BODY[::-1]
    shop.break_after = [300_000, 0, 0, 0, 0]
    with pytest.raises(UsageError):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    shop.files["data.bin"] = new
    Fetcher(tmp_path, BY_HAND).fetch([one(shop, new)])
    assert (tmp_path / "data.bin").read_bytes() == new


def test_parts_of_two_files_are_noticed_by_the_sum_and_fetched_whole(shop, tmp_path):
    new = BODY[::-1]
    shop.validators, shop.break_after = False, [300_000, 0, 0, 0, 0]
    with pytest.raises(UsageError):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    shop.files["data.bin"] = new
    Fetcher(tmp_path, BY_HAND).fetch([one(shop, new)])
    assert (tmp_path / "data.bin").read_bytes() == new


@pytest.mark.parametrize("extra", [0, 10])
def test_a_part_that_is_whole_or_too_long(shop, tmp_path, extra):
    (tmp_path / "data.bin.part").write_bytes(BODY + bytes(extra))
    (tmp_path / ".data.bin.part.json").write_text(f'{{"address": "{shop.address}/data.bin", "total": 1}}')
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert names(tmp_path) == ["data.bin"]


def test_a_damaged_state_begins_again(shop, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / ".data.bin.part.json").write_text("junk")
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert shop.asked == [("data.bin", "")]


@pytest.mark.parametrize("state", [429, 500, 503])
def test_a_state_that_passes_is_tried_again(shop, tmp_path, state):
    shop.states = [state, state]
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert len(shop.asked) == 3


@pytest.mark.parametrize("state", [401, 403, 404, 410])
def test_a_state_that_stays_is_one_error(shop, tmp_path, state):
    shop.states = [state]
    with pytest.raises(UsageError, match=rf"(?s)the server says {state} .*by hand:.*1\. open the page"):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert len(shop.asked) == 1
    assert names(tmp_path) == []


WRONG = {
    "a page": (lambda s: setattr(s, "content_type", "text/html; charset=utf-8"), {}, r"a page \(HTML\) came"),
    "another size": (lambda s: None, {"size": 77}, r"offers 1,024,000 bytes, expected 77"),
    "another sum": (lambda s: s.files.update({"data.bin": BODY[::-1]}), {}, r"expected .* as published"),
    "a length too short": (lambda s: setattr(s, "length", 1000), {}, r"1,000 bytes came with the md5"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_the_file_is_said_and_removed(shop, tmp_path, wrong):
    change, more, said = WRONG[wrong]
    change(shop)
    with pytest.raises(UsageError, match=said) as error:
        Fetcher(tmp_path, BY_HAND).fetch([one(shop, **more)])
    assert BY_HAND in str(error.value)
    assert names(tmp_path) == []


def test_a_length_too_long_is_a_broken_connection_until_nothing_more_is_there(shop, tmp_path):
    shop.length = len(BODY) + 10
    Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    assert [r for _, r in shop.asked] == ["", f"bytes={len(BODY)}-"]
    assert (tmp_path / "data.bin").read_bytes() == BODY


def test_nobody_answers(tmp_path):
    with serving({}) as shop:
        download = one(shop)
    with pytest.raises(UsageError, match=r"(?s)cannot be fetched \(.*refused.*by hand:\n1\. open the page"):
        Fetcher(tmp_path, BY_HAND).fetch([download])


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_other_kinds_of_address_are_not_followed(shop, tmp_path, address):
    shop.redirect = address
    with pytest.raises(UsageError, match="cannot be fetched"):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop)])
    with pytest.raises(UsageError, match="cannot be fetched"):
        Fetcher(tmp_path, BY_HAND).fetch([Download(address, "x", md5(b""))])
    assert names(tmp_path) == []


def test_a_refused_archive_stays_out_and_is_not_taken_for_unpacked(shop, tmp_path):
    content = archive({"../evil.txt": b"x"})
    shop.files["set.tar.gz"] = content
    for _ in range(2):
        with pytest.raises(UsageError, match="leads out"):
            Fetcher(tmp_path / "in", BY_HAND).fetch([one(shop, content, "set.tar.gz", unpack=".")])
    assert not (tmp_path / "evil.txt").exists()
    assert len(shop.asked) == 1


def test_too_little_disk_is_said_before_anything_is_asked_for(shop, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=len(BODY) - 1)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UsageError, match="GB are free"):
        Fetcher(tmp_path, BY_HAND).fetch([one(shop, size=len(BODY))])
    assert shop.asked == []


def test_a_fetch_killed_at_any_moment_goes_on(shop, tmp_path):
    """SIGKILL four times; the last call finishes, with nothing left over."""
    content = archive({f"set/{i}.bin": os.urandom(20_000) for i in range(50)})
    shop.files["set.tar.gz"] = content
    code = (
        "import sys, time; from pathlib import Path; from harness.data import downloads as d\n"
        "d.BLOCK = 2**14\n"
        f"f = d.Fetcher(Path({str(tmp_path / 'set')!r}), '', lambda *_: time.sleep(0.01))\n"
        f"f.fetch([d.Download({shop.address + '/set.tar.gz'!r}, 'set.tar.gz', {md5(content)!r}, unpack='.')])\n"
    )
    environment = os.environ | {"no_proxy": "127.0.0.1"}
    for number in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
        began, asked = time.monotonic(), len(shop.asked)
        while len(shop.asked) == asked and time.monotonic() - began < 60 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.05 + 0.1 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0
    assert len(names(tmp_path / "set")) == 51
    starts = [int(r.removeprefix("bytes=").removesuffix("-") or 0) for _, r in shop.asked]
    assert starts == sorted(set(starts))  # further each time: no byte that came is fetched again
