"""`harness data prepare --download`: what is offered, who accepts it, and that nothing is fetched twice."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from file_server import serving
from PIL import Image

from harness.data import downloads
from harness.plugins import catalogue

PLUGIN = '''
from dataclasses import dataclass
import numpy as np
import pandas as pd
from harness.api import Dataset, Download, Index, MultiLabel, UsageError, dataset, setting

@dataset("pictures", source="test")
@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    """Pictures of a folder."""
    size: int = setting(8)
    task = MultiLabel()
    default_model = "resnet44"
    folders = ("pictures",)
    how_to_get = "1. go and fetch them"
    not_downloaded = "The frames are sold apart."
    downloads = (Download("ADDRESS/set.tar.gz", "set.tar.gz", "SUM", size=SIZE, unpack=".", inside="set"),)

    def found_at(self, root):
        return (root / "images").is_dir()

    def index(self, root):
        ids = sorted(p.name for p in (root / "images").iterdir())
        if len(ids) != 12:
            raise UsageError(f"{root}: {len(ids)} images, expected 12. Fetch them again.")
        samples = pd.DataFrame({"id": ids, "patient": ids, "path": [f"images/{i}" for i in ids]})
        samples["split"] = ["train", "validation", "test"] * 4
        labels = np.stack([np.arange(12) % 2 == 0, np.arange(12) % 4 < 2], 1).astype(np.uint8)
        return Index(samples, labels, ("even", "half"))
'''


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for i in range(12):
            picture = io.BytesIO()
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(picture, "PNG")
            info = tarfile.TarInfo(f"set/images/{i:02d}.png")
            info.size = len(picture.getvalue())
            tar.addfile(info, io.BytesIO(picture.getvalue()))
    return buffer.getvalue()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "WAITS", (0.0,))
    content = archive()
    with serving({"set.tar.gz": content}) as made:
        text = PLUGIN.replace("ADDRESS", made.address).replace("SIZE", str(len(content)))
        text = text.replace("SUM", hashlib.md5(content, usedforsecurity=False).hexdigest())
        (tmp_path / "pictures.py").write_text(text)
        yield made


@pytest.fixture
def command(harness, tmp_path):
    words = ("data", "prepare", "pictures", "--plugin", tmp_path / "pictures.py", "--root", tmp_path, "--download")
    return lambda *more: harness(*words, *more)


def test_it_is_offered_accepted_fetched_once_and_prepared(shop, command, tmp_path):
    code, out, err = command("--yes", "--json")
    assert code == 0, err
    assert "pictures: 1 files, 0.00 GB, from 127.0.0.1:" in err
    assert "Terms of use: not stated" in err
    assert "The frames are sold apart." in err
    entry = json.loads(out)
    assert entry["fetched"] == ["set.tar.gz"]
    assert sum(entry["images"].values()) == 12
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir() if p.suffix != ".lock") == [
        ".downloads.json", "images",
    ]  # fmt: skip
    code, out, err = command("--json")  # complete: nothing is asked, nothing is fetched
    assert code == 0, err
    assert json.loads(out)["fetched"] == []
    assert len(shop.asked) == 1


def test_without_a_terminal_and_without_yes_nothing_is_fetched(shop, command, tmp_path):
    code, _, err = command()
    assert code == 2
    assert "Give --yes to accept" in err
    assert "Terms of use" in err
    assert shop.asked == []
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(("answer", "status"), [("n", 2), ("y", 0)])
def test_on_a_terminal_it_is_asked(shop, command, monkeypatch, answer, status):
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})(f"{answer}\n"))
    code, _, err = command()
    assert code == status, err
    assert len(shop.asked) == (status == 0)
    assert ("nothing was fetched" in err) == (status == 2)


def test_offline_it_says_what_to_do_by_hand(shop, command):
    shop.states = [503] * 9
    code, _, err = command("--yes")
    assert code == 2
    assert "cannot be fetched (the server says 503" in err
    assert "1. go and fetch them" in err


def test_a_dataset_of_which_nothing_is_public_says_so(harness, tmp_path):
    code, _, err = harness("data", "prepare", "imagenet_sample", "--root", tmp_path, "--download", "--yes")
    assert code == 2
    assert "nothing of it can be fetched by --download" in err
    assert "image-net.org" in err


def test_a_dataset_that_is_drawn_needs_no_download(harness):
    sets = [w for s in ("n_train=48", "n_validation=16", "n_test=240") for w in ("--set", s)]
    code, out, err = harness("data", "prepare", "phantom", *sets, "--size", "32", "--download", "--json")
    assert code == 0, err
    assert json.loads(out)["fetched"] == []


OFFERED = [c for c in catalogue().of("dataset") if c.load().downloads]


@pytest.mark.parametrize("component", OFFERED, ids=lambda c: c.name)
def test_what_datasets_offer_is_complete(component):
    """Sums of the right length, https alone, one file of each name, and steps by hand for who is offline."""
    made = component.load()
    offered = made.downloads
    assert len({d.file for d in offered}) == len({d.sum for d in offered}) == len({d.address for d in offered})
    assert len(offered) == len({d.file for d in offered})
    for d in offered:
        assert d.address.startswith("https://")
        assert len(d.sum) == 2 * hashlib.new(d.algorithm, usedforsecurity=False).digest_size
        assert set(d.sum) <= set("0123456789abcdef")
        assert Path(d.file).name == d.file
    assert made.how_to_get
