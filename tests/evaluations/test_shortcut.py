"""A model that reads a marker and a model that does not, on images that are known pixel by pixel."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from subjects import FINDINGS, SIZE, linear, subject
from torch import nn

from harness.data.cache import Prepared
from harness.data.index import Index, no_boxes
from harness.errors import UsageError
from harness.evaluations.marked import marked_of, versions, why_none
from harness.evaluations.shortcut import Shortcut
from harness.evaluations.shortcut_maps import ShortcutMaps
from harness.explainers.reference import WholeImage
from harness.models.classifier import Classifier, Normalise
from harness.types import Explanation

MARKER, LESION = [0.0, 0.0, 0.25, 0.25], [0.5, 0.5, 1.0, 1.0]  # 2 x 2 and 4 x 4 of 8 x 8 pixels
CORNERS = ["x0", "y0", "x1", "y1"]


@pytest.fixture(autouse=True)
def _blur_that_blurs(monkeypatch):
    """The blur's kernel at 8 px is one pixel; black stands for it."""
    monkeypatch.setattr("harness.evaluations.marked.blurred", torch.zeros_like)


def table(rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "class_name", *CORNERS]) if rows else no_boxes()


def marked_images(*, tied: str = "a", shortcuts=None, n: int = 12) -> Prepared:
    """Even images carry the marker, every third has class a and its lesion; some are of the training part."""
    images = np.full((n, 3, SIZE, SIZE), 60, np.uint8)
    labels = np.zeros((n, 2), np.uint8)
    marks, boxes = [], []
    for i in range(n):
        if i % 2 == 0:
            images[i, :, :2, :2] = 250
            marks.append((f"i{i}", tied, *MARKER))
        if i % 3 == 0:
            images[i, :, 4:, 4:] = 180
            labels[i, 0] = 1
            boxes.append((f"i{i}", "a", *LESION))
        labels[i, 1] = 1 - labels[i, 0]
    names = [f"i{i}" for i in range(n)]
    samples = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * 2 + ["test"] * (n - 2)})
    marks = marks if shortcuts is None else shortcuts
    return Prepared(None, Index(samples, labels, ("a", "b"), table(boxes), table(marks)), images, "f")  # pyright: ignore


def reader(place: str, gain: float = 6.0) -> Classifier:
    """A model whose logit of class a is the mean of the marker's pixels, or of the lesion's; that of b is -3."""
    weight = torch.zeros(2, 3, SIZE, SIZE)
    rows = slice(0, 2) if place == "marker" else slice(4, 8)
    weight[0, :, rows, rows] = gain / (3 * (rows.stop - rows.start) ** 2)
    head = nn.Linear(3 * SIZE * SIZE, 2)
    with torch.no_grad():
        head.weight.copy_(weight.flatten(1))
        head.bias.copy_(torch.tensor([-3.0, -3.0]))
    model = Classifier(Normalise((0.0,) * 3, (1.0,) * 3), nn.Flatten(), head, num_classes=2)
    return model.eval().requires_grad_(False)


def gradient(model, x, target, *, seeds) -> Explanation:
    return Explanation((x * model.head.weight[target].view(-1, 3, SIZE, SIZE)).abs().sum(1), backwards=1.0)


def audited(model, prepared=None, **settings):
    made = dataclasses.replace(subject(model, task=FINDINGS, labels=np.ones((20, 2), np.uint8)),
                               prepared=prepared or marked_images())  # fmt: skip
    return (Shortcut(resamples=20, batch=2, **settings).score(made),
            ShortcutMaps(resamples=20, batch=2, **settings).score(made, gradient))  # fmt: skip


def sigmoid(grey: float, gain: float = 6.0) -> float:
    return 1 / (1 + np.exp(3 - gain * grey / 255))


def values(kind, scored) -> dict:
    return {(r["metric"], r["variant"]): r for r in kind(resamples=20).summarise(scored.samples)}


def test_a_model_that_reads_the_marker():
    scored, maps = audited(reader("marker"))
    assert scored.samples["id"].tolist() == ["i2", "i4", "i6", "i8", "i10"], "test images with the marker"
    rows = values(Shortcut, scored)
    assert rows["shortcut_effect", "before"]["value"] == pytest.approx(sigmoid(250))
    assert rows["shortcut_effect", "erased"]["value"] == pytest.approx(sigmoid(0))
    assert rows["shortcut_effect", ""]["value"] == pytest.approx(sigmoid(250) - sigmoid(0))
    assert rows["shortcut_alone", "revealed"]["value"] == pytest.approx(sigmoid(250))
    assert rows["shortcut_alone", ""]["value"] == pytest.approx(sigmoid(250) - sigmoid(0))
    found = values(ShortcutMaps, maps)
    assert found["shortcut_mass", ""]["value"] == pytest.approx(1)
    assert found["shortcut_mass", "area"]["value"] == pytest.approx(4 / 64)
    assert found["shortcut_mass", "revealed"]["value"] == pytest.approx(1)
    assert found["shortcut_mass", "erased"]["reason"] == "" or np.isnan(found["shortcut_mass", "erased"]["value"])
    assert found["shortcut_lesion_mass", ""]["value"] == pytest.approx(0)
    assert found["shortcut_lesion_mass", "area"]["value"] == pytest.approx(16 / 64)


def test_a_model_that_reads_the_lesion():
    scored, maps = audited(reader("lesion"))
    rows = values(Shortcut, scored)
    assert rows["shortcut_effect", ""]["value"] == pytest.approx(0)
    assert rows["shortcut_effect", "before"]["value"] == pytest.approx(sigmoid(60))
    assert rows["shortcut_effect_present", "before"]["value"] == pytest.approx(sigmoid(180))
    assert rows["shortcut_alone", "revealed"]["value"] == pytest.approx(sigmoid(0))
    found = values(ShortcutMaps, maps)
    assert found["shortcut_mass", ""]["value"] == pytest.approx(0)
    assert found["shortcut_lesion_mass", ""]["value"] == pytest.approx(1)


def test_n_counts_the_group_that_a_number_is_of():
    rows = values(Shortcut, audited(reader("marker"))[0])
    assert {m: (rows[m, ""]["n"], rows[m, ""]["n_missing"]) for m, _ in rows} == {
        "shortcut_effect": (4, 0), "shortcut_effect_present": (1, 0), "shortcut_alone": (5, 0),
    }  # fmt: skip
    maps = values(ShortcutMaps, audited(reader("lesion"))[1])
    assert (maps["shortcut_lesion_mass", ""]["n"], maps["shortcut_lesion_mass", ""]["n_missing"]) == (1, 0)
    assert maps["shortcut_mass", ""]["n"] == 5


def test_nobody_has_the_class():
    prepared = marked_images()
    prepared.index.labels[:, 0] = 0
    rows = values(Shortcut, audited(reader("marker"), prepared)[0])
    row = rows["shortcut_effect_present", ""]
    assert (row["n"], row["n_missing"], row["reason"]) == (0, 0, "no samples that could be scored")
    assert rows["shortcut_effect", ""]["n"] == 5


def test_a_shortcut_that_is_tied_to_no_class():
    """The class that is explained: b where a is not there, whose logit is -3 whatever the image holds."""
    scored, _ = audited(reader("marker"), marked_images(tied=""))
    before = scored.samples["before_present"].to_numpy()
    assert before == pytest.approx([sigmoid(0), sigmoid(0), sigmoid(250), sigmoid(0), sigmoid(0)])


def test_two_shortcuts_of_two_classes_on_one_image():
    rows = [("i4", "b", *LESION), ("i4", "a", *MARKER), ("i4", "a", 0.5, 0.0, 0.75, 0.25), ("i0", "a", *MARKER)]
    marked = marked_of(marked_images(shortcuts=rows))
    assert marked.position.tolist() == [4, 4]
    assert marked.tied.tolist() == [0, 1]
    assert [len(s) for s in marked.shortcuts] == [2, 1]


@pytest.mark.parametrize(
    ("shortcuts", "reason"),
    [([], "the dataset has no shortcuts"), ([("i0", "a", *MARKER)], "the test split has no image with a shortcut")],
)
def test_data_without_shortcuts(shortcuts, reason):
    prepared = marked_images(shortcuts=shortcuts)
    assert why_none(prepared) == Shortcut().applies(prepared) == ShortcutMaps().applies(prepared) == reason
    assert Shortcut().applies(marked_images()) == ""


def test_versions_of_an_image():
    x = torch.rand(1, 3, SIZE, SIZE)
    mask = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    mask[..., :2, :2] = True
    found = versions(x, mask)
    assert torch.equal(found["erased"], x * ~mask)
    assert torch.equal(found["revealed"], x * mask)
    assert (found["blurred"] == 0).all()


def test_constant_maps_and_maps_without_numbers_are_missing():
    made = dataclasses.replace(subject(reader("marker"), task=FINDINGS, labels=np.ones((20, 2), np.uint8)),
                               prepared=marked_images())  # fmt: skip
    rows = values(ShortcutMaps, ShortcutMaps().score(made, WholeImage()))
    assert (rows["shortcut_mass", ""]["n"], rows["shortcut_mass", ""]["n_missing"]) == (0, 5)
    assert rows["shortcut_mass", ""]["reason"] == "no samples that could be scored"

    def broken(model, x, target, *, seeds):
        heat = gradient(model, x, target, seeds=seeds).heat.clone()
        heat[0, 0, 0] = torch.nan
        return Explanation(heat)

    scored = ShortcutMaps(batch=5).score(made, broken)
    assert np.flatnonzero(np.isnan(scored.samples["shortcut"])).tolist() == [0]


def test_the_fixed_order_says_which_images_are_left():
    some = audited(reader("marker"), images=2)[0].samples["id"].tolist()
    assert len(some) == 2
    made = dataclasses.replace(subject(reader("marker"), task=FINDINGS, labels=np.ones((20, 2), np.uint8)),
                               prepared=marked_images(), limit=2)  # fmt: skip
    assert Shortcut().score(made).samples["id"].tolist() == some
    with pytest.raises(UsageError, match=r"images: expected at least 1"):
        audited(reader("marker"), images=0)


def test_a_linear_model_of_other_classes_is_no_reader():
    still = linear(torch.zeros(2, 192), torch.tensor([1.0, 0.0]))
    rows = values(Shortcut, audited(still)[0])
    assert {v["value"] for (_, variant), v in rows.items() if not variant} == {0.0}
