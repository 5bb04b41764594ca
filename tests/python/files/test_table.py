"""`CalibrationTable`: parameters by name, a correct report of each, and its file."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

import oracles
import quantcal as qc
import samples
from samples import Array, f32


class Ends:
    """The range that a test asks for."""

    def __init__(self, low: float, high: float) -> None:
        self.ends = (low, high)

    def range(
        self, histogram: qc.Histogram, format: qc.QuantFormat
    ) -> tuple[float, float]:
        return self.ends


def report_of(
    x: Array, low: float, high: float, format: str, symmetric: bool | None = None
) -> tuple[qc.QuantParams, qc.TensorReport]:
    cal = qc.Calibrator()
    cal.observe("x", x)
    table = cal.compute(Ends(low, high), format=format, symmetric=symmetric)
    return table["x"], table.report["x"]


def sqnr_db(x: Array, mse: float) -> float:
    return float(10 * np.log10((x.astype(np.float64) ** 2).mean() / mse))


RANGES = [
    (-1.03, 1.03),
    (-3.1, 2.9),
    (-0.4, 7.7),
    (0.0, 2.2),
    (-60.0, 60.0),
    (-0.011, 0.013),
]


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize("dtype", samples.EXACT_BITS)
@pytest.mark.parametrize("name", samples.SHAPES)
def test_the_error_of_sixteen_bit_data_is_that_of_quantizing_them(
    name: str, dtype: str, format: str, symmetric: bool
) -> None:
    x = samples.widened(samples.shape(name, 20_000).astype(samples.DTYPES[dtype]))
    for low, high in RANGES:
        data = x.astype(samples.DTYPES[dtype])
        p, report = report_of(data, low, high, format, symmetric)
        want = oracles.squared_error(x, format, p.scale, p.zero_point)
        # Sums of 2·10^4 float64 terms; the engine's are differences of prefix sums up to a
        # million times as large as a small error.
        assert report.mse == pytest.approx(want, rel=1e-8)
        assert report.sqnr_db == pytest.approx(sqnr_db(x, want), abs=1e-6)


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize("name", samples.SHAPES)
def test_the_error_of_float32_data_is_estimated_within_three_in_a_thousand(
    name: str, format: str, symmetric: bool
) -> None:
    x = samples.shape(name, 100_000)
    end = float(np.abs(x).max())
    for low, high in [(-end, end), (-0.6 * end, 0.5 * end), (-3.0, 3.0), (-2.2, 4.4)]:
        p, report = report_of(x, low, high, format, symmetric)
        want = oracles.squared_error(x, format, p.scale, p.zero_point)
        # What an even density inside bins of 0.4 % is promised to give for bulk data.
        assert report.mse == pytest.approx(want, rel=3e-3)
        assert report.sqnr_db == pytest.approx(sqnr_db(x, want), abs=0.014)


@pytest.mark.parametrize("dtype", samples.EXACT_BITS)
@pytest.mark.parametrize("name", samples.SHAPES)
def test_the_clipped_share_of_sixteen_bit_data_is_counted(
    name: str, dtype: str
) -> None:
    x = samples.shape(name, 20_000).astype(samples.DTYPES[dtype])
    f = samples.widened(x)
    for low, high in RANGES:
        for format in ("int8", "uint8"):
            p, report = report_of(x, low, high, format, symmetric=False)
            # Half a step beyond the last code, rounding still moves a value as far.
            half = p.scale / 2
            outside = (f < p.low - half) | (f > p.high + half)
            assert report.clipped == outside.mean()


@pytest.mark.parametrize("dtype", samples.EXACT_BITS)
@pytest.mark.parametrize("name", samples.SHAPES)
@pytest.mark.parametrize("format", ["int8", "uint8"])
def test_the_share_rounded_to_zero_is_counted(
    name: str, dtype: str, format: str
) -> None:
    x = samples.shape(name, 20_000).astype(samples.DTYPES[dtype])
    f = samples.widened(x)
    for end in (1.03, 2.9, 7.7, 60.0):  # no value is just half a step of these
        p, report = report_of(x, -end, end, format)
        assert report.rounded_to_zero == (p.fake_quantize(f) == 0).mean()


@pytest.mark.parametrize("format", ["int8", "uint8"])
def test_halves_of_a_step_are_rounded_to_zero_too(format: str) -> None:
    """0.5 rounds to 0, the even neighbor, as the codes do."""
    x = f32([-0.75, -0.5, -0.25, 0.0, 0.5, 0.5, 0.75, 1.5])
    p, report = report_of(x, -127.0, 128.0 if format == "uint8" else 127.0, format)
    assert p.scale == 1.0
    assert report.rounded_to_zero == (p.fake_quantize(x) == 0).mean() == 5 / 8


def test_shares_of_float32_are_within_the_bins_of_the_limits() -> None:
    x = samples.shape("student_t3", 50_000)
    for low, high in RANGES:
        p, report = report_of(x, low, high, "uint8")
        half = p.scale / 2
        limits = (p.low - half, p.high + half)
        near = sum((np.abs(x - t) <= abs(t) / 256).mean() for t in limits)
        outside = (x < limits[0]) | (x > limits[1])
        assert abs(report.clipped - outside.mean()) <= near
        near = (np.abs(np.abs(x) - half) <= half / 256).mean()
        assert abs(report.rounded_to_zero - (np.abs(x) <= half).mean()) <= near


def test_data_on_the_grid_have_no_error() -> None:
    x = np.arange(-127, 128, dtype=np.float32)
    p, report = report_of(x, -127, 127, "int8")
    assert p.scale == 1.0
    assert (report.mse, report.sqnr_db, report.clipped) == (0.0, math.inf, 0.0)
    assert report.rounded_to_zero == 1 / 255


def test_the_report_counts_what_was_seen() -> None:
    x = samples.any_bits(10_000)
    _, report = report_of(x, -1, 1, "int8")
    finite = x[np.isfinite(x)]
    assert report.count == x.size
    assert (report.min, report.max) == (finite.min(), finite.max())
    assert report.zeros == (x == 0).sum()
    assert (report.nan, report.posinf, report.neginf) == (
        np.isnan(x).sum(),
        np.isposinf(x).sum(),
        np.isneginf(x).sum(),
    )
    assert report.rule == "*"


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_the_report_of_nothing_is_empty() -> None:
    _, report = report_of(f32([np.nan]), 0, 0, "int8")
    assert (report.min, report.max) == (None, None)
    assert (report.mse, report.clipped, report.rounded_to_zero) == (0, 0, 0)
    assert report.sqnr_db == math.inf


def a_table() -> qc.CalibrationTable:
    cal = qc.Calibrator()
    for name in samples.SHAPES:
        cal.observe(f"block/{name}:0", samples.shape(name, 3000))
    cal.observe("α", f32([0.1, -3.3e-39, np.nan]))
    cal.observe("nothing", f32([]))
    cal.observe("exact", np.arange(-127, 128, dtype=np.float32))
    return cal.compute({"block/*": "mse", "*": qc.MinMax()}, format="uint8")


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_a_table_is_a_mapping() -> None:
    table = a_table()
    assert len(table) == len(list(table)) == 9
    assert "α" in table
    assert "other" not in table
    assert table.get("other") is None
    assert dict(table.items())["α"] is table["α"]
    assert list(table.report) == list(table)
    assert repr(table) == "CalibrationTable(9 tensors)"


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_a_table_does_not_change_with_what_it_gives_away() -> None:
    table = a_table()
    table.report.clear()  # type: ignore[attr-defined]
    assert len(table.report) == 9
    with pytest.raises(TypeError):
        table["α"] = table["exact"]  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_a_table_survives_its_file_to_the_last_bit(tmp_path: Path) -> None:
    table = a_table()
    path = tmp_path / "table.json"
    table.save(path)
    loaded = qc.CalibrationTable.load(path)
    assert loaded == table
    assert list(loaded) == list(table)
    assert loaded.report == table.report
    assert loaded.report["exact"].sqnr_db > 40
    assert loaded.report["nothing"].sqnr_db == math.inf
    again = tmp_path / "again.json"
    loaded.save(str(again))
    assert again.read_bytes() == path.read_bytes()
    x = samples.shape("laplace", 1000)
    for name, p in table.items():
        np.testing.assert_array_equal(loaded[name].quantize(x), p.quantize(x))


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_the_file_is_json_that_anybody_can_read(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table = a_table()
    table.save(path)
    tensors = json.loads(path.read_text("utf-8"))["tensors"]
    for name, p in table.items():
        assert tensors[name]["scale"] == p.scale
        assert tensors[name]["zero_point"] == p.zero_point
    assert "α" in path.read_text("utf-8")  # readable, not escaped


def test_tables_of_given_parameters_need_no_report(tmp_path: Path) -> None:
    table = qc.CalibrationTable({"a": qc.QuantParams.from_range(-1, 1)})
    path = tmp_path / "table.json"
    table.save(path)
    loaded = qc.CalibrationTable.load(path)
    assert loaded == table
    assert loaded.report == {}


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_tables_are_equal_when_all_parameters_are() -> None:
    table = a_table()
    assert table == qc.CalibrationTable(dict(table))
    assert table == copy.deepcopy(table)
    assert table != qc.CalibrationTable({})
    assert table != dict(table)


def test_histograms_given_for_a_table_are_reported_apart(tmp_path: Path) -> None:
    cal = qc.Calibrator()
    cal.observe("x", np.ones(3, np.float32))
    cal.save(tmp_path / "stats.qcal")
    with pytest.raises(qc.CalibrationError, match="holds histograms, not a table"):
        qc.CalibrationTable.load(tmp_path / "stats.qcal")
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    with pytest.raises(
        qc.CalibrationError, match="not a calibration table: it is not text"
    ):
        qc.CalibrationTable.load(tmp_path / "odd")


def test_a_table_holds_parameters_by_name_only() -> None:
    params = qc.QuantParams.from_range(0, 1)
    with pytest.raises(TypeError, match="name must be a str, not int"):
        qc.CalibrationTable({5: params})  # type: ignore[dict-item]
    with pytest.raises(
        TypeError, match=r'Tensor "x": parameters must be .*, not float'
    ):
        qc.CalibrationTable({"x": 0.5})  # type: ignore[dict-item]
    with pytest.raises(qc.CalibrationError, match="half a surrogate pair"):
        qc.CalibrationTable({"\ud800": params})


def test_a_table_that_no_text_can_hold_leaves_no_file(tmp_path: Path) -> None:
    params = qc.QuantParams.from_range(0, 1, strategy="\ud800")
    table = qc.CalibrationTable({"x": params})
    with pytest.raises(
        qc.CalibrationError, match=r"t\.json cannot be written: .* surrogate"
    ):
        table.save(tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []
