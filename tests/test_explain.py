"""`harness explain`: a user's own images through a run's model, to pictures, arrays and a page."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.data.decode import read_image, to_size
from harness.explain import explain
from harness.explainers.cam import CAM
from harness.masking import blurred
from harness.store import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of three modes and sizes, none the model's own, and files that are none."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 57, 3), np.uint8)).save(folder / "colour.jpg")
    Image.fromarray(rng.integers(0, 65536, (64, 20)).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.integers(0, 256, (1, 1, 4), np.uint8)).save(folder / f"{HOSTILE}.png")
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.jpg").write_bytes((folder / "colour.jpg").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def run(tiny_runs):
    runs_dir, (baseline, _) = tiny_runs
    return RunFolder(runs_dir / baseline.run_id)


def copy(run, folder):
    shutil.copytree(run.folder, folder / "copy", ignore=shutil.ignore_patterns("evaluations"))
    return RunFolder(folder / "copy")


def arrays(out):
    with np.load(out / "explanations.npz") as file:
        return dict(file)


def model_of(run, weights):
    from harness.device import resolve
    from harness.plan import remade
    from harness.trained import _filled, architecture

    plan = remade(run.info, {"evaluations": ()}, run.folder.parent)
    return _filled(architecture(plan, len(run.info["classes"])), weights, resolve("cpu"))


def test_maps_probabilities_and_pictures_are_the_models(harness, run, images, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.data.cache.prepare", lambda *_, **__: pytest.fail("the dataset was asked for"))
    out = tmp_path / "deep" / "out"
    code, text, err = harness("explain", run.folder, images / "colour.jpg", images / "deep.png", "--explainer", "cam",
                              "--explainer", "adversarial", "--target", "Mass", "--target", "Effusion", "--out", out)  # fmt: skip
    assert code == 0, err
    assert str(out / "index.html") in text
    assert "8 maps" in text
    assert "cam: 4/4" in err
    found = arrays(out)
    classes = run.info["classes"]
    assert found["classes"].tolist() == classes
    seen = np.stack([to_size(read_image(images / n, 1), 32) for n in ("colour.jpg", "deep.png")])
    assert np.array_equal(found["images"], seen)
    model = model_of(run, run.fit / "model.safetensors")
    x = torch.from_numpy(seen).float() / 255
    with torch.no_grad():
        np.testing.assert_allclose(found["probability"][0], model(x).sigmoid().numpy(), rtol=1e-4)
    target = [classes.index("Mass"), classes.index("Effusion")] * 2
    assert found["target"].tolist() == target
    assert found["image"].tolist() == [0, 0, 1, 1]
    heat = CAM()(model, x[[0, 0, 1, 1]], torch.tensor(target), seeds=torch.zeros(4)).heat
    np.testing.assert_allclose(found["heat_cam"], heat.numpy(), rtol=1e-4, atol=1e-5)
    change = found["changed_adversarial"] - x[[0, 0, 1, 1]].numpy()
    np.testing.assert_allclose(np.sqrt((change**2).mean((1, 2, 3))), 0.1, rtol=1e-3)
    kinds = {f"{n:02d}-{c}-{e}-{k}.png" for n in (0, 1) for c in ("Mass", "Effusion")
             for e, k in [(e, k) for e in ("cam", "adversarial") for k in ("heat", "overlay")]
             + [("adversarial", "changed"), ("adversarial", "difference")]}  # fmt: skip
    assert {p.name for p in (out / "pictures").iterdir()} == {*kinds, "00-image.png", "01-image.png"}
    with Image.open(out / "pictures" / "00-image.png") as picture:
        assert np.array_equal(np.asarray(picture), seen[0, 0])
    with Image.open(out / "pictures" / "01-Effusion-adversarial-difference.png") as picture:
        shown = np.asarray(picture) / 255
    np.testing.assert_allclose(shown, (0.5 + 2.5 * change[3, 0]).clip(0, 1), atol=0.01)
    page = (out / "index.html").read_text()
    assert "57 \N{MULTIPLICATION SIGN} 40 pixels in the file" in page
    for p in (found["probability"][0, 0, target[0]], found["probability"][0, 1, target[1]]):
        assert f"{p:.3f}" in page


def test_json_and_the_most_probable_class(harness, run, images, tmp_path):
    code, text, err = harness("explain", run.run_id[:12], images / "colour.jpg", "--runs-dir", run.folder.parent,
                              "--explainer", "lime", "--set", "lime.cells=3", "--set", "samples=20",
                              "--out", tmp_path / "o", "--json")  # fmt: skip
    assert (code, err) == (0, "")
    entry = json.loads(text)
    (image,) = entry["images"]
    (shown,) = image["maps"]
    best = int(arrays(tmp_path / "o")["probability"][0, 0].argmax())
    assert shown["class_name"] == image["classes"][0]["class_name"] == run.info["classes"][best]
    assert shown["probability"] == image["classes"][0]["probability"]
    assert [c["probability"] for c in image["classes"]] == sorted(c["probability"] for c in image["classes"])[::-1]
    (explainer,) = entry["explainers"]
    assert {"cells": 3, "samples": 20}.items() <= {v["name"]: v["value"] for v in explainer["settings"]}.items()
    assert (explainer["forwards"], explainer["backwards"]) == (20, 0)
    assert arrays(tmp_path / "o")["heat_lime"].shape == (1, 3, 3)
    assert (tmp_path / "o" / "index.html").samefile(entry["page"])


def test_a_map_follows_from_pixels_and_class_alone(run, images, tmp_path):
    shutil.copy(images / "colour.jpg", tmp_path / "renamed.jpg")

    def heat(out, *paths):
        explain(str(run.folder), paths, explainers=["random_map"], targets=["Mass"], out=tmp_path / out, quiet=True)
        return arrays(tmp_path / out)["heat_random_map"]

    both = heat("a", images / "deep.png", images / "colour.jpg")
    assert np.array_equal(heat("b", tmp_path / "renamed.jpg")[0], both[1])
    assert not np.array_equal(both[0], both[1])


def test_more_pairs_than_fit_at_once(run, images, tmp_path, monkeypatch):
    paths = [images / "deep.png", images / "colour.jpg"] * 2
    for name, size in (("whole", 16), ("parts", 3)):
        monkeypatch.setattr("harness.explain.PAIRS", size)
        explain(str(run.folder), paths, explainers=["cam", "adversarial"], targets=["Mass", "Nodule"],
                sets=["adversarial.steps=3"], out=tmp_path / name, quiet=True)  # fmt: skip
    whole, parts = arrays(tmp_path / "whole"), arrays(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in ("probability", "heat_cam", "changed_adversarial"):
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-3, atol=1e-5)
    assert len(whole["heat_cam"]) == 8


def test_again_replaces_the_earlier_page_alone(harness, run, images, tmp_path):
    command = ("explain", run.folder, images / "colour.jpg", "--explainer", "cam", "--out", tmp_path / "o", "--target")
    assert harness(*command, "Mass")[0] == 0
    assert harness(*command, "Nodule")[0] == 0
    assert {p.name for p in (tmp_path / "o" / "pictures").iterdir()} == {
        "00-image.png", "00-Nodule-cam-heat.png", "00-Nodule-cam-overlay.png"}  # fmt: skip
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    code, _, err = harness(*command[:-2], tmp_path / "other")
    assert code == 2
    assert "one that harness explain made, found other files" in err
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.txt"]


def test_of_a_cross_fitted_run_the_first_fold_is_explained_beside_the_mean(harness, run, tiny_runs, images, tmp_path):
    two = copy(run, tmp_path)
    weights = [r.source / "fit" / "model.safetensors" for r in tiny_runs[1]]
    for k, path in enumerate(weights):
        (two.fit / f"fold-{k}").mkdir()
        shutil.copy(path, two.fit / f"fold-{k}")
    (two.fit / "model.safetensors").unlink()
    (two.fit / "fit.json").write_text(json.dumps({"key": "k", "folds": [{}, {}]}))
    code, text, err = harness("explain", two.folder, images / "deep.png", "--explainer", "cam", "--out", tmp_path / "o",
                              "--target", "Mass", "--json")  # fmt: skip
    assert code == 0, err
    entry = json.loads(text)
    assert entry["folds"] == 2
    assert "the model of fold 0 is explained" in entry["note"]
    found = arrays(tmp_path / "o")
    assert not np.allclose(found["probability"][0], found["probability"][1], rtol=1e-3)
    number = run.info["classes"].index("Mass")
    (mass,) = [c for c in entry["images"][0]["classes"] if c["class_name"] == "Mass"]
    assert mass["probability"] == pytest.approx(found["probability"][0, 0, number], abs=1e-6)
    assert mass["mean"] == pytest.approx(found["probability"][:, 0, number].mean(), abs=1e-6)
    x = torch.from_numpy(found["images"]).float() / 255
    heat = CAM()(model_of(run, weights[0]), x, torch.tensor([number]), seeds=torch.zeros(1)).heat
    np.testing.assert_allclose(found["heat_cam"], heat.numpy(), rtol=1e-4, atol=1e-5)
    page = (tmp_path / "o" / "index.html").read_text()
    assert "mean of 2 models" in page
    assert "trained on it" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "nothing"}, "no run 'nothing'"),
        ({"explainer": "camm"}, "unknown explainer 'camm'. Did you mean 'cam'"),
        ({"target": "mass"}, "unknown class 'mass'. Did you mean 'Mass'"),
        ({"image": "nowhere.png"}, "nowhere.png: the image is missing"),
        ({"image": "text.png"}, "text.png: cannot be decoded as an image"),
        ({"image": "empty.png"}, "empty.png: expected an image, the file is empty"),
        ({"image": "half.jpg"}, "half.jpg: cannot be decoded as an image"),
        ({"image": ""}, "expected an image, found something else"),
        ({"set": "phantom.size=64"}, "'phantom' is not part of this run"),
        ({"set": "learning_rate=1"}, "no selected component has a setting 'learning_rate'"),
        ({"set": "cells"}, "expected field=value"),
        ({"device": "gpu"}, "expected auto, cpu, cuda or cuda:<number>"),
        ({"plugin": "nowhere.py"}, "nothing is there"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_cannot_be_used_is_one_error_and_writes_nothing(harness, run, images, tmp_path, changes, message):
    given = {"run": run.folder, "image": "colour.jpg", "explainer": "gradcam", "target": "Mass"} | changes
    place, image = given.pop("run"), images / given.pop("image")
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    code, out, err = harness("explain", place, images / "deep.png", image, *options, "--out", tmp_path / "o")
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if line.startswith("Error: ")]
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("missing", ["fit.json", "model.safetensors"])
def test_a_run_without_weights(harness, run, images, tmp_path, missing):
    other = copy(run, tmp_path)
    (other.fit / missing).unlink()
    code, out, err = harness(
        "explain", other.folder, images / "deep.png", "--explainer", "cam", "--out", tmp_path / "o"
    )
    assert (code, out) == (2, "")
    assert ("has no trained model yet" if missing == "fit.json" else missing) in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("damage", "status", "message"),
    [(lambda w: w * torch.nan, 2, "model.safetensors"), (lambda w: w * 1e25, 4, "gives no number for")],
    ids=["no numbers", "overflow"],
)
def test_damaged_weights_give_an_error_and_no_page(harness, run, images, tmp_path, damage, status, message):
    other = copy(run, tmp_path)
    path = other.fit / "model.safetensors"
    save_file({name: damage(w) if w.ndim == 4 else w for name, w in load_file(path).items()}, path)
    code, out, err = harness(
        "explain", other.folder, images / "deep.png", "--explainer", "cam", "--out", tmp_path / "o"
    )
    assert (code, out) == (status, ""), err
    assert message in err
    assert not (tmp_path / "o").exists()


def test_curves_go_from_the_blurred_image_to_the_image_and_back(harness, run, images, tmp_path):
    out = tmp_path / "o"
    code, text, err = harness("explain", run.folder, images / "deep.png", "--explainer", "saliency", "--explainer",
                              "cam", "--target", "Mass", "--out", out, "--json")  # fmt: skip
    assert code == 0, err
    found, entry = arrays(out), json.loads(text)
    model = model_of(run, run.fit / "model.safetensors")
    x, target = torch.from_numpy(found["images"]).float() / 255, torch.from_numpy(found["target"])
    cells = torch.from_numpy(found["heat_saliency"])[0].view(8, 4, 8, 4).mean((1, 3)).flatten()
    shown, hidden = [], []
    with torch.no_grad():
        for s in range(51):
            mask = torch.zeros(64)
            mask[cells.argsort(descending=True)[: round(s * 64 / 50)]] = 1
            big = torch.nn.functional.interpolate(mask.view(1, 1, 8, 8), size=(32, 32), mode="bilinear")
            for curve, m in ((shown, big), (hidden, 1 - big)):
                curve.append(model(m * x + (1 - m) * blurred(x)).sigmoid()[0, target[0]].item())
    np.testing.assert_allclose(found["insertion_saliency"][0], shown, atol=1e-5)
    np.testing.assert_allclose(found["deletion_saliency"][0], hidden, atol=1e-5)
    coarse, fine = (next(m for m in entry["images"][0]["maps"] if m["explainer"] == e) for e in ("cam", "saliency"))
    assert coarse["curves"] is None
    assert found["insertion_cam"].shape == (1, 0)
    steps = [round(s * 64 / 50) / 64 for s in range(51)]
    assert fine["curves"]["insertion"]["area"] == pytest.approx(np.trapezoid(shown, steps), abs=1e-5)
    assert fine["curves"]["deletion"]["area"] == pytest.approx(np.trapezoid(hidden, steps), abs=1e-5)
    page = (out / "index.html").read_text()
    assert page.count("<polyline") == 2
    assert "cam: none, its maps are too coarse" in page


def test_a_map_that_is_no_number_is_said_to_be_none(harness, run, images, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import torch\nfrom harness.api import Explanation, explainer\n"
        "@explainer('broken', source='test', needs_exact_cam=False, reference=False)\nclass Broken:\n"
        "    def __call__(self, model, x, target, *, seeds):\n"
        "        return Explanation(torch.full((len(x), 4, 4), torch.nan), image=x * torch.nan)\n"
    )
    code, text, err = harness("explain", run.folder, images / "deep.png", "--explainer", "broken", "--plugin", plugin,
                              "--out", tmp_path / "o", "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(text)["images"][0]["maps"][0]["finite"] is False
    assert "no numbers, shown as 0" in (tmp_path / "o" / "index.html").read_text()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_page_opens_without_a_network_or_a_complaint(run, images, tmp_path):
    from playwright.sync_api import sync_playwright

    out = tmp_path / "o"
    explain(str(run.folder), [images / f"{HOSTILE}.png", images / "colour.jpg"], explainers=["cam", "adversarial"],
            targets=["Mass"], sets=["adversarial.steps=3"], out=out, quiet=True)  # fmt: skip
    asked, complaints = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda r: asked.append(r.url))
        page.on("requestfailed", lambda r: complaints.append(r.url))
        page.on("console", lambda m: m.type in ("error", "warning") and complaints.append(m.text))
        page.on("dialog", lambda d: (complaints.append("dialog"), d.dismiss()))
        page.goto((out / "index.html").as_uri())
        broken = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length")
        wide = page.evaluate("document.documentElement.scrollWidth")
        heading = page.locator("h2").first.inner_text()
        count = page.locator("img").count()
        browser.close()
    assert count == 2 * (1 + 2 + 5)
    assert broken == 0
    assert wide <= 390
    assert heading == f"{HOSTILE}.png"
    assert complaints == []
    assert asked
    assert all(url.startswith("file://") for url in asked)
