"""ImageNet photos: classes by their numbers, files of every kind, and what is wrong with a folder."""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import examples
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from harness.data.index import problems
from harness.errors import UsageError
from harness.plugins import catalogue

Sample = catalogue().load("dataset", "imagenet_sample")


@pytest.fixture
def root(tmp_path):
    return examples.imagenet_sample(tmp_path)


def test_every_photo_is_a_test_image_of_its_class(root):
    index = Sample().index(root)
    assert index.samples["split"].unique().tolist() == ["test"]
    assert index.classes == examples.WNIDS
    assert len(index) == 24
    for row, label in zip(index.samples.to_dict("records"), index.labels, strict=True):
        assert label.sum() == 1
        assert index.classes[label.argmax()] == row["path"].split("/")[0]
    assert index.samples["id"].iloc[0] == "n00001000/n00001000_0.jpg"
    assert (index.samples["patient"] == index.samples["id"]).all()


def test_a_photo_keeps_its_proportions_only_when_cropped(root):
    row = Sample().index(root).samples.iloc[0].to_dict()
    whole, middle = (Sample(crop=crop).read(row, root) for crop in ("none", "centre"))
    assert whole.shape == (32, 48, 3)
    assert middle.shape == (28, 28, 3)
    assert (middle == whole[2:30, 10:38]).all()


def test_grey_cmyk_rgba_palette_and_a_png_named_jpeg(root):
    folder = root / examples.WNIDS[0]
    red = Image.new("RGB", (20, 10), (204, 51, 51))  # a colour that a palette has
    red.convert("L").save(folder / "grey.jpg")
    red.convert("CMYK").save(folder / "cmyk.JPEG")
    red.convert("RGBA").save(folder / "rgba.png")
    red.convert("P").save(folder / "palette.PNG")
    red.save(folder / "really_png.jpg", format="PNG")
    found = {r["id"].split("/")[1]: Sample().read(r, root) for r in Sample().index(root).samples.to_dict("records")}
    assert {image.shape[2] for image in found.values()} == {3}
    assert np.ptp(found["grey.jpg"][0, 0].astype(int)) == 0
    for name in ("cmyk.JPEG", "rgba.png", "palette.PNG", "really_png.jpg"):
        assert found[name][5, 5].tolist() == pytest.approx([204, 51, 51], abs=6), name


def test_other_files_are_passed_over(root):
    (root / "notes.txt").write_text("mine")
    (root / ".cache").mkdir()
    (root / examples.WNIDS[0] / "Thumbs.db").write_bytes(b"x")
    (root / examples.WNIDS[0] / "._n00001000_0.jpg").write_bytes(b"x")
    assert len(Sample().index(root)) == 24


def refused(root, match):
    with pytest.raises(UsageError, match=match):
        Sample().index(root)


def test_the_list_of_classes(root):
    path, wnids = root / "synsets.txt", list(examples.WNIDS)
    path.write_text("\n".join([wnids[1], wnids[0], *wnids[2:]]))
    refused(root, r"n00001000 follows n00001001; .*devkit's ILSVRC2012_ID is another order. Sort the list")
    path.write_text("\n".join([wnids[0], *wnids[:-1]]))
    refused(root, "n00001000 is repeated")
    path.write_text("\n".join(wnids[:-1]))
    refused(root, "has 999 wnids; expected 1,000 .*truncated")
    path.write_text("\n".join(["tench", *wnids[1:]]))
    refused(root, "has 'tench'; expected 1,000 wnids")
    path.unlink()
    refused(root, "synsets.txt is missing; expected 1,000 wnids")


def test_folders_of_classes(root):
    strange = root / "n99999999"
    strange.mkdir()
    refused(root, "n99999999 is the folder of an unknown class; expected one of the 1,000 wnids")
    strange.rmdir()
    empty = root / examples.WNIDS[1]
    empty.mkdir()
    refused(root, f"{examples.WNIDS[1]} has no photos; expected at least one file ending in .jpeg, .jpg, .png")


def test_no_photos_at_all(tmp_path):
    root = examples.imagenet_sample(tmp_path, classes=1)
    folder = root / examples.WNIDS[0]
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    refused(root, "has no photos; expected folders by wnid")


def test_a_broken_photo_is_named(root, harness, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    path = root / examples.WNIDS[0] / f"{examples.WNIDS[0]}_1.jpg"
    path.write_bytes(path.read_bytes()[:300])
    code, _, err = harness("data", "prepare", "imagenet_sample", "--root", root, "--size", "32", "--workers", "1")
    assert code == 2
    assert f"{path}: cannot be decoded as an image" in err
    code, out, _ = harness("data", "prepare", "imagenet_sample", "--root", root, "--size", "32", "--workers", "1",
                           "--set", "skip_corrupt=true")  # fmt: skip
    assert code == 0
    assert "left out as corrupt: 1" in out


def test_nothing_can_be_trained_on_it(root, harness, tmp_path):
    code, _, err = harness("run", "--method", "baseline", "--dataset", "imagenet_sample", "--root", root,
                           "--runs-dir", tmp_path / "runs", "--device", "cpu")  # fmt: skip
    assert code == 2
    assert "imagenet_sample has no training split, its images are for testing: baseline cannot be trained on it" in err
    assert "--method zoo:" in err
    assert not (tmp_path / "runs").exists()


# All of ILSVRC2012

Imagenet = catalogue().load("dataset", "imagenet")
MODULE = sys.modules[Imagenet.__module__]
SMALL = {"subset": True, "n_validation": 20}
TRUTH, META = (f"ILSVRC2012_devkit_t12/data/{n}" for n in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return examples.imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def whole(untouched, tmp_path):
    """Return a copy of the example in which files can be changed; its photos are the same files."""

    def copy(source, target):
        os.link(source, target) if source.endswith(".JPEG") else shutil.copy2(source, target)

    return Path(shutil.copytree(untouched, tmp_path / "imagenet", copy_function=copy))


@pytest.fixture
def alone(untouched, tmp_path):
    """Return a copy of val and the devkit."""
    for part in ("val", "ILSVRC2012_devkit_t12"):
        shutil.copytree(untouched / part, tmp_path / "imagenet" / part)
    return tmp_path / "imagenet"


def write(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def into_folders(root, wnid=lambda k: examples.WNIDS[k - 1]):
    for path in sorted((root / "val").iterdir()):
        folder = root / "val" / wnid(int(path.stem[-8:]))
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)


def test_classes_are_numbered_by_sorted_wnid_not_by_the_devkit(untouched):
    index = Imagenet(**SMALL).index(untouched)
    assert problems(index, Imagenet.task) == []
    assert index.classes == examples.WNIDS
    assert index.samples["split"].value_counts().to_dict() == {"train": 1980, "validation": 20, "test": 24}
    number = index.labels.argmax(1)
    for row, c in zip(index.samples[:2000].to_dict("records"), number[:2000], strict=True):
        assert row["path"].split("/")[1] == row["id"].split("_")[0] == examples.WNIDS[c]
    assert index.samples["id"][2000] == "ILSVRC2012_val_00000001"
    assert number[2000:].tolist() == list(range(24)), "photo k is of class k - 1, whose id is 1001 - k"
    assert (index.labels.sum(1) == 1).all()
    assert index.notes == ("subset",)


def test_val_in_folders_is_the_same(untouched, whole):
    into_folders(whole)
    flat, sorted_in = (Imagenet(**SMALL).index(root) for root in (untouched, whole))
    assert flat.digest() == sorted_in.digest()
    assert sorted_in.samples["path"][2000] == "val/n00001000/ILSVRC2012_val_00000001.JPEG"
    shutil.rmtree(whole / "ILSVRC2012_devkit_t12")
    assert Imagenet(**SMALL).index(whole).digest() == flat.digest(), "the folders of train number the classes"


def test_val_alone(untouched, whole):
    shutil.rmtree(whole / "train")
    data = Imagenet(part="val", subset=True)
    assert data.splits == ("test",)
    index = data.index(whole)
    assert problems(index, data.task, data.splits) == []
    assert index.samples["split"].tolist() == ["test"] * 24
    every = Imagenet(**SMALL).index(untouched)
    assert index.samples["id"].tolist() == every.samples["id"][2000:].tolist()
    assert (index.labels == every.labels[2000:]).all()
    into_folders(whole)
    shutil.rmtree(whole / "ILSVRC2012_devkit_t12")
    (whole / "synsets.txt").write_text("\n".join(examples.WNIDS))
    assert data.index(whole).digest() == index.digest()


def test_nothing_is_trained_on_val_alone(alone, harness, tmp_path):
    code, _, err = harness("run", "--method", "baseline", "--dataset", "imagenet", "--root", alone, "--set", "part=val",
                           "--runs-dir", tmp_path / "runs", "--device", "cpu")  # fmt: skip
    assert code == 2
    assert "imagenet has no training split" in err


def test_the_split_follows_from_its_seed(untouched):
    a, b, c = (Imagenet(**SMALL, split_seed=s).index(untouched).samples["split"] for s in (0, 0, 1))
    assert (a == b).all()
    assert (a != c).any()


def test_the_published_counts_and_classes(untouched, whole, monkeypatch):
    with pytest.raises(UsageError, match="n00001000 to n00001999, are not those of ILSVRC2012"):
        Imagenet().index(untouched)
    monkeypatch.setattr(MODULE, "ALL_WNIDS", hashlib.sha256("\n".join(examples.WNIDS).encode()).hexdigest())
    with pytest.raises(UsageError, match=r"train has 2,000 photos, expected 1,281,167\. .*subset=true"):
        Imagenet().index(untouched)
    monkeypatch.setattr(MODULE, "TRAIN", 2000)
    with pytest.raises(UsageError, match=r"val has 24 photos, expected 50,000\. .*subset=true"):
        Imagenet(n_validation=20).index(untouched)
    source = next((whole / "val").iterdir())
    for k in range(25, 50_001):
        os.link(source, whole / "val" / f"ILSVRC2012_val_{k:08d}.JPEG")
    index = Imagenet(n_validation=20).index(whole)
    assert index.notes == ()
    assert index.positives(index.of_split("test")).tolist() == [50] * 1000
    assert Imagenet().checksums(whole) == {f"classes of {META}": "as published", TRUTH: "no published sum"}
    (whole / "ILSVRC2012_img_val.tar").write_bytes(b"other")
    assert Imagenet().checksums(whole)["ILSVRC2012_img_val.tar"] == "differs"


def mat(root, **changes):
    examples.devkit(root, **changes)


def links(root, name, *more):
    for other in (name, *more):
        os.link(root / "val" / "ILSVRC2012_val_00000002.JPEG", root / other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / TRUTH).unlink(), "ground_truth.txt: expected a file, nothing is there"),
        (lambda r: write(r / TRUTH, "1\n" * 49_999), "ground_truth.txt has 49,999 lines; expected 50,000"),
        (lambda r: write(r / TRUTH, "1\n" * 50_001), "ground_truth.txt has 50,001 lines; expected 50,000"),
        (lambda r: write(r / TRUTH, "1\n" * 50_000), "names n00001000 0 times, expected 50 of every class"),
        (lambda r: write(r / TRUTH, "1\n0\n"), "line 2 is '0'; expected 50,000 lines, each an ILSVRC2012_ID"),
        (lambda r: write(r / TRUTH, "1\n1001\n"), "line 2 is '1001'"),
        (lambda r: write(r / TRUTH, "n01440764\n"), "line 1 is 'n01440764'"),
        (lambda r: write(r / TRUTH, "1 2\n"), "line 1 is '1 2'"),
        (lambda r: write(r / TRUTH, b"\xff\xfe1\x00"), "cannot be read as lines of fields"),
        (lambda r: write(r / TRUTH, ""), "has 0 lines; expected 50,000"),
        (lambda r: (r / META).unlink(), "val has 0 folders by wnid and ILSVRC2012_devkit_t12/data/meta.mat is missing"),
        (lambda r: write(r / META, b""), "meta.mat cannot be read"),
        (lambda r: write(r / META, b"junk" * 99), "meta.mat cannot be read"),
        (lambda r: write(r / META, (r / META).read_bytes()[:2000]), "meta.mat cannot be read"),
        (lambda r: savemat(r / META, {"other": 1}), "meta.mat cannot be read (KeyError"),
        (lambda r: savemat(r / META, {"synsets": 1}), "meta.mat cannot be read"),
        (lambda r: mat(r, ids=(*range(2, 1001), 2)), "has 1,000 such synsets (2); expected the synsets 1 to 1,000"),
        (lambda r: mat(r, ids=tuple(range(1, 1000)), wnids=examples.WNIDS[:-1]), "has 999 such synsets (too few)"),
        (lambda r: mat(r, wnids=(*examples.WNIDS[:-1], "tench")), "has the wnid 'tench'"),
        (lambda r: mat(r, wnids=(*examples.WNIDS[:-1], "n00001000")), "has the wnid 'n00001000'"),
        (lambda r: (r / "synsets.txt").write_text("\n".join([*examples.WNIDS[:-1], "n99999999"])),
         "synsets.txt does not list the classes of"),
        (lambda r: shutil.rmtree(r / "val"), "val: cannot be read as a folder of images"),
        (lambda r: links(r, "val/ILSVRC2012_val_00000001.jpg"), "are two files of one name"),
        (lambda r: links(r, "val/ILSVRC2012_val_00000000.JPEG"), "00000000.JPEG is no validation photo"),
        (lambda r: links(r, "val/ILSVRC2012_val_00050001.JPEG"), "00050001.JPEG is no validation photo"),
        (lambda r: links(r, "val/dog.jpg"), "dog.jpg is no validation photo"),
        (lambda r: (r / "val" / "n00001000").mkdir(), "and folders by wnid, n00001000 say; expected one or the other"),
        (lambda r: into_folders(r, lambda k: examples.WNIDS[1000 - k]),
         "ILSVRC2012_val_00000001.JPEG is a photo of n00001000 by"),
        (lambda r: into_folders(r) or (r / "val" / "n00001500").mkdir(), "n00001500 has no photos"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_val(alone, damage, message):
    damage(alone)
    with pytest.raises(UsageError) as error:
        Imagenet(part="val", subset=True).index(alone)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: shutil.rmtree(r / "train"), "train is missing. Unpack ILSVRC2012_img_train.tar there, or test alone"),
        (lambda r: shutil.rmtree(r / "train" / "n00001007"),
         "train has photos of 999 of 1,000 classes, none of n00001007: it cannot be learned"),
        (lambda r: (r / "train" / "n99999999").mkdir(), "n99999999 is the folder of an unknown class"),
        (lambda r: links(r, "train/n00001001/n00001005_9.JPEG"), "lies in the folder of n00001001, its name is n00001005's"),
        (lambda r: links(r, "train/n00001001/n00001001_0.jpg"), "n00001001_0.jpg are two files of one name"),
        (lambda r: links(r, "train/n00001001/a.jpg", "train/n00001002/a.jpg"), "a.jpg are two files of one name"),
        (lambda r: mat(r, wnids=(*examples.WNIDS[:-1], "n99999999")), "n00001999 is the folder of an unknown class"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_train(whole, damage, message):
    damage(whole)
    with pytest.raises(UsageError) as error:
        Imagenet(**SMALL).index(whole)
    assert message in str(error.value)


def test_flat_val_needs_the_devkit(whole):
    shutil.rmtree(whole / "ILSVRC2012_devkit_t12")
    with pytest.raises(UsageError, match=r"meta\.mat is missing.*Unpack ILSVRC2012_devkit_t12\.tar\.gz"):
        Imagenet(**SMALL).index(whole)
    with pytest.raises(UsageError, match=r"val has 0 folders by wnid and .*meta\.mat is missing"):
        Imagenet(part="val", subset=True).index(whole)


@pytest.mark.parametrize("n", [0, 2000])
def test_validation_must_leave_something(untouched, n):
    with pytest.raises(UsageError, match=f"n_validation is {n}; expected 1 to 1,999 photos"):
        Imagenet(subset=True, n_validation=n).index(untouched)


def test_a_new_ground_truth_is_a_new_cache(alone, harness, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    line = ("data", "prepare", "imagenet", "--root", alone, "--size", "8", "--workers", "1", "--json",
            "--set", "subset=true", "--set", "part=val")  # fmt: skip
    before = json.loads(harness(*line)[1])
    ids = (alone / TRUTH).read_text().split()
    with (alone / TRUTH).open("r+") as file:  # written over: the times of its folder stay as they are
        file.write("\n".join([ids[1], ids[0], *ids[2:]]))
    after = json.loads(harness(*line)[1])
    assert before["fingerprint"] != after["fingerprint"]


@pytest.mark.parametrize(
    ("dataset", "settings", "classes"),
    [("coco", ("subset=true", "n_validation=10", "coco.size=8"), 80), ("cifar100", ("n_validation=20",), 100)],
)
def test_a_network_for_other_classes_is_refused_before_a_photo_is_read(
    harness, tmp_path, monkeypatch, dataset, settings, classes
):
    from harness.data import cache
    from harness.zoo.files import WeightFiles

    monkeypatch.setattr(WeightFiles, "digest", lambda _: "d")
    monkeypatch.setattr(cache, "_fill", lambda *_: pytest.fail("an image was read"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    sets = [word for s in settings for word in ("--set", s)]
    code, _, err = harness("run", "--method", "zoo:torchvision/resnet18", "--dataset", dataset, "--device", "cpu",
                           "--root", examples.EXAMPLES[dataset](tmp_path), "--runs-dir", tmp_path / "runs", *sets)  # fmt: skip
    assert code == 2
    assert f"expected a dataset of 1000 classes and 3 channels, got {classes} and 3" in err


def test_a_network_of_imagenet_fits(alone, harness, tmp_path, monkeypatch):
    """torchvision's network of 1,000 classes, with weights of this test, on val alone."""
    import torch

    from harness.zoo import torchvision as zoo

    entry = zoo.weights_of()["resnet18", "IMAGENET1K_V1"]
    file = tmp_path / "zoo" / "torchvision" / entry.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(zoo.models.resnet18().state_dict(), file)
    monkeypatch.setenv("HARNESS_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo, "HASH", re.compile("never"))
    code, out, err = harness("run", "--method", "zoo:torchvision/resnet18", "--dataset", "imagenet", "--root", alone,
                             "--set", "imagenet.size=32", "--set", "part=val", "--set", "subset=true",
                             "--set", "classification.resamples=20", "--evaluation", "classification", "--device", "cpu",
                             "--runs-dir", tmp_path / "runs", "--json")  # fmt: skip
    assert code == 0, err
    (run,) = json.loads(out)
    assert run["run"]["dataset"]["counts"] == {"train": 0, "validation": 0, "test": 24}
    (accuracy,) = [r for r in run["rows"] if r["metric"] == "accuracy"]
    assert accuracy["n"] == 24
    assert set(accuracy["flags"]) == {"subset", "loaded"}
