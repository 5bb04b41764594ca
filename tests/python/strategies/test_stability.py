"""`check_stability`: two halves of the data, against raw values and by laws."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model, save_samples
from quantcal import _core

STRATEGIES = ["minmax", "percentile_99", "kl", "mse", "entropy", "aciq", "hybrid"]


def data(name: str, half: int) -> np.ndarray[Any, Any]:
    """Two draws of one distribution; of "rare" one value in one of them is far away."""
    rng = np.random.default_rng([half, len(name)])
    values = rng.standard_normal(5000).astype(np.float32)
    if name == "relu":
        return np.maximum(values, 0)
    if name == "rare" and half:
        values[7] = 90
    return values


def halves(*names: str, scale: float = 1) -> tuple[qc.Calibrator, qc.Calibrator]:
    made = qc.Calibrator(), qc.Calibrator()
    for half, calibrator in enumerate(made):
        for name in names:
            calibrator.observe(name, data(name, half) * np.float32(scale))
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("format", ["int8", "uint8", "int4"])
def test_equal_halves_do_not_differ(strategy: str, format: str) -> None:
    first, second = halves("bell", "relu", "rare")
    for half in (first, second):
        found = qc.check_stability(half, half, strategy, format=format)
        assert [tensor.difference for tensor in found] == [0, 0, 0]
        assert [tensor.loss_db for tensor in found] == [0, 0, 0]
        assert found.beyond(0) == []
        assert (found.median, found.largest) == (0, 0)


@pytest.mark.parametrize("strategy", ["minmax", "mse", "kl"])
def test_a_tensor_with_a_rare_outlier_comes_first(strategy: str) -> None:
    found = qc.check_stability(*halves("bell", "rare", "relu"), strategy)
    assert found[0].name == "rare"
    tolerance = 0.9 if strategy == "minmax" else found[1].difference
    assert found.beyond(tolerance) == ["rare"]
    assert "1 of 3 by more than" in found.summary(tolerance)
    assert found.summary(tolerance).endswith(": rare")


def test_the_figures_are_those_of_raw_values() -> None:
    """Extremes and fake quantization by numpy; the histogram's error is within a percent."""
    found = qc.check_stability(*halves("bell", "rare"), "minmax", format="uint8")
    for tensor in found:
        a, b = data(tensor.name, 0), data(tensor.name, 1)
        ends = [(float(x.min()), float(x.max())) for x in (a, b)]
        low, high = min(e[0] for e in ends), max(e[1] for e in ends)
        apart = abs(ends[0][0] - ends[1][0]) + abs(ends[0][1] - ends[1][1])
        assert tensor.difference == pytest.approx(apart / (high - low), rel=0.02)
        assert tensor.first is not None
        assert tensor.second is not None
        losses = [
            noise(x, other) - noise(x, own)
            for x, own, other in (
                (a, tensor.first, tensor.second),
                (b, tensor.second, tensor.first),
            )
        ]
        assert tensor.loss_db == pytest.approx(max(0, *losses), abs=0.1)


def noise(x: np.ndarray[Any, Any], params: qc.QuantParams) -> float:
    """Decibels of the mean squared error."""
    error = x.astype(np.float64) - params.fake_quantize(x)
    return 10 * math.log10(np.mean(error**2))


def test_neither_order_nor_scale_matters() -> None:
    names = ("bell", "rare", "relu")
    plain = qc.check_stability(*halves(*names), "minmax")
    turned = qc.check_stability(*halves(*names)[::-1], "minmax")
    scaled = qc.check_stability(*halves(*names, scale=2.0**-9), "minmax")
    for tensor, other, small in zip(plain, turned, scaled, strict=True):
        assert tensor.name == other.name == small.name
        assert tensor.difference == other.difference == small.difference
        assert tensor.loss_db == other.loss_db == small.loss_db
        assert (tensor.first, tensor.second) == (other.second, other.first)


def test_more_samples_agree_better() -> None:
    found = []
    for count in (200, 20_000):
        rng = np.random.default_rng(3)
        made = qc.Calibrator(), qc.Calibrator()
        for number in range(40):
            for half in made:
                half.observe(f"x{number}", rng.laplace(size=count).astype(np.float32))
        found.append(qc.check_stability(*made, "percentile_99").median)
    # Of n values a quantile is known to 1 / sqrt(n): a tenth.
    assert 0.05 < found[1] / found[0] < 0.2


def test_what_one_half_has_not_seen_is_infinitely_apart() -> None:
    first, second = halves("bell", "relu")
    first.observe("once", data("bell", 0))
    for order in ((first, second), (second, first)):
        found = qc.check_stability(*order)
        assert found[0].name == "once"
        assert math.isinf(found[0].difference)
        assert found.beyond(1e9) == ["once"]
        assert "without bound at most" in found.summary()
        assert "not seen" in str(found)
    with pytest.raises(qc.CalibrationError, match="observed nothing"):
        qc.check_stability(first, qc.Calibrator())


def test_by_channel_the_largest_difference_counts() -> None:
    made = qc.Calibrator(), qc.Calibrator()
    for half, calibrator in enumerate(made):
        x = np.ones((3, 4), np.float32)
        x[2] = 1 + half  # 1 and 2: apart by half of the whole range, which is ±2
        calibrator.observe("x", x, axis=0)
    (tensor,) = qc.check_stability(*made, "minmax", format="uint8")
    assert tensor.difference == pytest.approx(0.5)
    assert tensor.loss_db > 10


@pytest.mark.parametrize("method", ["in_graph", "outputs"])
@pytest.mark.parametrize("count", [2, 5])
def test_quantize_tells_of_its_halves_and_changes_nothing(
    tmp_path: Path, method: Any, count: int
) -> None:
    """The halves are every second sample; what else is made of them is as without them."""
    model = models.residual()
    feeds = [{"x": models.random(1, 4, 9, 6 + n, seed=n)} for n in range(count)]
    results, kept = [], []
    for apart in (True, False):
        calibrator = qc.Calibrator()
        results.append(
            qc.onnx.quantize(
                model,
                tmp_path / f"{apart}.onnx",
                feeds,
                check_stability=apart,
                observer=method,
                calibrator=calibrator,
                progress=False,
            )
        )
        kept.append(calibrator.to_bytes())
    with_halves, without = results
    assert (tmp_path / "True.onnx").read_bytes() == (
        tmp_path / "False.onnx"
    ).read_bytes()
    assert kept[0] == kept[1]
    assert list(with_halves.table) == list(without.table)
    assert with_halves.table == without.table
    assert without.stability is None
    assert with_halves.choice is not None
    by_hand = qc.check_stability(
        qc.onnx.observe(model, feeds[::2]),
        qc.onnx.observe(model, feeds[1::2]),
        with_halves.choice.policy,
        format="uint8",
    )
    assert with_halves.stability is not None
    assert list(with_halves.stability) == list(by_hand)
    assert by_hand.largest > 0
    assert with_halves.summary().endswith(by_hand.summary())


def test_there_are_no_halves_of_one_sample_nor_of_histograms(tmp_path: Path) -> None:
    model, output = models.residual(), tmp_path / "q.onnx"
    feeds = [{"x": models.random(1, 4, 9, 6)}]
    one = qc.onnx.quantize(model, output, feeds, progress=False)
    known = qc.onnx.quantize(model, output, calibrator=qc.onnx.observe(model, feeds))
    weights = qc.onnx.quantize(
        model, output, activation_type="none", weight_type="int8"
    )
    for result in (one, known, weights):
        assert result.stability is None
        assert "two halves" not in result.summary()


def test_a_branch_that_one_half_takes_is_reported(tmp_path: Path) -> None:
    feeds = [
        {"x": models.random(4, 6, seed=n), "c": np.array(n == 1)} for n in range(3)
    ]
    rules = {"a": "minmax", "*": "mse"}  # a tensor that the first half lacks
    result = qc.onnx.quantize(
        models.if_net(outside=True),
        tmp_path / "q.onnx",
        feeds,
        strategy=rules,
        placement="stock",
        progress=False,
    )
    assert result.stability is not None
    unseen = [t.name for t in result.stability if math.isinf(t.difference)]
    assert sorted(unseen) == ["a", "b"]


def test_the_command_tells_what_the_library_finds(tmp_path: Path) -> None:
    made = halves("bell", "rare", "relu")
    made[0].observe("once", data("bell", 0))
    files = [tmp_path / f"{number}.qcal" for number in (1, 2)]
    for file, half in zip(files, made, strict=True):
        half.save(file)
    found = qc.check_stability(*made, "kl", format="uint8")
    done = call("stability", *files, "-s", "kl", "--activation-type", "uint8")
    assert (done.code, done.err) == (0, "")
    assert done.facts["two halves"] == found.summary()
    rows = done.out.split("\n\n")[1].splitlines()
    assert len(rows) == 2 + len(found)
    for row, line in zip(rows[2:], str(found).splitlines()[1:], strict=True):
        assert row.split() == line.split()
    strict = call("stability", *files, "--tolerance", "0.001", "--limit", 1)
    assert "4 of 4 by more than 0.100 %" in strict.facts["two halves"]
    assert len(strict.out.split("\n\n")[1].splitlines()) == 3
    shown = json.loads(call("stability", *files, "-s", "kl", "--json").out)
    assert shown["tensors"][0]["name"] == "once"
    assert shown["tensors"][0]["difference"] is None
    assert [t["name"] for t in shown["tensors"]] == [
        t.name for t in qc.check_stability(*made, "kl")
    ]
    page = found._repr_html_()
    assert page.count("<tr>") == 1 + len(found)
    assert found.summary() in page
    assert "given twice" in call("stability", files[0], files[0]).error_text()


def test_quantizing_reports_it_on_the_command_line(tmp_path: Path) -> None:
    model, folder = save_model(tmp_path), save_samples(tmp_path)
    output = tmp_path / "q.onnx"
    start = ["quantize", model, "-o", output, "--samples", folder]
    assert "(median)" in call(*start).facts["two halves"]
    before = output.read_bytes()
    assert "two halves" not in call(*start, "--no-check-stability").facts
    assert output.read_bytes() == before
    onnx.checker.check_model(onnx.load(output))


def test_recorders_exchange_what_they_hold() -> None:
    a, b = _core.TensorStats(), _core.TensorStats()
    a.observe(data("bell", 0))
    b.observe(data("bell", 1)[:3])
    before = a.copy(), b.copy()
    a.swap(a)
    assert a == before[0]
    a.swap(b)
    assert (a, b) == before[::-1]
    barrier = threading.Barrier(4)

    def work(first: _core.TensorStats, second: _core.TensorStats) -> None:
        barrier.wait()
        for _ in range(2001):
            first.swap(second)

    threads = [
        threading.Thread(target=work, args=pair) for pair in ((a, b), (b, a)) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (a, b) == before[::-1]


def test_a_half_is_a_calibrator() -> None:
    with pytest.raises(TypeError, match="each half must be a Calibrator, not NoneType"):
        qc.check_stability(None, qc.Calibrator())  # type: ignore[arg-type]


def test_the_verdict_of_a_summary_has_its_tolerance() -> None:
    first, second = qc.Calibrator(), qc.Calibrator()
    first.observe("x", np.float32([-1, 1]))
    second.observe("x", np.float32([-1.05, 1.05]))
    found = qc.check_stability(first, second)
    assert found.summary().startswith("enough samples: ")
    strict = found.summary(0.01)
    assert strict.startswith("too few samples for some tensors: ")
    assert strict.endswith("1 of 1 by more than 1.00 %: x")
