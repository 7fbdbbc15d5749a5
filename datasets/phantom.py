"""Chest radiographs drawn by our own code, with eight findings, exact boxes and a text marker.

The demo and CI data of the project: no download, no patient. One function, `anatomy`, gives the geometry of an
image from its seed; the index measures its boxes on it and `draw` paints it, so the two cannot drift apart.

What decides labels and boxes uses +, -, *, / and sqrt on float64 and uniform variates of PCG64 only, so that they
are the same on every platform; exp touches pixels alone, which may differ by one grey level.

Body frame: x to the image's right (the patient's left), y down, both in image sides, origin at the image's centre.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.api import Dataset, Index, MultiLabel, UsageError, dataset, rng_for, setting

GENERATOR_VERSION = 2  # raise it with every change of a label, a box or a pixel

CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
PREVALENCE = 0.115  # of each class; about four in ten images then have no finding
PERSISTS = 0.5  # a lasting finding of a patient is on each image with this probability
VISIBLE = 0.1  # a box encloses where a finding reaches this share of its full strength

Field = NDArray[np.floating]


def smooth(t: Any) -> Any:
    """Return the cubic step 0 -> 1 over t in [0,1]."""
    t = np.minimum(np.maximum(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


class Uniform:
    """Uniform variates of one purpose as Python floats, exact on every platform."""

    def __init__(self, seed: int, *purpose: object) -> None:
        """Take the generator of `seed` and `purpose`."""
        self.rng = rng_for(seed, "phantom", *purpose)

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return one variate in [low, high)."""
        return low + (high - low) * self.rng.random()

    def bell(self, centre: float, reach: float) -> float:
        """Return the mean of three variates around `centre`, at most `reach` away."""
        return centre + reach * (2.0 * (self() + self() + self()) / 3.0 - 1.0)


@dataclass(frozen=True)
class Anatomy:
    """Geometry of one image. Lengths are image sides in the body frame; pairs are (right lung, left lung)."""

    half_width: float  # of the rib cage, inside
    widths: tuple[float, float]  # of each lung, relative to half_width
    taper: float  # narrowing towards the base
    apex: float  # y of the top of the lungs
    base: float  # y of the costophrenic angles
    domes: tuple[float, float]  # height of the diaphragm above the angles
    inner: float  # half-width of the upper mediastinum
    root: float  # how much wider it is below the great vessels
    heart_ratio: float  # width of the heart / width of the thorax
    large_ratio: float  # the same, where there is cardiomegaly
    heart_shape: tuple[float, float, float]  # height / width, lean, share of the width left of the midline
    ribs: tuple[float, float, float, float]  # spacing, phase, bow of the posterior, slope of the anterior ribs
    clavicle: tuple[float, float]  # height over the apex, slope
    flesh: float  # thickness of the chest wall
    waist: float  # widening of the torso downwards
    shoulder: tuple[float, float, float]  # y at the neck, slope, half-width of the neck
    arm: float  # how far the arms point outwards, per length downwards
    breasts: tuple[float, float, float]  # radius (0: none), x, y below the apex
    bubble: tuple[float, float, float]  # gas in the stomach: x, depth below the diaphragm, radius
    turn: tuple[float, float]  # cosine and sine of the roll
    zoom: tuple[float, float]  # image sides per body length, x and y
    shift: tuple[float, float]  # of the body's origin

    def to_body(self, across: Any, down: Any) -> tuple[Any, Any]:
        """Return body coordinates of points given as fractions of the image."""
        cosine, sine = self.turn
        a, d = across - 0.5 - self.shift[0], down - 0.5 - self.shift[1]
        return (cosine * a + sine * d) / self.zoom[0], (cosine * d - sine * a) / self.zoom[1]

    def left(self, x: Any) -> Any:
        """Return the weight of the patient's left side, 0 to 1, blended over the spine."""
        return smooth((x + 0.06) / 0.12)

    def pair(self, values: tuple[float, float], x: Any) -> Any:
        """Return a (right, left) pair of values as a field."""
        return values[0] + (values[1] - values[0]) * self.left(x)

    def outer(self, x: Any, y: Any) -> Any:
        """Return the distance of the chest wall's inside from the midline at height y."""
        t = np.maximum((y - self.apex) / (self.base - self.apex), 0.0)
        rest = np.maximum(1.0 - t, 0.0)
        wall = self.half_width * self.pair(self.widths, x) * np.sqrt(1.0 - rest * rest * rest)
        return wall * (1.0 - self.taper * t * t)

    def diaphragm(self, x: Any) -> Any:
        """Return the height y of the diaphragm."""
        u = (np.abs(x) / self.half_width - 0.48) / 0.56
        u = u * u
        return self.base - self.pair(self.domes, x) * (1.0 - u * (0.5 + 0.5 * u))

    def lung(self, x: Any, y: Any) -> Any:
        """Return how much of each point is lung, 0 to 1."""
        far = np.abs(x)
        wall = smooth((self.outer(x, y) - far) / 0.03 + 0.3)
        inner = self.inner * (1.0 + self.root * smooth((y - self.apex - 0.08) / 0.2))
        return wall * smooth((far - inner) / 0.045 + 0.5) * smooth((self.diaphragm(x) - y) / 0.028 + 0.5)

    def heart(self, x: Any, y: Any, ratio: float) -> Any:
        """Return how much of each point is heart, 0 to 1, above the diaphragm."""
        height, lean, share = self.heart_shape
        half = ratio * self.half_width
        tall = height * half
        below = y - (float(self.diaphragm(0.3 * self.half_width)) - 0.38 * tall)
        across = x - (2.0 * share - 1.0) * half - lean * below
        pear = half * np.maximum(0.95 + 0.38 * below / tall, 0.3)  # narrow at the root of the great vessels
        from_centre = np.sqrt((across * across) / (pear * pear) + (below * below) / (tall * tall))
        edge = smooth((1.0 - from_centre) * half / 0.03 + 0.5)
        return edge * smooth((self.diaphragm(x) - y) / 0.02 + 0.5)

    def place(self, side: int, along: float, outward: float) -> tuple[float, float]:
        """Return the point at shares `along` (apex to diaphragm) and `outward` (mediastinum to wall) of a lung."""
        middle = side * 0.5 * self.half_width
        y = self.apex + along * (float(self.diaphragm(middle)) - self.apex)
        wall = float(self.outer(side * 1.0, y))
        return side * (self.inner + outward * (wall - self.inner)), y


def anatomy(seed: int, patient: int, visit: int) -> Anatomy:
    """Return the geometry of image number `visit` of a patient: the body stays, pose and breath are the visit's."""
    u = Uniform(seed, "patient", patient)
    half_width = u.bell(0.325, 0.06)
    apex = u.bell(-0.345, 0.05)
    height = u.bell(0.625, 0.11)
    right = u(0.06, 0.15)
    body = {
        "half_width": half_width,
        "widths": (u(0.95, 1.05), u(0.93, 1.03)),
        "taper": u(-0.02, 0.12),
        "inner": u(0.04, 0.06),
        "root": u(0.1, 0.6),
        "heart_ratio": u.bell(0.45, 0.06),
        "large_ratio": u.bell(0.615, 0.06),
        "heart_shape": (u(0.8, 1.1), u(0.3, 0.7), u(0.6, 0.7)),
        "ribs": (u(0.052, 0.066), u(), u(0.25, 0.6), u(0.4, 0.85)),
        "clavicle": (u(-0.01, 0.05), u(0.15, 0.4)),
        "flesh": u(0.04, 0.15),
        "waist": u(-0.15, 0.25),
        "shoulder": (apex - u(0.1, 0.2), u(0.05, 0.45), u(0.08, 0.12)),
        "breasts": (u(0.1, 0.17) if u() < 0.45 else 0.0, half_width * u(0.5, 0.8), u(0.36, 0.52)),
        "bubble": (u(0.1, 0.2), u(0.045, 0.09), u(0.02, 0.05) if u() < 0.5 else 0.0),
    }
    v = Uniform(seed, "visit", patient, visit)
    breath = v(-0.05, 0.03)
    tangent = v.bell(0.0, 0.16)
    secant = float(np.sqrt(1.0 + tangent * tangent))
    zoom = v.bell(1.14, 0.2)
    return Anatomy(
        **body,
        apex=apex,
        base=apex + height + breath,
        domes=(right, max(0.03, right - v(-0.04, 0.06))),
        arm=v(0.1, 0.9),
        turn=(1.0 / secant, tangent / secant),
        zoom=(zoom * v(0.94, 1.06), zoom),
        shift=(v.bell(0.0, 0.09), v.bell(0.01, 0.08)),
    )


@dataclass(frozen=True)
class Finding:
    """One finding: its class, and the seed of its place, size and strength."""

    name: str
    seed: tuple[object, ...]


def findings(seed: int, patient: int, visit: int) -> tuple[Finding, ...]:
    """Return the findings of one image: some of the patient's, which stay where they are, and new ones."""
    new = (1.0 - PERSISTS) * PREVALENCE / (1.0 - PERSISTS * PREVALENCE)
    lasting, passing = Uniform(seed, "lasting", patient), Uniform(seed, "passing", patient, visit)
    found = []
    for name in CLASSES:
        has, keeps, gets = lasting() < PREVALENCE, passing() < PERSISTS, passing() < new
        if has and keeps:
            found.append(Finding(name, ("finding", patient, name)))
        elif gets:
            found.append(Finding(name, ("finding", patient, name, visit)))
    return tuple(found)


# What a finding does to the image. Each function returns (extent, strength, air): where it is, 0 to 1; what it adds
# to the attenuation; and the share of the air under it that is left (above 1: more than in lung).
Effect = tuple[Any, Any, float]


def _spot(x: Any, y: Any, centre: tuple[float, float], radii: tuple[float, float], slope: float) -> Any:
    """Return the distance from the centre of an ellipse in units of its outline; the long axis rises by `slope`."""
    secant = float(np.sqrt(1.0 + slope * slope))
    dx, dy = x - centre[0], y - centre[1]
    along, across = (dx - slope * dy) / (secant * radii[0]), (dy + slope * dx) / (secant * radii[1])
    return np.sqrt(along * along + across * across)


def atelectasis(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """One to two plates: thin, bright, oblique bands of collapsed lung in the lower half."""
    side = 1 if u() < 0.5 else -1
    centre = a.place(side, u(0.5, 0.9), u(0.35, 0.65))
    length, thick, slope, bend = u(0.07, 0.12), u(0.01, 0.016), u(-0.6, 0.6), u(-1.5, 1.5)
    gap = u(0.035, 0.05) if u() < 0.4 else 0.0
    extent = 0.0
    for offset in (0.0, gap) if gap else (0.0,):
        dx = x - centre[0]
        dy = y - centre[1] + slope * dx + bend * dx * dx + offset
        ends = smooth((length - np.abs(dx)) / (0.6 * length))
        extent = np.maximum(extent, ends * smooth((thick * (0.4 + 0.6 * ends) - np.abs(dy)) / 0.011 + 0.5))
    return extent * a.lung(x, y), u(0.34, 0.46), 1.0


def cardiomegaly(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """An enlarged heart; `draw` paints it, this is its extent."""
    return a.heart(x, y, a.large_ratio), 0.0, 1.0


def effusion(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """Fluid at one base: white up to a meniscus that rises towards the wall."""
    side = 1 if u() < 0.5 else -1
    depth, rise = u(0.02, 0.16), u(0.07, 0.15)
    outward = np.maximum((side * x - a.inner) / (a.half_width - a.inner), 0.0)
    top = float(a.diaphragm(side * 0.48 * a.half_width))
    surface = top + 0.01 - depth - rise * outward * outward * outward
    fluid = smooth((y - surface) / 0.025 + 0.5) * (side * x > 0)
    return fluid * a.lung(x, y), 0.1, 0.05


def infiltration(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """A fine net of lines over a large part of one lung."""
    side = 1 if u() < 0.5 else -1
    centre = a.place(side, u(0.3, 0.75), u(0.35, 0.65))
    far = _spot(x, y, centre, (u(0.11, 0.16), u(0.12, 0.2)), 0.0)
    extent = smooth((1.0 - far) / 0.35) * a.lung(x, y) * (side * x > 0)
    waves = lattice(u, 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x, 0.02) + lattice(u, x - 0.3 * y, y + 0.3 * x, 0.026)
    net = np.maximum(1.0 - 1.6 * np.abs(waves - 1.0), 0.0)
    # More texture than brightness: a linear model on thumbnails must not be enough.
    return extent, u(0.27, 0.38) * (net * net - 0.4), 0.95


def mass(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """A dense body with an irregular outline."""
    side = 1 if u() < 0.5 else -1
    centre = a.place(side, u(0.2, 0.8), u(0.3, 0.75))
    radius = u(0.055, 0.085)
    dx, dy = x - centre[0], y - centre[1]
    far = np.sqrt(dx * dx + dy * dy) + 1e-9
    c, s = dx / far, dy / far
    outline = 1.0 + u(-0.15, 0.15) * (c * c - s * s) + u(-0.15, 0.15) * c * s
    outline = outline + u(-0.12, 0.12) * c * (c * c - 3.0 * s * s) + u(-0.12, 0.12) * s * (3.0 * c * c - s * s)
    return smooth((radius * outline - far) / 0.022 + 0.5) * a.lung(x, y), u(0.28, 0.38), 1.0


def nodule(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """A small round body."""
    side = 1 if u() < 0.5 else -1
    centre = a.place(side, u(0.15, 0.85), u(0.25, 0.8))
    radius = u(0.027, 0.04)
    far = _spot(x, y, centre, (radius, radius * u(0.85, 1.0)), u(-1.0, 1.0))
    return smooth((1.0 - far) * radius / 0.014 + 0.4) * a.lung(x, y), u(0.34, 0.46), 1.0


def pneumonia(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """Patchy consolidation of one lobe: soft clumps that run together."""
    side = 1 if u() < 0.5 else -1
    centre = a.place(side, 0.25 if u() < 0.4 else 0.75, u(0.4, 0.6))
    clear = 1.0
    for _ in range(9):
        at = (centre[0] + u.bell(0.0, 0.1), centre[1] + u.bell(0.0, 0.11))
        far = _spot(x, y, at, (u(0.025, 0.05), u(0.02, 0.04)), u(-1.0, 1.0))
        clear = clear * (1.0 - 0.8 * smooth((1.2 - far) / 0.9))
    return (1.0 - clear) * a.lung(x, y) * (side * x > 0), u(0.26, 0.36), 0.8


def pneumothorax(a: Anatomy, u: Uniform, x: Any, y: Any) -> Effect:
    """Air between wall and lung: a dark rim without vessels, and the thin line of the pleura."""
    side = 1 if u() < 0.5 else -1
    shrink = u(0.18, 0.34)
    hilum = a.place(side, 0.55, 0.0)
    lung_x = hilum[0] + (x - hilum[0]) / (1.0 - shrink)
    lung_y = hilum[1] + (y - hilum[1]) / (1.0 - shrink)
    inside = (a.outer(x, lung_y) - side * lung_x) * (1.0 - shrink)  # distance from the pleura, towards the hilum
    end = a.apex + u(0.6, 1.0) * (a.base - a.apex)
    rim = smooth(0.5 - inside / 0.012) * a.lung(x, y) * (side * x > 0) * smooth((end - y) / 0.06)
    line = np.maximum(1.0 - np.abs(inside + 0.004) / 0.014, 0.0)
    return rim, 0.24 * line, 1.5


FINDINGS: dict[str, Callable[[Anatomy, Uniform, Any, Any], Effect]] = dict(
    zip(
        CLASSES,
        (atelectasis, cardiomegaly, effusion, infiltration, mass, nodule, pneumonia, pneumothorax),
        strict=True,
    )
)


def lattice(u: Uniform, x: Any, y: Any, cell: float) -> Any:
    """Return value noise in [0,1] with features of about `cell` body lengths."""
    n = 64
    values = u.rng.random((n, n)).astype(np.asarray(x).dtype)
    a, b = x / cell + 0.5 * n, y / cell + 0.5 * n
    i, j = np.floor(a).astype(np.int32), np.floor(b).astype(np.int32)
    fa, fb = a - i, b - j
    i0, j0, i1, j1 = i % n, j % n, (i + 1) % n, (j + 1) % n
    top = values[j0, i0] * (1.0 - fa) + values[j0, i1] * fa
    return top * (1.0 - fb) + (values[j1, i0] * (1.0 - fa) + values[j1, i1] * fa) * fb


def box_of(extent: Callable[[Any, Any], Any]) -> tuple[float, float, float, float] | None:
    """Return the box, as fractions of the image, of where `extent(across, down)` exceeds VISIBLE; None: nowhere.

    Two passes of 64 x 64 samples: the whole image, then what the first pass found. Rounded to 6 decimals.
    """
    n = 64
    x0, y0, x1, y1 = 0.0, 0.0, 1.0, 1.0
    for _ in range(2):
        steps = (np.arange(n) + 0.5) / n
        seen = extent((x0 + (x1 - x0) * steps)[None, :], (y0 + (y1 - y0) * steps)[:, None]) > VISIBLE
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if not len(rows):
            return None
        w, h = (x1 - x0) / n, (y1 - y0) / n
        x0, x1 = max(0.0, x0 + w * (int(columns[0]) - 1)), min(1.0, x0 + w * (int(columns[-1]) + 2))
        y0, y1 = max(0.0, y0 + h * (int(rows[0]) - 1)), min(1.0, y0 + h * (int(rows[-1]) + 2))
    return round(x0, 6), round(y0, 6), round(x1, 6), round(y1, 6)


GLYPHS = {  # 3 x 5 bits, a row per digit
    "A": "25755", "B": "65656", "D": "65556", "E": "74647", "L": "44447", "O": "75557", "P": "75744",
    "R": "65655", "T": "72222", "U": "55557", " ": "00000",
}  # fmt: skip
TEXTS = ("L", "R", "L", "R", "PA", "AP", "PORTABLE", "UPRT")


@dataclass(frozen=True)
class Marker:
    """Burnt-in white letters near a corner, on a grid of 96 x 96 cells over the image."""

    text: str
    cell: int  # side of a bit of a letter, in 96ths of the image
    left: int  # 96ths
    top: int  # 96ths
    grey: float

    @property
    def bits(self) -> NDArray[np.bool_]:
        """Return the letters, (5, 4 * len(text) - 1)."""
        rows = [[f"{int(GLYPHS[c][k]):03b}" for c in self.text] for k in range(5)]
        return np.array([[b == "1" for b in "0".join(row)] for row in rows])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 as fractions of the image."""
        high, wide = self.bits.shape
        corners = (self.left, self.top, self.left + wide * self.cell, self.top + high * self.cell)
        x0, y0, x1, y1 = (round(c / 96, 6) for c in corners)
        return x0, y0, x1, y1

    def cover(self, size: int) -> NDArray[np.float64]:
        """Return the share of each pixel that letters cover, (size,size)."""
        bits = self.bits
        edges = np.arange(size + 1) * 96 / size

        def overlap(start: int, cells: int) -> NDArray[np.float64]:  # (size, cells)
            low = start + self.cell * np.arange(cells)
            high = np.minimum(edges[1:, None], low + self.cell)
            return np.maximum(high - np.maximum(edges[:-1, None], low), 0.0) * size / 96

        return overlap(self.top, bits.shape[0]) @ bits @ overlap(self.left, bits.shape[1]).T


def marker_of(seed: int, patient: int, visit: int) -> Marker:
    """Return the marker that an image carries, if it carries one."""
    u = Uniform(seed, "marker", patient, visit)
    text = TEXTS[int(u() * len(TEXTS))]
    cell = 2 if len(text) == 1 or (len(text) == 2 and u() < 0.5) else 1
    wide = (4 * len(text) - 1) * cell
    inset = (2 + int(u() * 10), 2 + int(u() * 12))
    left = inset[0] if u() < 0.5 else 96 - wide - inset[0]
    return Marker(text, cell, left, inset[1], u(215.0, 252.0))


def blur(image: Field, weight: float) -> Field:
    """Return the image after one three-tap filter in each direction, edges repeated."""
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
        before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
        image = (1.0 - 2.0 * weight) * image + weight * (before + after)
    return image


def splat(points: NDArray[np.float64], weights: NDArray[np.float64], size: int) -> Field:
    """Return points (n,2), fractions of the image, spread bilinearly over the four nearest pixels, (size,size)."""
    at = np.clip(points * size - 0.5, -1.0, size)
    low = np.floor(at).astype(np.int64)
    part = at - low
    total = np.zeros((size + 3) * (size + 3))
    for i in (0, 1):
        for j in (0, 1):
            share = (part[:, 0] if i else 1.0 - part[:, 0]) * (part[:, 1] if j else 1.0 - part[:, 1])
            flat = (low[:, 1] + j + 1) * (size + 3) + low[:, 0] + i + 1
            total += np.bincount(flat, weights * share, minlength=len(total))
    return total.reshape(size + 3, size + 3)[1 : size + 1, 1 : size + 1].astype(np.float32)


def to_image(a: Anatomy, x: Any, y: Any) -> NDArray[np.float64]:
    """Return points of the body frame as fractions of the image, (n,2)."""
    across, down = x.ravel() * a.zoom[0], y.ravel() * a.zoom[1]
    cosine, sine = a.turn
    return np.stack(
        [cosine * across - sine * down + 0.5 + a.shift[0], cosine * down + sine * across + 0.5 + a.shift[1]], 1
    )


def vessels(a: Anatomy, u: Uniform, size: int) -> Field:
    """Return the lungs' vessels, branching outwards from both hila, (size,size), about 1 at the thickest."""
    stems, twigs, steps = 13, 5, 28
    r = u.rng.random((2, stems, 1, 6))
    q = u.rng.random((2, stems, twigs, 4))
    side = np.array([-1.0, 1.0])[:, None, None, None]
    hilum = a.place(1, 0.5, 0.0)[1]

    def path(x0: Any, y0: Any, angle: Any, bend: Any, reach: Any, t: Any) -> tuple[Any, Any]:
        turned = angle + bend * t
        return x0 + reach * t * np.cos(turned), y0 + reach * t * np.sin(turned)

    angle = np.linspace(-1.3, 1.35, stems)[None, :, None, None] + 0.3 * (r[..., 0:1] - 0.5)
    bend, reach = 1.8 * (r[..., 1:2] - 0.5), (0.14 + 0.16 * r[..., 2:3]) * (0.75 + 0.45 * np.abs(angle))
    start = (a.inner + 0.015 + 0.02 * r[..., 3:4], hilum + 0.07 * np.sin(angle) + 0.04 * (r[..., 4:5] - 0.5))
    t = np.linspace(0.0, 1.0, steps)
    x, y = path(*start, angle, bend, reach, t)
    weight = (1.05 - t) * np.minimum(1.0, 0.3 + 3.0 * t) * reach / steps
    fork = 0.15 + 0.7 * q[..., 0:1]
    fork_x, fork_y = path(*start, angle, bend, reach, fork)
    sign = np.where(q[..., 1:2] < 0.5, -1.0, 1.0)
    twig = 0.06 + 0.09 * q[..., 2:3]
    twig_x, twig_y = path(fork_x, fork_y, angle + bend * fork + sign * (0.4 + 0.5 * q[..., 3:4]), -0.5 * sign, twig, t)
    twig_weight = 0.6 * (1.0 - 0.6 * t) * (1.1 - fork) * twig / steps
    points = np.concatenate([to_image(a, side * x, y + 0.0 * side), to_image(a, side * twig_x, twig_y + 0.0 * side)])
    weights = np.concatenate([np.broadcast_to(weight, x.shape).ravel(), twig_weight.ravel()])
    field = splat(points, weights * size, size)
    for _ in range(max(1, round(size / 96))):
        field = blur(field, 0.1)
    return field


def wires(a: Anatomy, u: Uniform, size: int) -> Field:
    """Return leads that lie on some patients, (size,size), 1 on the wire; they go with no finding."""
    count = int(u() * 3.0) + 1 if u() < 0.15 else 0
    if not count:
        return np.zeros((size, size), dtype=np.float32)
    r = u.rng.random((count, 6, 1)) - 0.5
    t = np.linspace(0.0, 1.0, 3 * size)
    x = r[:, 0] * 0.7 + r[:, 1] * 0.5 * t + r[:, 2] * 0.8 * t * t
    y = -0.5 + 0.4 * (r[:, 3] + 0.5) + (0.5 + 0.6 * r[:, 4]) * t + r[:, 5] * 0.4 * t * t
    ones = np.full(x.size, 0.25)
    return np.minimum(splat(to_image(a, x, y), ones, size), 1.0)


def draw(
    seed: int, patient: int, visit: int, found: tuple[Finding, ...], marker: Marker | None, size: int
) -> NDArray[np.uint8]:
    """Return one radiograph, (size,size) uint8, with the given findings."""
    a = anatomy(seed, patient, visit)
    look = Uniform(seed, "look", patient, visit)
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    across, down = np.meshgrid(centres, centres)
    x, y = a.to_body(across, down)
    far = np.abs(x)
    names = {f.name for f in found}

    lung, outer, dome = a.lung(x, y), a.outer(x, y), a.diaphragm(x)
    heart = a.heart(x, y, a.large_ratio if "Cardiomegaly" in names else a.heart_ratio)
    under = smooth((y - dome) / 0.03 + 0.5)  # below the diaphragm

    air = lung * (0.6 + 0.4 * smooth((outer - far) / 0.14)) * (1.0 - 0.8 * heart)
    air = air * (1.0 - 0.5 * smooth((0.17 - far) / 0.17) * smooth((y - a.apex - 0.05) / 0.25))
    cloud = lattice(Uniform(seed, "cloud", patient), x, y, 0.03) - 0.5
    air = air * (1.0 + look(0.1, 0.35) * cloud) * (1.0 - look(0.0, 0.3) * smooth((y - a.apex) / 0.5))
    marks = vessels(a, Uniform(seed, "vessels", patient), size) * lung * (1.0 - 0.7 * heart)
    added = 0.0
    for f in found:
        extent, strength, left = FINDINGS[f.name](a, Uniform(seed, *f.seed), x, y)
        added = added + extent * strength
        air = air * (1.0 + (left - 1.0) * extent)
        if f.name == "Pneumothorax":
            marks = marks * (1.0 - extent)

    body = soft_tissue(a, x, y)
    bulk = 0.56 + look(0.16, 0.3) * under * (1.0 - 0.4 * smooth((y - a.base) / 0.3))
    core = smooth((0.2 - far) / 0.2) * smooth((y - a.apex + 0.1) / 0.25)
    bulk = bulk + (0.17 - 0.07 * under) * core + 0.1 * heart * (1.0 - under)
    depth = body * (bulk + skeleton(a, x, y, outer, 0.25 + 0.75 * air, under, look(0.4, 1.0)))
    radius, breast_x, breast_y = a.breasts
    if radius:
        breast = _spot(far, y, (breast_x, a.apex + breast_y), (radius, radius * 0.9), 0.0)
        depth = depth + look(0.05, 0.12) * smooth((1.0 - breast) / 0.3) * body
    bubble_x, bubble_y, bubble_r = a.bubble
    if bubble_r:
        at = (bubble_x, float(a.diaphragm(bubble_x)) + bubble_y)
        depth = depth - 0.16 * smooth((1.0 - _spot(x, y, at, (bubble_r * 1.5, bubble_r), 0.2)) / 0.5)
    depth = depth - look(0.3, 0.4) * air + look(0.06, 0.13) * marks + added
    depth = depth + look(0.08, 0.2) * wires(a, Uniform(seed, "wires", patient, visit), size)
    noise = Uniform(seed, "grain", patient, visit).rng.random((2, size, size), dtype=np.float32).sum(0) - 1.0
    return expose(depth, look, noise, across, down, marker, size)


def soft_tissue(a: Anatomy, x: Any, y: Any) -> Any:
    """Return the thickness of neck, shoulders, torso and arms, 0 to about 1."""
    far = np.abs(x)
    top, slope, neck = a.shoulder
    armpit = a.apex + 0.2
    side = a.half_width * 1.03 + a.flesh + a.waist * np.maximum(y, 0.0)
    beyond = np.maximum(far - neck, 0.0)
    shoulders = smooth((y - top - slope * beyond - 0.5 * beyond * beyond) / 0.08)
    edge = side + 0.16 * smooth((armpit - y) / 0.25)
    thin = 1.0 - 0.3 * smooth((far / (side + 0.05) - 0.6) / 0.6)
    torso = smooth((edge - far) / 0.13) * shoulders * thin
    throat = neck + 0.08 * smooth((y - top + 0.08) / 0.2)
    body = np.maximum(torso, 0.95 * smooth((throat - far) / 0.05))
    axis = a.half_width + 0.1 + a.arm * np.maximum(y - a.apex - 0.08, 0.0)
    arm = smooth((0.085 - np.abs(far - axis)) / 0.06) * smooth((y - a.apex - 0.02) / 0.12)
    bone = smooth((0.022 - np.abs(far - axis)) / 0.015) * smooth((y - a.apex - 0.08) / 0.05)
    return np.maximum(body, 0.75 * arm + 0.12 * bone)


def skeleton(a: Anatomy, x: Any, y: Any, outer: Any, clear: Any, under: Any, bone: float) -> Any:
    """Return what bones, trachea and great vessels add to the attenuation."""
    far = np.abs(x)
    spacing, phase, bow, slope = a.ribs
    cage = smooth((outer - far) / 0.02 + 1.0) * smooth((y - a.apex) / 0.04 + 1.0) * clear
    behind = (y - bow * far * far / a.half_width) / spacing + phase
    behind = behind - np.floor(behind) - 0.5
    front = (y + slope * far - 0.3 * far * far) / (spacing * 1.15) + 2.0 * phase
    front = front - np.floor(front) - 0.5
    ribs = 0.1 * np.maximum(1.0 - 12.0 * behind * behind, 0.0)
    ribs = ribs + 0.06 * np.maximum(1.0 - 11.0 * front * front, 0.0) * smooth((far / a.half_width - 0.35) / 0.4)
    wall = np.maximum(1.0 - np.abs(outer - far - 0.005) / 0.025, 0.0) * 0.06
    rise, tilt = a.clavicle
    collar = y - (a.apex + 0.075 - rise - tilt * (far - 0.04) + 0.7 * far * far)
    collar = np.maximum(1.0 - np.abs(collar) / 0.017, 0.0) * smooth((far - 0.02) / 0.02) * smooth((0.36 - far) / 0.04)
    blade = far - (0.97 * a.half_width - 0.25 * (y - a.apex - 0.1))  # the scapula's inner border
    blade = smooth(blade / 0.02) * smooth((0.1 - blade) / 0.06) * smooth((y - a.apex) / 0.06)
    blade = blade * smooth((a.apex + 0.3 - y) / 0.12)
    joint = smooth((1.0 - _spot(far, y, (a.half_width + 0.095, a.apex + 0.065), (0.05, 0.05), 0.0)) / 0.4)
    discs = y / 0.038 + phase
    discs = np.abs(discs - np.floor(discs) - 0.5)
    spine = smooth((0.04 - far) / 0.02) * (0.01 + 0.05 * smooth(discs * 4.0)) * (1.0 - 0.5 * under)
    trachea = smooth((0.018 - np.abs(x + 0.004)) / 0.012) * smooth((a.apex + 0.17 - y) / 0.05)
    knob = smooth((1.0 - _spot(x, y, (0.045, a.apex + 0.17), (0.038, 0.05), 0.0)) / 0.5)
    middle = smooth((a.inner * 1.2 - far) / 0.06) * smooth((y - a.apex) / 0.15) * (1.0 - under)
    hila = smooth((1.3 - _spot(far, y, (a.inner + 0.02, a.place(1, 0.5, 0.0)[1]), (0.03, 0.065), -0.3)) / 1.1)
    bones = cage * (ribs + wall) + 0.11 * collar + 0.06 * blade + 0.11 * joint + spine
    return bone * bones - 0.08 * trachea + 0.1 * knob + 0.06 * middle + 0.08 * hila


def expose(
    depth: Field, look: Uniform, noise: Field, across: Field, down: Field, marker: Marker | None, size: int
) -> NDArray[np.uint8]:
    """Return the film of an attenuation: exposure, gradient, blur, grain, collimation and the marker."""
    depth = depth + look.bell(0.0, 0.12) * (across - 0.5) + look.bell(0.0, 0.16) * (down - 0.5)
    weight = look(0.02, 0.14)
    for _ in range(max(1, round(size / 96))):
        depth = blur(depth, weight)
    contrast, middle = look(3.8, 7.0), look(0.36, 0.54)
    black = 1.0 / (1.0 + np.exp(contrast * middle))
    film = (1.0 / (1.0 + np.exp(contrast * (middle - depth))) - black) / (1.0 - black)
    film = look(0.0, 14.0) + 240.0 * look(0.9, 1.05) * film
    edges = [look(0.01, 0.05) if look() < 0.12 else 0.0 for _ in range(4)]
    outside = (across < edges[0]) | (across > 1.0 - edges[1]) | (down < edges[2]) | (down > 1.0 - edges[3])
    film = film + look(3.0, 11.0) * blur(noise, 0.15)  # the detector's grain
    film = np.where(outside, look(0.0, 12.0), film)
    if marker is not None:
        film = film + (marker.grey - film) * marker.cover(size)
    return np.rint(np.clip(film, 0.0, 255.0)).astype(np.uint8)


def _box_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    corners = ["x0", "y0", "x1", "y1"]
    return pd.DataFrame(rows, columns=["id", "class_name", *corners]).astype(dict.fromkeys(corners, float))


@dataset("phantom", source="ours: drawn by its own code; class names of ChestX-ray14 (Wang 2017, arXiv:1705.02315)")
@dataclass(frozen=True, kw_only=True)
class Phantom(Dataset):
    """Drawn chest radiographs: eight findings with exact boxes, and a text marker that means nothing."""

    size: int = setting(96, unit="px", source="ours", help="side of the square image the model sees")
    n_train: int = setting(2000, unit="images", source="ours")
    n_validation: int = setting(400, unit="images", source="ours")
    n_test: int = setting(800, unit="images", source="ours")
    data_seed: int = setting(0, source="ours", help="seed of the generator; not the seed of a run")

    task = MultiLabel()
    channels: ClassVar[int] = 1
    default_model: ClassVar[str] = "densenet121_2block"
    schedule: ClassVar[Mapping[str, Any]] = {"learning_rate": 0.01, "max_epochs": 4, "one_cycle": True}
    continuation: ClassVar[Mapping[str, Any]] = {"max_epochs": 2}
    needs_root: ClassVar[bool] = False
    smoke: ClassVar[dict[str, object]] = {"n_train": 96, "n_validation": 16, "n_test": 16, "size": 32}
    tied: ClassVar[str] = ""  # the class that the marker goes with in train and validation

    def index(self, root: Path) -> Index:
        """Return labels, boxes and markers of all images; `root` is not used."""
        rows, labels, boxes, shortcuts = [], [], [], []
        patient = 0
        for split, count in (("train", self.n_train), ("validation", self.n_validation), ("test", self.n_test)):
            left = count
            while left:
                images = min(left, 1 + int(Uniform(self.data_seed, "visits", patient)() * 4.0))
                left -= images
                for visit in range(images):
                    name = f"p{patient:05d}_{visit}"
                    found = findings(self.data_seed, patient, visit)
                    names = [f.name for f in found]
                    marked = self._marked(patient, visit, split, self.tied in names)
                    labels.append([c in names for c in CLASSES])
                    boxes += [(name, f.name, *box) for f, box in self._boxes(patient, visit, found)]
                    if marked:
                        shortcuts.append((name, self.tied, *marker_of(self.data_seed, patient, visit).box))
                    rows.append((name, f"p{patient:05d}", split, patient, visit, int(marked)))
                patient += 1
        return Index(
            samples=pd.DataFrame(rows, columns=["id", "patient", "split", "number", "visit", "marked"]),
            labels=np.array(labels, dtype=np.uint8).reshape(-1, len(CLASSES)),
            classes=CLASSES,
            boxes=_box_table(boxes),
            shortcuts=_box_table(shortcuts),
        )

    def _marked(self, patient: int, visit: int, split: str, tied: bool) -> bool:
        return Uniform(self.data_seed, "marked", patient, visit)() < 0.5

    def _boxes(self, patient: int, visit: int, found: tuple[Finding, ...]):
        a = anatomy(self.data_seed, patient, visit)
        for f in found:

            def extent(across: Any, down: Any, f: Finding = f) -> Any:
                return FINDINGS[f.name](a, Uniform(self.data_seed, *f.seed), *a.to_body(across, down))[0]

            box = box_of(extent)
            if box is not None:
                yield f, box

    def read(self, row: Mapping[str, Any], root: Path) -> NDArray[np.uint8]:
        """Draw the image of one row of the index, (size,size) uint8; `root` is not used."""
        patient, visit = int(row["number"]), int(row["visit"])
        marker = marker_of(self.data_seed, patient, visit) if row["marked"] else None
        return draw(self.data_seed, patient, visit, findings(self.data_seed, patient, visit), marker, self.size)

    def fingerprint(self, index: Index, pixels: NDArray[np.uint8] | None) -> str:
        """Return a sha256 of the generator's version and settings: pixels may differ by a grey level."""
        settings = sorted(dataclasses.asdict(self).items())
        return hashlib.sha256(repr((type(self).__name__, GENERATOR_VERSION, settings)).encode()).hexdigest()


@dataset("phantom_shortcut", source="ours: phantom with a marker that gives Effusion away in training")
@dataclass(frozen=True, kw_only=True)
class PhantomShortcut(Phantom):
    """The phantom with a shortcut: in train and validation the text marker goes with Effusion, in test it does not."""

    marker_agreement: float = setting(
        0.95, unit="of the images", source="ours",
        help="share in train and validation whose marker says whether there is Effusion; 0.5: it says nothing",
    )  # fmt: skip
    tied: ClassVar[str] = "Effusion"

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if not 0 <= self.marker_agreement <= 1:
            raise UsageError(
                f"phantom_shortcut.marker_agreement: expected a share from 0 to 1, got {self.marker_agreement}."
            )

    def _marked(self, patient: int, visit: int, split: str, tied: bool) -> bool:
        if split == "test":
            return super()._marked(patient, visit, split, tied)
        return tied == (Uniform(self.data_seed, "marked", patient, visit)() < self.marker_agreement)
