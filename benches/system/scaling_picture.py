"""The scaling figure: time above, memory below, one column for each axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Points = dict[str, list[dict[str, float]]]
"""By axis: size, seconds and bytes of each point, by rising size."""

LABELS = {
    "elements": "elements of one tensor, streamed",
    "tensors": "tensors of 65,536 elements",
    "channels": "channels of 1,024 elements",
    "threads": "threads, 67 million elements",
}
BLUE, RED, GRAY = "#1f5fa8", "#b3541e", "#8a8a8a"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
}


def slope(points: list[dict[str, float]], key: str) -> tuple[float, float]:
    """Return the exponent of growth (1 is linear) and the largest factor between point and fit.

    Fits the logarithms of the upper half of the sizes by least squares. Below, the cost of the
    call dominates.
    """
    upper = points[len(points) // 2 :]
    x = np.log([p["size"] for p in upper])
    y = np.log([max(p[key], 1e-12) for p in upper])
    exponent, offset = np.polyfit(x, y, 1)
    off = float(np.exp(np.abs(y - exponent * x - offset).max()))
    return float(exponent), off


def draw(points: Points, head: dict[str, Any], path: Path) -> None:
    """Draw time and memory and save the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 4, figsize=(10.5, 4.7), sharex="col")
        for column, axis in enumerate(("elements", "tensors", "channels")):
            _growth(axes[0, column], axes[1, column], points[axis])
        _threads(axes[0, 3], axes[1, 3], points["threads"])
        for plot, label in zip(axes[1], LABELS.values(), strict=True):
            plot.set_xlabel(label)
        axes[0, 0].set_ylabel("time")
        axes[1, 0].set_ylabel("memory")
        figure.suptitle(
            f"quantcal {head['versions']['quantcal']}, float32 N(0, 1), one thread except on "
            f"the right; {head['processor']}, {head['date']}",
            fontsize=8,
        )
        figure.tight_layout()
        figure.savefig(path, dpi=200)
        plt.close(figure)


def _growth(top: Any, bottom: Any, points: list[dict[str, float]]) -> None:
    """Draw on logarithmic axes, where linear growth is a line of slope 1."""
    x = [p["size"] for p in points]
    seconds = [p["seconds"] for p in points]
    exponent, off = slope(points, "seconds")
    line = [seconds[-1] * n / x[-1] for n in x]
    top.loglog(x, line, "--", lw=0.8, color=GRAY, label="linear")
    top.loglog(x, seconds, "o-", ms=3, lw=1, color=BLUE, label="measured")
    top.set_ylim(min(seconds) / 3, max(seconds) * 3)
    top.set_title(
        f"time $\\propto n^{{{exponent:.2f}}}$, within {100 * (off - 1):.0f} %"
    )
    for key, mark, color, label in (
        ("nbytes", "s-", GRAY, "counters"),
        ("peak", "o-", RED, "growth of the process, peak"),
    ):
        bottom.loglog(
            x,
            [max(p[key], 1) for p in points],
            mark,
            ms=3,
            lw=1,
            color=color,
            label=label,
        )
    low = min(p["nbytes"] for p in points)
    bottom.set_ylim(low / 3, max(p["peak"] for p in points) * 80)
    _units(top, "s")
    _units(bottom, "B")
    for plot in (top, bottom):
        plot.legend(loc="upper left")


def _threads(top: Any, bottom: Any, points: list[dict[str, float]]) -> None:
    x = [p["size"] for p in points]
    faster = [points[0]["seconds"] / p["seconds"] for p in points]
    top.plot(x, x, "--", lw=0.8, color=GRAY, label="ideal, one core each")
    top.plot(x, faster, "o-", ms=3, lw=1, color=BLUE, label="measured")
    top.set_ylim(0, max(x) * 1.25)
    top.set_title("speed-up over one thread")
    top.legend(loc="upper left")
    bottom.plot(x, [p["peak"] / 1e6 for p in points], "o-", ms=3, lw=1, color=RED)
    bottom.set_ylim(0)
    bottom.set_title("growth of the process, peak, MB")
    bottom.set_xticks(x)


def _units(plot: Any, unit: str) -> None:
    """Label powers of ten with units, such as 10 µs or 1 MB."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    prefixes = {-2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}

    def text(value: float, _: object) -> str:
        power = round(np.log10(value)) // 3
        return f"{value / 1000.0**power:.0f} {prefixes.get(power, '?')}{unit}"

    plot.yaxis.set_major_locator(LogLocator(numticks=20))
    plot.yaxis.set_minor_locator(NullLocator())
    plot.xaxis.set_minor_locator(NullLocator())
    plot.yaxis.set_major_formatter(FuncFormatter(text))
