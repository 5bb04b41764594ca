"""Pictures for docs/reference/strategies.md: the range of each strategy on one density.

Run as ``python -m benches.accuracy.ranges``. The values are those of Student's t, whose
tails show what a strategy does with rare large values. The format is int4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import quantcal as qc
from benches.harness.process import DOCS

FOLDER = DOCS / "images" / "strategies"
STRATEGIES = {
    "minmax": "minmax",
    "percentile": "percentile_99",
    "kl": "kl",
    "mse": "mse",
    "entropy": "entropy",
    "aciq": "aciq",
    "hybrid": "hybrid",
}
"""Section of the page → strategy."""

SHOWN = 24.0  # the axis ends here; the extremes lie far outside
COLOR, GRAY = "#0d9488", "#7d8590"  # readable on white and on black


def draw(strategy: str, histogram: qc.Histogram, path: Path) -> None:
    """Draw a density, the levels of a strategy's grid and its range."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # The same bytes every time, and text that a browser draws.
    mpl.rcParams.update({"svg.hashsalt": "quantcal", "svg.fonttype": "none"})
    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 9})
    (score,) = qc.compare(histogram, "int4", strategies=[strategy])
    params = score.params
    x = np.linspace(-SHOWN, SHOWN, 241)
    density = 6 * np.sqrt(3) / (np.pi * (3 + x**2) ** 2)  # of Student's t(3)
    figure, axes = plt.subplots(figsize=(7.2, 1.7))
    axes.fill_between(x, density, 1e-7, color=GRAY, alpha=0.35, lw=0)
    inside = (x >= params.low) & (x <= params.high)
    axes.fill_between(x, density, 1e-7, where=inside, color=COLOR, alpha=0.45, lw=0)
    levels = params.dequantize(np.arange(-7, 8, dtype=np.int8))
    for level in levels[np.abs(levels) <= SHOWN]:
        axes.axvline(level, ymax=0.09, color=COLOR, lw=1.2)
    axes.set_yscale("log")
    axes.set_xlim(-SHOWN, SHOWN)
    axes.set_ylim(1e-7, 2)
    axes.set_yticks([])
    axes.tick_params(which="both", colors=GRAY, length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{score.strategy}: {params.low:.3g} … {params.high:.3g}, "
        f"clips {score.clipped:.2%} of the values, SQNR {score.sqnr_db:.1f} dB",
        color=GRAY,
        fontsize=9,
        loc="left",
    )
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).standard_t(3, 1_000_000).astype(np.float32)
    histogram = qc.Histogram().observe(values)
    for name, strategy in STRATEGIES.items():
        draw(strategy, histogram, FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main()
