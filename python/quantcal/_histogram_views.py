"""What a `Histogram` shows: its picture, and its view in notebooks.

The class is compiled; pictures are drawn in Python, so that these methods are added to it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quantcal._core import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(
    self: Histogram,
    ax: Axes | None = None,
    *,
    name: str | None = None,
    percentiles: Sequence[float] = (99.0, 99.9),
) -> Axes:
    """Draw the distribution of the finite values; the stub has the documentation."""
    from quantcal.report import histogram

    return histogram.plot(self, ax, name=name, percentiles=percentiles)


def _repr_html_(self: Histogram) -> str:
    from quantcal.report import html

    return html.histogram(self)


def _add(name: str, function: Any) -> None:
    function.__qualname__ = f"Histogram.{name}"
    function.__module__ = "quantcal"
    setattr(Histogram, name, function)


_add("plot", plot)
_add("_repr_html_", _repr_html_)
