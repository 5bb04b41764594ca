"""A picture of models that were tried: accuracy against latency, and against nodes in float."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.files import write_bytes
from quantcal.report import canvas, colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[int, float, float | None]
"""Nodes in float, drop, and milliseconds of a sample (None if unknown)."""


def draw_pareto(
    points: Sequence[Point],
    chosen: Point,
    max_drop: float,
    measure: str,
    float_ms: float | None = None,
) -> Figure:
    """Draw the drop of each model against its latency, and against its nodes in float.

    Parameters
    ----------
    points
        The models.
    chosen
        The one that was written.
    max_drop
        The promise, a horizontal line.
    measure
        What the drop is of.
    float_ms
        The float model's latency, a vertical line.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    canvas.require()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    timed = [point for point in points if point[2] is not None]
    figure = Figure(figsize=(9.0 if timed else 5.0, 3.6), layout="constrained")
    panels = list(figure.subplots(1, 2 if timed else 1, squeeze=False)[0])
    palette = colors.of(panels[0])
    _panel(panels[-1], [(p[0], p[1]) for p in points], (chosen[0], chosen[1]))
    panels[-1].set_xlabel("nodes in float")
    panels[-1].set_xlim(-0.5, max(point[0] for point in points) + 0.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[-1].legend(fontsize=canvas.SMALL, frameon=False)
    if timed:
        _panel(panels[0], [(p[2], p[1]) for p in timed], (chosen[2], chosen[1]))
        panels[0].set_xlabel("milliseconds a sample (estimated)")
        if float_ms is not None:
            panels[0].axvline(float_ms, color=palette.edge, linestyle=":")
            panels[0].annotate(
                "float model",
                (float_ms, 0.0),
                xycoords=("data", "axes fraction"),
                xytext=(-3, 4),
                textcoords="offset points",
                ha="right",
                va="bottom",
                rotation=90,
                fontsize=canvas.SMALL,
                color=palette.text,
            )
    for panel in panels:
        panel.axhline(max_drop, color=palette.chosen, linestyle="--", linewidth=1)
        # A logarithm shows no drop of 0, nor a metric that is better than in float.
        if all(point[1] > 0 for point in points):
            panel.set_yscale("log")
    panels[0].set_ylabel(f"drop ({measure})")
    panels[0].annotate(
        "promise",
        (0.0, max_drop),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=canvas.SMALL,
        color=palette.chosen,
    )
    return figure


def check_picture(path: Path) -> None:
    """Check that a picture can be written there, before the work that it shows.

    Raises
    ------
    CalibrationError
        If the suffix is not known.
    ImportError
        If matplotlib is missing.
    """
    canvas.require()
    from matplotlib.figure import Figure

    _kind_of(path, Figure())


def save_pareto(figure: Figure, path: Path) -> None:
    """Write the picture; the suffix of the path is its format.

    Raises
    ------
    CalibrationError
        If the suffix is not known, or the file cannot be written.
    """
    kind = _kind_of(path, figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format=kind)
    write_bytes(path, drawn.getvalue())


def _kind_of(path: Path, figure: Figure) -> str:
    kinds = sorted(figure.canvas.get_supported_filetypes())
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        endings = ", ".join(f".{kind}" for kind in kinds)
        raise CalibrationError(
            f'{path}: a picture cannot end in "{path.suffix}"; take one of {endings}'
        )
    return kind


def _panel(
    ax: Axes, points: Sequence[tuple[Any, float]], chosen: tuple[Any, float]
) -> None:
    """Draw points, the front that no other point beats, and the chosen one."""
    palette = colors.of(ax)
    ax.plot(
        [x for x, _ in points],
        [y for _, y in points],
        "o",
        color=palette.edge,
        markersize=4,
        label="tried",
    )
    front = _front(points)
    ax.plot(
        [x for x, _ in front],
        [y for _, y in front],
        color=palette.strategy,
        drawstyle="steps-post",
        label="best",
    )
    if chosen[0] is not None:
        ax.plot([chosen[0]], [chosen[1]], "D", color=palette.chosen, label="written")
    ax.grid(color=palette.guide)
    ax.set_axisbelow(True)


def _front(points: Sequence[tuple[Any, float]]) -> list[tuple[Any, float]]:
    """Return the points for which no other has less of both."""
    best: list[tuple[Any, float]] = []
    for x, y in sorted(points):
        if not best or y < best[-1][1]:
            best.append((x, y))
    return best
