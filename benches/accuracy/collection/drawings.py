"""Drawn pages, lines in two directions, puzzles of letters and pages to find text in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benches.accuracy.collection import images
from benches.accuracy.collection.case import Array
from quantcal.demo import LineSamples, fonts, render_lines

if TYPE_CHECKING:
    from quantcal.demo.lines import Split

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789abcdefghkmnpqrstuvwxyz"
_ROWS = 8


def pages_of_lines(count: int, split: Split) -> list[Array]:
    """Return pages [1, 3, 480, 640] of eight lines, as a text detector reads them."""
    rows = [
        feed["x"][0] for feed in LineSamples(render_lines(_ROWS * count, split=split))
    ]
    pages = []
    for first in range(0, _ROWS * count, _ROWS):
        page = np.ones((1, 3, 480, 640), np.float32)
        for index, row in enumerate(rows[first : first + _ROWS]):
            width = min(row.shape[2], 600)
            top = 12 + 58 * index
            page[0, :, top : top + 48, 20 : 20 + width] = row[:, :, :width]
        pages.append(page)
    return pages


def turned_lines(count: int, split: Split) -> tuple[list[Array], list[int]]:
    """Return lines [48, 192, 3] in -1 to 1, and whether each stands on its head."""
    from PIL import Image

    found, labels = [], []
    for i, line in enumerate(render_lines(count, split=split)):
        pixels = line.pixels[::-1, ::-1] if i % 2 else line.pixels
        height, width, _ = pixels.shape
        width = min(192, int(np.ceil(48 * width / height)))
        small: Any = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, 48))
        x = np.zeros((48, 192, 3), np.float32)
        x[:, :width] = np.asarray(small, np.float32) / 127.5 - 1
        found.append(x)
        labels.append(i % 2)
    return found, labels


def turned_pages(count: int, split: Split) -> tuple[list[Array], list[int]]:
    """Return pages of text [256, 256, 3] and by how many quarters each is turned."""
    drawn = [_page(_rng(i, split), split) for i in range(count)]
    labels = [i % 4 for i in range(count)]
    return [np.rot90(p, -k) for p, k in zip(drawn, labels, strict=True)], labels


def puzzles(count: int, split: Split) -> list[Array]:
    """Return rows of four to six crossed-out letters, gray [64, width] bytes."""
    return [_puzzle(_rng(i, split)) for i in range(count)]


def scattered(count: int, split: Split) -> list[Array]:
    """Return photographs [416, 416, 3] with three to six large letters on them."""
    found = []
    for i, photo in enumerate(images.crops(count, 416, split)):
        rng = _rng(i, split)
        canvas, draw = _canvas(photo)
        for _ in range(rng.integers(3, 7)):
            x, y = (int(v) for v in rng.integers(10, 340, 2))
            color = tuple(int(v) for v in rng.integers(0, 256, 3))
            letter = _LETTERS[rng.integers(len(_LETTERS))]
            draw.text((x, y), letter, fill=color, font=_font(rng, (36, 80)))
        found.append(np.asarray(canvas))
    return found


def _rng(index: int, split: Split) -> np.random.Generator:
    return np.random.default_rng([11, split == "calibration", index])


def _font(rng: np.random.Generator, sizes: tuple[int, int]) -> Any:
    from PIL import ImageFont

    faces = fonts.find()
    face = str(faces[rng.integers(len(faces))])
    size = int(rng.integers(*sizes))
    return ImageFont.truetype(face, size, layout_engine=ImageFont.Layout.BASIC)


def _canvas(pixels: Array) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw

    canvas: Any = Image.fromarray(pixels)
    return canvas, ImageDraw.Draw(canvas)


def _page(rng: np.random.Generator, split: Split) -> Array:
    """Return one upright page: paragraphs of drawn lines, some with a picture."""
    from PIL import Image

    paper = int(rng.integers(200, 256))
    canvas, draw = _canvas(np.full((512, 512, 3), paper, np.uint8))
    font = _font(rng, (14, 30))
    step = int(font.size * rng.uniform(1.2, 1.7))
    seed = int(rng.integers(1 << 30))
    count = 480 // step
    texts = [x.text for x in render_lines(3 * count, split=split, seed=seed)]
    left = int(rng.integers(8, 60))
    ink = int(rng.integers(0, 110))
    for row in range(count):
        if rng.random() < 0.12:
            continue
        text = " ".join(texts[3 * row : 3 * row + int(rng.integers(1, 4))])
        draw.text((left, 16 + row * step), text, fill=(ink,) * 3, font=font)
    if rng.random() < 0.3:
        side = int(rng.integers(80, 200))
        picture = images.crops(1, side, split)[0]
        place = tuple(int(v) for v in rng.integers(0, 512 - side, 2))
        canvas.paste(Image.fromarray(picture), place)
    small = canvas.resize((256, 256), Image.Resampling.LANCZOS)
    noisy = np.asarray(small, np.float64) + rng.normal(0, 6, (256, 256, 3))
    page: Array = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return page


def _puzzle(rng: np.random.Generator) -> Array:
    count = int(rng.integers(4, 7))
    width = 34 * count + 20
    canvas, draw = _canvas(np.full((64, width), int(rng.integers(190, 256)), np.uint8))
    for i in range(count):
        letter = _LETTERS[rng.integers(len(_LETTERS))]
        place = 8 + 34 * i + int(rng.integers(-3, 4)), int(rng.integers(2, 16))
        ink = int(rng.integers(0, 120))
        draw.text(place, letter, fill=ink, font=_font(rng, (30, 44)))
    for _ in range(rng.integers(1, 4)):
        ends = [int(v) for v in rng.integers((0, 0, 0, 0), (width, 64, width, 64))]
        draw.line(ends, fill=int(rng.integers(0, 200)), width=int(rng.integers(1, 3)))
    noisy = np.asarray(canvas, np.float64) + rng.normal(
        0, rng.uniform(2, 14), (64, width)
    )
    result: Array = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return result
