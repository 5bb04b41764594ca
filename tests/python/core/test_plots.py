"""Pictures: what they show, that labels do not overlap, and that nothing else changes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import quantcal as qc
from quantcal.report.colors import LIGHT
from quantcal.report.density import Mass

CHOSEN, STRATEGY = LIGHT.chosen, LIGHT.strategy

ODD = {
    "empty": [],
    "only NaN": [np.nan],
    "infinities": [np.inf, -np.inf],
    "zeros": [0.0, 0.0],
    "constant": [2.5] * 9,
    "negative constant": [-2.5],
    "two values": [-1.0, 3.0],
    "denormal": [1e-45, 2e-45],
    "huge": [3.4e38, -3.4e38, 1.0],
    "one outlier": [*np.linspace(-1, 1, 200), 1e30],
    "half zeros, one value": [0.0, 0.0, 7.0],
}


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def bell(size: int = 20_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def histogram(values: object) -> qc.Histogram:
    return qc.Histogram().observe(np.asarray(values, np.float32))


def short(shown: qc.CalibrationTable, **options: Any) -> Axes:
    """The picture of a table, with whole names."""
    return shown.plot(plt.subplots(figsize=(20, 6))[1], **options)


def table(
    tensors: int = 6,
    strategy: str = "percentile_99",
    long: str = "a_rather_long_name_of_a_module/",
) -> qc.CalibrationTable:
    cal = qc.Calibrator()
    for number in range(tensors):
        name = f"/model/layers.{number}/mlp/{long}MatMul_output_0"
        cal.observe(name, bell(500, number) * np.float32(3.0 ** (number % 7)))
    return cal.compute(strategy)


DRAW: dict[str, Callable[[Axes | None], Axes]] = {
    "histogram": lambda ax: histogram(bell()).plot(ax),
    "comparison": lambda ax: qc.compare(bell(), "uint8").plot(ax),
    "table": lambda ax: table().plot(ax),
}


def texts(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text()]


def ranges(ax: Axes, color: str) -> dict[str, tuple[float, float]]:
    """The lines of that color with a label, as low and high ends."""
    return {
        str(line.get_label()): (line.get_xdata()[0], line.get_xdata()[-1])
        for line in ax.lines
        if to_hex(line.get_color()).upper() == color
        and not str(line.get_label()).startswith("_")
    }


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_axes_that_are_given_are_drawn_on(draw: Callable[[Axes | None], Axes]) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert draw(right) is right
    assert not left.lines
    assert not left.patches
    assert len(figure.axes) == 2
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_axes_there_is_a_new_figure(
    draw: Callable[[Axes | None], Axes],
) -> None:
    before, _ = plt.subplots()
    ax = draw(None)
    assert ax.figure is not before
    assert len(plt.get_fignums()) == 2
    assert not before.axes[0].lines


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_nothing_global_changes(
    draw: Callable[[Axes | None], Axes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("plt.show was called"))
    before = dict(mpl.rcParams)
    draw(None).figure.canvas.draw()
    assert dict(mpl.rcParams) == before


def test_pyplot_is_imported_only_to_make_a_figure() -> None:
    code = """
import sys, numpy as np, quantcal as qc
assert "matplotlib" not in sys.modules
comparison = qc.compare(np.float32([1, 2, 3]), "uint8")
assert "matplotlib" not in sys.modules
from matplotlib.figure import Figure
comparison.plot(Figure().subplots())
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("draw", ["h.plot()", "qc.compare(h).plot()", "t.plot()"])
def test_without_matplotlib_it_says_how_to_install_it(draw: str) -> None:
    code = f"""
import sys
sys.modules["matplotlib"] = None
import numpy as np, quantcal as qc
h = qc.Histogram().observe(np.float32([1, 2]))
t = qc.CalibrationTable({{}})
try:
    {draw}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120,
        env=os.environ,
    )  # fmt: skip
    assert done.stdout.strip() == (
        'Pictures need matplotlib. Install it with: pip install "quantcal[plot]"'
    )


@pytest.mark.filterwarnings("ignore:.*no finite value:UserWarning")
@pytest.mark.parametrize("draw", ["histogram", "comparison", "table"])
@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_odd_values_are_drawn(values: list[float], draw: str) -> None:
    h = histogram(values)
    if draw == "histogram":
        ax = h.plot()
    elif draw == "comparison":
        ax = qc.compare(h, "uint4").plot()
    else:
        ax = qc.CalibrationTable({"x": qc.calibrate(h, "mse")}).plot()
    ax.figure.canvas.draw()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_words_stand_where_there_is_no_density() -> None:
    assert texts(histogram([np.nan]).plot()) == ["no finite values"]
    assert texts(histogram([2.5] * 9).plot()) == ["100 % are 2.5"]
    assert texts(histogram([0, 0, 0]).plot()) == ["100 % are 0"]
    half = np.maximum(bell(), 0)
    assert texts(histogram(half).plot())[0].endswith("% are 0")
    assert texts(histogram(bell()).plot(percentiles=())) == []


def test_percentiles_are_marked_where_they_are() -> None:
    x = bell()
    h = histogram(x)
    for given, part in ((99.9, 0.0005), (80, 0.1)):
        ax = h.plot(percentiles=(given,))
        marks = [line.get_xdata()[0] for line in ax.lines]
        assert marks == [h.quantile(part), h.quantile(1 - part)]
        assert texts(ax) == [f"{given:g} %"] * 2
        np.testing.assert_allclose(marks, np.quantile(x, [part, 1 - part]), rtol=0.02)
    positive = histogram(np.abs(x))
    (mark,) = positive.plot(percentiles=(99,)).lines
    assert mark.get_xdata()[0] == positive.quantile(0.99)
    (mark,) = histogram(-np.abs(x)).plot(percentiles=(99,)).lines
    assert mark.get_xdata()[0] == histogram(-np.abs(x)).quantile(1 - 0.99)
    for wrong in (0, 100, -3, "99", None):
        with pytest.raises(qc.CalibrationError, match="percentile is"):
            h.plot(percentiles=(wrong,))  # type: ignore[arg-type]


def test_a_histogram_is_drawn_with_its_name() -> None:
    title = histogram([0, 1]).plot(name="layer.1").get_title(loc="left")
    assert title == "layer.1: 2 values, 0 to 1, 50.0 % zeros"


@pytest.mark.parametrize("outlier", [100.0, 1e3, 3e4, 1e12, 1e30])
@pytest.mark.parametrize("width", [2.5, 4, 7, 12])
def test_logarithmic_ticks_are_evenly_apart(outlier: float, width: float) -> None:
    _, given = plt.subplots(figsize=(width, 3))
    ax = histogram([*bell(), outlier, -outlier / 3]).plot(given)
    assert ax.get_xscale() == "symlog"
    ticks = ax.get_xticks()
    apart = np.diff(ax.transData.transform([(tick, 1) for tick in ticks])[:, 0])
    assert len(ticks) >= 2
    np.testing.assert_allclose(apart, apart[0], rtol=1e-6)


def test_the_title_counts_what_is_left_out() -> None:
    title = histogram([0, 1, np.nan, np.inf, -np.inf]).plot().get_title(loc="left")
    assert title == "5 values, 0 to 1, 50.0 % zeros, 1 NaN, 2 infinite"


def test_the_area_of_a_distribution_is_one() -> None:
    for values in (bell(), np.random.default_rng(0).standard_t(2, 50_000), bell() - 40):
        ax = histogram(values).plot()
        filled, _ = ax.patches
        heights, edges, _ = filled.get_data()
        assert np.sum(heights * np.diff(edges)) == pytest.approx(1, rel=1e-6)
        low, high = ax.get_xlim()
        assert low < values.min() < values.max() < high


def test_a_heavy_tail_gets_a_logarithmic_axis() -> None:
    assert histogram(bell()).plot().get_xscale() == "linear"
    ax = histogram([*bell(), 1000.0]).plot()
    assert ax.get_xscale() == "symlog"
    assert "logarithmic beyond ±5" in ax.get_xlabel()
    # The bulk keeps more than a quarter of the width, of which it had a 200th.
    right, left = ax.transData.transform([(2.5, 1), (-2.5, 1)])[:, 0]
    assert right - left > ax.bbox.width / 4


def test_mass_below_a_point_is_that_of_sorted_values() -> None:
    x = np.float16([-2, -1, -1, 0, 0.5, 0.5, 3])
    points = np.array([-9.0, -2, -1.5, -1, -0.5, 0.25, 0.5, 1, 3, 9])
    expected = [np.sum(x < point) for point in points]
    mass = Mass.of(qc.Histogram().observe(x))
    np.testing.assert_array_equal(mass.below(points), expected)
    assert mass.without_zeros().count.sum() == 6


def test_mass_is_spread_evenly_over_a_bin() -> None:
    # At 8 bits [1, 1 + 1/256) is one bin; 1.001 makes it a density up to there.
    mass = Mass.of(histogram([1.0, 1.001, 1.001, 1.001]))
    low, high = 1.0, float(np.float32(1.001))
    points = np.array([0.0, low, 0.25 * low + 0.75 * high, high, 2.0])
    np.testing.assert_allclose(mass.below(points), [0, 0, 3, 4, 4], rtol=1e-6)


def test_a_comparison_shows_every_range_with_its_name_and_figures() -> None:
    comparison = qc.compare(bell(), "int4")
    ax = comparison.plot()
    best = comparison.best()
    marked = ranges(ax, STRATEGY)
    chosen = ranges(ax, CHOSEN)
    assert len(marked) == len(comparison) - 1
    assert list(chosen) == [best.strategy]
    for row in comparison:
        found = {**marked, **chosen}[row.strategy]
        assert found == (row.params.low, row.params.high)
        assert texts(ax).count(row.strategy) == 1
    assert ax.get_title(loc="left") == comparison.title
    assert f"{best.sqnr_db:.1f} dB" in texts(ax)


def test_the_points_are_what_quantizing_leaves() -> None:
    x = bell()
    comparison = qc.compare(x, "int4", strategies=["mse", "kl"])
    for strategy, row in zip(("mse", "kl"), comparison, strict=True):
        ax = comparison.plot(strategy=strategy)
        (points,) = (line for line in ax.lines if line.get_marker() == "o")
        levels, counts = np.unique(row.params.fake_quantize(x), return_counts=True)
        np.testing.assert_allclose(points.get_xdata(), levels, rtol=1e-6)
        # float32 values are spread over bins of 0.4 %, some of which a level's edge divides.
        heights = points.get_ydata() * row.params.scale * x.size
        np.testing.assert_allclose(heights, counts, atol=25)
        note = f"{len(levels)} of 16 levels used by {strategy}"
        assert any(note in text for text in texts(ax))


def overlapping(ax: Axes) -> list[tuple[str, str]]:
    """Pairs of texts, tick labels among them, that stand on one another."""
    ax.figure.canvas.draw()
    drawn = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax._left_title]
    drawn += [*ax.get_xticklabels(), *ax.get_yticklabels()]
    low, high = ax.get_ylim()
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in drawn
        if text.get_text() and text.get_visible()
        if text not in ax.get_yticklabels() or low <= text.get_position()[1] <= high
    ]
    return [
        (a, b)
        for (a, one), (b, other) in itertools.combinations(boxes, 2)
        if one.padded(-1).overlaps(other.padded(-1))
    ]


@pytest.mark.parametrize("format", ["int8", "uint4", "float8_e4m3fn"])
@pytest.mark.parametrize(
    "values",
    [bell(), bell() ** 5, np.maximum(bell(), 0), bell() + 100, [2.5] * 5],
    ids=["bell", "heavy tail", "half zeros", "far from zero", "constant"],
)
def test_labels_do_not_overlap(values: object, format: str) -> None:
    comparison = qc.compare(np.asarray(values, np.float32), format)
    assert overlapping(comparison.plot()) == []


def test_labels_do_not_overlap_in_small_axes_or_tables_or_histograms() -> None:
    figure, axes = plt.subplots(2, 1, figsize=(7, 8), layout="constrained")
    for ax in axes:
        qc.compare(bell(), "uint8").plot(ax)
    assert [overlapping(ax) for ax in axes] == [[], []]
    assert overlapping(table(120).plot()) == []
    assert overlapping(histogram(bell() ** 3).plot()) == []
    figure.canvas.draw()


def test_a_strategy_that_does_not_apply_has_a_line_of_words() -> None:
    comparison = qc.compare(bell(), strategies=["mse", qc.ACIQ("half_gauss")])
    ax = comparison.plot()
    assert texts(ax).count("does not apply") == 1
    with pytest.raises(qc.CalibrationError, match="does not apply here: half_gauss"):
        comparison.plot(strategy="aciq(half_gauss)")


def test_what_cannot_be_drawn_is_reported() -> None:
    cal = qc.Calibrator()
    cal.observe("a", bell())
    cal.observe("b", bell())
    comparison = qc.compare(cal, strategies=["mse", "kl"])
    with pytest.raises(
        qc.CalibrationError, match=r'"klx" was not compared; .* mse, kl'
    ):
        comparison.plot(strategy="klx")
    with pytest.raises(
        qc.CalibrationError, match=r'"klx" was not compared; .* mse, kl'
    ):
        comparison["a"].plot(strategy="klx")
    assert plt.get_fignums() == []


def test_a_table_shows_ranges_beside_extremes() -> None:
    shown = table(5)
    ax = shown.plot(order="table")
    bars = [line for line in ax.lines if line.get_linewidth() == 3]
    assert [tuple(bar.get_xdata()) for bar in bars] == [
        (params.low, params.high) for params in shown.values()
    ]
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    ends = [end for r in shown.report.values() for end in (r.min, r.max)]
    assert [line.get_xdata()[0] for line in ticks] == ends
    cut = [to_hex(line.get_color()).upper() == CHOSEN for line in ticks]
    clipped = [
        not (p.low - p.scale / 2 <= end <= p.high + p.scale / 2)
        for p, r in zip(shown.values(), shown.report.values(), strict=True)
        for end in (r.min, r.max)
    ]
    assert cut == clipped
    assert any(cut)
    assert ax.get_title(loc="left") == "ranges of 5 tensors, int8"


def test_names_of_many_tensors_stay_readable() -> None:
    ax = table(120).plot()
    labels = ax.get_yticklabels()
    assert len({label.get_text() for label in labels}) == 120
    assert all(len(label.get_text()) <= 44 for label in labels)
    assert labels[0].get_fontsize() >= 7
    assert ax.yaxis_inverted()  # the first tensor on top


def test_a_table_without_reports_or_tensors_is_drawn() -> None:
    params = qc.QuantParams.from_range(-1, 1)
    assert len(qc.CalibrationTable({"x": params}).plot().get_yticklabels()) == 1
    assert qc.CalibrationTable({}).plot().get_title(loc="left") == "ranges of 0 tensors"


def test_by_channel_there_is_a_bar_for_each() -> None:
    cal = qc.Calibrator()
    values = np.arange(1, 17, dtype=np.float32) * np.float32([[-1], [2]])
    cal.observe("x", values, axis=1)
    shown = cal.compute("minmax", format="uint8")
    ax = shown.plot()
    bars = [line for line in ax.lines if to_hex(line.get_color()).upper() == STRATEGY]
    assert [tuple(bar.get_xdata()) for bar in bars] == list(
        zip(shown["x"].low, shown["x"].high, strict=True)
    )
    heights = [bar.get_ydata()[0] for bar in bars]
    assert np.diff(heights).min() > 0  # one below the other


def test_of_many_channels_every_nth_is_drawn() -> None:
    cal = qc.Calibrator()
    cal.observe("x", np.ones((1, 1000), np.float32), axis=1)
    ax = cal.compute("minmax").plot()
    bars = [line for line in ax.lines if to_hex(line.get_color()).upper() == STRATEGY]
    assert len(bars) == 32


def test_the_worst_tensors_come_first() -> None:
    shown = table(9, long="")
    sqnr = [
        shown.report[label.get_text()].sqnr_db
        for label in short(shown).get_yticklabels()
    ]
    assert sqnr == sorted(sqnr)
    assert sqnr != [r.sqnr_db for r in shown.report.values()]
    figures = [f"{value:.1f} dB" for value in sqnr]
    assert [text for text in texts(short(shown)) if text.endswith(" dB")] == figures
    kept = short(shown, order="table").get_yticklabels()
    assert [label.get_text() for label in kept] == list(shown)
    with pytest.raises(qc.CalibrationError, match="order is 'sqnr', but it must be"):
        shown.plot(order="sqnr")  # type: ignore[arg-type]


def test_what_is_no_axes_is_refused() -> None:
    comparison = qc.compare(np.ones(3, np.float32), strategies=["mse"])
    histogram = next(iter(comparison.histograms.values()))
    for plot in (comparison.plot, histogram.plot):
        with pytest.raises(
            TypeError, match="ax is 'mse', but it must be matplotlib axes"
        ):
            plot("mse")  # type: ignore[arg-type]
