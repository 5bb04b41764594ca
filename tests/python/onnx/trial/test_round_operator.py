"""The operators Round and RoundInPlace have the bits of onnxruntime's Q/DQ pairs."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnx_models as models
from quantcal.onnx._observe.in_graph import DOMAIN, load_operator

Array = np.ndarray[Any, Any]

# Integer format → its code in ONNX, lowest and highest code.
FORMATS = {
    "uint8": (TensorProto.UINT8, 0, 255),
    "int8": (TensorProto.INT8, -128, 127),
    "uint16": (TensorProto.UINT16, 0, 65535),
    "int16": (TensorProto.INT16, -32768, 32767),
    "uint4": (TensorProto.UINT4, 0, 15),
    "int4": (TensorProto.INT4, -8, 7),
}
KINDS = ("Round", "RoundInPlace")
OFF = (0.0, 0.0, 0.0, 0.0)
INT8 = (0.25, 3.0, -128.0, 127.0)


def session(
    model: onnx.ModelProto, *, threads: int = 2, flush: bool = False
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # no messages about what the tests refuse
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    options.add_session_config_entry("session.set_denormal_as_zero", str(int(flush)))
    load_operator(options)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def build(
    nodes: list[onnx.NodeProto], outputs: list[Any], weights: Any = None
) -> onnx.ModelProto:
    inputs = [models.value("x", None), models.value("grids", ["rows", 4])]
    graph = helper.make_graph(nodes, "rounding", inputs, outputs, weights)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def rounding(kind: str, source: str, to: str, position: int = 0) -> onnx.NodeProto:
    return helper.make_node(
        kind, [source, "grids"], [to], domain=DOMAIN, position=position
    )


def chain(*roundings: onnx.NodeProto) -> onnx.ModelProto:
    """Neg, the nodes, Neg: so no rounding is at an end of the graph."""
    last = roundings[-1].output[0]
    nodes = [helper.make_node("Neg", ["x"], ["n"]), *roundings]
    nodes.append(helper.make_node("Neg", [last], ["y"]))
    return build(nodes, [models.value("y", None)])


@functools.cache
def rounder(kind: str, threads: int = 2, flush: bool = False) -> ort.InferenceSession:
    """Return a session of one node, which also takes ``scale`` from its row."""
    return session(chain(rounding(kind, "n", "r")), threads=threads, flush=flush)


@functools.cache
def pair(form: str, zero_point: int, flush: bool = False) -> ort.InferenceSession:
    """Return a session with a QuantizeLinear/DequantizeLinear pair at the same place."""
    zero = helper.make_tensor("zero", FORMATS[form][0], [], [zero_point])
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("QuantizeLinear", ["n", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
        helper.make_node("Neg", ["r"], ["y"]),
    ]
    model = build(nodes, [models.value("y", None)], [zero])
    model.graph.input[1].CopyFrom(models.value("scale", []))
    return session(model, flush=flush)


def rows(*grids: tuple[float, ...]) -> Array:
    return np.array(grids, np.float32).reshape(len(grids), -1)


def run(opened: ort.InferenceSession, x: Array, grids: Array) -> Array:
    y: Array = opened.run(None, {"x": x, "grids": grids})[0]
    return y


def assert_bits(got: Array, want: Array) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def assert_equals_pair(
    x: Array, scale: float, zero_point: int, form: str, **config: Any
) -> None:
    _, low, high = FORMATS[form]
    flush = config.get("flush", False)
    feed = {"x": x, "scale": np.array(scale, np.float32)}
    want = pair(form, zero_point, flush).run(None, feed)[0]
    for kind in KINDS:
        given = x.copy()
        got = run(rounder(kind, **config), given, rows((scale, zero_point, low, high)))
        assert_bits(got, want)
        assert_bits(given, x)


SCALES = st.floats(
    width=32, min_value=0, exclude_min=True, allow_infinity=False
) | st.sampled_from([1.0, 0.5, 0.1, 2.0**-149, 2.0**-126])


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60, deadline=None)
@given(
    any_values=st.lists(st.floats(width=32), max_size=40),
    ties=st.lists(st.integers(-70_000, 70_000), max_size=40),
    scale=SCALES,
    place=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_any_values_have_the_bits_of_the_pair(
    form: str, any_values: list[float], ties: list[int], scale: float, place: float
) -> None:
    _, low, high = FORMATS[form]
    with np.errstate(all="ignore"):
        halves = np.array(ties, np.float32) / 2 * np.float32(scale)
    x = np.concatenate([np.array(any_values, np.float32), halves])
    assert_equals_pair(x, scale, low + int(place * (high - low)), form)


def special_values(scale: float) -> Array:
    """Return NaNs, infinities, both zeros, subnormals, and values around ties."""
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0xFF800001], np.uint32)
    ends = [np.inf, -np.inf, 3.4e38, -3.4e38, 0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39]
    with np.errstate(all="ignore"):
        halves = np.arange(-600, 600, dtype=np.float32) / 2 * np.float32(scale)
        near = [np.nextafter(halves, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate(
        [bits.view(np.float32), np.array(ends, np.float32), halves, *near]
    )


@pytest.mark.parametrize("flush", [False, True], ids=["denormals", "flushed"])
@pytest.mark.parametrize("form", FORMATS)
def test_special_values_have_the_bits_of_the_pair(form: str, flush: bool) -> None:
    _, low, high = FORMATS[form]
    for scale in (1.0, 0.1, 0.5, 3e-39, 1e-45, 1e30, 3.4e38):
        for zero_point in (low, (low + high) // 2, high):
            x = special_values(scale)
            assert_equals_pair(x, scale, zero_point, form, flush=flush)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "shape",
    [(), (0, 3), (1,), (7, 1, 5), (32_767,), (65_535,), (65_537,), (3, 101, 1009)],
    ids=str,
)
def test_shapes_beyond_one_thread_have_the_bits_of_the_pair(
    shape: tuple[int, ...], threads: int
) -> None:
    x = np.asarray(models.random(*shape), np.float32)
    assert_equals_pair(x, 0.01, -5, "int8", threads=threads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_a_node_that_is_off_passes_every_bit_on(kind: str, size: int) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, size, np.uint32)
    x = bits.view(np.float32)
    for off in (OFF, (-0.0, np.nan, 9.5, -1.0)):
        assert_bits(run(rounder(kind), x, rows(off)), x)


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_have_their_own_rows_and_the_grids_change_between_runs(kind: str) -> None:
    opened = session(chain(rounding(kind, "n", "a", 2), rounding(kind, "a", "r", 0)))
    x = models.random(40_000)
    fine, coarse = INT8, (0.5, -1.0, -8.0, 7.0)

    def expected(*forms: tuple[float, ...]) -> Array:
        y = x
        for form in forms:
            y = run(rounder("Round"), y, rows(form))
        return y

    for second, first in [(coarse, fine), (fine, coarse), (OFF, fine), (OFF, OFF)]:
        y = run(opened, x, rows(second, (7.0, 0.0, 0.0, 1.0), first))
        assert_bits(y, expected(first, second))
    y = run(opened, x[:3], rows(OFF, OFF, coarse))  # another shape in the same session
    assert_bits(y, run(rounder("Round"), x[:3], rows(coarse)))


def test_only_the_kind_in_place_writes_over_its_input() -> None:
    x = models.random(1000)
    for kind in KINDS:
        nodes = [
            helper.make_node("Neg", ["x"], ["n"]),
            rounding(kind, "n", "r"),
            helper.make_node("Sub", ["n", "r"], ["y"]),  # reads what it must not
        ]
        y = run(session(build(nodes, [models.value("y", None)])), x, rows(INT8))
        assert (y == 0).all() == (kind == "RoundInPlace")


@pytest.mark.parametrize("kind", KINDS)
def test_a_rounding_between_input_and_output_of_the_graph_keeps_the_input(
    kind: str,
) -> None:
    opened = session(build([rounding(kind, "x", "y")], [models.value("y", None)]))
    x = models.random(70_000)
    codes = np.clip(np.rint(x / np.float32(0.25)) + 3, -128, 127)
    for grid, want in [(INT8, (codes - 3) * np.float32(0.25)), (OFF, x)]:
        given = x.copy()
        assert_bits(run(opened, given, rows(grid)), want)
        assert_bits(given, x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_in_a_branch_rounds(kind: str) -> None:
    def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        last = models.value(nodes[-1].output[0], None)
        return helper.make_graph(list(nodes), nodes[-1].output[0], [], [last])

    inner = branch(
        helper.make_node("Neg", ["x"], ["n"]),
        rounding(kind, "n", "r", 1),
        helper.make_node("Neg", ["r"], ["then"]),
    )
    other = branch(helper.make_node("Abs", ["x"], ["else"]))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["y"], then_branch=inner, else_branch=other),
    ]
    opened = session(build(nodes, [models.value("y", None)]))
    x = np.abs(models.random(50_000))
    for grid in (INT8, OFF):
        y = run(opened, x, rows((9.0, 0.0, 0.0, 1.0), grid))
        assert_bits(y, run(rounder("Round"), x, rows(grid)))
    assert (run(opened, 0 * x, rows(INT8)) == 0).all()  # the branch without it


@pytest.mark.parametrize("kind", KINDS)
def test_runs_at_the_same_time_have_their_own_grids(kind: str) -> None:
    x = models.random(100_000)
    grids = [rows((scale, 0.0, -128.0, 127.0)) for scale in (0.01, 0.02, 0.03, 0.05)]
    want = [run(rounder("Round"), x, grid) for grid in grids]
    got: list[list[Array]] = [[] for _ in grids]

    def work(index: int) -> None:
        for _ in range(8):
            got[index].append(run(rounder(kind), x, grids[index]))

    runners = [threading.Thread(target=work, args=(i,)) for i in range(len(grids))]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    for expected, all_runs in zip(want, got, strict=True):
        assert len(all_runs) == 8
        for y in all_runs:
            assert_bits(y, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("grids", "words"),
    [
        (rows(INT8), "its position is 1, but grids has 1 rows"),
        (np.zeros((0, 4), np.float32), "its position is 1, but grids has 0 rows"),
        (np.zeros((2, 5), np.float32), r"grids has the shape \[2, 5\]; it needs a row"),
        (np.zeros((4, 2), np.float32), r"grids has the shape \[4, 2\]; it needs a row"),
        (np.zeros(8, np.float32), r"grids has the shape \[8\]; it needs a row"),
        (np.zeros((1, 2, 4), np.float32), r"grids has the shape \[1, 2, 4\]"),
        (rows(OFF, (-1.0, 0.0, 0.0, 1.0)), "row 1 of grids is .* scale must be posit"),
        (rows(OFF, (np.nan, 0.0, 0.0, 1.0)), "row 1 of grids is .* scale must be posi"),
        (rows(OFF, (1.0, 0.5, 0.0, 1.0)), "row 1 of grids is .* whole numbers"),
        (rows(OFF, (1.0, 2.0, 0.0, 1.0)), "zero point must lie between"),
        (rows(OFF, (1.0, 0.0, 0.0, 2.0**24)), "codes must be within 4194304"),
    ],
)
def test_grids_that_do_not_fit_are_refused_by_name(
    kind: str, grids: Array, words: str
) -> None:
    model = chain(rounding(kind, "n", "r", 1))
    model.graph.input[1].CopyFrom(models.value("grids", None))
    opened = session(model)
    with pytest.raises(Exception, match=f'Tensor "r": .*{words}'):
        run(opened, models.random(5), grids)
    x = models.random(5)  # the session still works
    assert_bits(run(opened, x, rows(OFF, OFF)), x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_does_not_fit_is_refused_when_opened(kind: str) -> None:
    with pytest.raises(Exception, match=f'{kind}: tensor "r": the position is -1'):
        session(chain(rounding(kind, "n", "r", -1)))
    for index, name in enumerate(["n", "grids"]):
        model = chain(rounding(kind, "n", "r"))
        model.graph.input[index].type.tensor_type.elem_type = TensorProto.DOUBLE
        with pytest.raises(Exception, match=rf"'tensor\(double\)'.*\({name}\).*{kind}"):
            session(model)
