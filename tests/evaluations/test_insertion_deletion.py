"""The evaluation: which images and classes, what is stored, missing maps, folds, attacks, pictures."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.attacks.deepfool import deepfool
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.errors import UsageError
from harness.evaluations.gallery import write
from harness.evaluations.insertion_deletion import InsertionDeletion
from harness.evaluations.subject import Subject, fixed_order
from harness.explainers.reference import RandomMap, WholeImage
from harness.explainers.saliency import Saliency
from harness.masking import blurred
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.store import read_json
from harness.tasks import MultiClass, MultiLabel
from harness.types import Explanation

SIDE = 16
WAYS = ("insertion", "deletion")


def network(seed: int = 0, *, exclusive: bool = True, classes: int = 3) -> Classifier:
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4))
    model = Classifier(
        Normalise((0.4, 0.5, 0.6), (0.1,) * 3), features, GlobalAverageLinear(6, classes), num_classes=classes
    )
    with torch.no_grad():
        model.head.weight.mul_(6)
    model.exclusive = exclusive
    return model.eval().requires_grad_(False)


def subject(*models: Classifier, n: int = 20, task=None, labels=None, images=None, **changes) -> Subject:
    task = task or MultiClass()
    classes = models[0].num_classes
    images = np.random.default_rng(0).integers(0, 256, (n, 3, SIDE, SIDE), np.uint8) if images is None else images
    labels = np.eye(classes, dtype=np.uint8)[np.arange(n) % classes] if labels is None else labels
    splits = {"split": ["test"] * n}
    if len(models) > 1:
        splits = {
            f"split_{k}": ["test" if i % len(models) == k else "train" for i in range(n)] for k in range(len(models))
        }
    names = [f"i{i}" for i in range(n)]
    index = Index(pd.DataFrame({"id": names, "patient": names, **splits}), labels, tuple("abcdef"[:classes]))
    prepared = Prepared(None, index, images, "f")  # pyright: ignore
    return Subject(models, task, prepared, resolve("cpu"), attacks={"deepfool": deepfool}, **changes)


def column(scored, name: str, resolution: int, more: str = "") -> np.ndarray:
    return scored.samples[f"{name}{more}|resolution={resolution}"].to_numpy()


def pixels(made: Subject) -> torch.Tensor:
    return torch.from_numpy(np.asarray(made.prepared.images)) / 255


def test_the_class_is_the_model_s_and_the_ends_are_the_image_and_its_blur():
    model = network()
    made = subject(model)
    scored = InsertionDeletion(images=20, batch=7).score(made, Saliency())
    x = pixels(made)
    chosen = model(x).argmax(1)
    assert scored.samples["explained_class"].tolist() == [made.prepared.index.classes[c] for c in chosen.tolist()]
    ends = {"p_original": x, "p_blurred": blurred(x)}
    for name, images in ends.items():
        p = model(images).softmax(1).gather(1, chosen[:, None])[:, 0]
        assert column(scored, name, 8) == pytest.approx(p.double().numpy(), abs=1e-5)
    shown, gone = (np.stack(column(scored, f"{w}_curve", 8)) / 65535 for w in WAYS)
    assert shown.shape == (20, 51)
    assert shown[:, [0, -1]] == pytest.approx(gone[:, [-1, 0]], abs=1e-4)
    for way, levels in zip(WAYS, (shown, gone), strict=True):
        share = np.rint(np.arange(51) * 64 / 50) / 64
        assert column(scored, way, 8) == pytest.approx(np.trapezoid(levels, share, axis=1), abs=2e-5)
        normal = column(scored, f"normalised_{way}", 8)
        assert normal == pytest.approx(column(scored, way, 8) / column(scored, "p_original", 8))
    difference = column(scored, "insertion_minus_deletion", 8)
    assert difference == pytest.approx(column(scored, "insertion", 8) - column(scored, "deletion", 8))
    assert scored.passes == {"forward": 100.0, "backward": 1.0}


def test_passes_are_counted_as_the_model_sees_them():
    model, seen = network(), []
    model.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    made = subject(model)
    scored = InsertionDeletion(images=20, resolutions=(4, 8)).score(made, WholeImage())
    assert sum(seen) == 20 * scored.passes["forward"] + len(scored.pictures), "the pictures' classes cost a pass each"
    assert scored.passes["forward"] == 2 + 2 * 15 + 2 * 49


def test_several_findings_follow_the_most_probable_true_one_and_pass_over_images_without_any():
    model = network(exclusive=False)
    labels = np.zeros((20, 3), np.uint8)
    labels[::2, 0], labels[::4, 2] = 1, 1
    made = subject(model, task=MultiLabel(), labels=labels)
    scored = InsertionDeletion(images=6).score(made, Saliency())
    order = [int(i) for i in fixed_order(20) if i % 2 == 0][:6]
    assert scored.samples["id"].tolist() == [f"i{i}" for i in sorted(order)]
    p = model(pixels(made)).sigmoid()
    for row, i in zip(scored.samples.itertuples(), sorted(order), strict=True):
        best = 0 if i % 4 or p[i, 0] > p[i, 2] else 2
        assert row.explained_class == "abc"[best]
    reached = fixed_order(20).tolist().index(order[-1]) + 1
    assert scored.facts["images without a label, passed over"] == reached - 6
    none = subject(model, task=MultiLabel(), labels=np.zeros((20, 3), np.uint8))
    assert "no image of the test split has a label" in InsertionDeletion().applies(none.prepared)


def test_the_sample_is_a_prefix_of_the_fixed_order_and_shares_go_to_their_models():
    a, b = network(1), network(2)
    both = InsertionDeletion(images=20).score(subject(a, b), Saliency())
    alone = [InsertionDeletion(images=20).score(subject(m), Saliency()) for m in (a, b)]
    ids = both.samples["id"].tolist()
    for k, single in enumerate(alone):
        rows = [i for i, name in enumerate(ids) if int(name[1:]) % 2 == k]
        at = [single.samples["id"].tolist().index(ids[i]) for i in rows]
        assert column(both, "insertion", 8)[rows] == pytest.approx(column(single, "insertion", 8)[at], abs=1e-5)
    few = InsertionDeletion(images=5).score(subject(a), Saliency())
    assert set(few.samples["id"]) == {f"i{i}" for i in fixed_order(20)[:5]}
    assert len(InsertionDeletion().score(subject(a, limit=3), Saliency()).samples) == 3


@pytest.mark.parametrize("changes", [{"memory_batch": 3}, {}])
def test_batches_change_nothing_beyond_rounding(changes):
    made = subject(network(), **changes)
    whole = InsertionDeletion(images=20, batch=20, masked=1000).score(subject(network()), RandomMap(cells=8))
    parts = InsertionDeletion(images=20, batch=3, masked=5).score(made, RandomMap(cells=8))
    for name in (*WAYS, "p_blurred"):
        assert column(parts, name, 8) == pytest.approx(column(whole, name, 8), abs=1e-5)


def test_profiles_have_their_sizes_and_resolutions():
    made = subject(network(), profile="paper")
    assert InsertionDeletion().chosen(224, "paper") == (7, 28, 224)
    assert InsertionDeletion().chosen(224, "quick") == (7,)
    scored = InsertionDeletion(resamples=20).score(made, Saliency())
    assert len(scored.samples) == 20
    assert sorted({r["resolution"] for r in InsertionDeletion(resamples=20).summarise(scored.samples)}) == [8, 16]


def test_a_map_is_not_scored_at_a_finer_resolution_and_the_row_says_why():
    setting = InsertionDeletion(images=20, resolutions=(2, 4, 8), resamples=50)
    scored = setting.score(subject(network()), RandomMap(cells=4))
    rows = {(r["metric"], r["resolution"]): r for r in setting.summarise(scored.samples)}
    assert rows["insertion", 4]["n"] == 20
    lost = rows["insertion", 8]
    assert np.isnan(lost["value"])
    assert (lost["n"], lost["n_missing"]) == (0, 20)
    assert lost["reason"].startswith("the map has 4 cells per side")
    assert scored.passes["forward"] == 2 + 2 * 3 + 2 * 15
    only = InsertionDeletion(images=20, resolutions=(8,), resamples=50)
    none = only.score(subject(network()), RandomMap(cells=4))
    assert all(np.isnan(r["value"]) and r["reason"] for r in only.summarise(none.samples))
    assert none.pictures == []


def test_maps_and_models_that_give_no_numbers_are_missing():
    def broken(model, x, target, *, seeds):
        heat = Saliency()(model, x, target, seeds=seeds).heat.clone()
        heat[3] = torch.nan
        heat[4, 0, 0] = torch.inf
        return Explanation(heat)

    setting = InsertionDeletion(images=20, batch=20, resamples=50, resolutions=(4, 8))
    scored = setting.score(subject(network()), broken)
    assert np.flatnonzero(np.isnan(column(scored, "deletion", 4))).tolist() == [3, 4]
    assert scored.facts["maps not finite"] == 2
    assert {(r["n"], r["n_missing"]) for r in setting.summarise(scored.samples)} == {(18, 2)}
    assert {p.entry["id"] for p in scored.pictures}.isdisjoint({"i3", "i4"})
    sick = network()
    with torch.no_grad():
        sick.head.bias.fill_(torch.nan)
    rows = setting.summarise(setting.score(subject(sick), WholeImage()).samples)
    assert all(np.isnan(r["value"]) and r["reason"] == "no samples that could be scored" for r in rows)


def test_images_of_one_colour_keep_their_probability():
    images = np.full((20, 3, SIDE, SIDE), 90, np.uint8)
    scored = InsertionDeletion(images=20).score(subject(network(), images=images), Saliency())
    for way in WAYS:
        assert column(scored, f"normalised_{way}", 8) == pytest.approx(1, abs=1e-5)


def test_a_constant_map_scores_as_a_random_one():
    made = subject(network(), n=400)
    setting = InsertionDeletion(images=400, resolutions=(4,))
    found = {name: column(setting.score(made, e), "insertion_minus_deletion", 4)
             for name, e in (("constant", WholeImage()), ("random", RandomMap(cells=4)))}  # fmt: skip
    difference = found["constant"] - found["random"]
    assert abs(difference.mean()) < 4 * difference.std() / 20
    assert difference.std() > 0
    assert abs(found["constant"].mean()) < 4 * found["constant"].std() / 20, "an order that knows nothing"


def test_modes_are_columns_of_their_own():
    made = subject(network())
    base = InsertionDeletion(images=20, resolutions=(4,)).score(made, Saliency())
    code = InsertionDeletion(images=20, resolutions=(4,), mode="igos_code").score(made, Saliency())
    levels = np.stack(column(code, "deletion_curve", 4, "|variant=igos_code")) / 65535
    expected = (levels[:, 1:-1].sum(1) + 1) / 16
    assert column(code, "deletion", 4, "|variant=igos_code") == pytest.approx(expected, abs=1e-4)
    plainly = np.stack(column(base, "deletion_curve", 4)) / 65535
    assert levels[:, [0, -1]] == pytest.approx(plainly[:, [0, -1]], abs=1e-4)
    assert abs(levels - plainly).max() > 1e-3, "masks with aligned corners are others"
    rise = InsertionDeletion(images=20, resolutions=(4,), mode="rise").score(made, Saliency())
    model, x = made.models[0], pixels(made)
    target = model(x).argmax(1, keepdim=True)
    ends = {"deletion": model.normalise.mean.expand_as(x), "insertion": blurred(x, kernel=11, sigma=5.0)}
    for way, images in ends.items():
        p = model(images).softmax(1).gather(1, target)[:, 0]
        stored = np.stack(column(rise, f"{way}_curve", 4, "|variant=rise"))[:, -1 if way == "deletion" else 0] / 65535
        assert stored == pytest.approx(p.numpy(), abs=1e-4)
    assert rise.passes["forward"] == base.passes["forward"] + 1
    assert {"baseline", "deleted"} <= set(rise.pictures[0].others)


def test_attacked_images_stand_beside_the_clean_ones_for_the_class_they_then_have():
    made = subject(network(), n=24)
    setting = InsertionDeletion(images=24, resolutions=(4, 8), attack="deepfool", resamples=50)
    scored = setting.score(made, Saliency())
    clean = column(scored, "p_original", 4, "|variant=clean")
    moved = column(scored, "p_original", 4, "|attack=deepfool|variant=attacked")
    assert (np.isnan(clean) == np.isnan(moved)).all()
    model, x = made.models[0], pixels(made)
    right = (model(x).argmax(1) == torch.from_numpy(made.prepared.index.labels.argmax(1))).numpy()
    assert (~np.isnan(clean) == right).all(), "what is wrong as it is cannot be attacked"
    names = scored.samples[["explained_class|variant=clean", "explained_class|variant=attacked"]].to_numpy()
    assert (names[right, 0] != names[right, 1]).all()
    rows = {(r["metric"], r["variant"], r["attack"], r["resolution"]): r for r in setting.summarise(scored.samples)}
    pair = [rows["insertion", "clean", "", 8], rows["insertion", "attacked", "deepfool", 8]]
    assert {r["n"] for r in pair} == {right.sum()}
    assert {(r["n"], r["n_missing"]) for r in rows.values()} == {(right.sum(), 24 - right.sum())}, "the same images"
    alone = InsertionDeletion(images=24, resolutions=(4, 8)).score(made, Saliency())
    assert column(scored, "insertion", 8, "|variant=clean")[right] == pytest.approx(
        column(alone, "insertion", 8)[right], abs=1e-5
    )
    shown = [(p.entry["id"], p.entry["variant"]) for p in scored.pictures]
    assert [v for _, v in shown] == ["clean", "attacked"] * (len(shown) // 2)


def test_an_overshoot_makes_the_network_sure_of_the_wrong_class():
    made = subject(network(), n=24)
    at = "|attack=deepfool|variant=attacked"
    sure = {}
    for overshoot in (1.0, 4.0):
        setting = InsertionDeletion(images=24, resolutions=(4,), attack="deepfool", overshoot=overshoot)
        sure[overshoot] = np.nanmean(column(setting.score(made, Saliency()), "p_original", 4, at))
    assert sure[4.0] > sure[1.0] + 0.05
    with pytest.raises(UsageError, match=r"overshoot: expected at least 1, got 0\.5"):
        InsertionDeletion(overshoot=0.5)


def test_pictures_hold_what_a_page_needs_to_show_every_step(tmp_path):
    made = subject(network())
    scored = InsertionDeletion(images=20, resolutions=(4, 8)).score(made, Saliency())
    whys = [p.entry["why"] for p in scored.pictures]
    assert whys.count("fixed") == 12
    assert set(whys) == {"fixed", "best", "median", "worst"}
    write(scored.pictures, tmp_path)
    model = made.models[0]
    for entry in read_json(tmp_path / "gallery.json")[:5]:
        i = int(entry["id"][1:])
        row = scored.samples["id"].tolist().index(entry["id"])
        assert all((tmp_path / entry[kind]).exists() for kind in ("image", "baseline", "heat"))
        for drawn in entry["curves"]:
            r, steps = drawn["resolution"], torch.tensor(drawn["steps"]).view(1, 1, drawn["resolution"], -1)
            assert drawn["counts"] == [int((steps <= s).sum()) for s in range(len(drawn["counts"]))]
            assert drawn["insertion_area"] == pytest.approx(column(scored, "insertion", r)[row], abs=1e-4)
            x = pixels(made)[i : i + 1]
            target = model(x).argmax(1)
            for s in (1, len(drawn["counts"]) // 2):
                mask = nn.functional.interpolate((steps <= s).float(), size=(SIDE, SIDE), mode="bilinear")
                p = model(blurred(x) + mask * (x - blurred(x))).softmax(1)[0, target]
                assert drawn["insertion"][s] == pytest.approx(float(p), abs=1e-3)


@pytest.mark.parametrize(("changes", "message"), [
    ({"resolutions": (5,)}, "expected divisors of the image's 16 px, got 5"),
    ({"resolutions": (0,)}, "got 0"),
    ({"images": 0}, "insertion_deletion.images: expected at least 1"),
    ({"masked": 0}, "insertion_deletion.masked: expected at least 1"),
], ids=str)  # fmt: skip
def test_bad_settings_are_one_clear_error(changes, message):
    with pytest.raises(UsageError, match=message):
        InsertionDeletion(**changes).score(subject(network()), Saliency())


@pytest.mark.parametrize("side", [1, 37])
def test_images_of_odd_sizes(side):
    model = Classifier(
        Normalise((0.5,) * 3, (0.2,) * 3), nn.Conv2d(3, 4, 1), GlobalAverageLinear(4, 3), num_classes=3
    ).eval()
    images = np.random.default_rng(1).integers(0, 256, (20, 3, side, side), np.uint8)
    made = subject(model.requires_grad_(False), images=images)
    scored = InsertionDeletion(images=20).score(made, Saliency())
    assert np.isfinite(column(scored, "insertion", side)).all()


def test_a_stopped_evaluation_goes_on_with_the_images_it_has():
    kept: dict[str, pd.DataFrame] = {}
    calls: list[int] = []

    def keep(parts, progress):
        for part in parts:
            if len(kept) == 2:
                raise KeyboardInterrupt
            kept[part.name] = part.make()
        return list(kept.values())

    def rest(parts, progress):
        return [kept[part.name] if part.name in kept else part.make() for part in parts]

    def counted(model, x, target, *, seeds):
        calls.append(len(x))
        return Saliency()(model, x, target, seeds=seeds)

    setting = InsertionDeletion(images=20, batch=8)
    made = subject(network(), shards=keep)
    with pytest.raises(KeyboardInterrupt):
        setting.score(made, counted)
    assert calls == [8, 8]
    again = setting.score(dataclasses.replace(made, shards=rest), counted)
    assert calls[2] == 4, "only what was missing is explained"
    whole = setting.score(subject(network()), Saliency())
    pd.testing.assert_frame_equal(again.samples, whole.samples)


def test_maps_are_made_once_to_be_scored_and_shown():
    calls = []

    def counting(model, x, target, *, seeds):
        calls.append(len(x))
        return Explanation(x.mean(1), backwards=1.0)

    scored = InsertionDeletion(images=10, batch=4, resamples=20).score(subject(network()), counting)
    assert calls == [4, 4, 2]
    assert scored.pictures
    assert scored.passes["backward"] == 1.0
