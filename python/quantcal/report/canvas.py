"""Axes, room and sizes of all pictures, and the check for matplotlib.

The pictures do not change rcParams and show nothing. pyplot is imported only to make a figure
when no axes are given, so that a notebook or `plt.show()` finds it.
"""

from __future__ import annotations

import bisect
import functools
from typing import TYPE_CHECKING, Any

from quantcal._process import imports
from quantcal._process.signals import deferred
from quantcal._text import shorten, shown
from quantcal.report import colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 8.0
"""Size of row labels in points."""

LABEL = 9.0
"""Size of the names of axes in points."""

_LINES = 2
"""Maximum number of lines of a title."""

TITLE = 10.0
"""Size of titles in points."""

POINTS = 72.0
"""Points of an inch."""


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


def size(ax: Axes) -> tuple[float, float]:
    """Return width and height of the place of the axes, in points."""
    width, height = _points(ax.figure)
    place = ax.get_position(original=True)
    return place.width * width, place.height * height


def _points(figure: Any) -> tuple[float, float]:
    """Return width and height of a figure or a part of one, in points."""
    unit = POINTS / figure.dpi
    return figure.bbox.width * unit, figure.bbox.height * unit


def reserve(ax: Axes, left: float, right: float, top: float, bottom: float) -> None:
    """Shrink the axes within their place, so that what is written beside them fits in.

    Layouts of matplotlib (constrained, tight) make room themselves. Without one, text beside
    the axes would cover the neighbors. The room stays the same when the figure is resized.

    Parameters
    ----------
    left, right, top, bottom
        Room in points.
    """
    figure = ax.figure
    if figure.get_layout_engine() is not None:
        return

    def place(axes: Any, _renderer: Any) -> Any:
        from matplotlib.transforms import Bbox

        width, height = _points(figure)
        box = axes.get_position(original=True)
        x0, x1 = box.x0 + left / width, box.x1 - right / width
        y0, y1 = box.y0 + bottom / height, box.y1 - top / height
        # A place that is too small for its text keeps a rest of the axes.
        x1, y1 = max(x1, x0 + 0.1 * box.width), max(y1, y0 + 0.1 * box.height)
        return Bbox.from_extents(x0, y0, x1, y1)

    ax.set_axes_locator(place)


@functools.lru_cache(maxsize=4096)
def width_of(text: str, points: float) -> float:
    """Return the width of a text in points, whatever draws it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points)
    if not text:
        return 0.0
    widths = [
        text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
        for line in text.split("\n")
    ]
    return float(max(widths))


def wrapped(text: str, width: float, points: float) -> str:
    """Break a text at its spaces into one or two lines of a width in points.

    What is longer is cut.
    """
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        full = len(lines) == _LINES
        if full or not lines[-1] or width_of(longer, points) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(fitted(line, width, points) for line in lines)


def fitted(text: str, width: float, points: float) -> str:
    """Cut the middle out of a text that is wider than this, in points."""
    if width_of(text, points) <= width:
        return text
    return fitted_names([text], len(text), width, points)[0]


def fitted_names(names: list[str], most: int, width: float, points: float) -> list[str]:
    """Cut names to a width in points, all at the same place so that they stay distinct."""

    def is_wider(length: int) -> bool:
        cut = shorten(names, length)
        return max((width_of(name, points) for name in cut), default=0.0) > width

    lengths = range(most, 3, -1)
    fit = bisect.bisect_left(lengths, True, key=lambda length: not is_wider(length))
    if fit == len(lengths):
        return ["…" for _ in names]
    return shorten(names, lengths[fit])


def tidy(ax: Axes) -> None:
    """Remove the frame where nothing is read from it."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=SMALL)


def title(ax: Axes, text: str, width: float, *, pad: float = 6.0) -> int:
    """Set a title on the left, where reading starts; return the number of its lines."""
    lines = wrapped(text, width, TITLE)
    color = colors.of(ax).text
    ax.set_title(lines, loc="left", fontsize=TITLE, color=color, pad=pad)
    return lines.count("\n") + 1


def label(axis: Any, text: str, width: float) -> None:
    """Label an axis, if the text fits in a width in points; cut words otherwise."""
    if width_of(text, LABEL) > width:
        text = text.partition(" (")[0]
    axis.set_label_text(fitted(text, width, LABEL), fontsize=LABEL)
