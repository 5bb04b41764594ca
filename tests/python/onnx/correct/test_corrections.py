"""Corrections on request: their order, what they need, and what a result says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from correction_models import conv_pair, images, node, outlier_rows, rows_model, run_all
from quantcal import CalibrationError

ALL = ("equalize", "smooth", "bias")


def both() -> onnx.ModelProto:
    """Return a model with a pair to equalize, a norm to smooth, and biases."""
    weights = {
        "gain": np.abs(models.random(6, seed=8)) + 0.5,
        "w0": models.random(6, 8, seed=1),
        "w1": models.random(8, 8, seed=2) * 10 ** models.random(8, seed=5),
        "w2": models.random(8, 3, seed=3),
    }
    nodes = [
        node("LayerNormalization", ["x", "gain"], ["n"], "norm"),
        node("MatMul", ["n", "w0"], ["a"], "first"),
        node("Relu", ["a"], ["r"]),
        node("MatMul", ["r", "w1"], ["b"], "second"),
        node("Sigmoid", ["b"], ["s"]),
        node("MatMul", ["s", "w2"], ["y"], "third"),
    ]
    return rows_model(nodes, weights, rank=3)


def corrected(path: Path, samples: Any, **options: Any) -> qc.onnx.QuantizeResult:
    return qc.onnx.quantize(both(), path, samples, progress=False, **options)


def test_they_are_done_in_one_order_whatever_was_asked(tmp_path: Path) -> None:
    feeds = outlier_rows(4, rank=3)
    made = []
    for asked in (ALL, ALL[::-1], ("bias", "smooth", "equalize", "smooth")):
        result = corrected(tmp_path / "q.onnx", feeds, corrections=asked)
        assert tuple(each.name for each in result.corrections) == ALL
        assert all(each.changed for each in result.corrections)
        made.append((tmp_path / "q.onnx").read_bytes())
    assert made[0] == made[1] == made[2]


def test_the_result_says_what_each_changed(tmp_path: Path) -> None:
    result = corrected(tmp_path / "q.onnx", outlier_rows(4, rank=3), corrections=ALL)
    equalized, smoothed, biases = result.corrections
    assert [c.nodes for c in equalized.changed] == [("first", "second")]
    assert [c.nodes for c in smoothed.changed] == [("norm", "first")]
    assert [c.nodes for c in biases.changed] == [("second",), ("third",)]
    assert list(biases.skipped) == ["first"]  # a Relu behind it decides its kernel
    lines = [line for line in result.summary().splitlines() if line.startswith("corr")]
    assert lines[0].startswith("corrected         equalize: 1 pairs (largest factor ")
    assert lines[1].startswith("corrected         smooth: 1 groups (largest factor ")
    assert lines[2].startswith("corrected         bias: 2 biases (largest shift ")


def test_without_a_request_nothing_changes(tmp_path: Path) -> None:
    feeds = outlier_rows(4, rank=3)
    result = corrected(tmp_path / "q.onnx", feeds, strategy="minmax")
    assert result.corrections == ()
    assert "corrected" not in result.summary()


def test_ranges_are_those_of_the_scaled_model(tmp_path: Path) -> None:
    model, feeds = conv_pair(bias=False), images(3)
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        feeds,
        strategy="minmax",
        corrections=["equalize"],
        progress=False,
    )
    changed, _ = qc.onnx._correct.equalization.equalize(model, feeds)  # type: ignore[attr-defined]
    largest = max(float(each.max()) for each in run_all(changed.proto, feeds, "a"))
    assert result.table["a"].high == pytest.approx(largest, rel=1e-5)


def test_the_config_repeats_the_run(tmp_path: Path) -> None:
    feeds = outlier_rows(4, rank=3)
    result = corrected(tmp_path / "q.onnx", feeds, corrections=["bias", "smooth"])
    assert result.config is not None
    assert 'corrections = ["smooth", "bias"]' in result.config
    result.save_config(tmp_path / "q.toml")
    options = qc.onnx.read_config(tmp_path / "q.toml")
    corrected(tmp_path / "again.onnx", feeds, **options)
    assert (tmp_path / "q.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


class Reader:
    """A data reader of onnxruntime's kind, which starts again after `rewind`."""

    def __init__(self, feeds: list[Any]) -> None:
        self.feeds, self.left = feeds, iter(feeds)

    def get_next(self) -> Any:
        return next(self.left, None)

    def rewind(self) -> None:
        self.left = iter(self.feeds)


def test_a_reader_that_rewinds_is_as_good_as_a_list(tmp_path: Path) -> None:
    feeds = outlier_rows(4, rank=3)
    corrected(tmp_path / "a.onnx", feeds, corrections=ALL)
    corrected(tmp_path / "b.onnx", Reader(feeds), corrections=ALL)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("name", ["equalize", "smooth"])
def test_samples_that_can_be_read_once_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "q.onnx"
    feeds = outlier_rows(4, rank=3)
    with pytest.raises(
        CalibrationError, match=f"{name} read the samples several times"
    ):
        corrected(path, iter(feeds), corrections=[name])
    with pytest.raises(
        CalibrationError, match=f"{name} need samples, and there are none"
    ):
        corrected(path, None, corrections=[name])
    assert not path.exists()


def test_biases_need_samples_only_once(tmp_path: Path) -> None:
    feeds, found = outlier_rows(4, rank=3), []
    for name, given in (("list", feeds), ("stream", iter(feeds))):
        path = tmp_path / name
        corrected(path, given, corrections=["bias"])
        found.append(path.read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["equalize", "smooth"])
def test_histograms_of_the_uncorrected_model_are_refused(
    tmp_path: Path, name: str
) -> None:
    feeds = outlier_rows(4, rank=3)
    seen = qc.onnx.observe(both(), feeds)
    before = seen.to_bytes()
    with pytest.raises(
        CalibrationError, match=f"The correction {name} changes the act"
    ):
        corrected(tmp_path / "q.onnx", feeds, calibrator=seen, corrections=[name])
    assert seen.to_bytes() == before
    corrected(
        tmp_path / "q.onnx", feeds, calibrator=qc.Calibrator(), corrections=[name]
    )


def test_float_activations_are_not_smoothed(tmp_path: Path) -> None:
    feeds = outlier_rows(4, rank=3)
    options = {"activation_type": "none", "weight_type": "int4"}
    with pytest.raises(CalibrationError, match="activations stay in float here"):
        corrected(tmp_path / "q.onnx", feeds, corrections=["smooth"], **options)
    result = corrected(
        tmp_path / "q.onnx", feeds, corrections=["equalize", "bias"], **options
    )
    assert [len(each.changed) for each in result.corrections] == [1, 3]


@pytest.mark.parametrize("value", [["equal"], "bias", 3, [1]])
def test_unknown_corrections_are_refused(value: Any) -> None:
    with pytest.raises(CalibrationError, match="corrections"):
        qc.onnx.QuantizeOptions(corrections=value)


def test_the_command_takes_a_list(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from quantcal.cli.app import app

    folder = tmp_path / "samples"
    folder.mkdir()
    for number, feed in enumerate(outlier_rows(4, rank=3)):
        np.savez(folder / f"{number}.npz", **feed)
    onnx.save(both(), tmp_path / "m.onnx")
    command = ["quantize", str(tmp_path / "m.onnx"), "--samples", str(folder)]
    for name, flags in (
        ("a", ["--correct", "bias,equalize", "--correct", "smooth"]),
        ("b", ["--correct", "equalize,smooth,bias"]),
    ):
        done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / name), *flags])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    wrong = CliRunner().invoke(
        app, [*command, "-o", str(tmp_path / "c"), "--correct", "x"]
    )
    assert wrong.exit_code != 0
