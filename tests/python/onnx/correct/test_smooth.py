"""Smoothing keeps the float function, and scales channels as equation 4 says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
from correction_models import node, outlier_rows, rows_model, run_all, weights_of
from quantcal import CalibrationError
from quantcal.onnx._correct import smoothing
from quantcal.onnx._correct.report import Correction
from quantcal.onnx._correct.smoothing import smooth

GAIN = np.abs(models.random(6, seed=8)) + 0.5
SHIFT = models.random(6, seed=9)
CONSTANTS = {
    "gain": GAIN,
    "shift": SHIFT,
    "two": np.float32(2),
    "tiny": np.float32(1e-5),
}
MATRICES = {"w1": models.random(6, 8, seed=1), "w2": models.random(6, 4, seed=2)}


def layer_norm() -> list[onnx.NodeProto]:
    return [node("LayerNormalization", ["x", "gain", "shift"], ["t"], "norm")]


def layer_norm_without_bias() -> list[onnx.NodeProto]:
    return [node("LayerNormalization", ["x", "gain"], ["t"], "norm")]


def bias_behind_norm() -> list[onnx.NodeProto]:
    return [
        node("LayerNormalization", ["x", "gain"], ["n"], "norm"),
        node("Add", ["shift", "n"], ["t"]),
    ]


def decomposed() -> list[onnx.NodeProto]:
    return [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["d"]),
        node("Pow", ["d", "two"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "tiny"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "gain"], ["g"], "norm"),
        node("Add", ["g", "shift"], ["t"]),
    ]


def rms_norm() -> list[onnx.NodeProto]:
    return [
        node("Pow", ["x", "two"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "tiny"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["x", "s"], ["n"]),
        node("Mul", ["gain", "n"], ["t"], "norm"),
    ]


def jax_norm() -> list[onnx.NodeProto]:
    """Multiply the scale into the reciprocal deviation first, as jax2tf does."""
    return [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["d"]),
        node("Mul", ["d", "d"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "tiny"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Reciprocal", ["s"], ["r"]),
        node("Mul", ["r", "gain"], ["f"], "norm"),
        node("Mul", ["d", "f"], ["g"]),
        node("Add", ["g", "shift"], ["t"]),
    ]


def product() -> list[onnx.NodeProto]:
    return [node("Mul", ["x", "gain"], ["t"], "norm")]


FORMS = (
    layer_norm,
    layer_norm_without_bias,
    bias_behind_norm,
    decomposed,
    rms_norm,
    jax_norm,
    product,
)


def two_readers(source: list[onnx.NodeProto], opset: int = 17) -> onnx.ModelProto:
    """Return a model in which two MatMul read what the source makes."""
    nodes = [
        *source,
        node("MatMul", ["t", "w1"], ["a"], "one"),
        node("MatMul", ["t", "w2"], ["b"], "two"),
        node("Concat", ["a", "b"], ["y"], axis=-1),
    ]
    read = {name for each in nodes for name in each.input}
    weights = {n: a for n, a in {**CONSTANTS, **MATRICES}.items() if n in read}
    return rows_model(nodes, weights, opset, rank=3)


def smoothed(
    model: onnx.ModelProto, samples: Any = None, **options: Any
) -> tuple[onnx.ModelProto, Correction]:
    """Smooth a model and show that it computes the same."""
    feeds = outlier_rows(rank=3) if samples is None else samples
    before = model.SerializeToString()
    changed, report = smooth(model, feeds, **options)
    assert model.SerializeToString() == before
    for want, got in zip(
        run_all(model, feeds), run_all(changed.proto, feeds), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    return changed.proto, report


def largest(model: onnx.ModelProto, tensor: str) -> np.ndarray[Any, Any]:
    arrays = run_all(model, outlier_rows(rank=3), tensor)
    return np.max([np.abs(a).max(axis=(0, 1)) for a in arrays], axis=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_the_scales_are_those_of_equation_4(form: Any, alpha: float) -> None:
    model = two_readers(form())
    before = largest(model, "t")
    rows = np.maximum(*(np.abs(MATRICES[n]).max(axis=1) for n in ("w1", "w2")))
    want = before**alpha / rows ** (1 - alpha)
    new, report = smoothed(model, alpha=alpha)
    found = before / largest(new, "t")
    # The scales have the geometric mean 1, which changes no quantized model.
    np.testing.assert_allclose(found, want / np.exp(np.log(want).mean()), rtol=1e-4)
    assert report.changed[0].nodes == ("norm", "one", "two")
    assert report.changed[0].largest == pytest.approx(
        max(found.max(), 1 / found.min()), rel=1e-4
    )
    if alpha == 1:  # then the channels of the activation are equal
        np.testing.assert_allclose(
            largest(new, "t") / largest(new, "t")[0], 1, rtol=1e-4
        )


def quantized_error(model: onnx.ModelProto, tmp_path: Any, **options: Any) -> float:
    import quantcal as qc

    feeds = outlier_rows(8, rank=3)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, feeds, strategy="minmax", progress=False, **options)
    made = run_all(onnx.load(path), feeds)
    wanted = run_all(model, feeds)
    return float(
        np.mean([((a - b) ** 2).mean() for a, b in zip(made, wanted, strict=True)])
    )


def test_the_search_reduces_the_error_of_the_quantized_model(tmp_path: Any) -> None:
    model = two_readers(product())
    plain = quantized_error(model, tmp_path)
    assert quantized_error(model, tmp_path, corrections=["smooth"]) < plain / 4


@pytest.mark.parametrize("opset", [11, 13, 15])
def test_older_opsets_are_smoothed(opset: int) -> None:
    _, report = smoothed(two_readers(decomposed(), opset))
    assert len(report.changed) == 1


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_is_a_reader(turned: int) -> None:
    first = np.ascontiguousarray(MATRICES["w1"].T) if turned else MATRICES["w1"]
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["t"], "norm"),
        node("Gemm", ["t", "w1"], ["y"], "one", transB=turned, alpha=0.5),
    ]
    weights = {"gain": GAIN, "shift": SHIFT, "w1": first}
    _, report = smoothed(rows_model(nodes, weights), outlier_rows(), alpha=0.5)
    assert report.changed[0].nodes == ("norm", "one")


def test_a_norm_with_another_reader_is_skipped() -> None:
    nodes = [
        *layer_norm(),
        node("MatMul", ["t", "square"], ["m"], "one"),
        node("Add", ["m", "t"], ["y"], "residual"),
    ]
    weights = {"gain": GAIN, "shift": SHIFT, "square": models.random(6, 6, seed=4)}
    new, report = smoothed(rows_model(nodes, weights, rank=3))
    assert not report.changed
    assert report.skipped == {"t": "norms that Add reads too"}
    assert weights_of(new)["gain"].tolist() == GAIN.tolist()


@pytest.mark.parametrize("reader", ["output", "subgraph"])
def test_a_norm_that_leaves_the_graph_is_skipped(reader: str) -> None:
    model = two_readers(layer_norm())
    if reader == "output":
        model.graph.output.append(models.value("t", ("a", "b", "c")))
    else:
        branch, other = (
            helper.make_graph(
                [node(kind, ["t"], [name])], name, [], [models.value(name, None)]
            )
            for kind, name in (("Neg", "i"), ("Abs", "j"))
        )
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(True), "yes")
        )
        model.graph.node.append(
            node("If", ["yes"], ["z"], then_branch=branch, else_branch=other)
        )
        model.graph.output.append(models.value("z", ("a", "b", "c")))
    _, report = smoothed(model)
    assert report.skipped == {"t": "norms that a subgraph or an output reads"}


def test_a_shared_matrix_stays_and_a_shared_scale_is_copied() -> None:
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["t"], "norm"),
        node("MatMul", ["t", "square"], ["m"], "one"),
        node("LayerNormalization", ["m", "gain", "shift"], ["u"], "other"),
        node("MatMul", ["u", "tied"], ["n"], "two"),
        node("LayerNormalization", ["n", "gain", "shift"], ["v"], "third"),
        node("MatMul", ["v", "tied"], ["y"], "three"),
    ]
    square, tied = models.random(6, 6, seed=4), models.random(6, 6, seed=5)
    weights = {"gain": GAIN, "shift": SHIFT, "square": square, "tied": tied}
    new, report = smoothed(rows_model(nodes, weights, rank=3), alpha=0.5)
    assert [each.nodes for each in report.changed] == [("norm", "one")]
    assert set(report.skipped.values()) == {
        "norms before weights that several nodes read"
    }
    assert weights_of(new)["gain"].tolist() == GAIN.tolist()
    assert weights_of(new)["tied"].tolist() == tied.tolist()


def test_a_channel_without_activations_keeps_its_values() -> None:
    gain = GAIN.copy()
    gain[3] = 0
    model = two_readers(product())
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(gain, "gain"))
    new, _ = smoothed(model, alpha=0.5)
    assert weights_of(new)["w1"][3].tolist() == MATRICES["w1"][3].tolist()


@pytest.mark.parametrize("how", models.HOLDERS)
def test_constants_in_nodes_are_replaced(how: str) -> None:
    new, report = smoothed(models.hold(two_readers(layer_norm()), how), alpha=0.5)
    assert len(report.changed) == 1
    assert not {each.op_type for each in new.graph.node} & {"Constant", "Identity"}


def test_a_second_smoothing_at_the_same_exponent_changes_nothing() -> None:
    # At 1 all channels of the activation are equal, at 0 all rows of the weights.
    for alpha in (0.0, 1.0):
        once, _ = smoothed(two_readers(layer_norm()), alpha=alpha)
        _, report = smoothed(once, alpha=alpha)
        assert report.changed[0].largest == pytest.approx(1, abs=1e-4)


def test_the_same_model_gives_the_same_bytes() -> None:
    made = [
        smooth(two_readers(layer_norm()), outlier_rows(rank=3))[0] for _ in range(2)
    ]
    assert made[0].proto.SerializeToString() == made[1].proto.SerializeToString()


def test_a_changed_function_is_refused_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = smoothing.scale_constant
    monkeypatch.setattr(
        smoothing, "scale_constant", lambda a, f, axis: real(a, f * 1.01, axis)
    )
    with pytest.raises(CalibrationError, match=r"'y' differs by [0-9.]+% of its size"):
        smooth(two_readers(layer_norm()), outlier_rows(rank=3))


def test_a_wrong_exponent_or_no_samples_are_refused() -> None:
    with pytest.raises(CalibrationError, match="alpha is 2"):
        smooth(two_readers(layer_norm()), outlier_rows(rank=3), alpha=2)
    with pytest.raises(CalibrationError, match="no samples"):
        smooth(two_readers(layer_norm()), [])
