"""Pictures in grids of subplots, light and dark: no words on others, all words legible."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

import quantcal as qc
from quantcal.report import colors

STYLES = ["default", "dark_background", "ggplot", "fivethirtyeight"]
GRIDS = [(1, 3), (3, 2)]


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def values(kind: int) -> np.ndarray:
    x = np.random.default_rng(kind).standard_normal(4000).astype(np.float32)
    shapes = (x, x**5, np.maximum(x, 0), x + 100, np.append(x, np.float32(1000)), x[:1])
    return shapes[kind % 6]


def histogram(kind: int) -> qc.Histogram:
    return qc.Histogram().observe(values(kind))


@functools.cache
def calibrator(kind: int) -> qc.Calibrator:
    cal = qc.Calibrator()
    for number in range((2, 5, 12, 30, 3, 70)[kind % 6]):
        name = f"/model/layers.{number}/mlp/a_rather_long_name/MatMul_output_0"
        cal.observe(name, values(number % 3) * np.float32(3.0 ** (number % 7)))
    if kind % 2:
        cal.observe("conv.weight", values(0)[:1600].reshape(-1, 16), axis=1)
    return cal


def channels(kind: int) -> qc.Channels:
    cal = qc.Calibrator()
    cal.observe("w", values(0).reshape(-1, (1, 4, 16, 50, 125, 1000)[kind % 6]), axis=1)
    return cal.channels("w")


@functools.cache
def comparison(kind: int) -> qc.Comparison:
    return qc.compare(values(kind), "uint8")


@functools.cache
def network(kind: int) -> qc.Comparison:
    return qc.compare(calibrator(kind), strategies=FEW)


@functools.cache
def table(kind: int) -> qc.CalibrationTable:
    return calibrator(kind).compute("percentile_99")


FEW = ["minmax", "percentile_99.999", "mse", "hybrid"]

DRAW: dict[str, Callable[[Axes | None, int], Axes]] = {
    "histogram": lambda ax, k: histogram(k).plot(ax, name="encoder.layers.11.output"),
    "comparison": lambda ax, k: comparison(k).plot(ax),
    "network": lambda ax, k: network(k).plot(ax),
    "table": lambda ax, k: table(k).plot(ax),
    "channels": lambda ax, k: channels(k).plot(
        ax, name="a.rather.long.name.of.a.weight"
    ),
}


def words(figure: Figure) -> list[Text]:
    """All texts that are seen, of all axes."""
    found: list[Text] = []
    for ax in figure.axes:
        found += [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax._left_title, ax.title]
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = sorted(limits)
            found += [
                tick.label1
                for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
                if low <= tick.get_loc() <= high
            ]
    return [text for text in found if text.get_text().strip() and text.get_visible()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that stand on one another, also of neighbors."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    assert boxes
    return [
        (a, b)
        for (a, one), (b, other) in itertools.combinations(boxes, 2)
        if one.padded(-1).overlaps(other.padded(-1))
    ]


def outside(figure: Figure) -> list[str]:
    """Texts that the edge of the figure cuts."""
    page = figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    return [
        text
        for text, box in boxes
        if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0 or box.y1 > page.y1
    ]


def contrast(color: Any, ground: Any) -> float:
    """The contrast of WCAG 2.1, from 1 to 21."""

    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted((luminance(to_rgb(color)), luminance(to_rgb(ground))))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_no_words_stand_on_others(
    draw: Callable[[Axes | None, int], Axes], grid: tuple[int, int], layout: Any
) -> None:
    size = (4 * grid[1], 3.4 * grid[0])
    figure, axes = plt.subplots(*grid, figsize=size, layout=layout, squeeze=False)
    for number, ax in enumerate(axes.flat):
        assert draw(ax, number) is ax
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_a_picture_of_its_own_has_no_words_on_others(
    draw: Callable[[Axes | None, int], Axes],
) -> None:
    for kind in (1, 3, 5):
        figure: Any = draw(None, kind).figure
        assert overlapping(figure) == []
        assert outside(figure) == []


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
@pytest.mark.parametrize("style", STYLES)
def test_words_are_legible_in_every_style(
    draw: Callable[[Axes | None, int], Axes], style: str
) -> None:
    with plt.style.context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
        draw(left, 1)
        draw(right, 2)
        figure.canvas.draw()
        for text in words(figure):
            ax: Any = text.axes or left
            inside = ax.bbox.overlaps(text.get_window_extent()) and text in ax.texts
            ground = colors.ground(ax) if inside else figure.get_facecolor()
            if inside and draw is DRAW["network"] and text.get_color() not in known():
                continue  # on a colored cell
            assert contrast(text.get_color(), ground) > 2.9, text


def known() -> set[str]:
    """The colors of words on the plain ground."""
    return {
        color
        for palette in (colors.LIGHT, colors.DARK)
        for color in (palette.text, palette.chosen, palette.strategy, palette.edge)
    }


@pytest.mark.parametrize("palette", [colors.LIGHT, colors.DARK], ids=["light", "dark"])
def test_the_colors_are_legible_on_their_ground(palette: colors.Palette) -> None:
    ground = "white" if palette is colors.LIGHT else "#121416"
    for name, minimum in {"text": 7, "chosen": 3, "strategy": 4.5, "edge": 3.5}.items():
        assert contrast(getattr(palette, name), ground) >= minimum, name


@pytest.mark.parametrize(
    ("figure", "axes", "dark"),
    [
        ("white", "black", True),
        ("black", "white", False),
        ("black", "none", True),
        ("white", "none", False),
        ("none", "none", False),
        ("black", (1, 1, 1, 0.1), True),
    ],
)
def test_the_ground_tells_the_colors(figure: str, axes: Any, dark: bool) -> None:
    made, ax = plt.subplots(facecolor=figure)
    ax.set_facecolor(axes)
    assert colors.of(ax) is (colors.DARK if dark else colors.LIGHT)
    assert made.axes == [ax]


def test_resizing_keeps_the_room_beside_the_axes() -> None:
    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    for ax in axes:
        qc.compare(values(0), "uint8").plot(ax)
    figure.set_size_inches(16, 8)
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_a_network_shows_what_each_strategy_loses() -> None:
    shown = network(2)
    ax = shown.plot()
    (image,) = ax.images
    names = sorted(
        shown.tensors,
        key=lambda name: max(row.sqnr_db for row in shown[name]),
    )
    for y, name in enumerate(names):
        rows = list(shown[name])
        best = max(row.sqnr_db for row in rows)
        lost = [min(best - row.sqnr_db, 6.0) for row in rows]
        np.testing.assert_allclose(image.get_array()[y], lost)
    by_one = shown.plot(strategy="minmax").images[0].get_array()[:, 0]
    assert len(by_one) == len(names)


def test_a_network_of_many_tensors_shows_the_worst() -> None:
    ax = qc.compare(calibrator(5), "int8", strategies=["mse", "minmax"]).plot()
    assert ax.images[0].get_array().shape == (60, 2)
    assert "the worst 60 of 71 tensors" in ax.get_title(loc="left").replace("\n", " ")
