"""A model is loaded in a child process first, so that an abort becomes an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from cli_runs import run
from quantcal.onnx._runtime import child_process
from quantcal.onnx._runtime.child_process import Answer, ask_child, shared_child

FEEDS = [{"x": models.random(4, 16, seed=seed)} for seed in range(3)]
CPU = ["CPUExecutionProvider"]


def aborting() -> onnx.ModelProto:
    """A function called Gather with one input. onnxruntime 1.32 reads its second one."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Gather", ["h"], ["t"], "own", domain="mine"),
        helper.make_node("MatMul", ["t", "v"], ["y"], "last"),
    ]
    x, y = models.value("x", [4, 16]), models.value("y", [4, 4])
    weights = {"w": models.random(16, 8), "v": models.random(8, 4)}
    arrays = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], arrays)
    standard = helper.make_opsetid("", 17)
    body = [helper.make_node("Abs", ["a"], ["o"])]
    own = helper.make_function("mine", "Gather", ["a"], ["o"], body, [standard])
    imports = [standard, helper.make_opsetid("mine", 1)]
    return helper.make_model(
        graph, opset_imports=imports, functions=[own], ir_version=8
    )


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A model that aborts any process which loads it."""
    path = tmp_path / "bad.onnx"
    onnx.save(aborting(), path)
    code = (
        "import resource, sys, onnxruntime as ort\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode >= 0:
        pytest.skip("this onnxruntime does not abort on the model")
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the processes that are started."""
    made: list[Any] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return made


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer | None]:
    """Collect the answers of the child."""
    found: list[Answer | None] = []
    ask = child_process._Child.ask

    def noting(self: Any, request: bytes) -> Answer | None:
        found.append(ask(self, request))
        return found[-1]

    monkeypatch.setattr(child_process._Child, "ask", noting)
    return found


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Replace the script of the child by one that runs this code for each request."""

    def become(text: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(
            "import json, os, pickle, signal, sys, time\n"
            "def tell(stage):\n"
            "    os.write(1, (json.dumps([stage, '']) + '\\n').encode())\n"
            "tell('started')\n"
            "while True:\n"
            "    request = pickle.load(sys.stdin.buffer)\n"
            f"    {text}\n"
            "    tell('done')\n"
        )
        monkeypatch.setattr(child_process, "_SCRIPT", script)

    return become


def calls(model: Path, output: Path) -> dict[str, Callable[[], object]]:
    """Functions that load a model unchanged."""
    return {
        "quantize": lambda: qc.onnx.quantize(
            model, output, FEEDS, progress=False, strategy="mse"
        ),
        "observe": lambda: qc.onnx.observe(model, FEEDS),
        "evaluate": lambda: qc.onnx.evaluate(model, model, FEEDS),
        "evaluate bytes": lambda: qc.onnx.evaluate(aborting(), aborting(), FEEDS),
    }


@pytest.mark.usefixtures("in_child")
@pytest.mark.parametrize("name", calls(Path(), Path()))
def test_an_abort_is_an_error_and_leaves_no_files(
    name: str,
    bad: Path,
    started: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    label = "the model" if "bytes" in name else "bad.onnx"
    with pytest.raises(
        qc.CalibrationError,
        match=rf"by SIGABRT \(.*\) while loading .*{label}\. It was",
    ):
        calls(bad, folder / "q.onnx")[name]()
    assert list(folder.iterdir()) == []
    assert started
    assert all(process.returncode is not None for process in started)


def test_commands_report_the_error(bad: Path, tmp_path: Path) -> None:
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    data = work / "samples"
    for folder in (work, data, temporary):
        folder.mkdir()
    np.savez(data / "0.npz", **FEEDS[0])
    commands = [
        ["quantize", bad, "-o", "q.onnx", "--samples", data],
        ["observe", bad, "-o", "s.qcal", "--samples", data],
        ["evaluate", bad, bad, "--samples", data],
    ]
    for command in commands:
        error = run(*command, cwd=work, TMPDIR=str(temporary)).error_text()
        assert "by SIGABRT" in error
        assert f"while loading {bad}. " in error
        assert list(work.rglob("*")) == [data, data / "0.npz"]
        assert not list(temporary.glob("quantcal-*"))  # onnxruntime leaves a file


@pytest.mark.usefixtures("in_child")
def test_a_calibrator_keeps_its_state(bad: Path) -> None:
    calibrator = qc.Calibrator()
    calibrator.observe("x", np.ones(3, np.float32))
    before = calibrator.to_bytes()
    with pytest.raises(qc.CalibrationError, match="SIGABRT"):
        qc.onnx.observe(bad, FEEDS, calibrator=calibrator)
    assert calibrator.to_bytes() == before


@pytest.mark.usefixtures("in_child")
def test_a_source_that_aborts_on_random_inputs_is_not_compared(
    bad: Path, answers: list[Answer | None], tmp_path: Path
) -> None:
    """The same holds for a model that fails on them: there is no other data."""
    done = qc.onnx.quantize(
        bad, tmp_path / "q.onnx", activation_type="none", progress=False
    )
    assert done.quantized_nodes == {"MatMul": 2}
    stages = [answer and answer.stage for answer in answers]
    assert stages == ["done", "loading", "done"]


@pytest.mark.usefixtures("in_child")
def test_a_model_that_is_never_loaded_is_not_refused(bad: Path) -> None:
    """With all tensors, functions are inlined before the model is loaded."""
    assert "t" in qc.onnx.observe(bad, FEEDS, tensors="all")


@pytest.mark.usefixtures("in_child")
def test_a_good_model_is_loaded_by_one_child_and_gives_the_same(
    started: list[Any],
    answers: list[Answer | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models.conv_net()
    feeds = [{"x": models.random(1, 3, 9, 12, seed=seed)} for seed in range(3)]

    def results(path: Path) -> list[object]:
        done = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
        seen = qc.onnx.observe(model, feeds)
        found = qc.onnx.evaluate(model, path, feeds)
        return [path.read_bytes(), done.table, seen.to_bytes(), found]

    with_child = results(tmp_path / "q.onnx")
    assert len(started) == 3
    # quantize: the source, the observed model and the copy. observe: the first two of them.
    # evaluate: three sessions.
    assert answers == [Answer("done", "")] * (3 + 2 + 3)
    monkeypatch.setattr(child_process, "_python", lambda: None)
    assert results(tmp_path / "q.onnx") == with_child
    assert len(started) == 3


@pytest.mark.usefixtures("in_child")
@pytest.mark.parametrize("form", ["one file", "external"])
def test_weights_are_read_from_their_files(
    form: str, answers: list[Answer | None], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = models.value("x", ["n", 16]), models.value("y", ["n", 64])
    model = models.build([node], [x], [y], {"w": models.random(16, 64)})
    onnx.save_model(model, path, save_as_external_data=form == "external")
    qc.onnx.observe(path, FEEDS)
    qc.onnx.evaluate(path, path, FEEDS)
    assert answers == [Answer("done", "")] * (2 + 3)


@pytest.mark.usefixtures("in_child")
def test_errors_of_onnxruntime_come_from_this_process(tmp_path: Path) -> None:
    model = models.conv_net()
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(
        qc.CalibrationError,
        match=r"^onnxruntime cannot load .*m\.onnx: .*NoSuchOperator",
    ):
        qc.onnx.evaluate(tmp_path / "m.onnx", tmp_path / "m.onnx", FEEDS)


@pytest.mark.usefixtures("in_child")
def test_the_other_observer_is_used_when_the_observed_model_aborts(
    pretend: Callable[[str], None],
) -> None:
    model, feeds = models.conv_net(), [{"x": models.random(1, 3, 9, 12)}]
    want = qc.onnx.observe(model, feeds)
    pretend("request['taps'] and os.abort()")
    with pytest.warns(UserWarning, match="as outputs of the model.*SIGABRT") as caught:
        got = qc.onnx.observe(model, feeds)
    assert caught[0].filename == __file__
    assert got.to_bytes() == want.to_bytes()
    with pytest.raises(qc.CalibrationError, match="SIGABRT"):
        qc.onnx.observe(model, feeds, observer="in_graph")


@pytest.mark.usefixtures("in_child")
def test_a_killed_child_is_replaced(started: list[Any], tmp_path: Path) -> None:
    onnx.save(models.conv_net(), tmp_path / "m.onnx")
    with shared_child():
        for _ in range(2):
            assert ask_child(str(tmp_path / "m.onnx"), CPU) == Answer("done", "")
            started[-1].kill()
            started[-1].wait()
    assert len(started) == 2


@pytest.mark.usefixtures("in_child")
def test_other_threads_and_forked_processes_start_another_child(
    started: list[Any], tmp_path: Path
) -> None:
    onnx.save(models.conv_net(), tmp_path / "m.onnx")
    found = []

    def ask() -> None:
        found.append(ask_child(str(tmp_path / "m.onnx"), CPU))

    with shared_child():
        ask()
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert len(started) == 2
        if hasattr(os, "fork"):
            other = os.fork()
            if other == 0:
                ask()
                os._exit(0 if found[-1] == Answer("done", "") else 1)
            assert os.waitpid(other, 0)[1] == 0
        ask()
    assert found == [Answer("done", "")] * 3
    assert len(started) == 2


@pytest.mark.usefixtures("in_child")
def test_an_interrupt_ends_the_child(
    pretend: Callable[[str], None], started: list[Any]
) -> None:
    pretend(f"os.kill({os.getpid()}, signal.SIGINT); time.sleep(60)")
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        qc.onnx.observe(aborting(), FEEDS)
    assert time.monotonic() - begun < 30
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.usefixtures("in_child")
def test_a_model_that_can_be_read_only_once_is_left_to_this_process(
    tmp_path: Path, answers: list[Answer | None]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert ask_child(str(tmp_path / "pipe"), CPU) is None
    assert answers == []


@pytest.mark.usefixtures("in_child")
def test_an_abort_writes_no_core_dump(bad: Path, tmp_path: Path) -> None:
    """Not even where the system writes it into the working folder."""
    code = (
        "import resource, sys\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "import quantcal.onnx._runtime.child_process as first\n"
        "print(first.ask_child(sys.argv[1], ['CPUExecutionProvider']).message)\n"
    )
    command = [sys.executable, "-c", code, str(bad)]
    folder = tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("by SIGABRT")
    assert list(folder.iterdir()) == []
