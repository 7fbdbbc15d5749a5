"""`data prepare` under a full disk, a read-only one, files that vanish, and other processes: one error, nothing lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from filelock import FileLock
from PIL import Image
from support import REPOSITORY

from harness.console import rated
from harness.data import cache, unfinished, workers

N, SIZE, CHUNK = 40, 64, 8  # images of 4 KB: 160 KB in all
PLUGIN = '''
import os
from dataclasses import dataclass
import numpy as np
import pandas as pd
from harness.api import Dataset, Index, MultiLabel, dataset, read_image, setting

@dataset("pictures", source="test")
@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    """Pictures of a folder; every one that is read is noted, and something may happen then."""
    size: int = setting(64)
    task = MultiLabel()
    default_model = "resnet44"
    folders = ("pictures",)
    how_to_get = "draw them"

    def index(self, root):
        ids = sorted(p.name for p in (root / "images").iterdir())
        n = len(ids)
        split = np.array(["train", "validation", "test"])[np.arange(n) % 3]
        samples = pd.DataFrame({"id": ids, "patient": ids, "split": split, "path": [f"images/{i}" for i in ids]})
        return Index(samples, np.stack([np.arange(n) % 2, np.arange(n) % 5 == 0], 1).astype(np.uint8), ("odd", "fifth"))

    def read(self, row, root):
        if os.environ.get("AT") in (row["id"], "every.png"):
            exec(os.environ["DO"])
        image = read_image(root / row["path"], self.channels)
        with open(os.environ["READS"], "a") as file:
            file.write(row["id"] + "\\\\n")
        return image
'''.replace("\\\\n", "\\n")


@dataclass(frozen=True)
class Place:
    """A dataset of N pictures, and the command that prepares it."""

    folder: Path
    call: Callable[..., tuple[int, str, str]]
    patch: pytest.MonkeyPatch

    @property
    def root(self) -> Path:
        return self.folder / "pictures"

    @property
    def words(self) -> list[str]:
        return ["data", "prepare", "pictures", "--plugin", str(self.folder / "plugin.py"), "--root", str(self.root)]

    def prepare(self, *more: object) -> tuple[int, str]:
        """Give the command; return exit status and stderr."""
        code, out, err = self.call(*self.words, *more)
        assert "Traceback" not in err
        assert code or "fingerprint" in out
        return code, err

    def at(self, image: int, do: str) -> None:
        """Let something happen when an image is read."""
        self.patch.setenv("AT", f"{image:02d}.png")
        self.patch.setenv("DO", do)

    def undisturbed(self) -> None:
        self.patch.delenv("AT")

    @property
    def reads(self) -> list[str]:
        return (self.folder / "reads").read_text().split()

    def recorded(self) -> list[int]:
        """Return the numbers of the images that the unfinished cache has."""
        found = [np.fromfile(p, np.uint8) for p in (self.folder / "cache" / "datasets").glob("*.partial/done")]
        return np.flatnonzero(found[0]).tolist() if found else []

    def started(self, **environment: str) -> subprocess.Popen[str]:
        """Start the command in a process of its own."""
        code = (
            "import sys; from harness.data import cache, workers; cache.CHUNK_BYTES, cache.CHUNK_IMAGES = 64, 8\n"
            "workers.START = 0.0\n"
            "from harness.cli import main; main(sys.argv[1:])"
        )
        everything = os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment
        return subprocess.Popen([sys.executable, "-c", code, *self.words], env=everything, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip

    def check(self, home: Path | None = None, missing: tuple[int, ...] = ()) -> None:
        """The cache is whole, holds the right pictures, and nothing is left beside it."""
        (found,) = [p for p in ((home or self.folder / "cache") / "datasets").iterdir() if p.suffix != ".lock"]
        assert sorted(p.name for p in found.iterdir()) == sorted(cache.FILES)
        prepared = cache.open_cache(found)
        kept = [i for i in range(N) if i not in missing]
        assert prepared.index.samples["id"].tolist() == [f"{i:02d}.png" for i in kept]
        for position, i in enumerate(kept):
            assert (prepared.images[position, 0] == np.asarray(Image.open(self.root / "images" / f"{i:02d}.png"))).all()


@pytest.fixture
def place(tmp_path, monkeypatch, harness) -> Place:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("READS", str(tmp_path / "reads"))
    monkeypatch.setattr(cache, "CHUNK_BYTES", 64)
    monkeypatch.setattr(cache, "CHUNK_IMAGES", CHUNK)
    monkeypatch.setattr(workers, "START", 1e9)  # this process alone, unless a test says otherwise
    (tmp_path / "reads").touch()
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "pictures" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(N):
        image = rng.integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(image).save(tmp_path / "pictures" / "images" / f"{i:02d}.png")
    return Place(tmp_path, harness, monkeypatch)


def test_a_second_command_opens_no_image(place):
    assert place.prepare()[0] == 0
    assert sorted(place.reads) == [f"{i:02d}.png" for i in range(N)]
    assert place.prepare()[0] == 0
    assert len(place.reads) == N
    place.check()


def test_after_ctrl_c_no_finished_chunk_is_read_again(place):
    place.at(20, "raise KeyboardInterrupt")
    assert place.prepare()[0] == 130
    place.undisturbed()
    assert place.prepare()[0] == 0
    again = [i for i in place.reads if place.reads.count(i) > 1]
    assert sorted(set(again)) == ["16.png", "17.png", "18.png", "19.png"]  # of the chunk that was not finished
    place.check()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_one_error_and_what_was_read_is_kept(place, tmp_path, processes):
    """A real one: the room is taken by something else while images are decoded."""
    place.patch.setattr(workers, "START", 0.0)
    with small_disk(tmp_path / "disk", 1000) as disk:
        place.patch.setenv("HARNESS_CACHE", str(disk.place / "cache"))
        ballast = disk.place / "ballast"
        free = f"shutil.disk_usage({str(disk.place)!r}).free"
        place.at(20, f"import pathlib, shutil; pathlib.Path({str(ballast)!r}).write_bytes(bytes({free}))")
        code, err = place.prepare("--workers", processes)
        assert code == 2
        assert re.search(r"Error: .*disk/cache/datasets/pictures-64px-\w+: the disk is full. Free some space", err)
        assert disk.free == 0
        before = set(place.reads[:8])
        code, err = place.prepare("--workers", processes)  # still full: said before anything is read
        assert code == 2
        assert re.search(r"needs 0\.00 GB more, 0\.00 GB are free", err)
        place.undisturbed()
        disk.empty()
        assert place.prepare("--workers", processes)[0] == 0
        assert all(place.reads.count(i) == 1 for i in before)
        place.check(disk.place / "cache")


def test_too_little_disk_is_said_before_an_image_is_read(place, tmp_path):
    with small_disk(tmp_path / "disk", 100) as disk:
        place.patch.setenv("HARNESS_CACHE", str(disk.place))
        code, err = place.prepare()
    assert code == 2
    assert "are free. Free some space, choose a smaller size, or set HARNESS_CACHE to another disk." in err
    assert place.reads == []


def test_room_for_the_copy_without_corrupt_images_is_asked_for_first(place, tmp_path):
    with small_disk(tmp_path / "disk", 260) as disk:
        place.patch.setenv("HARNESS_CACHE", str(disk.place))
        code, err = place.prepare("--set", "skip_corrupt=true")
        assert code == 2
        assert "it is copied once, which takes half of that" in err
        assert place.reads == []
        assert place.prepare()[0] == 0  # without it there is room
        place.check(disk.place)


def test_a_read_only_folder_is_one_error_and_a_cache_in_one_is_used(place, tmp_path):
    with small_disk(tmp_path / "disk", 1000) as disk:
        place.patch.setenv("HARNESS_CACHE", str(disk.place))
        disk.read_only()
        code, err = place.prepare()
        assert code == 2
        assert "cannot be written (Read-only file system). Set HARNESS_CACHE to a writable folder." in err
        disk.read_only(False)
        assert place.prepare()[0] == 0
        disk.read_only()
        assert place.prepare()[0] == 0
        assert len(place.reads) == N


def test_a_folder_without_permission_is_one_error(place, tmp_path):
    """In a process without the rights of root, where the tests run as root."""
    (tmp_path / "cache").mkdir(mode=0o500)
    if os.geteuid():
        code, err = place.prepare()
    else:
        made = [
            "import os, sys; from pathlib import Path; from harness.errors import UsageError; from harness.store import writing",
            "from harness.data.cache import ELSEWHERE; os.setresuid(65534, 65534, 65534)",
            "try:\n with writing(Path(sys.argv[1]), ELSEWHERE): Path(sys.argv[1], 'datasets').mkdir()",
            "except UsageError as error: sys.exit(str(error))",
        ]
        os.chmod(tmp_path, 0o755)
        done = subprocess.run([sys.executable, "-c", "\n".join(made), tmp_path / "cache"], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(REPOSITORY)})  # fmt: skip
        code, err = 2 * bool(done.returncode), done.stderr
    assert code == 2
    assert "cannot be written (Permission denied). Set HARNESS_CACHE to a writable folder." in err


@pytest.mark.parametrize("skip", ["false", "true"])
def test_a_root_that_vanishes_is_one_error_and_its_images_are_not_corrupt(place, skip):
    gone = place.folder / "gone"
    place.at(20, f"import os; os.rename({str(place.root)!r}, {str(gone)!r})")
    code, err = place.prepare("--set", f"skip_corrupt={skip}")
    assert code == 2
    assert "the folder of the dataset was there and is gone. Bring it back" in err
    gone.rename(place.root)
    place.undisturbed()
    assert place.prepare("--set", f"skip_corrupt={skip}")[0] == 0
    assert all(place.reads.count(f"{i:02d}.png") == 1 for i in range(16))
    place.check()


def test_an_emptied_mount_point_is_no_folder_of_corrupt_images(place):
    """What a disk that is detached leaves: the folder is there, nothing is in it."""
    gone = place.folder / "gone"
    images = place.root / "images"
    place.at(20, f"import os; os.rename({str(images)!r}, {str(gone)!r})")
    code, err = place.prepare("--set", "skip_corrupt=true")
    assert code == 2
    assert "were changed, added or removed while they were read" in err
    times = gone.stat()
    gone.rename(images)
    os.utime(images, ns=(times.st_atime_ns, times.st_mtime_ns))
    place.undisturbed()
    assert place.prepare("--set", "skip_corrupt=true")[0] == 0
    place.check()


def test_files_that_change_in_between_are_noticed(place):
    place.at(20, f"open({str(place.root / 'images' / '99.png')!r}, 'w').close()")
    code, err = place.prepare()
    assert code == 2
    assert "were changed, added or removed while they were read" in err


def test_two_commands_at_once_read_every_image_once(place):
    both = [place.started(), place.started()]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert sorted(place.reads) == [f"{i:02d}.png" for i in range(N)]
    place.check()


def test_a_command_that_waits_goes_on_for_one_that_is_killed(place):
    first = place.started(AT="20.png", DO="import time; time.sleep(600)")
    until = time.monotonic() + 60
    while len(place.recorded()) < 16 and time.monotonic() < until:  # two chunks are on the disk, another is stuck
        time.sleep(0.05)
    second = place.started()
    time.sleep(2)
    assert second.poll() is None
    stored = place.recorded()
    assert len(stored) >= 16
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert [i for i in stored if place.reads.count(f"{i:02d}.png") != 1] == []
    place.check()


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_the_other_processes_end_with_a_first_one_that_is_killed(place):
    first = place.started(AT="every.png", DO="import time; time.sleep(0.3)")
    until = time.monotonic() + 60
    while len(session(first.pid)) < 3 and time.monotonic() < until:  # itself, another that reads, multiprocessing's own
        time.sleep(0.05)
    time.sleep(3)  # the other one reads
    assert len(session(first.pid)) == 3
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    until = time.monotonic() + 10
    while (left := session(first.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert left == []


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    done = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(leader)], capture_output=True, text=True)
    return [int(line.split()[0]) for line in done.stdout.splitlines() if not line.split()[1].startswith("Z")]


def test_who_waits_is_shown_how_far_the_other_is(place, monkeypatch):
    monkeypatch.setattr(cache, "WAIT", 0.05)
    folder = place.folder / "made"
    made = unfinished.begin(cache._work(folder), (N, 1, 8, 8))
    made.record([3, 4], np.zeros((2, unfinished.DIGEST), np.uint8), [])
    seen = []
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), thread_local=False)
    lock.acquire()
    threading.Timer(0.3, lock.release).start()
    with cache._alone(folder, lambda *a: seen.append(a)):
        pass
    assert set(seen) == {(2, N)}


def test_a_worker_that_is_killed_is_one_error(place):
    place.patch.setattr(workers, "START", 0.0)
    place.at(20, "import os, signal, multiprocessing as m; m.parent_process() and os.kill(os.getpid(), signal.SIGKILL)")
    codes = [place.prepare("--workers", 2)[0] for _ in range(3)]  # whoever gets it: this process is not killed
    place.undisturbed()
    assert set(codes) <= {0, 2}
    assert place.prepare("--workers", 2)[0] == 0
    place.check()


@pytest.mark.parametrize("corrupt", [False, True])
@pytest.mark.parametrize("call", range(12))
def test_a_kill_while_the_cache_gets_its_name_leaves_only_that_to_do(place, monkeypatch, call, corrupt):
    """A kill at each step after the last image: the next command opens no good image again."""
    good = (place.root / "images" / "13.png").read_bytes()
    if corrupt:
        (place.root / "images" / "13.png").write_bytes(b"junk")
    steps = iter(range(100))

    def disturbed(real):
        def call_or_die(*arguments, **more):
            if next(steps) == call:
                raise KeyboardInterrupt
            return real(*arguments, **more)

        return call_or_die

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "replace", disturbed(os.replace))
        patch.setattr(cache, "leave_out", disturbed(cache.leave_out))
        patch.setattr(cache, "_copy_kept", disturbed(cache._copy_kept))
        patch.setattr(cache, "write_json", disturbed(cache.write_json))
        patch.setattr(cache.unfinished, "synchronise", disturbed(unfinished.synchronise))
        code, _ = place.prepare("--set", f"skip_corrupt={corrupt}")
    assert code == (130 if next(steps) > call else 0)
    assert place.prepare("--set", f"skip_corrupt={corrupt}")[0] == 0
    assert len(place.reads) == N - corrupt
    (place.root / "images" / "13.png").write_bytes(good)
    place.check(missing=(13,) if corrupt else ())


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no marks": lambda work: (work / "done").unlink(),
    "marks cut": lambda work: os.truncate(work / "done", 7),
    "digests cut": lambda work: os.truncate(work / "digests", 7),
    "images cut": lambda work: os.truncate(work / "images.npy", 5000),
    "no header": lambda work: (work / "images.npy").write_bytes(b"junk"),
    "images of another size": lambda work: np.save(work / "images.npy", np.zeros((N, 1, 4, 4), np.uint8)),
    "a folder of an earlier version": lambda work: [
        (work / "done").rename(work / "done.npy"),
        (work / "boot").unlink(),
    ],
    "half a byte of boot": lambda work: (work / "boot").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_unfinished_cache_is_not_trusted(place, damage):
    place.at(20, "raise KeyboardInterrupt")
    assert place.prepare()[0] == 130
    (work,) = (place.folder / "cache" / "datasets").glob("*.partial")
    DAMAGE[damage](work)
    place.undisturbed()
    assert place.prepare()[0] == 0
    place.check()


@pytest.mark.skipif(not unfinished.BOOT.exists(), reason="the system does not name its starts: every image is compared")
def test_after_the_power_failed_every_image_is_compared_with_its_digest(place, monkeypatch):
    place.at(20, "raise KeyboardInterrupt")
    assert place.prepare()[0] == 130
    (work,) = (place.folder / "cache" / "datasets").glob("*.partial")
    images = np.load(work / "images.npy", mmap_mode="r+")
    images[3] = 0  # marked as read, but it had not come to the disk
    images.flush()
    monkeypatch.setattr(unfinished, "_boot", lambda: "another")
    place.undisturbed()
    assert place.prepare()[0] == 0
    assert [i for i in place.reads if place.reads.count(i) > 1 and int(i[:2]) < 16] == ["03.png"] * 2
    place.check()


def test_rate_and_time_left_are_of_what_this_process_does(monkeypatch):
    clock = iter([100.0, 102.0, 110.0, 110.0])
    monkeypatch.setattr("harness.console.time.monotonic", lambda: next(clock))
    said = []
    report = rated(lambda *a: said.append(a))
    for done in (500, 520, 700, 1000):
        report(done, 1000)
    assert said == [
        (500, 1000, ""),
        (520, 1000, "10 images/s, 48 s left"),
        (700, 1000, "20 images/s, 15 s left"),
        (1000, 1000, "50 images/s"),
    ]


def test_progress_goes_to_stderr_in_plain_lines(place):
    _, err = place.prepare()
    assert re.search(r"prepare pictures: 40/40  [\d,]+ images/s", err)
