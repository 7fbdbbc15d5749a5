"""Images of which a part is shown and the rest is blurred away (protocol.md, 4; Khorram 2021, eq. 1).

What mask-optimising explainers, insertion and deletion, and the audit of shortcuts have in common: what an image looks
like without its evidence, and how a mask puts it together with what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import gaussian_blur

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

KERNEL, SIGMA, SIDE = 51, 50.0, 224  # of the authors' blur (Khorram 2021, code), and the image that it is meant for


def blurred(x: Tensor, *, kernel: int = KERNEL, sigma: float = SIGMA) -> Tensor:
    """Return images (B,C,H,W) blurred beyond recognition: Gaussian, kernel 51 and sigma 50 at 224 px.

    `kernel` and `sigma` are for programs that blur otherwise. Both are in proportion at other sizes, side by side, the
    kernel rounded to an odd number; the border is reflected.
    The authors blur 8-bit pixels; here nothing is rounded.
    """
    height, width = x.shape[-2:]
    odd = [2 * round((kernel * side / SIDE - 1) / 2) + 1 for side in (width, height)]
    return gaussian_blur(x, odd, [sigma * side / SIDE for side in (width, height)])


def upsampled(mask: Tensor, height: int, width: int) -> Tensor:
    """Return masks (B,1,h,w) bilinearly resized to (B,1,height,width), align_corners=False."""
    return interpolate(mask, size=(height, width), mode="bilinear", align_corners=False)


def blend(x: Tensor, baseline: Tensor, mask: Tensor) -> Tensor:
    """Return x where the mask is 1 and the baseline where it is 0: x, baseline (B,C,H,W), mask (B,1,H,W).

    Written so that both come out to the last bit: baseline + mask * (x - baseline) is not x where the mask is 1, and
    the gradients of a ReLU network change by a thousandth for that.
    """
    return x * mask + baseline * (1 - mask)


def probability(model: Classifier, x: Tensor, target: Tensor) -> Tensor:
    """Return the probability of class `target` (B,) on images x (B,C,H,W), (B,): of the softmax, or of its sigmoid."""
    logits = model(x)
    every = logits.softmax(1) if model.exclusive else logits.sigmoid()
    return every.gather(1, target[:, None])[:, 0]
