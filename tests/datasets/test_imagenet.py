"""ImageNet photos: classes by their numbers, files of every kind, and what is wrong with a folder."""

import examples
import numpy as np
import pytest
from PIL import Image

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
