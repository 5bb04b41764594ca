"""Colors of all pictures, for light and for dark ground; the axes decide which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Palette:
    """The colors for one ground.

    Attributes
    ----------
    chosen, strategy
        What is looked at, and what stands beside it.
    fill, edge
        Distributions and their outlines.
    text, guide
        Words, and lines that guide the eye.
    """

    chosen: str
    strategy: str
    fill: str
    edge: str
    text: str
    guide: str


# Okabe and Ito, "Color Universal Design", 2008: distinct for readers with any color vision.
# The grays also differ from these in lightness.
LIGHT = Palette("#D55E00", "#0072B2", "#D5D8DC", "#7B828A", "#30343A", "#E8EAED")
DARK = Palette("#F0883E", "#56B4E9", "#3D444D", "#9AA3AD", "#DDE1E6", "#2B3036")

_DIM = 0.5
"""Grounds below this lightness are dark."""


def of(ax: Axes) -> Palette:
    """Return the colors that are legible on these axes."""
    red, green, blue = ground(ax)
    lightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return DARK if lightness < _DIM else LIGHT


def ground(ax: Axes) -> tuple[float, float, float]:
    """Return the color behind what is drawn, as red, green and blue.

    Transparent axes show the figure, and transparent figures the page, which is white.
    """
    from matplotlib.colors import to_rgba

    red = green = blue = 1.0
    for face in (ax.figure.get_facecolor(), ax.get_facecolor()):
        r, g, b, opaque = to_rgba(face)
        rest = 1 - opaque
        red, green, blue = (
            opaque * r + rest * red,
            opaque * g + rest * green,
            opaque * b + rest * blue,
        )
    return red, green, blue
