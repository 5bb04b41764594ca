"""Tensors without a finite value in any sample have no range: their nodes stay in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from cli_runs import call

LEFT = "never reached by the calibration data"
CAUSES = {
    "empty": f"{LEFT}: always empty",
    "nan": f"{LEFT}: only NaN or infinities",
    "infinite": f"{LEFT}: only NaN or infinities",
}
STAGES = ["main", "inside"]


def stages(where: str) -> onnx.ModelProto:
    """A MatMul, and a second stage on the rows of its output that `keep` selects.

    `times` can turn them into NaN or infinities. The second stage lies in the main graph
    or in a branch.
    """
    second = [
        helper.make_node("Compress", ["h", "keep"], ["rows"], "select", axis=0),
        helper.make_node("Mul", ["rows", "times"], ["rois"], "scale"),
        helper.make_node("MatMul", ["rois", "w2"], ["k"], "mm2"),
        helper.make_node("Relu", ["k"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w3"], ["z"], "mm3"),
    ]
    first = [helper.make_node("MatMul", ["x", "w1"], ["h"], "mm1")]
    if where == "main":
        nodes = [*first, *second]
    else:
        value = models.value("z", ["n", 4])
        other = [helper.make_node("Slice", ["h", "zero", "four", "one"], ["z"], "cut")]
        node = helper.make_node(
            "If",
            ["yes"],
            ["z"],
            "if",
            then_branch=helper.make_graph(second, "then", [], [value]),
            else_branch=helper.make_graph(other, "else", [], [value]),
        )
        nodes = [*first, node]
    data = {
        "w1": models.random(16, 16, seed=1),
        "w2": models.random(16, 8, seed=2),
        "w3": models.random(8, 4, seed=3),
        "yes": np.array(True),
        "zero": np.array([0]),
        "four": np.array([4]),
        "one": np.array([1]),
    }
    inputs = [
        models.value("x", ["b", 16]),
        models.value("keep", ["b"], TensorProto.BOOL),
        models.value("times", []),
    ]
    outputs = [models.value("z", ["n", 4]), models.value("h", ["b", 16])]
    return models.build(nodes, inputs, outputs, data)


def feed(cause: str, seed: int = 0) -> dict[str, Any]:
    times = {"nan": np.nan, "infinite": np.inf}.get(cause, 1.0)
    return {
        "x": models.random(6, 16, seed=seed),
        "keep": np.full(6, cause != "empty"),
        "times": np.array(times, np.float32),
    }


def samples(cause: str) -> list[dict[str, Any]]:
    return [feed(cause, seed) for seed in range(4)]


def expected(where: str, cause: str) -> dict[str, int]:
    return {CAUSES[cause] + (" (inside If)" if where == "inside" else ""): 2}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("where", STAGES)
def test_nodes_without_values_stay_in_float_and_are_counted(
    where: str, cause: str, tmp_path: Path
) -> None:
    model, path = stages(where), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, samples(cause), progress=False, strategy="mse"
    )
    assert result.quantized_nodes == {"MatMul": 1}
    assert result.left_in_float == expected(where, cause)
    assert next(iter(result.left_in_float)) in result.summary()
    # If there are rows later, they are as accurate as the first stage.
    found = models.session(model).run(["z", "h"], feed(""))
    got = models.session(str(path)).run(["z", "h"], feed(""))
    first = models.signal_to_noise(found[1], got[1])
    assert first > 30
    assert models.signal_to_noise(found[0], got[0]) > first - 3
    assert result.stability is not None
    assert {tensor.name for tensor in result.stability} == {"x"}


@pytest.mark.filterwarnings("ignore:.*no finite value:UserWarning")
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("where", STAGES)
def test_earlier_histograms_leave_the_same_nodes_in_float(
    where: str, cause: str, tmp_path: Path
) -> None:
    """Histograms, also of all tensors, and tables, both from files by the command."""
    model, data = stages(where), samples(cause)
    names = ("direct.onnx", "again.onnx", "model.onnx", "stats.qcal", "table.json")
    direct, again, source, stats, table = (tmp_path / name for name in names)
    onnx.save(model, source)
    run = qc.onnx.quantize(
        model, direct, data, progress=False, reduce_range=False, strategy="mse"
    )
    seen = qc.onnx.observe(model, data)
    for known in (seen, qc.onnx.observe(model, data, tensors="all")):
        found = qc.onnx.quantize(model, again, calibrator=known, reduce_range=False)
        assert found.left_in_float == run.left_in_float
        assert again.read_bytes() == direct.read_bytes()
    for ranges in (run.table, seen.compute("mse", format="uint8")):
        written = qc.onnx.write(model, again, ranges, reduce_range=False)
        assert written.left_in_float == run.left_in_float
        assert again.read_bytes() == direct.read_bytes()
    seen.save(stats)
    run.table.save(table)
    for kept, options in ((stats, ["-s", "mse"]), (table, [])):
        done = call(
            *("quantize", source, "-o", again, "--from", kept),
            *("--reduce-range", "no", *options),
        )
        assert done.code == 0, done.err
        assert CAUSES[cause] in done.facts["left in float"]
        assert again.read_bytes() == direct.read_bytes()


def test_values_in_a_single_sample_suffice(tmp_path: Path) -> None:
    """Each half has one sample. One half has no range, so the halves do not agree."""
    result = qc.onnx.quantize(
        stages("main"),
        tmp_path / "q.onnx",
        [feed("empty"), feed("")],
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"MatMul": 3}
    assert result.left_in_float == {}
    assert result.stability is not None
    apart = {tensor.name for tensor in result.stability if tensor.difference == np.inf}
    assert apart == {"rois", "r"}


def test_halves_without_a_finite_value_have_no_range() -> None:
    first, second = qc.Calibrator(), qc.Calibrator()
    first.observe("t", np.array([np.nan, np.inf], np.float32))
    second.observe("t", models.random(50))
    (found,) = qc.check_stability(first, second)
    assert (found.first, found.difference) == (None, np.inf)
    assert found.second is not None


@pytest.mark.filterwarnings("ignore:.*no finite value:UserWarning")
@pytest.mark.parametrize("cause", CAUSES)
def test_an_error_names_the_tensors_when_nothing_is_left(
    cause: str, tmp_path: Path
) -> None:
    model, path = stages("main"), tmp_path / "q.onnx"
    seen = qc.onnx.observe(model, samples(cause), exclude=["mm1"])
    for how in ({"samples": samples(cause)}, {"calibrator": seen}):
        with pytest.raises(
            qc.CalibrationError, match=r"value in any sample: rois, "
        ) as (message):
            qc.onnx.quantize(model, path, exclude=["mm1"], progress=False, **how)
        assert CAUSES[cause] in str(message.value)
    with pytest.raises(qc.CalibrationError, match="value in any sample: rois, "):
        qc.onnx.write(model, path, seen.compute(format="uint8"), exclude=["mm1"])
    assert not path.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"activation_formats": {"rois": "uint16"}},
        {"weight_formats": {"w2": "uint8", "node:mm3": "int4"}},
        {"strategy": {"node:mm2": "minmax", "*": "mse"}},
    ],
    ids=str,
)
def test_rules_for_tensors_without_values_are_accepted(
    options: dict[str, Any], tmp_path: Path
) -> None:
    result = qc.onnx.quantize(
        stages("main"), tmp_path / "q.onnx", samples("empty"), progress=False, **options
    )
    assert result.quantized_nodes == {"MatMul": 1}


def test_tensors_that_overflow_in_every_sample_have_no_range(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "mm"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w"], ["y"], "last"),
    ]
    inputs, outputs = [models.value("x", [2, 4])], [models.value("y", [2, 4])]
    weights = {"w": np.full((4, 4), np.float32(1e29))}
    model = models.build(nodes, inputs, outputs, weights)
    big = [{"x": np.full((2, 4), 1e20, np.float32)}]
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, big, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 1}
    assert result.left_in_float == {CAUSES["infinite"]: 1}
    # A Relu that reads codes needs the first product rounded, too.
    with pytest.raises(qc.CalibrationError, match=r"in any sample: (h, )?r\."):
        qc.onnx.quantize(
            model,
            path,
            big,
            op_types=["MatMul", "Relu"],
            progress=False,
            strategy="mse",
        )


def test_tensorrt_does_not_round_a_shortcut_without_values(tmp_path: Path) -> None:
    model, path = models.residual(gated=True), tmp_path / "q.onnx"
    # Sigmoid gives finite values; the square root of -1 gives none.
    node = model.graph.node[2]
    assert node.op_type == "Sigmoid"
    node.op_type = "Sqrt"
    del model.graph.node[1].input[:]
    model.graph.node[1].input.append("a")
    node.input[0] = "minus"
    model.graph.node.insert(2, helper.make_node("Sub", ["none", "one"], ["minus"]))
    model.graph.node.insert(2, helper.make_node("Sub", ["r", "r"], ["none"]))
    one = onnx.numpy_helper.from_array(np.array(1, np.float32), "one")
    model.graph.initializer.append(one)
    result = qc.onnx.quantize(
        model,
        path,
        [{"x": models.random(1, 4, 5, 5)}],
        target="tensorrt",
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"Conv": 3}
    assert "g_QuantizeLinear_Output" not in {
        name for made in onnx.load(path).graph.node for name in made.output
    }
