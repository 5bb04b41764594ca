"""Likely mistakes are reported: shares given as percent, and data without values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from cli_runs import call, save_stats
from samples import f32

SHARE = r"percentile is 0.999, but it is in percent .* 0.999 of the values give 99.9$"
EMPTY = "no finite value"


def test_a_share_is_refused_with_the_percentile_that_is_meant() -> None:
    for given, meant in ((0.999, "99.9"), (0.9999, "99.99"), (0.5, "50")):
        with pytest.raises(qc.CalibrationError, match=rf"give {meant}$"):
            qc.Percentile(given)
    for name in ("percentile_0.999", "percentile_.999"):
        with pytest.raises(qc.CalibrationError, match=SHARE):
            qc.calibrate(f32([1, 2]), name)
    with pytest.raises(qc.CalibrationError, match=SHARE):
        qc.calibrate(f32([1, 2]), "percentile", percentile=0.999)


def test_one_is_one_percent() -> None:
    x = np.arange(1, 1001, dtype=np.float16)
    assert qc.calibrate(x, qc.Percentile(1)).high == pytest.approx(10)
    assert qc.calibrate(x, "percentile_1").high == pytest.approx(10)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_share_in_a_file_is_named_with_its_rule(suffix: str, tmp_path: Path) -> None:
    text = {
        "toml": '[[rules]]\npattern = "*"\nstrategy = "percentile_0.999"\n',
        "json": '{"rules": [{"pattern": "*", "strategy": "percentile_0.999"}]}',
    }[suffix]
    path = tmp_path / f"policy.{suffix}"
    path.write_text(text)
    with pytest.raises(qc.CalibrationError, match=rf"policy\.{suffix}.*give 99\.9"):
        qc.Policy.load(path)


def test_a_share_on_the_command_line_is_reported_in_one_line(tmp_path: Path) -> None:
    stats, table = save_stats(tmp_path), tmp_path / "t.json"
    message = call("compute", stats, "-o", table, "-s", "percentile_0.999").error_text()
    assert message.endswith("give 99.9")
    assert not table.exists()


def test_a_share_in_torchs_flows_is_refused_before_anything_runs() -> None:
    pytest.importorskip("torch")
    from torch.ao.quantization import get_default_qconfig_mapping

    with pytest.raises(qc.CalibrationError, match=r"give 99\.9"):
        qc.torch.attach_observer(get_default_qconfig_mapping("x86"), "percentile_0.999")


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        (f32([]), None, r"\(0 values\)"),
        (f32([np.nan] * 3), None, r"\(3 NaN\)"),
        (f32([np.nan, np.inf, -np.inf]), None, r"\(1 NaN and 2 infinite\)"),
        (f32([[1, np.nan], [2, np.inf]]), 1, r"\(channel 1 of 2\)"),
        (
            f32([[np.nan] * 8, [1] * 8]).T[:, [0, 1] * 4],
            1,
            r"\(channels 0, 2, 4, 6 of 8",
        ),
        (np.full((2, 9), np.nan, np.float32), 1, r"\(18 NaN\)"),
    ],
)
def test_data_without_values_are_reported(
    values: Any, axis: int | None, message: str
) -> None:
    with pytest.warns(UserWarning, match=f"{EMPTY} {message}") as caught:
        params = qc.calibrate(values, axis=axis)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the caller's line
    assert 1.0 in np.atleast_1d(params.scale)


@pytest.mark.parametrize("strategy", ["minmax", "mse", "kl", "entropy", "aciq"])
def test_a_histogram_and_channels_without_values_are_reported(strategy: str) -> None:
    with pytest.warns(UserWarning, match=EMPTY):
        qc.calibrate(qc.Histogram(), strategy)
    cal = qc.Calibrator()
    cal.observe("x", f32([[np.nan, 1]]), axis=1)
    with pytest.warns(UserWarning, match="channel 0 of 2"):
        qc.calibrate(cal.channels("x"), strategy)


def test_a_calibrator_names_its_tensors_without_values() -> None:
    cal = qc.Calibrator()
    cal.observe("fine", f32([1.0, np.nan]))
    cal.observe("by channel", f32([[1.0, 2.0]]), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cal.compute("mse")
    cal.observe("nothing", f32([]))
    cal.observe("only nan", f32([np.nan]))
    cal.observe("a dead channel", f32([[1.0, np.nan]]), axis=-1)
    expected = (
        '3 tensors have no finite value, so no data supports the range: "nothing" '
        '(0 values), "only nan" (1 NaN), "a dead channel" (channel 1 of 2).'
    )
    with pytest.warns(UserWarning, match=EMPTY) as caught:
        cal.compute("minmax")
    assert [str(each.message) for each in caught] == [expected]
    assert caught[0].filename == __file__
    many = qc.Calibrator()
    many.observe_many({str(number): f32([]) for number in range(9)})
    with pytest.warns(UserWarning, match=r'"4" \(0 values\) and 4 more\.'):
        many.compute("mse")


def test_a_range_that_is_given_needs_no_values() -> None:
    cal = qc.Calibrator()
    cal.observe("scores", f32([]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cal.compute("softmax")
        qc.calibrate(f32([]), qc.Fixed(-1, 1))


def test_stability_warns_once() -> None:
    halves = qc.Calibrator(), qc.Calibrator()
    for half in halves:
        half.observe("x", f32([np.nan]))
        half.observe("y", f32([1, 2]))
    with pytest.warns(UserWarning, match='"x"') as caught:
        qc.check_stability(*halves)
    assert len(caught) == 1


X = f32([-1, 0, 2])


@pytest.mark.parametrize("values", [X, X.tolist(), None])
def test_swapped_arguments_of_observe_are_named(values: Any) -> None:
    cal = qc.Calibrator()
    with pytest.raises(TypeError, match=r"the arguments are swapped: observe\('a', "):
        cal.observe(values, "a")
    assert len(cal) == 0


def test_a_wrong_name_alone_is_not_called_swapped() -> None:
    for name in (3, [3]):
        with pytest.raises(TypeError) as caught:
            qc.Calibrator().observe(name, X)  # type: ignore[arg-type]
        assert "swapped" not in str(caught.value)


PATHS = {
    "stats.qcal": "quantcal.load('stats.qcal') reads a file",
    "x.npy": "numpy.load('x.npy') reads a file",
    "table.json": "quantcal.CalibrationTable.load('table.json') reads a file",
    "model.onnx": "quantcal.onnx.observe('model.onnx', samples) reads a file",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_answered_with_what_reads_it(path: str) -> None:
    for given in (path, Path(path)):
        for function in (
            qc.compare,
            qc.calibrate,
            lambda given: qc.Histogram().observe(given),
            lambda given: qc.Calibrator().observe("x", given),
            lambda given: qc.QuantParams.from_range(-1, 1).quantize(given),
            lambda given: qc.Calibrator().merge(given),
            lambda given: qc.check_stability(given, given),
        ):
            with pytest.raises(TypeError) as caught:
                function(given)
            assert str(caught.value).endswith(PATHS[path])


def test_a_word_is_no_path() -> None:
    with pytest.raises(
        TypeError,
        match=r"'mse' is text, not an array; quantcal takes arrays of float16",
    ):
        qc.calibrate("mse")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], r"list holds elements of type int64; give numpy.asarray\(values, nu"),
        ((True, False), r"tuple holds elements of type bool; give numpy.asarray"),
        (["u", "v"], r"list holds text \('u'\), not numbers"),
        (
            [X, X[:2]],
            r"list cannot be read as an array: its parts differ in shape; give",
        ),
        ({"a": X}, r"dict is not an array: give .* all to Calibrator.observe_many"),
        (qc.Calibrator(), r"several tensors; name one, such as calibrator\[name\]"),
    ],
)
def test_what_is_no_array_is_answered_with_what_is_meant(
    values: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        qc.calibrate(values)


def test_formats_and_strategies_in_each_others_place_are_named() -> None:
    format: Any = np.int8
    with pytest.raises(qc.CalibrationError, match='It is a format: give format="int8"'):
        qc.calibrate(X, "int8")
    with pytest.raises(TypeError, match="is a format, not a strategy; give it as form"):
        qc.calibrate(X, format)
    with pytest.raises(
        TypeError, match=r'values come first: calibrate\(array, "mse"\)'
    ):
        qc.calibrate("mse", X)  # type: ignore[arg-type]
    given: Any
    for given in ("kl", "MSE(p=3)", ["mse", "kl"], qc.KL()):
        with pytest.raises(
            qc.CalibrationError, match="but a strategy; give strategies="
        ):
            qc.compare(X, given)
