"""Crops of real photographs.

Crops for calibration come from the left 55 % of each photograph, those to judge from the
right 45 %, so they share no pixel. Faces are an exception: one photograph has one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.accuracy.collection.case import Array
from tests.models.photographs import photograph_files

if TYPE_CHECKING:
    from quantcal.demo.lines import Split

_CUT = 0.55
_FACE = (64, 170, 116)  # top, left and side of the face in "astronaut"


@cache
def photographs() -> dict[str, Array]:
    """Return all photographs as RGB bytes [height, width, 3]."""
    from PIL import Image

    found = photograph_files().items()
    return {name: np.asarray(Image.open(path).convert("RGB")) for name, path in found}


def crops(count: int, side: int, split: Split) -> list[Array]:
    """Return square crops of random size, place and mirroring, scaled to `side`."""
    return [_crop(_rng(i, split), side, split) for i in range(count)]


def faces(count: int, side: int, split: Split) -> list[Array]:
    """Return crops of which half show a face, moved, scaled, turned, with noise."""
    found = []
    for i in range(count):
        rng = _rng(i, split)
        if i % 2:
            found.append(_crop(rng, side, split))
            continue
        top, left, size = _FACE
        size = int(size * rng.uniform(0.8, 1.5))
        top, left = (int(v + rng.normal(0, 8)) for v in (top - 8, left))
        found.append(_scaled(photographs()["astronaut"], (top, left, size), rng, side))
    return found


def _rng(index: int, split: Split) -> np.random.Generator:
    return np.random.default_rng([7, split == "calibration", index])


def _crop(rng: np.random.Generator, side: int, split: Split) -> Array:
    names = sorted(photographs())
    image = photographs()[names[rng.integers(len(names))]]
    cut = int(image.shape[1] * _CUT)
    part = image[:, :cut] if split == "calibration" else image[:, cut:]
    largest = min(part.shape[:2])
    size = int(rng.uniform(min(48, largest), largest))
    top, left = (int(rng.integers(0, n - size + 1)) for n in part.shape[:2])
    return _scaled(part, (top, left, size), rng, side)


def _scaled(
    image: Array, place: tuple[int, int, int], rng: np.random.Generator, side: int
) -> Array:
    """Cut a square, scale and light it, mirror half of them, and add a little noise."""
    from PIL import Image

    top, left, size = (max(v, 0) for v in place)
    picture: Any = Image.fromarray(image[top : top + size, left : left + size])
    picture = picture.rotate(rng.normal(0, 4), Image.Resampling.BILINEAR)
    picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float64) * rng.uniform(0.6, 1.15)
    pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    pixels = pixels + rng.normal(0, 3, pixels.shape)
    result: Array = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return result
