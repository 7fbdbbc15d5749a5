"""COCO 2017: labels by sorted category id, boxes of test photos, crowds, the rules for one class, damaged files."""

import json

import examples
import numpy as np
import pytest

from harness.data.index import problems, unlabelled_boxes
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.plugins import catalogue

FOUND = catalogue()
Coco, CocoSingle = (FOUND.load("dataset", name) for name in ("coco", "coco_single"))
SMALL = {"subset": True, "n_validation": 10}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return examples.coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def root(tmp_path):
    return examples.coco(tmp_path)


def content(root, part="val2017"):
    return json.loads((root / "annotations" / f"instances_{part}.json").read_text())


def edit(root, change, part="val2017"):
    found = content(root, part)
    change(found)
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(found))


def naively(root, part):
    """Return file stem -> (labels, boxes by class) in plain loops over the whole JSON."""
    found = content(root, part)
    ids = sorted(c["id"] for c in found["categories"])
    wanted = {}
    for image in found["images"]:
        own = [a for a in found["annotations"] if a["image_id"] == image["id"]]
        labels, boxes = [0] * 80, {}
        for a in own:
            c = ids.index(a["category_id"])
            labels[c] = 1
            x, y, w, h = a["bbox"]
            boxes.setdefault(c, []).append((x / 40, y / 30, (x + w) / 40, (y + h) / 30))
        for a in own:
            if a["iscrowd"]:
                boxes.pop(ids.index(a["category_id"]), None)
        wanted[image["file_name"][:-4]] = labels, boxes
    return wanted


def test_labels_and_boxes_against_plain_loops(original):
    index = Coco(**SMALL).index(original)
    assert problems(index, Coco.task) == []
    assert len(unlabelled_boxes(index)) == 0
    assert index.classes == tuple(f"thing {c:02d}" for c in examples.CATEGORY_IDS)
    wanted = naively(original, "train2017") | naively(original, "val2017")
    assert index.samples["id"].tolist() == list(wanted)
    assert index.labels.tolist() == [labels for labels, _ in wanted.values()]
    boxes = {(i, c): rows.iloc[:, 2:].to_numpy().tolist() for (i, c), rows in index.boxes.groupby(["id", "class_name"])}
    assert boxes == {
        (i, index.classes[c]): [pytest.approx(b) for b in found]
        for i, (_, own) in naively(original, "val2017").items() for c, found in own.items()
    }  # fmt: skip
    assert index.samples["split"].value_counts().to_dict() == {"train": 160, "test": 60, "validation": 10}
    assert set(index.samples["split"][170:]) == {"test"}
    assert (index.labels.sum(1) == 0).sum() == 4, "photos without instances have no label and are kept"
    assert index.notes == ("subset",)


def test_a_pair_with_a_crowd_has_no_box(original):
    found = content(original)
    crowd = next(a for a in found["annotations"] if a["iscrowd"])
    index = Coco(**SMALL).index(original)
    name = f"{crowd['image_id']:012d}"
    category = sorted(c["id"] for c in found["categories"]).index(crowd["category_id"])
    row = index.samples["id"].tolist().index(name)
    assert index.labels[row, category] == 1
    mine = index.boxes[(index.boxes["id"] == name) & (index.boxes["class_name"] == index.classes[category])]
    assert len(mine) == 0


def test_the_class_of_the_largest_object(root):
    def change(found):
        for a in found["annotations"]:
            if a["image_id"] == 1001:
                a["area"] = 500 if a["category_id"] == 2 else 100
            if a["image_id"] == 1004:
                a["area"] = 7  # all alike: the first class

    edit(root, change)
    index = CocoSingle(**SMALL).index(root)
    assert problems(index, CocoSingle.task) == []
    number = dict(zip(index.samples["id"], index.labels.argmax(1), strict=True))
    assert number["000000001001"] == 1
    assert number["000000001004"] == 3
    assert len(index) == 226
    assert index.notes == ("subset", "4 photos without objects left out")
    assert len(unlabelled_boxes(index)) == 0
    assert set(index.boxes["class_name"][index.boxes["id"] == "000000001001"]) == {"thing 02"}


def test_photos_of_one_class_only(original):
    several = Coco(**SMALL).index(original)
    index = CocoSingle(label="only", **SMALL).index(original)
    one = several.labels.sum(1) == 1
    assert index.samples["id"].tolist() == several.samples["id"][one].tolist()
    assert (index.labels == several.labels[one]).all()
    assert index.notes[1] == f"{(~one).sum()} photos without objects of one class alone left out"


def test_the_split_follows_from_its_seed(original):
    a, b, c = (Coco(**SMALL, split_seed=s).index(original).samples["split"] for s in (0, 0, 1))
    assert (a == b).all()
    assert (a != c).any()


def test_a_subset_is_taken_only_when_asked_for(root):
    with pytest.raises(UsageError, match=r"instances_train2017\.json lists 170 photos, expected 118,287"):
        Coco(n_validation=10).index(root)
    (root / "val2017" / "000000001003.jpg").unlink()
    index = Coco(**SMALL).index(root)
    assert len(index) == 229
    assert "000000001003" not in set(index.samples["id"])
    assert "000000001003" not in set(index.boxes["id"])


def test_missing_photos_are_counted(root, monkeypatch):
    monkeypatch.setitem(vars(__import__("sys").modules[Coco.__module__])["PHOTOS"], "train2017", 170)
    monkeypatch.setitem(vars(__import__("sys").modules[Coco.__module__])["PHOTOS"], "val2017", 60)
    assert Coco(n_validation=10).index(root).notes == ()
    (root / "val2017" / "000000001003.jpg").unlink()
    with pytest.raises(UsageError, match=r"1 of 60 photos are missing in .*val2017, the first is 000000001003.jpg"):
        Coco(n_validation=10).index(root)


def test_the_root_is_found_from_its_parent(original):
    assert find_root(Coco(), "coco", original.parent) == original


def annotation(found, **changes):
    found["annotations"][5].update(changes)


def without(found, entry, key):
    del found[entry][3][key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("categories"), "has 0 categories, expected 80"),
        (lambda f: f["categories"].pop(), "has 79 categories, expected 80"),
        (lambda f: f["categories"][0].update(name="thing 01"), "80 categories, expected 80 of different names"),
        (lambda f: f["categories"][0].update(id=1), "the id 1 twice among its categories"),
        (lambda f: f["categories"][0].update(name="other"), "other categories than annotations/instances_train2017.json"),
        (lambda f: f.pop("images"), "lists no photos"),
        (lambda f: f["images"].append(f["images"][0]), "the id 1001 twice among its images"),
        (lambda f: f["images"].append({**f["images"][0], "id": 5}), "lists the photo '000000001001' twice"),
        (lambda f: f["images"][0].update(id=1, file_name="000000000001.jpg"), "image_id 1001, which is not listed there"),
        (lambda f: f["images"][19].update(id=1, file_name="000000000001.jpg"), None),
        (lambda f: f["images"].append(7), "has 7 among its images, expected an object"),
        (lambda f: f["images"][0].update(file_name="../x.jpg"), "file_name of the entry with id 1001, file_name '../x.jpg'"),
        (lambda f: f["images"][0].update(width=0), "width of the entry with id 1001, file_name '000000001001.jpg' is 0"),
        (lambda f: without(f, "images", "height"), "height of the entry with id 1004"),
        (lambda f: annotation(f, id=f["annotations"][0]["id"]), "has an id twice among its annotations"),
        (lambda f: annotation(f, category_id=12), "has the category_id 12, which is not listed there"),
        (lambda f: annotation(f, category_id="dog"), "is 'dog', expected a whole number"),
        (lambda f: annotation(f, image_id=77), "has the image_id 77, which is not listed there"),
        (lambda f: annotation(f, image_id=True), "is True, expected a whole number"),
        (lambda f: annotation(f, bbox=[1, 2, 3]), "is [1, 2, 3], expected four numbers"),
        (lambda f: annotation(f, bbox=[1, 2, 3, "4"]), "expected four numbers"),
        (lambda f: annotation(f, bbox=[1, 2, 0, 4], iscrowd=0), "is empty or leaves the photo of 40 x 30"),
        (lambda f: annotation(f, bbox=[10, 2, 35, 4], iscrowd=0), "is empty or leaves the photo of 40 x 30"),
        (lambda f: annotation(f, area=None), "area of the entry"),
        (lambda f: without(f, "annotations", "iscrowd"), "iscrowd of the entry"),
    ],
)  # fmt: skip
def test_wrong_annotations(root, change, message):
    edit(root, change)
    if message is None:  # a photo without instances that is not in the folder: left out of a subset
        assert len(Coco(**SMALL).index(root)) == 229
        return
    with pytest.raises(UsageError, match=r"instances_val2017\.json") as error:
        Coco(**SMALL).index(root)
    assert message in str(error.value)


def test_a_photo_of_both_parts(root):
    edit(root, lambda f: f["images"][19].update(id=1, file_name="000000000001.jpg"))
    (root / "val2017" / "000000000001.jpg").write_bytes((root / "val2017" / "000000001001.jpg").read_bytes())
    with pytest.raises(UsageError, match="photo 000000000001 is in both train2017 and val2017"):
        Coco(**SMALL).index(root)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[: len(b) // 2], "cannot be read"),
        (lambda b: b[:-1], "expected '}', found 'its end: it is truncated'"),
        (lambda b: b"", "found 'its end: it is truncated'"),
        (lambda b: b + b"{}", "more text after its end"),
        (lambda b: b.replace(b'"thing 01"', b'"thing \xff"'), "not UTF-8 text"),
        (lambda b: b.decode().encode("utf-16"), "not UTF-8 text"),
        (lambda b: b.replace(b"20, 12", b"20, NaN", 1), "NaN is no JSON"),
        (lambda b: b.replace(b"20, 12", b"20, 1e999", 1), "1e999 is beyond a number of 64 bits"),
        (lambda b: b.replace(b'"iscrowd": 0', b'"iscrowd": 0, "iscrowd": 1', 1), "'iscrowd' is given twice"),
        (lambda b: b.replace(b'"info"', b'"images"', 1), "'images' is no name, or given twice"),
    ],
)
def test_damaged_json(root, damage, message):
    path = root / "annotations" / "instances_train2017.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"instances_train2017\.json") as error:
        Coco(**SMALL).index(root)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("annotations/instances_train2017.json", "instances_train2017.json: cannot be read (No such file"),
        ("annotations/instances_val2017.json", "instances_val2017.json: cannot be read (No such file"),
        ("train2017", "train2017: cannot be read as a folder of images"),
        ("val2017", "val2017: cannot be read as a folder of images"),
    ],
)
def test_missing_parts(root, lost, message):
    (root / lost).rename(root / "elsewhere")
    with pytest.raises(UsageError) as error:
        Coco(**SMALL).index(root)
    assert message in str(error.value)


@pytest.mark.parametrize("n", [0, 170])
def test_validation_must_leave_something(root, n):
    with pytest.raises(UsageError, match=f"n_validation is {n}; expected 1 to 169"):
        Coco(subset=True, n_validation=n).index(root)


@pytest.mark.parametrize("bytes_", [b"", b"\xff\xd8\xff\xe0junk"])
def test_a_broken_photo_is_named(root, harness, bytes_):
    path = root / "val2017" / "000000001003.jpg"
    path.write_bytes(bytes_)
    code, _, err = harness("data", "prepare", "coco", "--root", root, "--size", "16", "--workers", "1",
                           *("--set", "subset=true", "--set", "n_validation=10"))  # fmt: skip
    assert code == 2
    assert str(path) in err
    assert "Traceback" not in err


def test_new_annotations_are_a_new_cache(root, harness, tmp_path, monkeypatch):
    """A file of labels that is written over leaves the times of its folder as they are."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    line = ("data", "prepare", "coco", "--root", root, "--size", "16", "--workers", "1", "--json",
            "--set", "subset=true", "--set", "n_validation=10")  # fmt: skip
    before = json.loads(harness(*line)[1])
    edit(root, lambda f: f["annotations"][0].update(category_id=90))
    after = json.loads(harness(*line)[1])
    assert before["fingerprint"] != after["fingerprint"]
    assert before["positives"]["thing 90"] + 1 == after["positives"]["thing 90"]


def test_checksums(root):
    (root / "val2017.zip").write_bytes(b"other")
    assert Coco().checksums(root) == {
        "val2017.zip": "differs",
        "annotations/instances_train2017.json": "no published sum",
        "annotations/instances_val2017.json": "no published sum",
    }


def test_boxes_are_cut_at_the_edge_of_the_photo(root):
    edit(root, lambda f: annotation(f, bbox=[30.5, 20.25, 10.004, 9.754], iscrowd=0))
    boxes = Coco(**SMALL).index(root).boxes
    assert boxes[["x1", "y1"]].to_numpy().max() == 1
    assert np.isclose(boxes["x0"], 30.5 / 40).any()
