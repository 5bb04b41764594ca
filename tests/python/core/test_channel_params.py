"""Parameters by channel: against onnxruntime's operators, and each channel against itself."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import quantcal as qc
import samples
from cli_runs import call
from samples import Array

FIELDS = ("scale", "zero_point", "low", "high")


def data(channels: int = 6, rows: int = 400) -> Array:
    """Return columns of different widths, with an offset; one of zeros, one with NaN."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, channels)) * 10.0 ** np.linspace(-2, 2, channels)
    x += np.linspace(0, 3, channels)
    x[:, 1] = 0.0
    x[::50, 2] = np.nan
    return x.astype(np.float32)


def observed(x: Array, axis: int | None = 1, **options: Any) -> qc.Calibrator:
    cal = qc.Calibrator(**options)
    cal.observe("x", x, axis=axis)
    return cal


def operators(params: qc.QuantParams, shape: tuple[int, ...]) -> ort.InferenceSession:
    """Return a session that quantizes and dequantizes along the axis."""
    kind = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}[params.format]
    zero_point = np.asarray(params.zero_point).astype(params.format)
    graph = helper.make_graph(
        [
            helper.make_node(
                "QuantizeLinear", ["x", "s", "z"], ["q"], axis=params.axis
            ),
            helper.make_node(
                "DequantizeLinear", ["q", "s", "z"], ["y"], axis=params.axis
            ),
        ],
        "quantize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("q", kind, shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, shape),
        ],
        [
            numpy_helper.from_array(np.asarray(params.scale), "s"),
            numpy_helper.from_array(zero_point, "z"),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9
    )
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("format", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((400, 6), 1),
        ((400, 6), -1),
        ((6, 400), 0),
        ((3, 6, 5, 7), 1),
        ((3, 6, 5, 7), -2),
        ((700, 300), 1),
        ((2, 300, 400), 1),
    ],
)
def test_arrays_become_what_onnxruntime_makes_of_them(
    format: str, shape: tuple[int, ...], axis: int
) -> None:
    rng = np.random.default_rng(0)
    widths = np.moveaxis(np.ones(shape), axis, -1) * np.geomspace(0.1, 50, shape[axis])
    x = (rng.normal(size=shape) * np.moveaxis(widths, -1, axis)).astype(np.float32)
    params = qc.calibrate(x, "percentile_99", format=format, axis=axis)
    # Halves, ends and what lies beyond them, of one channel or another.
    steps = rng.integers(-300, 300, size=shape) * 0.5
    scale = np.moveaxis(np.ones(shape, np.float32), axis, -1) * params.scale
    odd = (steps * np.moveaxis(scale, -1, axis)).astype(np.float32)
    odd.flat[:3] = np.inf, -np.inf, -0.0
    session = operators(params, shape)
    for values in (x, odd, x * 100):
        codes, real = session.run(None, {"x": values})
        np.testing.assert_array_equal(params.quantize(values), codes)
        assert params.quantize(values).dtype == format
        np.testing.assert_array_equal(params.dequantize(codes), real)
        np.testing.assert_array_equal(params.fake_quantize(values), real)


@pytest.mark.parametrize("format", ["int4", "uint16", "float8_e4m3fn", "float4_e2m1fn"])
def test_other_formats_are_those_of_each_channel(format: str) -> None:
    x = np.nan_to_num(data())
    params = qc.calibrate(x, "minmax", format=format, axis=1)
    codes, fake = params.quantize(x), params.fake_quantize(x)
    for k in range(x.shape[1]):
        alone = qc.calibrate(x[:, k], "minmax", format=format)
        np.testing.assert_array_equal(codes[:, k], alone.quantize(x[:, k]))
        np.testing.assert_array_equal(fake[:, k], alone.fake_quantize(x[:, k]))
    np.testing.assert_array_equal(params.dequantize(codes), fake)
    assert codes.dtype == qc.QuantFormat(format).dtype


STRATEGIES = ["minmax", "percentile_99.9", "kl", "mse", "entropy", "aciq", "hybrid"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("format", ["int8", "uint8"])
def test_every_channel_is_computed_as_alone(strategy: str, format: str) -> None:
    x = data(channels=70)
    cal = observed(x)
    params = cal.compute(strategy, format=format)["x"]
    assert (params.axis, params.strategy) == (1, str(qc.strategies.resolve(strategy)))
    for k, histogram in enumerate(cal.channels("x")):
        alone = qc.calibrate(histogram, strategy, format=format)
        assert all(getattr(params, f)[k] == getattr(alone, f) for f in FIELDS)
    assert qc.calibrate(x, strategy, format=format, axis=1) == params
    assert qc.calibrate(cal.channels("x"), strategy, format=format) == params


@pytest.mark.usefixtures("keep_num_threads")
def test_threads_change_nothing() -> None:
    cal = observed(data(channels=200))
    cal.observe("whole", samples.shape("relu", 1000))
    tables = []
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        table = cal.compute("mse", format="uint8")
        assert list(table) == ["x", "whole"]
        tables.append((table, table.report))
    assert tables[0] == tables[1] == tables[2]


def test_a_strategy_of_ones_own_is_asked_for_every_channel() -> None:
    class Half:
        def range(
            self, histogram: qc.Histogram, format: qc.QuantFormat
        ) -> tuple[float, float]:
            return 0.0, (histogram.max or 0.0) / 2

        def __str__(self) -> str:
            return "half"

    x = np.abs(np.nan_to_num(data()))
    params = qc.calibrate(x, Half(), format="uint8", axis=1)
    np.testing.assert_allclose(
        params.high, np.where(x.max(0), x.max(0) / 2, 255), rtol=1e-6
    )


def test_the_report_tells_all_channels_together() -> None:
    x = np.nan_to_num(data(), nan=0.5)
    for format in ("int8", "uint8"):
        cal = observed(x, mantissa_bits=12)
        table = cal.compute("percentile_95", format=format)
        report = table.report["x"]
        y = table["x"].fake_quantize(x).astype(float)
        squared = np.square(x - y).mean()
        # The density spreads values over bins of 1/4096.
        assert report.mse == pytest.approx(squared, rel=0.02)
        sqnr = 10 * math.log10(np.square(x.astype(float)).mean() / squared)
        assert report.sqnr_db == pytest.approx(sqnr, abs=0.1)
        assert report.rounded_to_zero == pytest.approx((y == 0).mean(), abs=2e-3)
        scale = np.asarray(table["x"].scale)
        beyond = np.abs(x - y) > 0.501 * scale
        assert report.clipped == pytest.approx(beyond.mean(), abs=2e-3)
        assert (report.count, report.zeros) == (x.size, int((x == 0).sum()))
        assert (report.min, report.max) == (x.min(), x.max())


def test_what_is_not_finite_is_reported() -> None:
    x = data()
    x[0, 3], x[1, 4] = np.inf, -np.inf
    report = observed(x).compute("mse").report["x"]
    assert (report.nan, report.posinf, report.neginf) == (8, 1, 1)


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_channels_without_values_have_a_usable_scale() -> None:
    x = np.full((5, 3), np.nan, np.float32)
    x[:, 1] = 0
    for strategy in STRATEGIES:
        params = qc.calibrate(x, strategy, axis=1)
        np.testing.assert_array_equal(params.scale, [1, 1, 1])
    empty = observed(x[:0]).compute("mse")
    np.testing.assert_array_equal(empty["x"].scale, [1, 1, 1])
    assert empty.report["x"].sqnr_db == math.inf


@pytest.mark.parametrize(
    "strategy", [qc.MinMax("mean"), qc.Hybrid(qc.MinMax("median"), "mse")], ids=str
)
def test_what_needs_each_observation_is_refused_by_name(strategy: qc.Strategy) -> None:
    with pytest.raises(qc.CalibrationError) as caught:
        observed(data()).compute(strategy)
    for part in ('Tensor "x"', str(strategy), "not kept by channel"):
        assert part in str(caught.value)


def test_an_error_names_tensor_channel_and_strategy() -> None:
    class Odd:
        def range(
            self, histogram: qc.Histogram, format: qc.QuantFormat
        ) -> tuple[float, float]:
            if histogram.max == 0:
                raise qc.CalibrationError("nothing but zeros")
            return (0.0, math.inf if histogram.nan else 1.0)

        def __str__(self) -> str:
            return "odd"

    x = data()
    with pytest.raises(
        qc.CalibrationError, match='"x", channel 1, strategy odd: nothing but zeros'
    ):
        observed(x).compute(Odd())
    x[:, 1] = 1
    with pytest.raises(
        qc.CalibrationError,
        match=r'"x", strategy odd: channel 2: the interval \[0, inf',
    ):
        observed(x).compute(Odd())


def test_policies_decide_for_tensors_by_channel() -> None:
    cal = observed(data())
    cal.observe("whole", data())
    table = cal.compute({"x": "minmax", "*": "mse"})
    assert (table["x"].strategy, table["whole"].strategy) == ("minmax", "mse")
    assert table.report["x"].rule == "x"


# QuantParams with arrays.


def by_channel() -> qc.QuantParams:
    return qc.QuantParams.from_range([-1, 0, -2], [1, 3, 5], format="uint8", axis=1)


def test_fields_are_read_only_arrays_of_fixed_types() -> None:
    params = by_channel()
    dtypes = dict(zip(FIELDS, ("float32", "int32", "float64", "float64"), strict=True))
    for field, dtype in dtypes.items():
        values = getattr(params, field)
        assert (values.dtype, values.shape) == (dtype, (3,))
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1
    for k, (low, high) in enumerate([(-1, 1), (0, 3), (-2, 5)]):
        alone = qc.QuantParams.from_range(low, high, format="uint8")
        assert alone.axis is None
        assert all(getattr(params, f)[k] == getattr(alone, f) for f in FIELDS)


def test_the_arrays_are_copies() -> None:
    scale = np.ones(2, np.float32)
    params = qc.QuantParams(
        scale, np.zeros(2, int), [-127.0] * 2, [127.0] * 2, "int8", True, axis=0
    )
    scale[0] = 5
    np.testing.assert_array_equal(params.scale, [1, 1])


def test_equality_and_hash_see_every_field() -> None:
    params = by_channel()
    same = qc.QuantParams(**params.to_dict())
    assert params == same
    assert hash(params) == hash(same)
    assert len({params, same}) == 1
    fields = params.to_dict()
    for field in FIELDS:
        changed = [*fields[field][:-1], fields[field][-1] * (1 + 2**-20)]
        if field == "zero_point":
            changed = [*fields[field][:-1], fields[field][-1] + 1]
        assert qc.QuantParams(**{**fields, field: changed}) != params
    assert qc.QuantParams(**{**fields, "axis": -1}) != params
    assert qc.QuantParams(**{**fields, "strategy": "other"}) != params
    whole = qc.QuantParams.from_range(-1, 1)
    assert params != whole
    assert params != "params"
    assert whole == qc.QuantParams(**whole.to_dict())
    assert "axis" not in whole.to_dict()
    assert repr(whole).startswith("QuantParams(scale=0.00787")
    assert "axis" not in repr(whole)


def test_the_text_is_short() -> None:
    params = qc.QuantParams.from_range([-127, -254], [0, 0], axis=-1)
    assert repr(params) == (
        "QuantParams(scale=[1 … 2], zero_point=[0 … 0], low=[-254 … -127], "
        "high=[127 … 254], format='int8', symmetric=True, strategy='fixed', axis=-1, "
        "channels=2)"
    )


def test_pickles_copies_and_tables_keep_them(tmp_path: Path) -> None:
    cal = observed(data())
    cal.observe("whole", data())
    table = cal.compute("mse", format="uint8")
    path = tmp_path / "table.json"
    table.save(path)
    loaded = qc.CalibrationTable.load(path)
    assert loaded == table
    assert loaded.report == table.report
    for other in (
        loaded["x"],
        pickle.loads(pickle.dumps(table["x"])),
        copy.deepcopy(table["x"]),
    ):
        assert other == table["x"]
        assert not other.scale.flags.writeable
        assert other.scale.dtype == np.float32
    assert json.loads(path.read_text())["version"] == 2
    qc.CalibrationTable({"whole": table["whole"]}).save(path)
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert "axis" not in content["tensors"]["whole"]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "scale": ({"scale": [1, 0, 1]}, "channel 1: scale is 0"),
    "infinite scale": ({"scale": [1, 1, 1e300]}, "channel 2: scale is inf"),
    "zero point": ({"zero_point": [0, 0, 256]}, "channel 2: zero_point is 256"),
    "huge zero point": (
        {"zero_point": [0, 0, 2**40]},
        "channel 2: zero_point is 21474",
    ),
    "real zero point": (
        {"zero_point": [0.0, 0.5, 1.0]},
        "zero_point must hold integers",
    ),
    "range": ({"low": [0, 1, 0]}, "channel 1: the range [1.0, 3.0"),
    "endless range": (
        {"high": [1, 3, math.inf]},
        "channel 2: the range [0.0, inf] is not",
    ),
    "lengths": ({"high": [1, 3]}, "3 of scale, 3 of zero_point, 3 of low, 2 of high"),
    "none": ({field: [] for field in FIELDS}, "0 of scale"),
    "a number": ({"scale": 1.0}, "scale must hold numbers, one for each channel"),
    "a table": (
        {"scale": [[1, 1, 1]]},
        "scale must hold numbers, one for each channel",
    ),
    "texts": ({"scale": ["a", "b", "c"]}, "scale must hold numbers"),
    "axis": ({"axis": "1"}, "axis is '1', but it must be a whole number"),
    "bool axis": ({"axis": True}, "axis is True, but it must be a whole number"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_impossible_parameters_are_refused_with_their_channel(case: str) -> None:
    changes, text = FAULTS[case]
    fields = {
        "scale": [1, 1, 1],
        "zero_point": [0, 0, 0],
        "low": [0.0, 0, 0],
        "high": [1, 3, 255.0],
        "format": "uint8",
        "symmetric": False,
        "axis": 1,
    }
    qc.QuantParams(**fields)
    with pytest.raises(qc.CalibrationError) as caught:
        qc.QuantParams(**{**fields, **changes})
    assert text in str(caught.value)


def test_arrays_that_do_not_fit_are_refused() -> None:
    params = by_channel()
    for method in (params.quantize, params.fake_quantize):
        with pytest.raises(
            qc.CalibrationError, match=r"4 channels, .* parameters for 3"
        ):
            method(np.zeros((3, 4), np.float32))
        with pytest.raises(
            qc.CalibrationError, match="axis is 1, but an array of shape"
        ):
            method(np.zeros(3, np.float32))
    with pytest.raises(qc.CalibrationError, match="4 channels"):
        params.dequantize(np.zeros((3, 4), np.uint8))
    with pytest.raises(qc.CalibrationError, match="2 lower and 1 upper"):
        qc.QuantParams.from_range([0, 0], [1], axis=0)
    with pytest.raises(TypeError, match="only an array takes an axis"):
        qc.calibrate(qc.Histogram(), axis=1)
    assert params.quantize(np.zeros((0, 3), np.float32)).shape == (0, 3)


# The command line.


def test_compute_and_inspect_show_tables_by_channel(tmp_path: Path) -> None:
    cal = observed(np.nan_to_num(data()))
    cal.observe("whole", samples.shape("gaussian", 100))
    stats, table = tmp_path / "stats.qcal", tmp_path / "table.json"
    cal.save(stats)
    done = call("compute", stats, "-o", table, "--strategy", "percentile_99")
    assert (done.code, done.err) == (0, "")
    assert qc.CalibrationTable.load(table) == cal.compute("percentile_99")
    assert "6 × axis 1" in done.out
    shown = call("inspect", table)
    assert (shown.code, shown.err) == (0, "")
    assert "6 × axis 1" in shown.out
    assert " … " in shown.out
    records = json.loads(call("inspect", table, "--json").out)["tensors"]
    found = {record["name"]: record for record in records}
    assert len(found["x"]["scale"]) == 6
    assert found["x"]["axis"] == 1
    assert isinstance(found["whole"]["scale"], float)


def test_ends_of_different_lengths_are_refused_by_name() -> None:
    with pytest.raises(
        qc.CalibrationError, match="low must hold numbers, one for each"
    ):
        qc.QuantParams.from_range([[0], 1], [1, 2], axis=0)
