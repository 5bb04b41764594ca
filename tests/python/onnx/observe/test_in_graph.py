"""The operator in the graph changes no output, and both observers record the same."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal import _core
from quantcal.onnx._model.model import load_model, model_inputs
from quantcal.onnx._observe import in_graph
from quantcal.onnx._observe.in_graph import (
    InGraphObserver,
    insert_observers,
    load_operator,
)
from quantcal.onnx._observe.select_tensors import find_tensors
from quantcal.onnx._runtime.session import Workspace


def images(widths: tuple[int, ...] = (8, 5, 16)) -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 6, w, seed=w)} for w in widths]


def assert_changes_nothing(model: Any, feeds: list[dict[str, Any]]) -> qc.Calibrator:
    """Outputs are equal bit for bit, and so are the records of both observers."""
    source = find_tensors(load_model(model), "all")
    inputs = {spec.name for spec in model_inputs(source.loaded.proto)}
    made = [name for name in source.names if name not in inputs]
    with Workspace(source.loaded) as work:
        plain = work.open([value.name for value in work.light.graph.output])
        observer = InGraphObserver(work, made, [qc.Calibrator()])
        for feed in feeds:
            want, got = plain.run(None, feed), observer.session.run(None, feed)
            for a, b in zip(want, got, strict=True):
                assert (a.shape, a.dtype, a.tobytes()) == (
                    b.shape,
                    b.dtype,
                    b.tobytes(),
                )
    cal = qc.onnx.observe(model, feeds, tensors="all", observer="in_graph")
    outer = {n for node in source.loaded.proto.graph.node for n in node.output} | inputs
    names = [name for name in cal.names if name in outer]
    both = [
        qc.onnx.observe(model, feeds, tensors=names, observer=method)
        for method in ("in_graph", "outputs")
    ]
    assert both[0].to_bytes() == both[1].to_bytes()
    assert both[0].names == both[1].names
    return cal


def half_and_double() -> onnx.ModelProto:
    kinds = {"h": TensorProto.FLOAT16, "d": TensorProto.DOUBLE}
    nodes = [helper.make_node("Cast", ["x"], [n], to=kind) for n, kind in kinds.items()]
    nodes += [helper.make_node("Relu", ["x"], ["y"])]
    return models.build(
        nodes, [models.value("x", ["n"])], [models.value("y", ["n"])], {}
    )


@pytest.mark.parametrize(
    ("model", "feeds"),
    [
        (models.conv_net(), images()),
        (models.conv_net(opset=11), images()),
        (models.batch_norm_net(shared=True), images()),
        (half_and_double(), [{"x": models.random(n)} for n in (1, 3, 600_000)]),
    ],
    ids=["conv", "opset 11", "two outputs", "half, double and large"],
)
def test_observers_change_no_output(
    model: onnx.ModelProto, feeds: list[dict[str, Any]]
) -> None:
    assert_changes_nothing(model, feeds)


def test_bfloat16_is_recorded_exactly() -> None:
    import ml_dtypes

    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    x, y = models.value("x", ["n"]), models.value("y", ["n"])
    values = models.random(5000)
    cal = qc.onnx.observe(
        models.build(nodes, [x], [y], {}), [{"x": values}], tensors=["b"]
    )
    want = qc.Calibrator()
    want.observe("b", values.astype(ml_dtypes.bfloat16))
    assert cal == want


def test_both_branches_of_an_if_are_observed_where_they_ran() -> None:
    model, x = models.if_net(outside=True), models.random(4, 6)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    yes = {"x": x, "c": np.array(True)}
    cal = qc.onnx.observe(model, [yes], tensors="all")
    assert sorted(cal.names) == ["a", "h", "x", "y"]
    assert cal["a"].max == pytest.approx(float((x @ weight @ weight).max()), rel=1e-5)
    no = {"x": x, "c": np.array(False)}
    both = qc.onnx.observe(model, [yes, no, no], tensors=["a", "b"])
    assert [both.stats(n).observations for n in ("a", "b")] == [1, 2]
    with pytest.raises(qc.CalibrationError, match="'a' lie inside subgraphs"):
        qc.onnx.observe(model, [yes], tensors=["a"], observer="outputs")
    assert_changes_nothing(model, [yes, no])


def test_each_iteration_of_a_loop_is_an_observation() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Add", ["sum", "x"], ["next"]),
        ],
        "body",
        [
            models.value("i", [], TensorProto.INT64),
            models.value("going", [], TensorProto.BOOL),
            models.value("sum", ["n"]),
        ],
        [models.value("go", [], TensorProto.BOOL), models.value("next", ["n"])],
    )
    model = models.build(
        [helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)],
        [models.value("times", [], TensorProto.INT64), models.value("x", ["n"])],
        [models.value("y", ["n"])],
        {},
    )
    feeds = [{"times": np.array(3), "x": np.array([1, 2], np.float32)}]
    cal = assert_changes_nothing(model, feeds)
    assert (cal["next"].min, cal["next"].max, cal["next"].count) == (2, 8, 6)
    assert (cal["sum"].min, cal["sum"].max) == (1, 6)  # an input of the body
    assert cal.stats("next").observations == 3


def test_each_step_of_a_scan_is_observed() -> None:
    """A cumulative sum along an axis: its state and slices, against numpy."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "slice"], ["next"]),
            helper.make_node("Mul", ["next", "next"], ["square"]),
        ],
        "body",
        [models.value("state", [3]), models.value("slice", [3])],
        [models.value("next", [3]), models.value("square", [3])],
    )
    model = models.build(
        [
            helper.make_node(
                "Scan", ["s", "x"], ["e", "y"], body=body, num_scan_inputs=1
            )
        ],
        [models.value("s", [3]), models.value("x", ["n", 3])],
        [models.value("e", [3]), models.value("y", ["n", 3])],
        {},
    )
    feeds = [{"s": models.random(3), "x": models.random(n, 3, seed=n)} for n in (5, 2)]
    cal = assert_changes_nothing(model, feeds)
    want = qc.Calibrator()
    for feed in feeds:
        state = feed["s"]
        for row in feed["x"]:
            want.observe("state", state)
            want.observe("slice", row)
            state = state + row
            want.observe("next", state)
            want.observe("square", state * state)
    for name in ("state", "slice", "next", "square"):
        assert cal.stats(name) == want.stats(name)
    assert cal.stats("next").observations == 7
    assert cal.stats("x").observations == 2


def test_nodes_that_lead_to_no_output_are_observed_too() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Neg", ["x"], ["dead"]),
    ]
    x, y = models.value("x", ["n"]), models.value("y", ["n"])
    model = models.build(nodes, [x], [y], {})
    cal = assert_changes_nothing(model, [{"x": models.random(9)}])
    assert sorted(cal.names) == ["dead", "x", "y"]


def test_a_tensor_that_is_not_finite_is_refused_by_name_and_changes_nothing() -> None:
    model = models.build(
        [helper.make_node("Log", ["x"], ["l"]), helper.make_node("Neg", ["l"], ["y"])],
        [models.value("x", ["n"])],
        [models.value("y", ["n"])],
        {},
    )
    good, bad = {"x": np.ones(4, np.float32)}, {"x": np.array([1, 0, -1], np.float32)}
    cal = qc.Calibrator(on_nonfinite="raise")
    qc.onnx.observe(model, [good], tensors="all", calibrator=cal)
    before = cal.to_bytes()
    with pytest.raises(
        qc.CalibrationError, match=r'sample 1: Tensor "l": 1 NaN, 0 \+inf'
    ):
        qc.onnx.observe(model, [good, bad], tensors="all", calibrator=cal)
    assert cal.to_bytes() == before


def instrumented(names: list[str]) -> tuple[Any, list[tuple[str, Any]]]:
    """A session of the small network, and the recorders of its tensors."""
    model = models.conv_net()
    stats = [(name, _core.TensorStats()) for name in names]
    taps = _core.Taps(stats)
    insert_observers(model, {n: i for i, n in enumerate(names)}, taps.number)
    return open_session(model), stats


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    load_operator(options)
    return ort.InferenceSession(model.SerializeToString(), options)


def test_sessions_record_separately_and_threads_together() -> None:
    names, feeds = ["c1", "r1", "y"], images((8, 5, 16, 30, 64, 7))
    pairs = [instrumented(names) for _ in range(2)]

    def work(which: int, times: int) -> None:
        for feed in feeds * times:
            pairs[which][0].run(None, feed)

    threads = [
        threading.Thread(target=work, args=args) for args in [(0, 2), (1, 3), (0, 3)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (_, stats), times in zip(pairs, (5, 3), strict=True):
        want = qc.onnx.observe(
            models.conv_net(), feeds * times, tensors=names, observer="outputs"
        )
        assert all(found == want.stats(name) for name, found in stats)


def test_a_node_without_its_recorders_is_refused() -> None:
    model = models.conv_net()
    insert_observers(model, {"c1": 0}, 10**9)
    with pytest.raises(Exception, match="there is no recorder 0 of number 1000000000"):
        open_session(model)


def test_an_error_inside_the_operator_stops_the_run_and_names_the_tensor() -> None:
    """The operator cannot count integers; the session can still run."""
    x, y = (models.value(name, ["n"], TensorProto.INT64) for name in "xy")
    model = models.build([helper.make_node("Neg", ["x"], ["y"])], [x], [y], {})
    stats = _core.TensorStats()
    taps = _core.Taps([("y", stats)])
    insert_observers(model, {"y": 0}, taps.number)
    session = open_session(model)
    for _ in range(2):
        with pytest.raises(Exception, match='Tensor "y": its elements are of kind 7'):
            session.run(None, {"x": np.arange(3)})
    assert stats.observations == 0


def test_the_other_observer_runs_when_the_operator_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, feeds = models.conv_net(), images()
    want = qc.onnx.observe(model, feeds, observer="in_graph")

    def no_library(options: Any) -> None:
        raise qc.CalibrationError("no library here")

    monkeypatch.setattr(in_graph, "load_operator", no_library)
    with pytest.warns(UserWarning, match="as outputs of the model.*no library here"):
        got = qc.onnx.observe(model, feeds)
    assert got.to_bytes() == want.to_bytes()
    with pytest.raises(qc.CalibrationError, match="no library here"):
        qc.onnx.observe(model, feeds, observer="in_graph")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qc.onnx.observe(model, feeds, observer="outputs")
    yes = {"x": models.random(4, 6), "c": np.array(True)}
    with pytest.warns(UserWarning, match="Not observed.*'b', 'a'"):
        qc.onnx.observe(models.if_net(), [yes], tensors="all")


def test_a_model_of_integers_is_refused_with_the_reason() -> None:
    x = models.value("x", ["n"], TensorProto.INT64)
    y = models.value("y", ["n"], TensorProto.INT64)
    model = models.build([helper.make_node("Neg", ["x"], ["y"])], [x], [y], {})
    with pytest.raises(
        qc.CalibrationError, match=r"no tensor to observe.*tensor\(int64\)"
    ):
        qc.onnx.observe(model, [{"x": np.arange(3)}], tensors="all")


def test_an_input_with_a_default_may_be_left_out() -> None:
    model = models.build(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [models.value("x", ["n"]), models.value("k", [1])],
        [models.value("y", ["n"])],
        {"k": np.array([2], np.float32)},
    )
    x = np.array([1, 3], np.float32)
    feeds = [{"x": x}, {"x": x, "k": np.array([10], np.float32)}]
    cal = assert_changes_nothing(model, feeds)
    assert (cal["y"].min, cal["y"].max) == (2, 30)


def test_an_unknown_observer_is_refused() -> None:
    with pytest.raises(qc.CalibrationError, match="Known: auto, in_graph, outputs"):
        qc.onnx.observe(models.conv_net(), images(), observer="magic")  # type: ignore[arg-type]


def rand(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return models.random(*shape, seed=seed)


def voices(rates: bool) -> list[dict[str, Any]]:
    """Batches of frames, with two sampling rates if the network takes both."""
    sizes = [(1, 512, 16000), (3, 512, 16000), *([(2, 256, 8000)] if rates else [])]
    feeds: list[dict[str, Any]] = []
    for batch, length, rate in sizes:
        feeds.append({"input": 0.1 * rand(batch, length), "state": rand(2, batch, 128)})
        if rates:
            feeds[-1]["sr"] = np.array(rate, np.int64)
    return feeds


REAL: dict[str, list[dict[str, Any]]] = {
    "pp-ocr-rec": [{"x": rand(1, 3, 48, w)} for w in (160, 96)],
    "pp-ocr-det": [{"x": rand(1, 3, h, w)} for h, w in ((160, 96), (64, 128))],
    "magika": [
        {"bytes": (np.arange(n * 2048, dtype=np.int32) % 257).reshape(n, 2048)}
        for n in (2, 1)
    ],
    "silero-16k-sequence": [
        {"input": 0.1 * rand(n, 576), "h": rand(1, 1, 128), "c": rand(1, 1, 128)}
        for n in (9, 3)
    ],
    "silero": voices(rates=True),
    "silero-op18-ifless": voices(rates=True),
    "silero-half": voices(rates=False),
}


@pytest.mark.model
@pytest.mark.parametrize("key", REAL)
def test_observers_change_no_output_of_real_networks(key: str) -> None:
    from tests.models import MODELS

    cal = assert_changes_nothing(MODELS[key].fetch(), REAL[key])
    if key.startswith("silero") and key != "silero-16k-sequence":
        outer = {
            name
            for node in onnx.load(MODELS[key].fetch()).graph.node
            for name in node.output
        }
        assert len(set(cal.names) - outer) > 20  # inside If
