"""The same work by packages that PyPI has: their seconds over ours, and whether both find the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial
from harness.attacks.pgd import pgd
from harness.explainers.masked import baseline_of
from harness.masking import blend, blurred
from harness.metrics.auroc import auroc
from harness.metrics.calibration import ece
from harness.metrics.predictions import f1
from harness.plugins import catalogue
from harness.scores.infidelity import infidelity
from harness.scores.threshold_iou import counts, upsample
from paths import subject
from paths.metrics import scores
from paths.turns import Table, ratio, spread, turns

TITLE = "Peers"
SAYS = (
    "The same network, images and settings for both, on {subject}; they take turns. A fast wrong answer is nothing: "
    "each line says what both found: for maps and metrics the largest difference, for attacks the mean size (RMSE) of "
    "what fooled the network, for which less is better. Where a difference is not rounding the last column says what "
    "it is."
)
PACKAGES = ("captum", "grad-cam", "torchattacks", "foolbox", "torchmetrics", "scikit-learn")
RADIUS = 8 / 255

Pair = tuple[Callable[[], Any], Callable[[], Any]]  # ours, theirs: both return what is compared


def explainers(model: nn.Module, x: Tensor, y: Tensor, quick: bool) -> dict[tuple[str, str], tuple[Pair, str]]:
    from captum.attr import IntegratedGradients, LayerGradCam, Lime, Occlusion, Saliency
    from captum.metrics import infidelity as captum_infidelity
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    n = len(x)
    seeds = torch.arange(n)

    def ours(name: str, **settings: Any) -> Callable[[], Tensor]:
        call = catalogue().load("explainer", name)(**settings)
        return lambda: call(model, x, y, seeds=seeds).heat

    steps, samples = (4, 8) if quick else (50, 128)
    grey = baseline_of(model, x, "mean")  # pyright: ignore[reportArgumentType]
    window, side = -(-32 // 7), 32
    cells = (torch.arange(side) * 7 // side)[:, None] * 7 + torch.arange(side) * 7 // side

    def occluded() -> Tensor:
        found = Occlusion(model).attribute(
            x, (3, window, window), strides=(3, window // 2, window // 2), baselines=grey, target=y,
            perturbations_per_eval=4,
        )  # fmt: skip
        return found.mean(1)

    def limed() -> Tensor:
        found = [
            Lime(model).attribute(x[i : i + 1], target=int(y[i]), baselines=grey[i : i + 1],
                                  feature_mask=cells[None, None], n_samples=samples, perturbations_per_eval=32)
            for i in range(n)
        ]  # fmt: skip
        return torch.cat(found)[:, 0]

    def scaled(heat: Tensor) -> Tensor:  # per image to [0,1], as grad-cam does
        low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
        return (heat - low) / (high - low + 1e-7)

    def their_cam() -> Tensor:
        with GradCAM(model=model, target_layers=[model.features]) as cam:
            return torch.from_numpy(
                cam(input_tensor=x.clone().requires_grad_(True), targets=[ClassifierOutputTarget(int(c)) for c in y])
            )

    cam, draws = ours("gradcam"), 4 if quick else 32
    base, heat = blurred(x), ours("saliency")()
    top = torch.randint(0, 25, (draws, 2), generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(draws, 1, side, side)
    for mask, (a, b) in zip(masks, top.tolist(), strict=True):
        mask[:, a : a + 8, b : b + 8] = 1

    @torch.no_grad()
    def our_infidelity() -> Tensor:
        own = model(x).gather(1, y[:, None])[:, 0]
        hidden = [
            own - model(blend(x, base, 1 - m.expand(n, 1, side, side))).gather(1, y[:, None])[:, 0] for m in masks
        ]
        predicted = torch.stack([(heat * m).double().flatten(1).sum(1) for m in masks], 1)
        return infidelity(predicted, torch.stack(hidden, 1).double())

    def perturb(inputs: Tensor, baselines: Tensor) -> tuple[Tensor, Tensor]:
        each = masks.repeat(len(inputs) // draws, 1, 1, 1)
        return each.expand(-1, 3, -1, -1), blend(inputs, baselines, 1 - each)

    def their_infidelity() -> Tensor:
        share = heat[:, None].expand(-1, 3, -1, -1) / 3
        return captum_infidelity(
            model, perturb, x, share, baselines=base, target=y, n_perturb_samples=draws, normalize=True
        )

    found: dict[tuple[str, str], tuple[Pair, str]] = {
        ("saliency", "captum"): (
            (ours("saliency"), lambda: Saliency(model).attribute(x.clone(), target=y).amax(1)), "",
        ),
        (f"integrated gradients, {steps} steps", "captum"): (
            (ours("integrated_gradients", steps=steps, output="logit"),
             lambda: IntegratedGradients(model).attribute(x, baselines=0, target=y, n_steps=steps).sum(1)),
            "",
        ),
        ("occlusion, 4 windows per pixel", "captum"): ((ours("occlusion", output="logit"), occluded), ""),
        ("Grad-CAM, 8 x 8", "captum"): (
            (ours("gradcam"),
             lambda: LayerGradCam(model, model.features).attribute(x.clone(), target=y, relu_attributions=True)[:, 0]),
            "ours calls theirs",
        ),
        ("Grad-CAM at input size, scaled to [0,1]", "grad-cam"): (
            (lambda: scaled(upsample(scaled(cam()), side)), their_cam),
            "ours: captum's, upsampled bilinearly; theirs resizes by OpenCV",
        ),
        (f"infidelity, {draws} squares", "captum"): ((our_infidelity, their_infidelity), ""),
    }  # fmt: skip
    if not quick:
        found[f"LIME, {samples} samples", "captum"] = (
            (lambda: ours("lime", samples=samples, output="logit")()[:, cells // 7, cells % 7], limed),
            "other draws, kernel and penalty (captum: exponential kernel, lasso): maps are not the same",
        )
    return found


def difference(a: Any, b: Any) -> float:
    """Return the largest difference of two results."""
    one, two = (np.asarray(v.detach() if isinstance(v, Tensor) else v, dtype=float) for v in (a, b))
    return float(np.abs(one - two).max())


def attacked(model: nn.Module, x: Tensor, y: Tensor, quick: bool) -> list[tuple[str, str, Callable, Callable, str]]:
    """Return work, peer, two functions that give the moved images, and a remark."""
    import foolbox
    import torchattacks

    steps = 4 if quick else 20
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1))

    def foolbox_of(attack: Any, epsilons: float | None) -> Callable[[], Tensor]:
        return lambda: attack(bounded, x, y, epsilons=epsilons)[1]

    def our_pgd() -> Tensor:
        return pgd(model, x, Adversarial(y), norm="linf", radius=RADIUS, steps=steps, step_size=0.1,
                   start_at_random=False, objective="loss")  # fmt: skip

    size = 0.1 * RADIUS
    linf = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=steps, random_start=False)
    their = torchattacks.PGD(model, eps=RADIUS, alpha=size, steps=steps, random_start=False)
    found = [(f"PGD, linf 8/255, {steps} steps", "torchattacks", our_pgd, lambda: their(x, y),
              "ours leaves an image alone once it is fooled"),
             (f"PGD, linf 8/255, {steps} steps", "foolbox", our_pgd, foolbox_of(linf, RADIUS),
              "ours leaves an image alone once it is fooled")]  # fmt: skip
    if quick:
        return found
    goal = Adversarial(y)
    deep = torchattacks.DeepFool(model, steps=10, overshoot=0.02)
    return [
        *found,
        ("DeepFool, 10 steps", "foolbox", lambda: x + deepfool(model, x, goal).delta.nan_to_num(0),
         foolbox_of(foolbox.attacks.L2DeepFoolAttack(steps=10, candidates=10), None), ""),
        ("DeepFool, 10 steps", "torchattacks", lambda: x + deepfool(model, x, goal).delta.nan_to_num(0),
         lambda: deep(x, y), "theirs goes image by image"),
        ("DDN, 60 steps", "foolbox", lambda: x + ddn(model, x, goal).delta.nan_to_num(0),
         foolbox_of(foolbox.attacks.DDNAttack(steps=60, init_epsilon=1.0), None), "ours has a falling gamma"),
    ]  # fmt: skip


def fooled(model: nn.Module, x: Tensor, y: Tensor, moved: Tensor) -> tuple[float, Tensor]:
    """Return how many images of another class came out, and the RMSE of each, NaN where it was not fooled."""
    with torch.no_grad():
        won = model(moved).argmax(1) != y
    size = (moved - x).square().flatten(1).mean(1).sqrt()
    return float(won.sum()), size.where(won, torch.nan)


def metrics(quick: bool) -> dict[tuple[str, str], tuple[Pair, str]]:
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import (
        binary_jaccard_index,
        multiclass_calibration_error,
        multiclass_f1_score,
        multilabel_auroc,
    )

    n, classes = (300, 4) if quick else (25_596, 14)
    table, single = scores(n, classes), scores(300 if quick else 10_000, 10, single=True)
    p, label = torch.from_numpy(table.probability), torch.from_numpy(table.label).long()
    q, true = torch.from_numpy(single.probability), torch.from_numpy(single.label.argmax(1))

    def fresh(metric: Any, of: Any) -> Callable[[], Any]:
        """Return the metric on a new table each time, so that no ranking is kept from the call before."""
        kinds = type(of)
        fields = (of.ids, of.clusters, of.classes, of.task, of.label, of.probability)
        return lambda: metric(kinds(*fields), np.ones((1, len(of.ids))))[0]

    pairs, side = (2, 32) if quick else (8, 224)
    rng = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (pairs, side, side), generator=rng, dtype=torch.uint8)
    mask = torch.zeros(pairs, side, side, dtype=torch.bool)
    mask[:, side // 4 : side // 2, side // 3 : side // 2] = True

    def our_iou() -> Tensor:
        inside, region = counts(levels, mask)
        return inside / (region + mask.flatten(1).sum(1, keepdim=True) - inside)

    def their_iou() -> Tensor:
        return torch.stack([torch.stack([binary_jaccard_index((row >= t).int(), m.int()) for t in range(256)])
                            for row, m in zip(levels, mask, strict=True)])  # fmt: skip

    shape = f"{n:,} x {classes}"
    return {
        (f"AUROC, {shape}", "torchmetrics"): (
            (lambda: fresh(auroc, table)()[:-1], lambda: multilabel_auroc(p, label, classes, average=None)),
            ""),
        (f"AUROC, {shape}", "scikit-learn"): (
            (lambda: fresh(auroc, table)()[:-1], lambda: roc_auc_score(table.label, table.probability, average=None)),
            ""),
        (f"F1, {len(true):,} x 10", "torchmetrics"): (
            (lambda: fresh(f1, single)()[:-1], lambda: multiclass_f1_score(q, true, 10, average=None)), ""),
        (f"ECE, {len(true):,} x 10", "torchmetrics"): (
            (lambda: fresh(ece, single)(), lambda: multiclass_calibration_error(q, true, 10, n_bins=15)[None]), ""),
        (f"IoU at 256 thresholds of {pairs} maps, {side} px", "torchmetrics"): ((our_iou, their_iou), ""),
    }  # fmt: skip


def measure(quick: bool) -> list[Table]:
    warnings.filterwarnings("ignore")  # theirs: of deprecated calls, and of gradients that they switch on
    model = subject.network()
    x, y = subject.images(model, 2 if quick else 8)
    x, rounds = x.contiguous(memory_format=torch.channels_last), 1 if quick else 3
    columns = {
        "work": ("text", ""),
        "peer": ("text", ""),
        "ours": ("s", "median of the rounds"),
        "theirs": ("s", ""),
        "theirs / ours": ("ratio", "above 1: harness is faster"),
    }
    remark = {"remark": ("text", "")}
    same = Table("Explainers", columns | {"largest difference": ("difference", "of the two results")} | remark)
    alike = Table("Metrics", dict(same.columns))
    for table, pairs in ((same, explainers(model, x, y, quick)), (alike, metrics(quick))):
        for (work, peer), ((ours, theirs), said) in pairs.items():
            apart = difference(ours(), theirs())
            found = turns({"ours": ours, "theirs": theirs}, rounds, warm=False)
            row = (work, peer, spread(found["ours"])[0], spread(found["theirs"])[0])
            table.add(*row, ratio(found["theirs"], found["ours"]), apart, said)
    sizes = {
        "fooled": ("text", "images by ours, by theirs"),
        "RMSE": ("text", "mean over the images that both fooled: ours, theirs"),
    }
    moved = Table("Attacks", columns | sizes | remark)
    for work, peer, ours, theirs, said in attacked(model, x, y, quick):
        (a, mine), (b, other) = fooled(model, x, y, ours()), fooled(model, x, y, theirs())
        both = mine.isfinite() & other.isfinite()
        means = [f"{1000 * float(v[both].mean()):.3f}e-3" if both.any() else "none" for v in (mine, other)]
        found = turns({"ours": ours, "theirs": theirs}, rounds, warm=False)
        row = (work, peer, spread(found["ours"])[0], spread(found["theirs"])[0], ratio(found["theirs"], found["ours"]))
        moved.add(*row, f"{a:.0f}, {b:.0f} of {len(x)}", ", ".join(means), said)
    return [same, moved, alike]
