"""`evaluate`: its figures against plain formulas, both arithmetics, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc
from cli_runs import call, run_in_terminal, save_model, save_samples
from quantcal.onnx import evaluation
from quantcal.onnx._options import cpu

FEEDS = [{"x": models.random(2, 8, seed=seed)} for seed in range(4)]
NO_VNNI = cpu.weight_bits().reduce and cpu.cpu_flags() is not None


def softmax_net(scale: float = 1.0) -> onnx.ModelProto:
    """Gemm → Softmax, with both outputs and the index of the largest value."""
    weights = {"w": models.random(8, 5) * np.float32(scale), "b": models.random(5)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], "gemm"),
        helper.make_node("Softmax", ["z"], ["p"], "softmax", axis=-1),
        helper.make_node("ArgMax", ["z"], ["best"], "best", axis=-1),
    ]
    outputs = [models.value(name, ["n", 5]) for name in ("z", "p")]
    outputs.append(models.value("best", ["n", 1], onnx.TensorProto.INT64))
    return models.build(nodes, [models.value("x", ["n", 8])], outputs, weights)


def test_the_figures_are_those_of_the_plain_formulas() -> None:
    first, second = softmax_net(), softmax_net(1.3)
    found = qc.onnx.evaluate(first, second, FEEDS)
    names = ["z", "p", "best"]
    runs = [
        [models.session(m).run(names, feed) for feed in FEEDS] for m in (first, second)
    ]
    values = {
        name: [np.concatenate([made[i] for made in r]).astype(np.float64) for r in runs]
        for i, name in enumerate(names)
    }
    assert found.samples == 4
    for by in found.outputs.values():
        assert by["exact"] == by["native"]
    z = found.outputs["z"]["exact"]
    x, y = values["z"]
    assert z.sqnr_db == pytest.approx(
        10 * np.log10((x**2).sum() / ((x - y) ** 2).sum())
    )
    size = np.linalg.norm(x) * np.linalg.norm(y)
    assert z.cosine == pytest.approx((x * y).sum() / size)
    assert z.max_error == pytest.approx(np.abs(x - y).max())
    assert z.kl is None
    assert z.loss == pytest.approx(((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum())
    assert z.top1 == (x.argmax(1) == y.argmax(1)).mean()
    p, q = values["p"]
    kl = (p * np.log(p / q)).sum(axis=1).mean()
    assert found.outputs["p"]["exact"].kl == pytest.approx(kl, rel=1e-4)
    best = found.outputs["best"]["exact"]
    assert best.top1 == (values["best"][0] == values["best"][1]).mean()
    assert best.sqnr_db is best.kl is best.max_error is None


def test_a_model_agrees_with_itself() -> None:
    found = qc.onnx.evaluate(softmax_net(), softmax_net(), FEEDS)
    z = found.outputs["z"]["native"]
    assert (z.sqnr_db, z.max_error, z.top1) == (math.inf, 0.0, 1.0)
    assert z.cosine == pytest.approx(1)
    assert found.outputs["p"]["native"].kl == pytest.approx(0, abs=1e-6)
    assert found.warnings == ()
    assert found.to_dict()["outputs"]["z"]["native"]["sqnr_db"] == "inf"


def test_values_that_are_not_finite_give_an_infinite_error() -> None:
    def net(divisor: float) -> onnx.ModelProto:
        node = helper.make_node("Div", ["x", "d"], ["y"], "div")
        weights = {"d": np.float32([divisor])}
        shape = models.value("y", ["n", 8])
        return models.build([node], [models.value("x", ["n", 8])], [shape], weights)

    y = qc.onnx.evaluate(net(1), net(0), FEEDS).outputs["y"]["exact"]
    assert (y.max_error, y.sqnr_db) == (math.inf, -math.inf)
    y = qc.onnx.evaluate(net(0), net(0), FEEDS).outputs["y"]["exact"]
    assert (y.max_error, y.sqnr_db) == (0.0, math.inf)


def hot_net() -> onnx.ModelProto:
    """A MatMul whose 16-bit sums overflow without VNNI."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "hot")
    weights = {"w": np.abs(models.random(64, 16)) + 3}
    shape = models.value("y", ["n", 16])
    return models.build([node], [models.value("x", ["n", 64])], [shape], weights)


@pytest.mark.skipif(not NO_VNNI, reason="this CPU's kernels add in 32 bits")
def test_overflow_in_native_arithmetic_gives_a_warning(tmp_path: Path) -> None:
    feeds = [{"x": np.abs(models.random(20, 64)) + 2}]
    path = tmp_path / "out.onnx"
    qc.onnx.quantize(
        hot_net(), path, feeds, reduce_range=False, progress=False, strategy="mse"
    )
    found = qc.onnx.evaluate(hot_net(), path, feeds)
    (warning,) = found.warnings
    assert "'y'" in warning
    assert 'reduce_range="nodes"' in warning
    by = found.outputs["y"]
    assert by["exact"].sqnr_db - by["native"].sqnr_db > 10
    qc.onnx.quantize(
        hot_net(), path, feeds, progress=False, strategy="mse"
    )  # finds the node
    found = qc.onnx.evaluate(hot_net(), path, feeds)
    assert found.warnings == ()
    assert found.outputs["y"]["native"].sqnr_db > by["native"].sqnr_db + 10


@pytest.mark.parametrize("vnni", [True, False])
def test_the_remedy_of_a_loss_by_kernels_fits_the_processor(
    vnni: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_other(loaded: Any, *, exact: bool) -> Any:
        return models.session(softmax_net() if exact else softmax_net(1.5))

    opened = iter([True, True, False])  # the float model, exact, native
    monkeypatch.setattr(
        evaluation,
        "open_plain",
        lambda loaded, exact: open_other(loaded, exact=next(opened)),
    )
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        cpu, "cpu_flags", lambda: frozenset({"avx_vnni"} if vnni else {"avx2"})
    )
    found = qc.onnx.evaluate(softmax_net(), softmax_net(), FEEDS)
    text = found.warnings[0]
    assert "this machine's kernels lose accuracy" in text
    assert ("reduce_range" in text) == (not vnni)
    assert ("Sums do not overflow here" in text) == vnni


def test_a_callers_metric_is_averaged_for_each_model() -> None:
    seen = []

    def metric(number: int, feed: Any, outputs: Any) -> dict[str, float]:
        seen.append(number)
        assert set(outputs) == {"z", "p", "best"}
        return {"first": float(outputs["p"][0, 0]), "number": number}

    found = qc.onnx.evaluate(softmax_net(), softmax_net(2), FEEDS, metric=metric)
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert set(found.metrics) == {"first", "number"}
    assert set(found.metrics["first"]) == {"float", "exact", "native"}
    session = models.session(softmax_net(2))
    firsts = [session.run(["p"], feed)[0][0, 0] for feed in FEEDS]
    got = found.metrics["first"]["exact"]
    assert got.mean == pytest.approx(np.mean(firsts), rel=1e-5)
    want = 1.96 * np.std(firsts, ddof=1) / 2
    assert got.margin == pytest.approx(want, rel=1e-3)


def test_one_arithmetic_may_stand_without_a_list() -> None:
    first, second = softmax_net(), softmax_net(1.3)
    for name in ("exact", "native"):
        found = qc.onnx.evaluate(first, second, FEEDS, arithmetics=name)
        listed = qc.onnx.evaluate(first, second, FEEDS, arithmetics=[name])
        assert found.outputs == listed.outputs
        assert set(found.outputs["z"]) == {name}
    with pytest.raises(qc.CalibrationError, match=r"arithmetics is \['fast'\]"):
        qc.onnx.evaluate(first, second, FEEDS, arithmetics="fast")


def test_wrong_arguments_are_reported(tmp_path: Path) -> None:
    evaluate = qc.onnx.evaluate
    other = models.gemm_net(models.random(5))
    with pytest.raises(
        qc.CalibrationError, match=r"outputs are .*Give a model and its"
    ):
        evaluate(softmax_net(), other, FEEDS)
    with pytest.raises(qc.CalibrationError, match="no samples"):
        evaluate(other, other, [])
    with pytest.raises(qc.CalibrationError, match="exact, native"):
        evaluate(other, other, FEEDS, arithmetics=["fast"])
    with pytest.raises(qc.CalibrationError, match="is not a file"):
        evaluate(other, tmp_path / "missing.onnx", FEEDS)
    with pytest.raises(qc.CalibrationError, match=r"sample 0: the metric .* ZeroDiv"):
        evaluate(other, other, FEEDS, metric=lambda *_: 1 / 0)


def test_the_command_shows_what_the_function_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "int8.onnx"
    qc.onnx.quantize(model, made, data, progress=False, strategy="mse")
    (tmp_path / "mine.py").write_text(
        "def mean(number, feed, outputs):\n    return outputs['y'].mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = [
        "evaluate",
        model,
        made,
        "--samples",
        data,
        "--metric",
        "python:mine:mean",
    ]
    done = call(*arguments, "--json")
    assert (done.code, done.err) == (0, "")
    content = json.loads(done.out)
    found = qc.onnx.evaluate(model, made, data)
    assert content["outputs"] == found.to_dict()["outputs"]
    assert set(content["metrics"]["metric"]) == {"float", "exact", "native"}
    shown = call(*arguments).out
    assert found.outputs["y"]["exact"].sqnr_db is not None
    assert f"{found.outputs['y']['exact'].sqnr_db:.1f} dB" in shown
    assert all(word in shown for word in ("exact", "native", "top-1", "metric"))
    lines = run_in_terminal(80, "evaluate", model, made, "--samples", data)
    assert max(len(line) for line in lines if "Evaluating" not in line) <= 80
    short = call(*arguments[:-1], "mine:mean", "--json")
    assert json.loads(short.out) == content
    assert "no callable" in call(*arguments[:-1], "python:mine:missing").error_text()


def test_the_command_quantizes_for_another_cpu(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    for target, word in (("vnni", "the target CPU has VNNI"), ("arm", "arm64")):
        made = tmp_path / f"{target}.onnx"
        arguments = ["quantize", model, "-o", made, "--samples", data, "--cpu", target]
        assert word in call(*arguments).facts["weights"]
