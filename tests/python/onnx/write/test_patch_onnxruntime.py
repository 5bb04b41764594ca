"""`patch_onnxruntime`: onnxruntime's quantizer gives the same results with and without it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationMethod, QuantType, calibrate

import onnx_models as models
import quantcal as qc
from tests.models import MODELS

CLASSES = [
    f"{m}Calibrater" for m in ("MinMax", "Entropy", "Percentile", "Distribution")
]
ORIGINAL = {name: getattr(calibrate, name) for name in CLASSES}


class Reader:
    def __init__(self, feeds: Sequence[dict[str, Any]]) -> None:
        self.left = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


def original() -> bool:
    here = all(getattr(calibrate, name) is kind for name, kind in ORIGINAL.items())
    return here and quantization.MinMaxCalibrater is ORIGINAL["MinMaxCalibrater"]


@pytest.fixture(autouse=True)
def check_that_nothing_stays() -> Iterator[None]:
    assert original()
    yield
    assert original()


def small() -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    feeds = [{"x": models.random(1, 3, 9, 12, seed=seed)} for seed in range(3)]
    return models.conv_net(), feeds


def is_one_window(options: dict[str, Any]) -> bool:
    return options.get("num_bins", 128) <= options.get("num_quantized_bins", 128)


def expected_warning(method: str, options: dict[str, Any]) -> Any:
    """Entropy at onnxruntime's defaults is MinMax, which gives a warning."""
    if method == "Entropy" and is_one_window(options) and not original():
        return pytest.warns(
            UserWarning, match=r"the result is MinMax.*entropy_bins=2048"
        )
    return nullcontext()


def ranges(
    model: Path,
    feeds: Sequence[dict[str, Any]],
    method: str,
    folder: Path,
    **options: Any,
) -> dict[str, Any]:
    """Return the ranges of onnxruntime's calibrators."""
    with expected_warning(method, options):
        calibrator = calibrate.create_calibrator(
            model,
            ["Conv", "MatMul", "Gemm"],
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod[method],
            extra_options=options,
        )
    calibrator.collect_data(Reader(feeds))
    data = calibrator.compute_data()
    assert data.calibration_method is CalibrationMethod[method]
    return dict(data.items())


def network(name: str) -> tuple[Path, list[dict[str, Any]]]:
    """A real network in opset 13 or later; the original needs samples of one shape."""
    rng = np.random.default_rng(4)
    if name == "pp-ocr-rec":
        x = rng.uniform(-1, 1, (2, 1, 3, 48, 32)).astype(np.float32)
        return MODELS[name].fetch(), [{"x": sample} for sample in x]
    if name == "magika":
        codes = rng.integers(32, 257, (3, 1, 2048)).astype(np.int32)
        return MODELS[name].fetch(), [{"bytes": sample} for sample in codes]
    frames = rng.normal(0, 0.1, (2, 20, 576)).astype(np.float32)
    state = np.zeros((1, 1, 128), np.float32)
    feeds = [{"input": sample, "h": state, "c": state} for sample in frames]
    return MODELS[name].fetch(), feeds


def is_weight(tensor: str) -> bool:
    """Whether Paddle's exporter names a tensor as a weight; it writes Constant nodes."""
    return tensor.endswith((".w_0", ".b_0"))


NETWORKS = ["pp-ocr-rec", "magika", "silero-16k-sequence"]


@pytest.mark.model
@pytest.mark.parametrize("name", NETWORKS)
def test_minmax_is_the_originals_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, feeds = network(name)
    for options in ({}, {"symmetric": True}):
        stock = ranges(model, feeds, "MinMax", tmp_path, **options)
        with qc.onnx.patch_onnxruntime():
            ours = ranges(model, feeds, "MinMax", tmp_path, **options)
        assert set(ours) == set(stock)
        assert len(ours) >= 3
        for tensor, data in stock.items():
            for want, got in zip(
                data.range_value, ours[tensor].range_value, strict=True
            ):
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                assert got == want


@pytest.mark.model
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_percentiles_are_the_originals_within_a_bin(
    name: str, symmetric: bool, tmp_path: Path
) -> None:
    model, feeds = network(name)
    for percentile in (99.999, 99.0):
        options = {"symmetric": symmetric, "percentile": percentile}
        stock = ranges(model, feeds, "Percentile", tmp_path, **options)
        with qc.onnx.patch_onnxruntime():
            ours = ranges(model, feeds, "Percentile", tmp_path, **options)
        assert set(ours) == set(stock)
        extremes = ranges(model, feeds, "MinMax", tmp_path)
        for tensor, data in stock.items():
            limit = np.max(np.abs(extremes[tensor].range_value))
            width = limit / (2048 if symmetric else 1024)
            difference = np.subtract(data.range_value, ours[tensor].range_value)
            # A bin of theirs, which begin at the least magnitude, not at 0. Weights, which it
            # calibrates too where nodes make them, are so few that another lies between.
            bins = 2.05 if is_weight(tensor) else 1.05
            assert np.abs(difference).max() <= width * bins, tensor


@pytest.mark.model
@pytest.mark.parametrize("name", NETWORKS)
def test_entropy_is_the_originals_search_on_the_originals_histogram(
    name: str, tmp_path: Path
) -> None:
    model, feeds = network(name)
    for bins, levels in ((128, 128), (192, 64)):
        options = {"num_bins": bins, "num_quantized_bins": levels}
        stock, wanted = entropy_of(model, feeds, tmp_path, options)
        with qc.onnx.patch_onnxruntime():
            ours, found = entropy_of(model, feeds, tmp_path, options)
        assert set(ours) == set(stock)
        for tensor, (hist, edges, low, high, *_) in wanted.items():
            got = found[tensor]
            np.testing.assert_allclose(got[1], edges, rtol=1e-6, atol=edges[-1] * 1e-6)
            assert got[0].sum() == hist.sum()
            assert (got[2], got[3]) == (low, high)
            # What an edge of theirs divides inside a bin of ours is all that can differ; but
            # weights that crowd at an edge may lie below theirs, which are rounded.
            moved = np.abs(np.cumsum(got[0]) - np.cumsum(hist)).max()
            assert moved <= 3 + 0.01 * hist.sum() or is_weight(tensor), tensor
            window = qc.compat.onnxruntime_entropy(*got[:2], num_quantized_bins=levels)
            want = np.clip(window, low, high)
            np.testing.assert_array_equal(ours[tensor], want)
            if bins == levels:  # one window only
                np.testing.assert_allclose(ours[tensor], stock[tensor], rtol=1e-6)


def entropy_of(
    model: Path, feeds: Sequence[dict[str, Any]], folder: Path, options: dict[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ranges of Entropy, and the histograms that they were computed from."""
    with expected_warning("Entropy", options):
        calibrator = calibrate.create_calibrator(
            model,
            ["Conv", "MatMul", "Gemm"],
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Entropy,
            extra_options=options,
        )
    calibrator.collect_data(Reader(feeds))
    found = {n: d.range_value for n, d in calibrator.compute_data().items()}
    return found, calibrator.collector.histogram_dict


def test_distribution_is_the_originals_within_its_bins(tmp_path: Path) -> None:
    model, feeds = small()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    for scenario in ("same", "p3"):
        stock = ranges(path, feeds, "Distribution", tmp_path, scenario=scenario)
        with qc.onnx.patch_onnxruntime():
            ours = ranges(path, feeds, "Distribution", tmp_path, scenario=scenario)
        for tensor, data in stock.items():
            avg, std = data.avg_std
            got_avg, got_std = ours[tensor].avg_std
            assert abs(got_std - std) < 0.01 * std
            assert abs(got_avg - avg) < 0.01 * std


@pytest.mark.parametrize("method", ["MinMax", "Entropy", "Percentile"])
def test_quantize_static_needs_no_other_change(method: str, tmp_path: Path) -> None:
    model, feeds = small()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    made = []
    for number, fast in enumerate((False, True)):
        target = tmp_path / f"{number}.onnx"
        acceleration = qc.onnx.patch_onnxruntime() if fast else None
        with expected_warning(method, {}):
            quantization.quantize_static(
                path,
                target,
                Reader(feeds),
                activation_type=QuantType.QUInt8,
                calibrate_method=CalibrationMethod[method],
            )
        if acceleration is not None:
            acceleration.undo()
        made.append(onnx.load(target))
    stock, ours = made
    assert [n.op_type for n in ours.graph.node] == [n.op_type for n in stock.graph.node]
    if method == "MinMax":
        assert ours.SerializeToString() == stock.SerializeToString()


def static(folder: Path, name: str, method: str, feeds: Sequence[Any]) -> bytes:
    """The model that `quantize_static` writes."""
    quantization.quantize_static(
        folder / "model.onnx",
        folder / name,
        Reader(feeds),
        calibrate_method=CalibrationMethod[method],
    )
    return (folder / name).read_bytes()


def test_entropy_at_its_default_is_minmax_and_more_bins_can_be_asked_for(
    tmp_path: Path,
) -> None:
    """Python shows a warning once for each place, so a script shows it once."""
    model, feeds = small()
    onnx.save(model, tmp_path / "model.onnx")
    with warnings.catch_warnings(record=True) as text:
        warnings.simplefilter("default")
        with qc.onnx.patch_onnxruntime():
            default = static(tmp_path, "1.onnx", "Entropy", feeds)
            assert static(tmp_path, "2.onnx", "Entropy", feeds) == default
            assert static(tmp_path, "3.onnx", "MinMax", feeds) == default
    ours = [w for w in text if "the result is MinMax" in str(w.message)]
    assert len(ours) == 1
    with qc.onnx.patch_onnxruntime(entropy_bins=2048):
        more = static(tmp_path, "4.onnx", "Entropy", feeds)
        assert more != default
        with qc.onnx.patch_onnxruntime():  # without bins for Entropy
            assert static(tmp_path, "5.onnx", "Entropy", feeds) == more
        path = tmp_path / "model.onnx"
        asked = ranges(path, feeds, "Entropy", tmp_path, num_bins=512)
        chosen = ranges(path, feeds, "Entropy", tmp_path, num_bins=2048)
    with qc.onnx.patch_onnxruntime():
        for bins, wanted in ((512, asked), (2048, chosen)):
            found = ranges(path, feeds, "Entropy", tmp_path, num_bins=bins)
            assert {n: d.range_value for n, d in found.items()} == {
                n: d.range_value for n, d in wanted.items()
            }
    scales = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load_from_string(more).graph.initializer
    }
    for name in ("x", "r1", "y"):
        low, high = (float(np.ravel(end)[0]) for end in chosen[name].range_value)
        wanted_scale = (max(high, 0) - min(low, 0)) / 255
        assert scales[f"{name}_scale"] == pytest.approx(wanted_scale, rel=1e-5)


@pytest.mark.parametrize("bins", [0, 128, 2048.0, "2048"])
def test_entropy_bins_are_checked(bins: Any) -> None:
    with pytest.raises(qc.CalibrationError, match="an integer above 128"):
        qc.onnx.patch_onnxruntime(entropy_bins=bins)


def test_samples_that_the_original_cannot_process(tmp_path: Path) -> None:
    """Shapes that vary between samples, and an infinity: the original crashes on both."""
    path = tmp_path / "model.onnx"
    onnx.save(models.conv_net(), path)
    sizes = [(1, 3, 9, 12), (2, 3, 7, 20)]
    feeds = [{"x": models.random(*size)} for size in sizes]
    infinite = [{"x": models.random(1, 3, 9, 12)}]
    infinite[0]["x"][0, 0, 0, 0] = np.inf
    for method in ("Entropy", "Percentile"):
        for samples in (feeds, infinite):
            with pytest.raises((ValueError, AssertionError)):
                ranges(path, samples, method, tmp_path)
            with qc.onnx.patch_onnxruntime():
                found = ranges(path, samples, method, tmp_path)
            assert {"x", "y"} <= set(found)
            for data in found.values():
                assert np.isfinite(data.range_value).all()


def test_ranges_do_not_depend_on_how_samples_are_split(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.conv_net(), path)
    feeds = small()[1]
    found = []
    for parts in ([feeds], [feeds[:1], feeds[1:]], [feeds[::-1]]):
        with qc.onnx.patch_onnxruntime():
            calibrator = calibrate.create_calibrator(
                path, calibrate_method=CalibrationMethod.Percentile
            )
        for part in parts:  # also after the block: the calibrator remains usable
            calibrator.collect_data(Reader(part))
        data = calibrator.compute_data()
        found.append({name: d.range_value for name, d in data.items()})
    assert found[0] == found[1] == found[2]


def test_options_that_need_more_than_histograms_stay_with_the_original(
    tmp_path: Path,
) -> None:
    model, feeds = small()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    for options in (
        {"moving_average": True},
        {"moving_average": True, "averaging_constant": 0.5, "symmetric": True},
        {"per_channel": True},
    ):
        stock = ranges(path, feeds, "MinMax", tmp_path, **options)
        with qc.onnx.patch_onnxruntime():
            ours = ranges(path, feeds, "MinMax", tmp_path, **options)
        assert set(ours) == set(stock)
        for tensor, data in stock.items():
            np.testing.assert_array_equal(data.range_value, ours[tensor].range_value)


def test_outputs_are_never_dropped(tmp_path: Path) -> None:
    model, feeds = small()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    want = ranges(path, feeds, "MinMax", tmp_path)
    with pytest.raises(ValueError, match="No data"):  # the defect of the original
        ranges(path, feeds, "MinMax", tmp_path, max_intermediate_outputs=3)
    with qc.onnx.patch_onnxruntime():
        ours = ranges(path, feeds, "MinMax", tmp_path, max_intermediate_outputs=3)
    assert {n: d.range_value for n, d in ours.items()} == {
        n: d.range_value for n, d in want.items()
    }


def test_no_samples_are_an_error_as_before(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.conv_net(), path)
    for method in ("MinMax", "Percentile"):
        with qc.onnx.patch_onnxruntime(), pytest.raises(ValueError, match="no samples"):
            ranges(path, [], method, tmp_path)


def test_it_is_undone_after_an_exception() -> None:
    acceleration = qc.onnx.patch_onnxruntime()
    with pytest.raises(KeyError), acceleration:
        raise KeyError
    assert original()


def test_calls_may_be_nested_and_repeated() -> None:
    first = qc.onnx.patch_onnxruntime()
    with qc.onnx.patch_onnxruntime() as second:
        first.undo()
        first.undo()
        assert not original()
        with qc.onnx.patch_onnxruntime():
            second.undo()
            assert not original()
        assert original()
    assert original()


def test_undo_keeps_classes_that_other_code_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acceleration = qc.onnx.patch_onnxruntime()
    ours = calibrate.MinMaxCalibrater
    with monkeypatch.context() as patched:
        patched.setattr(calibrate, "MinMaxCalibrater", int)
        acceleration.undo()
        assert calibrate.MinMaxCalibrater is int
    assert calibrate.MinMaxCalibrater is ours
    calibrate.MinMaxCalibrater = ORIGINAL["MinMaxCalibrater"]


def test_threads_may_use_it_at_once() -> None:
    barrier = threading.Barrier(8)

    def work() -> None:
        for _ in range(50):
            barrier.wait()
            with qc.onnx.patch_onnxruntime():
                assert not original()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert original()
