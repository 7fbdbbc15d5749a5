"""A user's own images: both layouts, parts, boxes, every way to get them wrong, and that two folders stay two."""

import os
import shutil
import tracemalloc
from pathlib import Path

import examples
import numpy as np
import pytest
from PIL import Image
from support import REPOSITORY

from harness.data.index import problems
from harness.errors import UsageError
from harness.plugins import catalogue

FOUND = catalogue()
Folder, Table = (FOUND.load("dataset", name) for name in ("folder", "csv"))


def refused(data, root: Path, message: str) -> None:
    """Expect one error that is about this, and says what to do."""
    with pytest.raises(UsageError, match=message) as caught:
        data.index(root)
    assert str(root) in str(caught.value) or "expected" in str(caught.value)
    assert str(caught.value).rstrip().endswith((".", "layouts."))


def image(path: Path, value: int = 0, size: tuple[int, int] = (12, 8), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(value + 1)
    Image.fromarray(rng.integers(0, 256, size[::-1], np.uint8)).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    return examples.folder(tmp_path)


@pytest.fixture
def table(tmp_path) -> Path:
    return examples.csv(tmp_path)


def parts_of(index, column="split"):
    return index.samples.groupby("patient")[column].nunique()


# --- a folder per class


def test_a_folder_per_class(folder):
    index = Folder(name="mine").index(folder)
    assert index.classes == examples.OWN_CLASSES
    assert problems(index, Folder.task) == []
    assert len(index) == 24
    by_id = dict(zip(index.samples["id"], index.labels.argmax(1), strict=True))
    assert by_id["mass nodule/image 3.png"] == 1
    counts = {
        c: index.samples.loc[index.labels[:, i] == 1, "split"].value_counts() for i, c in enumerate(index.classes)
    }
    assert all(set(n.index) == {"train", "validation", "test"} for n in counts.values()), "each part has each class"
    assert (parts_of(index) == 1).all()
    assert len(set(index.samples["patient"])) == 12


def test_the_split_follows_from_its_seed_alone(folder):
    first, again, other = (Folder(name="mine", split_seed=s).index(folder).samples["split"] for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (Folder(name="other", size=64).index(folder).samples["split"] == first).all()


def test_shares_are_of_each_class(tmp_path):
    for number, (label, count) in enumerate({"a": 200, "b": 50, "c": 5}.items()):
        for i in range(count):
            image(tmp_path / "mine" / label / f"{i}.png", number * 1000 + i, (2, 2))
    index = Folder(name="mine").index(tmp_path / "mine")
    for i, expected in enumerate([(144, 16, 40), (36, 4, 10), (3, 1, 1)]):
        mine = index.samples.loc[index.labels[:, i] == 1, "split"]
        assert tuple((mine == p).sum() for p in ("train", "validation", "test")) == expected


@pytest.mark.parametrize("validation", ["validation", "val", None])
def test_parts_as_given(tmp_path, validation):
    for part, count in (("train", 6), (validation, 2), ("test", 3)):
        for label in ("a", "b"):
            for i in range(count if part else 0):
                image(tmp_path / "mine" / part / label / f"{i}.png", i)
    index = Folder(name="mine").index(tmp_path / "mine")
    counts = index.samples["split"].value_counts().to_dict()
    expected = {"train": 12, "validation": 4, "test": 6} if validation else {"train": 10, "validation": 2, "test": 6}
    assert counts == expected
    assert set(index.samples.loc[index.samples["split"] == "test", "id"].str.split("/").str[0]) == {"test"}


def test_images_to_test_on_alone(tmp_path):
    for label in ("a", "b"):
        image(tmp_path / "mine" / label / "x.png")
        image(tmp_path / "parted" / "test" / label / "x.png")
    for name in ("mine", "parted"):
        data = Folder(name="mine", split="test_only")
        index = data.index(tmp_path / name)
        assert data.splits == ("test",)
        assert set(index.samples["split"]) == {"test"}
        assert problems(index, data.task, data.splits) == []
    refused(Folder(name="mine"), tmp_path / "parted", "test images alone.*split=test_only")
    image(tmp_path / "parted" / "train" / "a" / "x.png")
    refused(Folder(name="mine", split="test_only"), tmp_path / "parted", "images of train, test_only has none")


@pytest.mark.parametrize(("data", "name"), [(Folder, "folder"), (Table, "table")])
def test_few_images_are_cross_fitted(data, name, request):
    root = request.getfixturevalue(name)
    more = {"labels": "multi"} if data is Table else {}
    if data is Table:
        refused(data(name="mine", split="cross_fitted", **more), root, "the column split gives parts")
        lines = (root / "labels.csv").read_text().splitlines()
        cut = [",".join(line.split(",")[:2] + line.split(",")[3:]) for line in lines]
        (root / "labels.csv").write_text("\n".join(cut))
    else:
        examples.folder(root.parent, name="many", per_class=24)
        root = root.parent / "many"
    made = data(name="mine", split="cross_fitted", **more)
    index = made.index(root)
    assert index.folds == 5
    assert problems(index, made.task) == []
    assert all((parts_of(index, c) == 1).all() for c in index.split_columns)


def test_boxes_are_fractions_of_the_upright_image(tmp_path):
    root = tmp_path / "mine"
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: 12 x 8, seen as 8 x 12
    for label in ("a", "b"):
        for i in range(4):
            image(root / label / f"{i}.png", i, exif=exif)
    (root / "boxes.csv").write_text("image,class,x0,y0,x1,y1\na/0.png,a,2,3,8,12\n")
    data = Folder(name="mine")
    index = data.index(root)
    assert index.boxes.loc[0, ["x0", "y0", "x1", "y1"]].tolist() == [0.25, 0.25, 1, 1]
    assert data.read(index.samples.iloc[0].to_dict(), root).shape == (12, 8)
    (root / "boxes.csv").write_text("image,class,x0,y0,x1,y1\na/0.png,a,0.25,0.25,1,1\n")
    assert (Folder(name="mine", boxes="fractions").index(root).boxes == index.boxes).all(axis=None)
    refused(data, root, "line 2: 0.25, 0.25, 1, 1 look like fractions.*boxes=fractions")


def test_names_of_every_kind(tmp_path):
    root = tmp_path / "mein Ordner"
    names = ["a b.png", "ä ö 日本 🩻.png", "x" * 200 + ".PNG", 'it\'s, "quoted".jpeg', "-rf.png", "%2e%2e.png"]
    for label in ("größe <b>", "second; class"):
        for i, name in enumerate(names):
            image(root / label / name, i)
    index = Folder(name="mine").index(root)
    assert len(index) == 12
    assert {i.split("/", 1)[1] for i in index.samples["id"]} == set(names)
    assert index.manifest().decode().count("\n") == 13
    quoted = ['"größe <b>/' + n.replace('"', '""') + '",p' + str(i) for i, n in enumerate(names)]
    others = ['"second; class/' + n.replace('"', '""') + '",q' + str(i) for i, n in enumerate(names)]
    (root / "patients.csv").write_text("\ufeffimage,patient\r\n" + "\r\n".join([*quoted, *others]), encoding="utf-8")
    assert set(Folder(name="mine").index(root).samples["patient"]) == {f"{c}{i}" for c in "pq" for i in range(6)}


def no(*_):
    pass


def empty_class(root):
    (root / "empty").mkdir()


def parts_and_classes(root):
    image(root / "train" / "a" / "x.png")


def both_validations(root):
    for name in list(os.listdir(root)):
        (shutil.rmtree if (root / name).is_dir() else os.remove)(root / name)
    for part in ("train", "val", "validation", "test"):
        image(root / part / "a" / "x.png")
        image(root / part / "b" / "x.png")


def part_without_classes(root):
    both_validations(root)
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "test")
    image(root / "test" / "x.png")


def no_test(root):
    both_validations(root)
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "test")


def one_class(root):
    for name in examples.OWN_CLASSES[1:]:
        shutil.rmtree(root / name)


def few(root):
    for path in sorted((root / "ödem").iterdir())[2:]:
        path.unlink()
    keep = [
        x
        for x in (root / "patients.csv").read_text().splitlines()
        if "ödem" not in x or (root / x.split(",")[0]).exists()
    ]
    (root / "patients.csv").write_text("\n".join(keep))


def only_in_test(root):
    both_validations(root)
    shutil.rmtree(root / "val")
    image(root / "test" / "c" / "x.png")


def looped_class(root):
    (root / "loop").symlink_to("loop")


def looped_image(root):
    (root / "effusion" / "loop.png").symlink_to("loop.png")


def linked_out(root):
    (root / "effusion" / "out.png").symlink_to(image(root.parent / "elsewhere.png"))


def class_linked_out(root):
    image(root.parent / "elsewhere" / "x.png")
    (root / "out").symlink_to(root.parent / "elsewhere")


def class_linked_up(root):
    (root / "up").symlink_to("..")


def broken_bytes(root):
    with open(os.path.join(os.fsencode(root), b"effusion", b"\xff.png"), "wb") as file:
        file.write(b"x")


def forbidden(root):
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    (root / "effusion").chmod(0)


def written(name, *lines, encoding="utf-8", end="\n"):
    def make(root):
        (root / name).write_bytes((end.join(lines) + end).encode(encoding))

    return make


def added(name, *lines):
    def make(root):
        with (root / name).open("a") as file:
            file.write("\n".join(lines) + "\n")

    return make


BOX = "image,class,x0,y0,x1,y1"
IMAGE = "effusion/image 1.png"
BAD_FOLDERS = {
    "an empty class": (empty_class, "empty: expected at least one image"),
    "an image outside": (lambda r: image(r / "x.png"), "an image outside of any class folder"),
    "another file": (lambda r: (r / "effusion" / "x.dcm").write_bytes(b"x"), r"x\.dcm: expected a file ending in"),
    "a folder in a class": (lambda r: (r / "effusion" / "deeper").mkdir(), "a folder in that of a class"),
    "parts and classes": (parts_and_classes, "train is the folder of a part, effusion is none"),
    "two validations": (both_validations, "val and validation are the same part"),
    "a part without classes": (part_without_classes, "test: expected a folder per class"),
    "no test images": (no_test, "gives no images of test; expected train and test"),
    "one class": (one_class, "expected 2 classes at least, got effusion"),
    "too few images": (few, "class 'ödem' has 2 images of 1 patients, expected 3"),
    "capitals": (lambda r: image(r / "Effusion" / "x.png"), "'Effusion' and 'effusion' differ in capitals"),
    "a word of rows": (lambda r: image(r / "macro" / "x.png"), "'macro' is no name of a class"),
    "a long class": (lambda r: image(r / ("c" * 120) / "x.png"), "is no name of a class"),
    "a class of links in a circle": (looped_class, "loop: cannot be read"),
    "an image of links in a circle": (looped_image, "cannot be read|a link that leads out"),
    "a link that leads out": (linked_out, r"out\.png: a link that leads out of the folder.*links=true"),
    "a class that leads out": (class_linked_out, "out: a link that leads out of the folder"),
    "a class that leads up": (class_linked_up, "up: a link that leads out of the folder"),
    "a name that is no UTF-8": (broken_bytes, "no UTF-8. Rename it"),
    "a control character": (lambda r: image(r / "effusion" / "a\nb.png"), "control characters in it"),
    "no permission": (forbidden, "effusion: cannot be read"),
    "boxes: header only": (written("boxes.csv", BOX), "it has no rows"),
    "boxes: no column class": (written("boxes.csv", "image,x0,y0,x1,y1"), "expected image, class, x0"),
    "boxes: unknown image": (written("boxes.csv", BOX, "effusion/image 99.png,effusion,0,0,9,9"), "line 2: a box of an unknown image.*Did you mean"),
    "boxes: unknown class": (written("boxes.csv", BOX, f"{IMAGE},efusion,0,0,9,9"), "line 2: unknown class 'efusion'.*Did you mean 'effusion'"),
    "boxes: no number": (written("boxes.csv", BOX, f"{IMAGE},effusion,0,0,nine,9"), "line 2: expected a number as x1, got nine"),
    "boxes: not a number": (written("boxes.csv", BOX, f"{IMAGE},effusion,0,0,nan,9"), "line 2: expected a number as x1, got nan"),
    "boxes: nothing": (written("boxes.csv", BOX, f"{IMAGE},effusion,0,0,,9"), "line 2: expected a number as x1, got nothing"),
    "boxes: outside": (written("boxes.csv", BOX, f"{IMAGE},effusion,0,0,41,9"), r"line 2: the box 0, 0, 41, 9 leaves the image \(40 x 32 px\)"),
    "boxes: negative": (written("boxes.csv", BOX, f"{IMAGE},effusion,-1,0,9,9"), "leaves the image"),
    "boxes: no area": (written("boxes.csv", BOX, f"{IMAGE},effusion,9,0,9,9"), "leaves the image .* or is empty"),
    "boxes: corners swapped": (written("boxes.csv", BOX, f"{IMAGE},effusion,9,9,2,2"), "leaves the image .* or is empty"),
    "boxes: x0 y0 w h": (written("boxes.csv", "image,class,x,y,w,h", f"{IMAGE},effusion,0,0,9,9"), "has the columns image, class, x, y, w, h"),
    "patients: one lacking": (written("patients.csv", "image,patient", f"{IMAGE},p1"), "it has no patient for 'effusion/image 0.png'"),
    "patients: twice": (added("patients.csv", f"{IMAGE},other"), "has a patient already"),
    "patients: empty": (written("patients.csv", "image,patient", f"{IMAGE},"), "line 2: expected a patient, got nothing"),
    "patients: unknown image": (added("patients.csv", "effusion/image 77.png,p"), "there is no image"),
    "patients: a link in a circle": (lambda r: (os.remove(r / "patients.csv"), (r / "patients.csv").symlink_to("patients.csv")), r"patients\.csv: "),
    "patients: a folder": (lambda r: (os.remove(r / "patients.csv"), (r / "patients.csv").mkdir()), r"patients\.csv: expected at least one image"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_a_bad_folder_is_one_clear_error(folder, what):
    make, message = BAD_FOLDERS[what]
    make(folder)
    refused(Folder(name="mine"), folder, message)


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    real = os.scandir

    def scandir(place):
        if str(place).endswith("effusion"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(Folder(name="mine"), folder, r"effusion: cannot be read \(Permission denied\)")


def test_a_class_in_the_test_images_alone_is_said(folder, tmp_path, harness):
    only_in_test(folder)
    code, out, _ = harness("data", "verify", "folder", "--root", folder, "--set", "name=mine", "--size", "8")
    assert code == 2
    assert "class 'c' has no positive image in the train split: it cannot be learned" in out


def test_a_patient_in_two_given_parts_is_said(folder, harness):
    both_validations(folder)
    shutil.rmtree(folder / "val")
    names = [f"{part}/{label}/x.png" for part in ("train", "validation", "test") for label in "ab"]
    (folder / "patients.csv").write_text("image,patient\n" + "".join(f"{n},p{n[-7]}\n" for n in names))
    code, out, _ = harness("data", "verify", "folder", "--root", folder, "--set", "name=mine", "--size", "8")
    assert code == 2
    assert "2 patients are in two splits, the first is 'pa' (test and train and validation)" in out


def test_links_out_are_followed_when_asked_for(folder):
    linked_out(folder)
    lines = (folder / "patients.csv").read_text() + "effusion/out.png,new\n"
    (folder / "patients.csv").write_text(lines)
    index = Folder(name="mine", links=True).index(folder)
    assert "effusion/out.png" in set(index.samples["id"])


def test_a_root_that_is_a_link_is_the_folder_it_leads_to(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert len(Folder(name="mine").index(tmp_path / "link")) == 24


# --- a table


def test_a_table_of_findings(table):
    data = Table(name="mine", labels="multi")
    index = data.index(table)
    assert data.task.name == "multilabel"
    assert index.classes == ("effusion", "mass")
    assert problems(index, data.task) == []
    assert index.labels.sum(0).tolist() == [15, 10]
    assert index.samples["split"].value_counts().to_dict() == {"train": 18, "validation": 6, "test": 6}
    assert index.boxes.iloc[0].tolist() == ["images/07.png", "effusion", 0, 0, 0.5, 1]
    assert index.samples["patient"].iloc[3] == "p1"


def test_columns_are_chosen_and_ordered(table):
    assert Table(name="mine", labels="multi", classes="mass | effusion").index(table).classes == ("mass", "effusion")
    assert Table(name="mine", labels="multi", classes="effusion", boxes="pixels").index(table).classes == ("effusion",)


def single(root: Path, lines: list[str], name: str = "labels.csv", **how) -> Path:
    for i in range(12):
        image(root / "images" / f"{i}.png", i)
    written(name, *lines, **how)(root)
    return root


LABELS = ["image,label,age", *(f"images/{i}.png,{'cat' if i % 2 else 'dog'},{i}" for i in range(12))]


def test_one_label_per_image(tmp_path):
    data = Table(name="mine")
    index = data.index(single(tmp_path, LABELS))
    assert data.task.name == "multiclass"
    assert index.classes == ("cat", "dog")
    assert problems(index, data.task) == []
    assert (index.samples["patient"] == index.samples["id"]).all()
    assert Table(name="mine", classes="dog|cat").index(tmp_path).classes == ("dog", "cat")


def test_another_name_of_the_table(tmp_path):
    single(tmp_path, LABELS, "my table.csv")
    assert len(Table(name="mine", table="my table.csv").index(tmp_path)) == 12
    assert not Table(name="mine").found_at(tmp_path)


@pytest.mark.parametrize("how", [{"encoding": "utf-8-sig"}, {"end": "\r\n"}, {"end": "\n\n"}], ids=["BOM", "CRLF", "blank lines"])  # fmt: skip
def test_tables_of_every_program(tmp_path, how):
    plain = Table(name="mine").index(single(tmp_path / "a", LABELS))
    assert Table(name="mine").index(single(tmp_path / "b", LABELS, **how)).digest() == plain.digest()


def changed(line: int, text: str):
    return [*LABELS[: line - 1], text, *LABELS[line:]]


BAD_TABLES = {
    "nothing": ([], {}, "has the columns .none.; expected image"),
    "header only": (LABELS[:1], {}, "it has no rows"),
    "semicolons": ([x.replace(",", ";") for x in LABELS], {}, "parted by ;, expected commas"),
    "tabs": ([x.replace(",", "\t") for x in LABELS], {}, "parted by tabs, expected commas"),
    "UTF-16": (LABELS, {"encoding": "utf-16"}, "cannot be read as lines of fields"),
    "Latin-1": ([*LABELS[:-1], "images/11.png,Gänse,1"], {"encoding": "latin-1"}, "not UTF-8 text"),
    "no column image": (["file,label", "images/0.png,cat"], {}, "has the columns file, label; expected image"),
    "no column label": (["image,cat", "images/0.png,1"], {}, "expected a column label, found image, cat.*labels=multi"),
    "a column twice": (["image,label,label", "images/0.png,a,b"], {}, "two columns are called 'label'"),
    "swapped columns": (["label,image", "images/0.png,cat", "images/1.png,dog"], {}, "line 2: there is no image 'cat'"),
    "a field too few": (changed(5, "images/3.png,cat"), {}, "line 5: 2 fields, expected 3"),
    "a comma in a field": (changed(5, "images/3.png,cat,3,4"), {}, "line 5: 4 fields.*needs quotes"),
    "an open quote": (changed(5, 'images/3.png,"cat,3'), {}, r"labels\.csv"),
    "an image twice": (changed(5, LABELS[1]), {}, "line 5: 'images/0.png' is in line 2 already"),
    "an image twice, written otherwise": (changed(5, "./images//0.png,cat,1"), {}, "line 5: 'images/0.png' is in line 2"),
    "an image in two parts": (["image,label,split", "images/0.png,cat,train", "images/0.png,cat,test"], {}, "line 3: .* is in line 2 already"),
    "a missing image": (changed(5, "images/99.png,cat,3"), {}, r"line 5: there is no image 'images/99.png' .*1 of 12 are missing"),
    "an empty path": (changed(5, ",cat,3"), {}, "line 5: '' is no path below the folder"),
    "a path out": (changed(5, "../x.png,cat,3"), {}, r"line 5: '\.\./x\.png' is no path below the folder"),
    "a path out and in": (changed(5, "images/../images/3.png,cat,3"), {}, "is no path below the folder"),
    "an absolute path": (changed(5, "/etc/passwd,cat,3"), {}, "line 5: '/etc/passwd' is no path below"),
    "a path of Windows": (changed(5, "images\\3.png,cat,3"), {}, "is no path below the folder.*with / between"),
    "a drive": (changed(5, "C:/3.png,cat,3"), {}, "is no path below the folder"),
    "an overlong path": (changed(5, "a" * 5000 + ".png,cat,3"), {}, "line 5: .*(cannot be looked at|no image)"),
    "an empty label": (changed(5, "images/3.png,,3"), {}, "line 5: expected a label, got nothing"),
    "a label that is NaN": (changed(5, "images/3.png,NaN,3"), {}, "'NaN' is no name of a class"),
    "one label": ([x.replace("dog", "cat") for x in LABELS], {}, "expected 2 classes at least, got cat"),
    "too few of a label": (changed(5, "images/3.png,bird,3"), {}, "class 'bird' has 1 images of 1 patients, expected 3"),
    "an empty patient": (["image,label,patient", "images/0.png,cat,", "images/1.png,dog,p"], {}, "line 2: expected a patient, got nothing"),
    "an unknown part": (["image,label,split", "images/0.png,cat,dev", "images/1.png,dog,test"], {}, "line 2: expected train, validation or test as split, got 'dev'"),
    "an empty part": (["image,label,split", "images/0.png,cat,train", "images/1.png,dog,"], {}, "line 3: expected train, validation or test as split, got nothing"),
    "zero bytes in it": ([*LABELS[:4], "images/3.png,c\0at,3"], {}, "cannot be read as lines of fields"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_TABLES)
def test_a_bad_table_is_one_clear_error(tmp_path, what):
    lines, how, message = BAD_TABLES[what]
    refused(Table(name="mine"), single(tmp_path, lines, **how), message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": "dog|bird"}, "unknown label 'cat'.*Known: dog, bird"),
        ({"classes": "dog|dgo|cat|Dog"}, "differ in capitals"),
        ({"labels": "multi"}, "it has a column label, labels=multi expects none"),
        ({"table": "other.csv"}, r"other\.csv: expected a file, nothing is there"),
        ({"table": "../labels.csv"}, "is no path below the folder"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_table(tmp_path, settings, message):
    refused(Table(name="mine", **settings), single(tmp_path, LABELS), message)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (["image,cat,age", "images/0.png,1,63"], {}, "line 2: expected 0 or 1 in column 'age', got 63.*classes="),
        (["image,cat,dog", "images/0.png,1,"], {}, "line 2: expected 0 or 1 in column 'dog', got nothing"),
        (["image,cat,dog", "images/0.png,1,-1"], {}, "got -1"),
        (["image,cat,dog", "images/0.png,1,nan"], {}, "got nan"),
        (["image,cat", "images/0.png,1"], {"classes": "cats"}, "no column 'cats'.*Did you mean 'cat'"),
        (["image,patient", "images/0.png,p"], {}, "expected 1 classes at least, got none"),
        (["image,cat,dog", *(f"images/{i}.png,1,0" for i in range(9))], {}, "class 'dog' has 0 images"),
    ],
)
def test_columns_that_are_no_findings(tmp_path, lines, settings, message):
    refused(Table(name="mine", labels="multi", **settings), single(tmp_path, lines), message)


def test_images_of_a_table_do_not_lead_out_by_links(tmp_path):
    root = single(tmp_path / "mine", changed(5, "images/out.png,cat,3"))
    (root / "images" / "out.png").symlink_to(image(tmp_path / "secret.png"))
    refused(Table(name="mine"), root, r"out\.png: a link that leads out of the folder")
    assert len(Table(name="mine", links=True).index(root)) == 12
    shutil.move(root / "images", tmp_path / "images")
    (root / "images").symlink_to(tmp_path / "images")
    refused(Table(name="mine"), root, "images: a link that leads out of the folder")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "the file is empty"), (b"\x89PNG\r\n", "cannot be decoded"), (None, "is missing")]
)
def test_a_bad_image_is_named_by_prepare(table, harness, monkeypatch, tmp_path, content, message):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    bad = table / "images" / "04.png"
    bad.unlink()
    bad.write_bytes(content) if content is not None else bad.symlink_to("nothing.png")
    code, _, err = harness("data", "prepare", "csv", "--root", table, "--set", "name=mine", "--set", "labels=multi",
                           "--size", "8", "--workers", "1")  # fmt: skip
    assert code == 2
    assert "04.png" in err
    assert message in err
    assert "Traceback" not in err


# --- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_share": 0}, "test_share: expected more than 0"),
        ({"validation_share": 0.7}, "at most 0.5"),
        ({"bits": 8}, "bits: expected 9 to 16"),
        ({"pixel_mean": (127.5,)}, "pixel_mean: expected 1 or 1 numbers in"),
        ({"pixel_std": (0.0,)}, "pixel_std"),
        ({"channels": 3, "pixel_mean": (0.5, 0.5)}, "expected 1 or 3 numbers"),
    ],
)
def test_settings_that_no_data_could_have(settings, message):
    with pytest.raises(UsageError, match=message):
        Folder(name="mine", **settings)


def test_colour_and_its_normalisation(folder):
    data = Folder(name="mine", channels=3, pixel_mean=(0.4, 0.5, 0.6))
    assert (data.mean, data.std) == ((0.4, 0.5, 0.6), (0.25, 0.25, 0.25))
    row = data.index(folder).samples.iloc[0].to_dict()
    assert data.read(row, folder).shape == (32, 40, 3)


@pytest.mark.parametrize("name", ["", "a b", "../x", "a:b", "x" * 41, "-x"])
def test_a_name_is_required(folder, harness, name):
    for command in (("data", "prepare", "folder"), ("data", "verify", "folder"),
                    ("run", "--method", "baseline", "--dataset", "folder", "--dry-run")):  # fmt: skip
        code, _, err = harness(*command, "--root", folder, "--set", f"folder.name={name}")
        assert code == 2
        assert "expected a name of these data" in err
        assert "Give --set folder.name=NAME" in err


def test_the_folder_is_not_found(tmp_path, harness):
    (tmp_path / "stuff" / "a" / "b").mkdir(parents=True)
    code, _, err = harness("data", "verify", "folder", "--root", tmp_path, "--set", "name=mine")
    assert code == 2
    assert "its files were not found" in err
    assert "put them into a folder per class" in err


def test_the_folder_above_will_do_where_it_is_called_by_the_name(folder, tmp_path, harness):
    code, out, _ = harness("data", "verify", "folder", "--root", tmp_path, "--set", "name=mine", "--size", "8")
    assert code == 0, out
    assert f"root: {folder}" in out


def test_a_split_of_many_images_takes_little_memory():
    import pandas as pd

    from harness.data.index import stratified_part

    rng = np.random.default_rng(0)
    labels = (rng.random((50_000, 10)) < 0.02).astype(np.uint8)
    patients = pd.Series(rng.integers(0, 20_000, 50_000).astype(str))
    tracemalloc.start()
    part = stratified_part(patients, labels, share=0.2, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    assert 0.19 < part.mean() < 0.21
    assert np.abs(labels[part].sum(0) / labels.sum(0) - 0.2).max() < 0.02
    assert not set(patients[part]) & set(patients[~part])


def guide() -> list[str]:
    """Return the errors that docs/own_data.md quotes, each in one line."""
    text = (REPOSITORY / "docs" / "own_data.md").read_text()
    block = text[text.index("    Error: ") :].partition("\n\n")[0]
    return [" ".join(e.split()) for e in block.split("Error: ")[1:]]


def test_the_guide_quotes_errors_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("mychests")
    rows = [f"images/{i}.png,{'normal' if i % 2 else 'cardiomegaly'}" for i in range(12)]
    named = Table(name="mine", classes="cardiomegaly|normal")

    def table(*lines):
        return single(root, lines)

    def mistyped():
        named.index(table("image,label", *rows[:3], "images/3.png,cardiomegly", *rows[4:]))

    def semicolons():
        named.index(table("image;label", *(r.replace(",", ";") for r in rows)))

    def misplaced():
        named.index(table("image,label", *rows[:5], "imges/a.png,normal", *rows[6:]))

    def fractions():
        named.index(table("image,label", *rows))

    def dicom():
        for label in ("cardiomegaly", "normal"):
            image(root / label / "a.png")
        shutil.rmtree(root / "images")
        (root / "normal" / "x.dcm").write_bytes(b"x")
        Folder(name="mine").index(root)

    found = []
    for make in (mistyped, semicolons, misplaced, fractions, dicom):
        if make is fractions:
            root.mkdir(exist_ok=True)
            (root / "boxes.csv").write_text(f"{BOX}\nimages/0.png,cardiomegaly,0.25,0.25,1,1\n")
        with pytest.raises(UsageError) as caught:
            make()
        found.append(" ".join(str(caught.value).split()))
    assert found == guide()
