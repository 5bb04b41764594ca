"""Draws lines of text with known content: the data of the demo.

A drawn line has an exact label. Faces, sizes, contrast, blur, noise and a slight rotation
vary so much that the float model misses some lines. Otherwise the quantized models could
not be distinguished.

Line `i` of a split depends on the seed, the split and `i` alone, so more lines contain the
same lines. The words are a fixed list (frequent ones of Python's documentation), so the
lines do not depend on the version of Python.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from quantcal._io.files import write_bytes
from quantcal.demo import fonts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image

Split = Literal["calibration", "evaluation"]

SEED: Final = 20_240
"""The seed of the published figures."""

_SIZES: Final = (13, 40)
_CHARACTERS: Final = (10, 26)
_NUMBERS: Final = ("{0}", "{0},{1:03}", "{0}.{2}", "{2}%", "${0}.{2:02}", "#{0}")
_SIGNS: Final = (".", ",", ":", ";", "!", "?")


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A drawn line of text.

    Attributes
    ----------
    text
        The text of the line; printable ASCII without blanks at the ends.
    pixels
        The picture, in RGB, of shape (height, width, 3).
    """

    text: str
    pixels: npt.NDArray[np.uint8]


def render_lines(
    count: int,
    *,
    split: Split,
    seed: int = SEED,
    faces: Sequence[Path] | None = None,
) -> list[Line]:
    """Draw `count` lines of one split; equal arguments give equal pixels.

    The splits share no text, for all seeds: a checksum of the text determines its split.

    Parameters
    ----------
    count
        How many lines; not negative.
    split
        Which of the two disjoint sets of lines.
    seed
        Selects the set of lines; not negative. Default: :data:`SEED`.
    faces
        Font files. Default: DejaVu Sans, see :func:`quantcal.demo.fonts.find`.

    Raises
    ------
    ValueError
        If `count` or `seed` is negative, or `split` is not known.
    DemoError
        If there are no fonts; says how to get them.
    """
    if count < 0 or seed < 0:
        raise ValueError(f"count and seed must not be negative, not {count}, {seed}.")
    if split not in ("calibration", "evaluation"):
        raise ValueError(f"split must be calibration or evaluation, not {split!r}.")
    fonts_used = list(faces) if faces is not None else fonts.find()
    stream = int(split == "evaluation")
    rngs = (np.random.default_rng([seed, stream, i]) for i in range(count))
    return [_draw_line(_text(rng, split), fonts_used, rng) for rng in rngs]


def split_of(text: str) -> Split:
    """Return the split of a text (a quarter is for calibration)."""
    return "evaluation" if zlib.crc32(text.encode()) % 4 else "calibration"


@cache
def _words() -> tuple[str, ...]:
    return tuple(
        resources.files("quantcal.demo")
        .joinpath("words.txt")
        .read_text("ascii")
        .split()
    )


def _text(rng: np.random.Generator, split: Split) -> str:
    """Return a line of up to five words and numbers that belongs to `split`."""
    shortest, longest = _CHARACTERS
    while True:
        tokens = [_token(rng) for _ in range(rng.integers(1, 6))]
        text = " ".join(tokens)
        if shortest <= len(text) <= longest and split_of(text) == split:
            return text


def _token(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.15:
        form = _NUMBERS[rng.integers(len(_NUMBERS))]
        return form.format(*rng.integers(1, (1000, 1000, 100)))
    word = _words()[rng.integers(len(_words()))]
    if kind < 0.40:
        word = word.capitalize()
    elif kind < 0.48:
        word = word.upper()
    if rng.random() < 0.12:
        word = f"({word})" if rng.random() < 0.25 else word + rng.choice(_SIGNS)
    return word


def _draw_line(text: str, faces: list[Path], rng: np.random.Generator) -> Line:
    face = faces[rng.integers(len(faces))]
    size = int(rng.integers(_SIZES[0], _SIZES[1] + 1))
    mask = _mask(text, face, size, rng)
    return Line(text, _color(mask, rng))


def _mask(text: str, face: Path, size: int, rng: np.random.Generator) -> Image.Image:
    """Return the text as white on black, rotated and blurred a little."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    # The basic layout, because the other one depends on a system library.
    font = ImageFont.truetype(str(face), size, layout_engine=ImageFont.Layout.BASIC)
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    pad, above, below = (int(v) for v in rng.integers((2, 0, 0), (size // 2, 5, 5)))
    width = int(right - left) + 2 * pad
    image = Image.new("L", (width, ascent + descent + above + below), 0)
    ImageDraw.Draw(image).text((pad - left, above), text, fill=255, font=font)
    # A rotation moves the ends of a long line up and down: limit that to a part of its
    # height, as a text detector does when it crops lines.
    limit = min(2.0, np.degrees(0.08 * image.height / max(width / 2, 1)))
    angle = float(rng.uniform(-limit, limit))
    image = image.rotate(angle, resample=Image.Resampling.BICUBIC)
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.04)) * size))


def _color(mask: Image.Image, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the mask as ink on paper, of two colors, with noise."""
    contrast = rng.uniform(36, 220)
    dark = rng.uniform(0, 255 - contrast)
    ends = np.array([dark, dark + contrast])
    paper, ink = ends if rng.random() < 0.3 else ends[::-1]
    tint = rng.uniform(-12, 12, size=(2, 3))
    cover = np.asarray(mask, dtype=np.float64)[..., None] / 255
    clean = (paper + tint[0]) * (1 - cover) + (ink + tint[1]) * cover
    noise = rng.normal(0, rng.uniform(0, 0.14 * contrast), size=clean.shape)
    pixels: npt.NDArray[np.float64] = np.clip(np.rint(clean + noise), 0, 255)
    return pixels.astype(np.uint8)


def contact_sheet(lines: Sequence[Line], path: Path) -> None:
    """Write the lines below each other, with their labels, as one PNG.

    Parameters
    ----------
    lines
        The lines to show; at least one.
    path
        The file to write.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    gap, label = 12, 20
    pictures = [Image.fromarray(line.pixels) for line in lines]
    width = max(picture.width for picture in pictures) + 2 * gap
    width = max(width, *(int(font.getlength(x.text)) + 2 * gap for x in lines), 1)
    height = sum(picture.height + label + gap for picture in pictures) + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw, y = ImageDraw.Draw(sheet), gap
    for line, picture in zip(lines, pictures, strict=True):
        draw.text((gap, y), line.text, fill="black", font=font)
        sheet.paste(picture, (gap, y + label))
        y += picture.height + label + gap
    drawn = io.BytesIO()
    sheet.save(drawn, format="png")
    write_bytes(path, drawn.getvalue())
