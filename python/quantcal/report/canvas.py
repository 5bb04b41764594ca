"""Axes, colors and sizes of all pictures, and the check for matplotlib.

The pictures do not change rcParams and show nothing. pyplot is imported only to make a figure
when no axes are given, so that a notebook or `plt.show()` finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process import imports
from quantcal._process.signals import deferred
from quantcal._text import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design", 2008: distinct for readers with any color vision.
CHOSEN = "#D55E00"
STRATEGY = "#0072B2"
# Grays that also differ from these in lightness.
FILL = "#D5D8DC"
EDGE = "#7B828A"
TEXT = "#30343A"
GUIDE = "#E8EAED"

SMALL = 8.0
"""Size of row labels in points."""


ROW = 0.19
"""Height of a strategy's line below a distribution, in inches."""

ABOVE = 2.9
"""Height of the distribution above the lines of strategies, in inches."""


def require() -> None:
    """Import matplotlib, or raise an error with the command that installs it.

    Raises
    ------
    ImportError
        If it is missing, or is installed but cannot be loaded.
    """
    # An interruption while these load breaks their compiled parts, too.
    parts = ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg")
    imports.require(parts, "Pictures need", "plot", "matplotlib")


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `ax` is something else.
    """
    check(ax)
    if ax is not None:
        return ax
    with deferred():
        import matplotlib.pyplot as plt

    _, made = plt.subplots(figsize=(width, height), layout="constrained")
    return made


def check(ax: object) -> None:
    """Refuse an object that is neither axes nor None; raises as `axes` does."""
    require()
    from matplotlib.axes import Axes

    if ax is None or isinstance(ax, Axes):
        return
    msg = f"ax is {shown(ax, 80)}, but it must be matplotlib axes, or None for new ones"
    raise TypeError(msg)


def tidy(ax: Axes) -> None:
    """Remove the frame where nothing is read from it."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=SMALL)


def title(ax: Axes, text: str, *, pad: float = 6.0) -> None:
    """Set a title on the left, where reading starts."""
    ax.set_title(text, loc="left", fontsize=10, color=TEXT, pad=pad)
