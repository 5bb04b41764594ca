"""The one place that asks for matplotlib; axes, colors and sizes that all pictures share.

Nothing here or in the pictures touches rcParams or shows anything. pyplot is imported only to
make a figure when no axes are given, so that a notebook or `plt.show()` finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process import imports
from quantcal._process.signals import deferred
from quantcal._text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design", 2008: apart for readers with any color vision.
CHOSEN = "#D55E00"
METHOD = "#0072B2"
# Grays, apart from these in lightness too.
FILL = "#D5D8DC"
EDGE = "#7B828A"
TEXT = "#30343A"
GUIDE = "#E8EAED"

SMALL = 8.0
"""Points of the labels of rows."""


ROW = 0.19
"""Inches of a strategy's line below a distribution."""

ABOVE = 2.9
"""Inches of the distribution above the lines of strategies."""


def require() -> None:
    """Import matplotlib, or say how to install it.

    Raises
    ------
    ImportError
        When it is missing, or is installed but cannot be loaded.
    """
    # The compiled parts of these, too, do not stand an interruption while they load.
    parts = ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg")
    imports.require(parts, "Pictures need", "plot", "matplotlib")


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If what is given is something else.
    """
    check(ax)
    if ax is not None:
        return ax
    with deferred():
        import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(width, height), layout="constrained")
    return made


def check(ax: object) -> None:
    """Refuse what is neither axes nor None; raises as `axes` does."""
    require()
    from matplotlib.axes import Axes

    if ax is None or isinstance(ax, Axes):
        return
    msg = f"ax is {shown(ax, 80)}, but it must be matplotlib axes, or None for new ones"
    raise TypeError(msg)


def tidy(ax: Axes) -> None:
    """Take away the frame where nothing is read from it."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=SMALL)


def title(ax: Axes, text: str, *, pad: float = 6.0) -> None:
    """Set a title on the left, where reading starts."""
    ax.set_title(text, loc="left", fontsize=10, color=TEXT, pad=pad)
