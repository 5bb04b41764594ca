"""A written model is loaded and run in a child process before it replaces the output."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._check import trial_run as checking
from quantcal.onnx._check.onnx_checker import check_validity
from quantcal.onnx._check.trial_run import check_written
from quantcal.onnx._graph.inputs import Sample
from quantcal.onnx._runtime import child_process

FEED = {"x": models.random(1, 3, 6, 7)}
SAMPLE = Sample(FEED, "sample 3")
NARROW = Sample({"x": FEED["x"][0]}, "sample 3")

PRETEND = """
import json, os, pathlib, pickle, signal, sys, time
def tell(stage):
    os.write(1, (json.dumps([stage, ""]) + "\\n").encode())
def loads():
    # Answers until the written model comes, with a sample.
    tell("started")
    while pickle.load(sys.stdin.buffer)["sample"] is None:
        tell("done")
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(models.conv_net(), path)
    return path


@pytest.fixture
def never_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when this process loads a model."""

    def fail(*_: Any) -> None:
        pytest.fail("loaded in this process")

    monkeypatch.setattr(checking, "_in_this_process", fail)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Replace the script of the child by one that loads nothing."""

    def become(text: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(PRETEND + text)
        monkeypatch.setattr(child_process, "_SCRIPT", script)

    return become


@pytest.mark.usefixtures("in_child", "never_here")
@pytest.mark.parametrize("sample", [SAMPLE, None], ids=["with a sample", "without"])
def test_a_good_model_is_loaded_and_run_in_a_child(saved: Path, sample: Any) -> None:
    check_written(saved, "the copy", sample)


@pytest.mark.usefixtures("in_child")
def test_errors_read_as_those_of_this_process(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = saved.with_name("bad.onnx")
    bad.write_bytes(b"no model")

    def error_of(path: Path, sample: Sample | None) -> str:
        with pytest.raises(qc.CalibrationError) as caught:
            check_written(path, "the copy", sample)
        return str(caught.value)

    cases: list[tuple[Path, Sample | None]] = [(bad, None), (saved, NARROW)]
    found = [error_of(*case) for case in cases]
    monkeypatch.setattr(child_process, "_python", lambda: None)
    assert found == [error_of(*case) for case in cases]
    assert found[0].startswith("onnxruntime cannot load the copy: ")
    assert found[1].startswith(
        "onnxruntime failed on the copy, sample 3 with shapes {'x': [3, 6, 7]}: "
    )


@pytest.mark.usefixtures("in_child", "never_here")
@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("os.abort()", "SIGABRT while loading"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV while loading"),
        (
            "tell('running'); os.abort()",
            "SIGABRT while running",
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "SIGKILL while loading",
        ),
        ("tell('closing'); os.abort()", "SIGABRT while closing"),
        ("sys.exit(3)", "with exit code 3 while loading"),
    ],
)
def test_an_abort_of_onnxruntime_is_an_error_and_leaves_no_files(
    end: str, outcome: str, dying: Any, tmp_path: Path
) -> None:
    dying(f"loads()\nos.write(2, b'what?\\nwhy.')\n{end}\n")
    by, _, stage = outcome.partition(" while ")
    output = tmp_path / "out" / "q.onnx"
    output.parent.mkdir()
    output.write_bytes(b"what was there")
    with pytest.raises(
        qc.CalibrationError,
        match=rf"{by} .*\(why\) while {stage} the quantized copy of the model\. ",
    ):
        qc.onnx.quantize(
            models.conv_net(), output, [FEED], progress=False, strategy="mse"
        )
    assert [path.name for path in output.parent.iterdir()] == ["q.onnx"]
    assert output.read_bytes() == b"what was there"


@pytest.mark.usefixtures("in_child")
@pytest.mark.parametrize(
    "setting",
    [
        {"executable": ""},
        {"executable": None},
        {"executable": "/usr/sbin/uwsgi"},
        {"executable": "/no/such/python3"},
        {"frozen": True},
    ],
    ids=str,
)
def test_without_a_python_executable_this_process_checks(
    setting: dict[str, Any], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in setting.items():
        monkeypatch.setattr(sys, name, value, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    check_written(saved, "the copy", SAMPLE)
    with pytest.raises(qc.CalibrationError, match="failed on the copy"):
        check_written(saved, "the copy", NARROW)


@pytest.mark.usefixtures("in_child")
def test_without_onnxruntime_in_the_child_this_process_checks(
    saved: Path, dying: Any
) -> None:
    dying("raise ImportError('no onnxruntime here')\n")
    check_written(saved, "the copy", SAMPLE)
    with pytest.raises(qc.CalibrationError, match="failed on the copy"):
        check_written(saved, "the copy", NARROW)


def odd_inputs() -> dict[str, tuple[onnx.ModelProto, dict[str, Any]]]:
    """Models with inputs of special types, and inputs that are not arrays."""

    def one(
        node: onnx.NodeProto, kind: int, made: int | None = None
    ) -> onnx.ModelProto:
        inputs = [models.value("x", ["n"], kind)]
        outputs = [models.value("y", ["n"], made or kind)]
        return models.build([node], inputs, outputs, {}, opset=19, ir=9)

    to_float = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    same = helper.make_node("Identity", ["x"], ["y"])
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    lengths = helper.make_node("SequenceLength", ["x"], ["y"])
    count = models.value("y", [], TensorProto.INT64)
    listed = models.build([lengths], [sequence], [count], {})
    values = np.array([0.5, -2.0], np.float32)
    return {
        "bfloat16": (
            one(to_float, TensorProto.BFLOAT16, TensorProto.FLOAT),
            {"x": values.astype(ml_dtypes.bfloat16)},
        ),
        "float8": (
            one(to_float, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT),
            {"x": values.astype(ml_dtypes.float8_e4m3fn)},
        ),
        "bfloat16 output": (
            one(same, TensorProto.BFLOAT16),
            {"x": values.astype(ml_dtypes.bfloat16)},
        ),
        "text": (one(same, TensorProto.STRING), {"x": np.array(["a", "ü"], object)}),
        "text beside numbers": (
            models.build(
                [
                    helper.make_node("Identity", ["x"], ["y"]),
                    helper.make_node("Abs", ["a"], ["b"]),
                ],
                [
                    models.value("x", ["n"], TensorProto.STRING),
                    models.value("a", ["n"]),
                ],
                [
                    models.value("y", ["n"], TensorProto.STRING),
                    models.value("b", ["n"]),
                ],
                {},
            ),
            {"x": np.array(["a"]), "a": values},
        ),
        "bool": (one(same, TensorProto.BOOL), {"x": values > 0}),
        "not contiguous": (
            one(same, TensorProto.FLOAT),
            {"x": np.ones((4, 2), "f4")[:, 0]},
        ),
        "sequence": (listed, {"x": [values, values]}),
    }


@pytest.mark.usefixtures("in_child", "never_here")
@pytest.mark.parametrize("name", odd_inputs())
def test_every_kind_of_input_reaches_the_child(name: str, tmp_path: Path) -> None:
    model, feed = odd_inputs()[name]
    onnx.save(model, tmp_path / "m.onnx")
    check_written(tmp_path / "m.onnx", "the copy", Sample(feed, "sample 3"))


def test_errors_on_random_inputs_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Any, names: list[str], feed: Any, where: str) -> None:
        raise qc.CalibrationError(f"failed on {where}")

    monkeypatch.setattr(checking, "run", fail)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [models.value("x", [2, 8])], [models.value("y", [2, 8])]
    model = models.build([node], *ends, {"w": models.random(8, 8)})
    with pytest.raises(qc.CalibrationError, match=r"failed on .*, random inputs"):
        qc.onnx.quantize(model, tmp_path / "q.onnx", activation_type="none")


@pytest.mark.usefixtures("in_child")
def test_inputs_that_the_child_cannot_create_are_left_to_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = []
    monkeypatch.setattr(checking, "_in_this_process", lambda *_: here.append(1))
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    inputs = [models.value("x", [2], TensorProto.INT4)]
    outputs = [models.value("y", [2])]
    model = models.build([node], inputs, outputs, {}, opset=21, ir=10)
    onnx.save(model, tmp_path / "m.onnx")
    feed = {"x": np.array([1, -2], ml_dtypes.int4)}
    check_written(tmp_path / "m.onnx", "the copy", Sample(feed, "sample 3"))
    assert here


@pytest.mark.usefixtures("in_child")
def test_the_child_has_the_environment_and_sys_path_of_its_parent(
    saved: Path, dying: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    dying(
        f"pathlib.Path({str(seen)!r}).write_text(os.environ['MINE'] + repr(sys.argv[1:]))\n"
        "loads()\n"
        "tell('done')\n"
    )
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.syspath_prepend("/my/packages")
    check_written(saved, "the copy", SAMPLE)
    assert seen.read_text().startswith("kept['/my/packages'")


def test_the_child_imports_neither_quantcal_nor_onnx(
    saved: Path,
) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import child_script as c\n"
        "request = dict(path=sys.argv[2], providers=['CPUExecutionProvider'], config={})\n"
        "request |= dict(optimize=True, library=None, taps=None, sample=None)\n"
        "assert c.check(request, print) == ('done', '')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('quantcal', 'onnx')])\n"
    )
    folder = str(child_process._SCRIPT.parent)
    command = [sys.executable, "-c", code, folder, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["closing", "[]"]


@pytest.mark.usefixtures("in_child")
def test_an_interrupt_ends_the_child_too(
    saved: Path, dying: Any, tmp_path: Path
) -> None:
    number = tmp_path / "pid"
    dying(
        f"pathlib.Path({str(number)!r}).write_text(str(os.getpid()))\n"
        f"os.kill({os.getpid()}, signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        check_written(saved, "the copy", SAMPLE)
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


@pytest.mark.parametrize("how", ["stdin", "-c"])
def test_scripts_without_a_main_guard_run_once(how: str, saved: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "import quantcal.onnx._check.trial_run as checking\n"
        "checking._in_this_process = None\n"
        f"checking.check_written(pathlib.Path({str(saved)!r}), 'the copy', None)\n"
        "print('once')\n"
    )
    command = [sys.executable, *(["-"] if how == "stdin" else ["-c", code])]
    text = code if how == "stdin" else None
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == "once\n"
    assert not done.stderr


def without_shape() -> onnx.ModelProto:
    model = models.gemm_net(models.random(5))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def contributed() -> onnx.ModelProto:
    """An operator of onnxruntime in ONNX's domain, as onnxruntime's optimizer saves it."""
    model = models.gemm_net(models.random(5))
    scale = onnx.numpy_helper.from_array(models.random(5), "scale")
    model.graph.initializer.append(scale)
    model.graph.node[0].output[0] = "h"
    norm = helper.make_node(
        "SimplifiedLayerNormalization", ["h", "scale"], ["y"], axis=-1
    )
    model.graph.node.append(norm)
    return model


@pytest.mark.parametrize(
    "model", [without_shape(), contributed()], ids=["shape", "contrib"]
)
@pytest.mark.parametrize("weight", ["int8", "int16"])
def test_a_copy_may_have_the_same_checker_error_as_its_source(
    model: onnx.ModelProto, weight: str, tmp_path: Path
) -> None:
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    feeds = [{"x": models.random(3, 8)}]
    done = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        feeds,
        weight_type=weight,
        progress=False,
        strategy="mse",
    )
    assert done.quantized_nodes == {"Gemm": 1}


def test_a_checker_error_of_the_copy_alone_is_an_error() -> None:
    good = models.gemm_net(models.random(5))
    check_validity(good, good, "the copy")
    with pytest.raises(
        qc.CalibrationError, match=r"the copy is not valid: .* Its source is"
    ):
        check_validity(without_shape(), good, "the copy")
    check_validity(without_shape(), without_shape(), "the copy")
