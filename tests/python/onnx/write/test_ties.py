"""A matrix that several nodes read is stored once, and the file never grows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc

ROWS, WIDTH = 240, 256
node = helper.make_node


def ids() -> Any:
    return models.value("i", ["b"], TensorProto.INT64)


def table(seed: int = 7) -> np.ndarray[Any, Any]:
    """Return rows of unequal size, as embeddings are."""
    spread = np.exp(models.random(ROWS, 1, seed=3) / 2)
    return np.asarray(models.random(ROWS, WIDTH, seed=seed) * spread, np.float32)


def embedding() -> onnx.NodeProto:
    return node("Gather", ["w", "i"], ["e"], "emb")


def head(kind: str) -> list[onnx.NodeProto]:
    """Return the nodes that compute one value for each row of the table."""
    if kind == "gemm":
        return [node("Gemm", ["e", "w"], ["y"], "head", transB=1)]
    turn = node("Transpose", ["w"], ["t"], "turn", perm=[1, 0])
    return [turn, node("MatMul", ["e", "t"], ["y"], "head")]


def tied(kind: str) -> onnx.ModelProto:
    """An embedding whose table is also the matrix of the head."""
    y = models.value("y", ["b", ROWS])
    return models.build([embedding(), *head(kind)], [ids()], [y], {"w": table()})


def side() -> onnx.ModelProto:
    """A Gather and a MatMul that read one untransposed matrix."""
    nodes = [embedding(), node("MatMul", ["x", "w"], ["y"], "head")]
    outputs = [models.value("e", ["b", WIDTH]), models.value("y", ["n", WIDTH])]
    inputs = [ids(), models.value("x", ["n", ROWS])]
    return models.build(nodes, inputs, outputs, {"w": table()})


def both_ways(kind: str) -> onnx.ModelProto:
    """An autoencoder: one matrix read along both of its axes."""
    decode = [node("MatMul", ["h", "w"], ["y"], "decode")]
    encode = [node("Gemm", ["x", "w"], ["h"], "encode", transB=1)]
    if kind == "transpose":
        turn = node("Transpose", ["w"], ["t"], "turn", perm=[1, 0])
        encode = [turn, node("MatMul", ["x", "t"], ["h"], "encode")]
    x, y = models.value("x", ["n", WIDTH]), models.value("y", ["n", WIDTH])
    weights = {"w": models.random(ROWS, WIDTH)}
    return models.build([*encode, *decode], [x], [y], weights)


def alphas() -> onnx.ModelProto:
    """Two Gemm that multiply one matrix by different numbers."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], "one", alpha=0.3),
        node("Gemm", ["x", "w", "b"], ["g"], "two", alpha=2.0),
        node("Add", ["h", "g"], ["y"], "sum"),
    ]
    x, y = models.value("x", ["n", ROWS]), models.value("y", ["n", WIDTH])
    weights = {"w": models.random(ROWS, WIDTH), "b": models.random(WIDTH)}
    return models.build(nodes, [x], [y], weights)


def samples(model: onnx.ModelProto) -> list[dict[str, Any]]:
    rng, feeds = np.random.default_rng(5), []
    for _ in range(4):
        feed: dict[str, Any] = {}
        for value in model.graph.input:
            shape = [d.dim_value or 8 for d in value.type.tensor_type.shape.dim]
            kind = value.type.tensor_type.elem_type
            feed[value.name] = {
                TensorProto.INT64: lambda s: rng.integers(0, ROWS, s),
                TensorProto.BOOL: lambda s: np.array(True),
                TensorProto.FLOAT: lambda s: rng.standard_normal(s, np.float32),
            }[kind](shape)
        feeds.append(feed)
    return feeds


def stock(
    model: onnx.ModelProto,
    path: Path,
    feeds: Sequence[dict[str, Any]],
    *,
    per_channel: bool,
) -> int:
    """Write with onnxruntime's quantizer; return the size."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        left = iter(feeds)

        def get_next(self) -> Any:
            return next(self.left, None)

    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the quantizer removes the weights of its input
    logging.disable(logging.WARNING)
    try:
        quantization.quantize_static(copy, str(path), Reader(), per_channel=per_channel)
    finally:
        logging.disable(logging.NOTSET)
    return path.stat().st_size


def worst(model: onnx.ModelProto, path: Path, feeds: list[dict[str, Any]]) -> float:
    """Return the minimum SQNR of all outputs, with and without integer kernels."""
    found = []
    for exact in (True, False):
        session = models.session(str(path), exact=exact)
        for feed in feeds:
            want = models.session(model, exact=True).run(None, feed)
            got = session.run(None, feed)
            found += [
                models.signal_to_noise(*pair) for pair in zip(want, got, strict=True)
            ]
    return min(found)


def codes(path: Path) -> list[str]:
    """Return the names of all large tensors of a file, in subgraphs too."""
    from quantcal.onnx._graph.nested_scopes import scopes

    return [
        t.name
        for scope in scopes(onnx.load(path).graph)
        for t in scope.initializer
        if np.prod(t.dims) >= ROWS * WIDTH
    ]


def kernels(path: Path) -> set[str]:
    """Return the operators of the graph after onnxruntime's optimizations."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    made = onnx.load(options.optimized_model_filepath)
    return {n.op_type for n in made.graph.node}


MODELS = {
    "gather, gemm": (tied("gemm"), "QGemm"),
    "gather, transpose, matmul": (tied("matmul"), "QLinearMatMul"),
    "gather, matmul": (side(), "QLinearMatMul"),
    "gemm, matmul": (both_ways("gemm"), "QGemm"),
    "transpose, matmul, matmul": (both_ways("transpose"), "QLinearMatMul"),
    "alphas": (alphas(), "QGemm"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_matrix_that_two_nodes_read_is_stored_once(name: str, tmp_path: Path) -> None:
    model, kernel = MODELS[name]
    feeds, path = samples(model), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, feeds, cpu="vnni", progress=False, strategy="mse"
    )
    assert result.left_in_float == {}
    assert len(codes(path)) == 1
    size = path.stat().st_size
    assert result.model_bytes == size
    assert size < 0.3 * model.ByteSize()
    peer = tmp_path / "stock.onnx"
    assert size <= 1.05 * stock(model, peer, feeds, per_channel=True)
    stock(
        model, peer, feeds, per_channel=False
    )  # with scales by channel some of these do not run
    assert worst(model, path, feeds) > worst(model, peer, feeds) - 0.5
    found = kernels(path)
    assert any(k.startswith(kernel) or k == "MatMulIntegerToFloat" for k in found)


@pytest.mark.parametrize("name", MODELS)
def test_tied_weights_give_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    model = MODELS[name][0]
    for path in (tmp_path / "a.onnx", tmp_path / "b.onnx"):
        qc.onnx.quantize(model, path, samples(model), progress=False, strategy="mse")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("weight", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize("name", MODELS)
def test_tied_weights_without_data(name: str, weight: str, tmp_path: Path) -> None:
    """With 4-bit weights a table has separate 8-bit rows: no Gather reads 4-bit codes."""
    model, path = MODELS[name][0], tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, activation_type="none", weight_type=weight, progress=False
    )
    assert result.left_in_float == {}
    assert path.stat().st_size < 0.45 * model.ByteSize()
    assert worst(model, path, samples(model)) > (30 if "8" in weight else 14)
    assert "Gather" not in result.quantized_nodes


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("kind", ["gemm", "matmul"])
def test_tied_weights_of_a_constant_node(
    kind: str, target: str, tmp_path: Path
) -> None:
    model, path = tied(kind), tmp_path / "q.onnx"
    model.graph.node.insert(
        0, node("Constant", [], ["w"], value=model.graph.initializer.pop())
    )
    result = qc.onnx.quantize(
        model,
        path,
        samples(model),
        target=target,
        progress=False,
        strategy="mse",
    )
    assert len(codes(path)) == 1
    assert not result.float_weights
    assert worst(model, path, samples(model)) > 20


def test_an_excluded_table_stays_in_float_and_its_head_with_it(tmp_path: Path) -> None:
    """Codes beside the float table would only make the file larger."""
    model, path = tied("matmul"), tmp_path / "q.onnx"
    with pytest.raises(qc.CalibrationError, match=r"also read in float .'w'"):
        qc.onnx.quantize(
            model, path, samples(model), exclude=["emb"], progress=False, strategy="mse"
        )
    other = numpy_helper.from_array(models.random(ROWS, ROWS), "v")
    model.graph.initializer.append(other)
    model.graph.node.append(node("MatMul", ["y", "v"], ["z"], "last"))
    model.graph.output[0].name = "z"
    for weights in (ROWS * ROWS, 0):
        result = qc.onnx.quantize(
            model,
            path,
            samples(model),
            exclude=["emb"],
            progress=False,
            strategy="mse",
        )
        assert path.stat().st_size <= model.ByteSize() + 1024
        if weights:  # the other weight saves more than the codes take
            assert result.quantized_nodes == {"MatMul": 2}
            assert len(codes(path)) == 2
        else:
            assert result.quantized_nodes == {"MatMul": 1}
            reason = "with a weight that is also read in float ('w')"
            assert result.left_in_float == {reason: 1}
            assert codes(path) == ["w"]
        assert worst(model, path, samples(model)) > 15
        small = numpy_helper.from_array(models.random(ROWS, 8), "v")
        model.graph.initializer[-1].CopyFrom(small)
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8


def half_excluded() -> onnx.ModelProto:
    """A head in float that shares the table of "emb", and a product with codes."""
    model = tied("matmul")
    model.graph.initializer.append(numpy_helper.from_array(models.random(ROWS, 8), "v"))
    model.graph.node.append(node("MatMul", ["y", "v"], ["z"], "last"))
    model.graph.output[0].CopyFrom(models.value("z", ["b", 8]))
    return model


@pytest.mark.parametrize(
    "rules",
    [
        {"weight_formats": {"t": "uint8"}},
        {"weight_formats": {"node:head": "uint8"}},
        {"activation_formats": {"e": "int8"}},
        {"activation_formats": {"node:hea*": "int8"}},
        {"strategy": {"e": "minmax", "*": "mse"}},
        {"strategy": {"node:head": "minmax", "*": "mse"}},
        {"strategy": {"node:head": "minmax", "node:last": "mse"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [False, True])
def test_a_rule_for_a_node_left_in_float_by_size_is_accepted(
    before: bool, rules: dict[str, Any], tmp_path: Path
) -> None:
    """The result is the same as without the rule, and reports why the node is in float."""
    model, found = half_excluded(), dict[str, bytes]()
    cal = qc.onnx.observe(model, samples(model), exclude=["emb"])
    cases: dict[str, dict[str, Any]] = {
        "plain": {"strategy": "mse"},
        "ruled": {"strategy": "mse", **rules},
    }
    for name, how in cases.items():
        path = tmp_path / name
        result = qc.onnx.quantize(
            model,
            path,
            None if before else samples(model),
            calibrator=cal if before else None,
            exclude=["emb"],
            progress=False,
            **how,
        )
        reason = "with a weight that is also read in float ('w')"
        assert result.left_in_float == {reason: 1}
        found[name] = path.read_bytes()
    assert found["plain"] == found["ruled"]


def test_a_rule_for_a_node_left_in_float_by_size_applies_to_no_other(
    tmp_path: Path,
) -> None:
    model, path = half_excluded(), tmp_path / "q.onnx"

    def refused(**rules: Any) -> str:
        with pytest.raises(qc.CalibrationError) as caught:
            qc.onnx.quantize(
                model, path, samples(model), exclude=["emb"], progress=False, **rules
            )
        return str(caught.value)

    alone = refused(strategy={"node:head": "minmax"})
    assert "the rules match stay in float: node:head. Add a rule" in alone
    assert 'Tensor "q"' in refused(strategy={"e": "minmax", "q": "mse", "*": "mse"})
    for option in ("activation_formats", "weight_formats"):
        assert "'emb' matches no" in refused(**{option: {"emb": "int8"}})
    assert "'node:emb' matches no" in refused(strategy={"node:emb": "mse", "*": "mse"})


def branches(count: int, weight: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A chain of If whose branches all multiply by one matrix of the main graph."""

    def branch(name: str, before: str, factor: int) -> onnx.GraphProto:
        options = {"transB": 1} if factor else {}
        inner = node("Gemm", [before, "w"], [name], f"{name}_gemm", **options)
        return helper.make_graph([inner], name, [], [models.value(name, None)])

    nodes, before = [], "x"
    for k in range(count):
        after = f"h{k}" if k < count - 1 else "y"
        first, second = (branch(f"{s}{k}", before, s == "b") for s in "ab")
        nodes.append(
            node("If", ["c"], [after], after, then_branch=first, else_branch=second)
        )
        before = after
    width = len(weight)
    inputs = [models.value("x", ["n", width]), models.value("c", [], TensorProto.BOOL)]
    return models.build(nodes, inputs, [models.value("y", ["n", width])], {"w": weight})


def test_branches_share_codes_that_lie_outside(tmp_path: Path) -> None:
    model, path = branches(3, models.random(WIDTH, WIDTH) / 16), tmp_path / "q.onnx"
    feeds = samples(model)
    feeds += [{**feed, "c": np.array(False)} for feed in feeds]
    result = qc.onnx.quantize(
        model, path, feeds, cpu="vnni", progress=False, strategy="mse"
    )
    assert result.quantized_nodes == {"Gemm": 6}
    assert codes(path) == ["w_quantized"]
    assert path.stat().st_size < 0.35 * model.ByteSize()
    assert worst(model, path, feeds) > 25


@pytest.mark.parametrize("activation", ["uint16", "int16"])
def test_codes_lie_in_each_branch_where_no_kernel_reads_the_other_input(
    tmp_path: Path, activation: str
) -> None:
    model, path = branches(1, models.random(WIDTH, WIDTH) / 16), tmp_path / "q.onnx"
    feeds = samples(model)
    feeds += [{**feed, "c": np.array(False)} for feed in feeds]
    qc.onnx.quantize(
        model, path, feeds, activation_type=activation, progress=False, strategy="mse"
    )
    assert len(codes(path)) == 2
    assert worst(model, path, feeds) > 35


def test_branches_whose_codes_cannot_lie_outside_stay_within_the_bytes(
    tmp_path: Path,
) -> None:
    """Without rounded inputs onnxruntime needs codes in the graph that reads them."""
    model, path = branches(1, models.random(WIDTH, WIDTH) / 16), tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, activation_type="none", progress=False)
    assert len(codes(path)) == 2
    assert worst(model, path, samples(model)) > 35
    model = branches(3, models.random(WIDTH, WIDTH) / 16)
    with pytest.raises(qc.CalibrationError, match=r"read in several forms .'w'"):
        qc.onnx.quantize(model, path, activation_type="none", progress=False)


def test_a_node_that_stays_in_float_reads_the_one_float_copy(tmp_path: Path) -> None:
    """The branch that no sample takes reads the output of an earlier Transpose."""
    inner = [
        node("Relu", ["x"], ["r"], "relu"),
        node("MatMul", ["r", "t"], ["a"], "never"),
    ]
    other = [node("MatMul", ["x", "v"], ["b"], "often")]
    then, alternative = (
        helper.make_graph(nodes, name, [], [models.value(name, None)])
        for nodes, name in ((inner, "a"), (other, "b"))
    )
    nodes = [
        node("Transpose", ["w"], ["t"], "turn", perm=[1, 0]),
        node("If", ["c"], ["h"], "if", then_branch=then, else_branch=alternative),
        node("Einsum", ["h", "w"], ["y"], "einsum", equation="bi,ij->bj"),
    ]
    inputs = [models.value("x", ["n", WIDTH]), models.value("c", [], TensorProto.BOOL)]
    weights = {"w": table(), "v": models.random(WIDTH, ROWS)}
    y = models.value("y", ["n", WIDTH])
    model, path = models.build(nodes, inputs, [y], weights), tmp_path / "q.onnx"
    feeds = [{**feed, "c": np.array(False)} for feed in samples(model)]
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 1}
    assert sorted(codes(path)) == ["v_quantized", "w"]
    assert worst(model, path, feeds) > 30
    (feed, *_) = samples(model)  # that branch stays in float
    for exact in (True, False):
        found = models.session(str(path), exact=exact).run(None, feed)
        want = models.session(model, exact=exact).run(None, feed)
        np.testing.assert_array_equal(found[0], want[0])


def test_all_readers_take_7_bits_if_one_needs_them(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "one"),
        node("MatMul", ["h", "w"], ["y"], "two"),
    ]
    x, y = models.value("x", ["n", WIDTH]), models.value("y", ["n", WIDTH])
    weights = {"w": models.random(WIDTH, WIDTH)}
    model, path = models.build(nodes, [x], [y], weights), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        samples(model),
        reduce_range=["two"],
        progress=False,
        strategy="mse",
    )
    assert result.weight_formats == {"int7": 1}
    assert codes(path) == ["w_quantized"]


def test_a_weight_with_a_folded_batch_norm_is_no_longer_tied(
    tmp_path: Path,
) -> None:
    """Folding changes the kernel of one Conv, but not the weight that it shared."""
    norm = {
        name: np.abs(models.random(4, seed=k)) + 0.5 for k, name in enumerate("gsmv")
    }
    nodes = [
        node("Identity", ["w"], ["k"], "same"),
        node("Conv", ["x", "k"], ["c"], "conv"),
        node("BatchNormalization", ["c", *norm], ["n"], "norm"),
        node("Conv", ["n", "w"], ["y"], "plain"),
    ]
    shape = ["b", 4, "h", "w"]
    weights = {"w": models.random(4, 4, 1, 1), **norm}
    model = models.build(
        nodes, [models.value("x", shape)], [models.value("y", shape)], weights
    )
    feeds = [{"x": models.random(1, 4, 6, 7, seed=k)} for k in range(3)]
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, feeds, cpu="vnni", progress=False, strategy="mse")
    assert worst(model, path, feeds) > 28


def test_a_large_bias_fits_at_the_scale_of_each_tied_weight(tmp_path: Path) -> None:
    """Both weights are tiny compared with the bias, so both scales must grow."""
    model = alphas()
    (weight, bias) = (numpy_helper.to_array(t) for t in model.graph.initializer)
    for tensor, array in zip(
        model.graph.initializer, (1e-9 * weight, 1e3 * bias), strict=True
    ):
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    model.graph.node[0].attribute[0].f, model.graph.node[1].attribute[0].f = 2.0, 0.01
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, samples(model), strategy="minmax", progress=False)
    assert len(codes(path)) == 1
    assert worst(model, path, samples(model)) > 40


@pytest.mark.parametrize("weight", ["int8", "int4"])
def test_codes_lie_in_each_branch_that_reads_them(weight: str, tmp_path: Path) -> None:
    model, path = branches(1, models.random(WIDTH, WIDTH) / 16), tmp_path / "q.onnx"
    model.graph.node[0].output[0] = "h"
    second = onnx.NodeProto()
    second.CopyFrom(model.graph.node[0])
    second.name, second.output[0] = "again", "y"  # an If of the same branches
    for attribute in second.attribute:
        (inner,) = attribute.g.node
        inner.name, inner.input[0] = f"{inner.name}_again", "h"
    model.graph.node.append(second)
    options: dict[str, Any] = {"activation_type": "none", "weight_type": weight}
    qc.onnx.quantize(model, path, progress=False, **options)
    assert path.stat().st_size < model.ByteSize() + 4096
    assert len(codes(path)) == 4
    assert worst(model, path, samples(model)) > 12


def test_blocks_of_4_bits_along_different_axes_are_stored_apart(tmp_path: Path) -> None:
    turn = node("Transpose", ["w"], ["t"], "turn", perm=[1, 0])
    nodes = [
        turn,
        node("Gather", ["t", "i"], ["e"], "emb"),
        node("MatMul", ["x", "w"], ["h"], "one"),
        node("MatMul", ["h", "t"], ["y"], "two"),
    ]
    inputs = [ids(), models.value("x", ["n", WIDTH])]
    shape = ["n", WIDTH]
    outputs = [models.value("e", ["b", WIDTH]), models.value("y", shape)]
    weights = {"w": models.random(WIDTH, WIDTH)}
    model, path = models.build(nodes, inputs, outputs, weights), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, activation_type="none", weight_type="int4", progress=False
    )
    assert result.weight_formats == {"int4": 2, "int8": 1}
    assert worst(model, path, samples(model)) > 14


def test_a_negative_alpha_takes_separate_codes(tmp_path: Path) -> None:
    model, path = alphas(), tmp_path / "q.onnx"
    model.graph.node[0].attribute[0].f = -0.3
    result = qc.onnx.quantize(
        model, path, samples(model), cpu="vnni", progress=False, strategy="mse"
    )
    assert result.weight_formats == {"int8": 2}
    assert worst(model, path, samples(model)) > 32
    square = models.value("y", ["n", WIDTH])
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "one", alpha=-2.0),
        node("Einsum", ["h", "w"], ["y"], "einsum", equation="bi,ij->bj"),
    ]
    weights = {"w": models.random(WIDTH, WIDTH)}
    only = models.build(nodes, [models.value("x", ["n", WIDTH])], [square], weights)
    with pytest.raises(qc.CalibrationError, match=r"also read in float .'w'"):
        qc.onnx.quantize(only, path, samples(only), progress=False, strategy="mse")
