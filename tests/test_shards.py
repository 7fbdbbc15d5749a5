"""Parts of a stage: made once, read again, claimed by one process at a time, made again where they are damaged."""

import pandas as pd
import pytest
from filelock import FileLock

from harness import shards as module
from harness.shards import Shard, Shards, offer, offered, withdraw
from harness.store import RunFolder

FRAMES = {name: pd.DataFrame({"x": [float(name), float("nan")], "names": [["a", "b"], []]}) for name in "0123"}


class Parts:
    """Four parts of a stage, and which of them were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.shards = [Shard(name, 2, lambda name=name: self.make(name)) for name in FRAMES]

    def make(self, name: str) -> pd.DataFrame:
        self.made.append(name)
        return FRAMES[name].copy()


def silent(done: int, of: int) -> None:
    """Say nothing."""


def stage(tmp_path, key: str = "abc") -> Shards:
    return Shards(RunFolder(tmp_path / "run"), "robustness", key)


def test_parts_of_a_stopped_stage_are_read_and_not_made_again(tmp_path):
    parts, told = Parts(), []
    first = stage(tmp_path).all(parts.shards, lambda done, of: told.append((done, of)))
    assert told == [(2, 8), (4, 8), (6, 8), (8, 8)]
    again = stage(tmp_path).all(parts.shards, silent)
    for frame, wanted, read in zip(first, FRAMES.values(), again, strict=True):
        pd.testing.assert_frame_equal(frame, read)
        pd.testing.assert_frame_equal(frame[["x"]], wanted[["x"]])
        assert frame.attrs == {}, "it goes to no table"
    assert parts.made == list(FRAMES)
    stage(tmp_path, "other").all(parts.shards, silent)
    assert len(parts.made) == 8
    damaged = stage(tmp_path).place / "2.parquet"
    damaged.write_bytes(b"cut off")
    pd.testing.assert_frame_equal(stage(tmp_path).all(parts.shards, silent)[2], first[2])
    assert parts.made[8:] == ["2"]
    stage(tmp_path).forget()
    assert not damaged.exists()
    assert RunFolder(tmp_path / "run").stages() == []


def test_a_frame_is_the_same_whoever_made_it(tmp_path):
    """A list is an array when it is read: the one that has made it gets that too."""
    mine = stage(tmp_path).all(Parts().shards, silent)
    assert type(mine[0]["names"][0]).__name__ == "ndarray"


def test_a_part_that_another_process_has_claimed_is_left_to_it(tmp_path, monkeypatch):
    parts, mine = Parts(), stage(tmp_path)
    mine.place.mkdir(parents=True)
    other = FileLock(mine.place / "1.lock")
    other.acquire()
    assert not mine.make(parts.shards[1])
    assert parts.made == []

    def theirs(seconds: float) -> None:  # the other process is done while this one waits
        assert parts.made == ["0", "2", "3"]
        frame = FRAMES["1"].copy()
        frame.attrs["seconds"] = 7.5
        frame.to_parquet(mine.place / "1.parquet", index=False)
        other.release()

    monkeypatch.setattr(module.time, "sleep", theirs)
    found = mine.all(parts.shards, silent)
    assert [frame["x"][0] for frame in found] == [0, 1, 2, 3]
    assert parts.made == ["0", "2", "3"]
    assert mine.elsewhere == 7.5
    assert mine.waited == module.POLL


def test_the_claim_of_one_that_has_ended_is_free(tmp_path, monkeypatch):
    parts, mine = Parts(), stage(tmp_path)
    mine.place.mkdir(parents=True)
    other = FileLock(mine.place / "1.lock")
    other.acquire()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: other.release())
    mine.all(parts.shards, silent)
    assert parts.made == ["0", "2", "3", "1"]


def test_a_claim_that_is_never_given_up_costs_patience_alone(tmp_path, monkeypatch):
    parts, mine = Parts(), stage(tmp_path)
    mine.place.mkdir(parents=True)
    lost = FileLock(mine.place / "1.lock")
    lost.acquire()
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 100
        assert now[0] < 10 * module.PATIENCE

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    mine.all(parts.shards, silent)
    assert parts.made == ["0", "2", "3", "1"]
    assert now[0] == module.PATIENCE + 100
    lost.release()


def test_a_part_of_a_stage_that_was_finished_meanwhile_is_not_made(tmp_path):
    parts, mine = Parts(), stage(tmp_path)
    place = mine.folder.stage_folder("robustness", "abc")
    place.mkdir(parents=True)
    (place / "rows.json").write_text("[]")
    assert mine.make(parts.shards[0])
    assert parts.made == []
    assert not mine.place.exists(), "the claim's folder is removed again"


def test_what_cannot_be_read_though_it_was_made_here_is_an_error(tmp_path, monkeypatch):
    mine = stage(tmp_path)
    monkeypatch.setattr(module, "write_bytes", lambda path, content: path.write_bytes(content[:10]))
    with pytest.raises((OSError, ValueError)):
        mine.all(Parts().shards, silent)


def test_a_part_that_comes_after_the_stage_was_finished_leaves_nothing(tmp_path):
    """The run lost patience, made the part itself, finished the stage and forgot its parts; then the assistant ends."""
    theirs, run = stage(tmp_path), RunFolder(tmp_path / "run")

    def slow() -> pd.DataFrame:
        stage(tmp_path).make(Shard("0", 2, FRAMES["0"].copy), even_if_claimed=True)
        place = run.stage_folder("robustness", "abc")
        place.mkdir(parents=True)
        (place / "rows.json").write_text("[]")
        stage(tmp_path).forget()
        return FRAMES["0"].copy()

    assert theirs.make(Shard("0", 2, slow))
    assert theirs.finished
    assert not theirs.place.exists()
    assert theirs.own == set()


def test_stages_are_offered_until_they_are_withdrawn(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert offered(folder) == {}
    offer(folder, {"robustness": "abc"})
    assert offered(folder) == {"robustness": "abc"}
    withdraw(folder)
    withdraw(folder)
    assert offered(folder) == {}


def test_a_run_that_is_taken_up_leaves_what_assistants_are_writing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    kept, removed = folder.shards_folder("robustness", "abc") / ".0.parquet.x.tmp", folder.folder / ".run.json.x.tmp"
    for path in (kept, removed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with folder.lock():
        assert kept.exists()
        assert not removed.exists()
