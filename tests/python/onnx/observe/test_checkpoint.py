"""Checkpoints of runs that end early: a resumed run gives the same bytes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models as models
import quantcal as qc
from checkpoint_runs import Often, samples, save
from cli_runs import call, run, save_model
from quantcal.cli import checkpoints
from quantcal.onnx._observe import in_graph
from quantcal.onnx._observe.in_graph import InGraphObserver
from quantcal.onnx._options.quantize_options import ObserverName


@pytest.fixture
def heeded() -> Iterator[None]:
    """Handle SIGINT, which is ignored if tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("method", ["in_graph", "outputs"])
@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_a_bad_sample_loses_nothing_and_the_run_can_continue(
    command: str, method: ObserverName, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(5))
    name = "out.qcal" if command == "observe" else "out.onnx"
    output, whole = tmp_path / name, tmp_path / f"whole-{name}"
    how = ["--samples", data, "--observer", method]
    if command == "quantize":  # "auto" tries only the samples of one run
        how += ["--strategy", "mse"]
    assert call(command, model, "-o", whole, *how).code == 0
    np.savez(data / "3.npz", x=models.random(1, 7, 6, 5))
    kept = tmp_path / f"{name}.first-3.qcal"
    message = call(command, model, "-o", output, *how).error_text()
    assert "sample 3" in message
    assert message.endswith(
        f"The histograms of the first 3 samples are kept in {kept}; "
        f"--resume {kept} continues after them."
    )
    assert not output.exists()
    first = qc.onnx.observe(model, samples(3))
    assert qc.load(kept).to_bytes() == first.to_bytes()

    save(tmp_path, samples(5))  # the bad sample is repaired
    done = call(command, model, "-o", output, *how, "--resume", kept)
    assert (done.code, done.err) == (0, "")
    assert done.facts["samples"] == "5"
    assert output.read_bytes() == whole.read_bytes()
    assert kept.exists()  # the user named it, so it stays
    again = call(command, model, "-o", output, *how)
    assert f"warning: {kept} is left from a run that ended early" in again.err
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("halves", [False, True])
def test_a_sample_on_which_the_model_fails_is_not_in_the_checkpoint(
    halves: bool, tmp_path: Path
) -> None:
    """Its first tensors were already counted; the last checkpoint has none of them."""
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "out.onnx", seconds=0),
    )

    with pytest.MonkeyPatch.context() as patch:
        plain = in_graph.run
        calls = iter(range(9))

        def broken(*arguments: Any, **options: Any) -> Any:
            found = plain(*arguments, **options)  # everything was counted
            if next(calls) == 3:
                raise qc.CalibrationError("onnxruntime failed")
            return found

        patch.setattr(in_graph, "run", broken)
        with pytest.raises(
            qc.CalibrationError, match=r"failed\. The histograms of the"
        ):
            qc.onnx.quantize(
                model,
                tmp_path / "out.onnx",
                samples(6),
                checkpoint=keep,
                check_stability=halves,
                strategy="mse",
            )
    assert [file.name for file in keep.found()] == ["out.onnx.first-3.qcal"]
    expected = qc.onnx.observe(model, samples(3))
    assert qc.load(keep.path(3)).to_bytes() == expected.to_bytes()


def test_an_infinity_that_stops_the_run_is_not_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    with pytest.raises(qc.CalibrationError, match="sample 2"):
        qc.onnx.observe(model, samples(4, bad=2), on_nonfinite="raise", checkpoint=keep)
    expected = qc.onnx.observe(model, samples(2), on_nonfinite="raise")
    assert qc.load(keep.path(2)).to_bytes() == expected.to_bytes()


def test_a_checkpoint_stays_until_it_is_removed(tmp_path: Path) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    seen = []

    def watched() -> Iterator[dict[str, Any]]:
        for feed in samples(3):
            seen.append([file.name for file in keep.found()])
            yield feed

    found = qc.onnx.observe(model, watched(), checkpoint=keep)
    assert seen == [[], ["s.qcal.first-1.qcal"], ["s.qcal.first-2.qcal"]]
    assert keep.found() == [keep.path(3)]
    keep.remove()
    assert keep.found() == []
    assert found.to_bytes() == qc.onnx.observe(model, samples(3)).to_bytes()


@pytest.mark.usefixtures("heeded")
def test_an_interruption_waits_for_the_end_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = save_model(tmp_path), qc.onnx.Checkpoint(tmp_path / "s.qcal")
    plain, calls = InGraphObserver.observe, iter(range(9))

    def interrupted(*arguments: Any) -> None:
        if next(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        plain(*arguments)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(InGraphObserver, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt, match="first 2 samples are kept"):
        qc.onnx.observe(model, samples(4), checkpoint=keep)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    monkeypatch.undo()
    expected = qc.onnx.observe(model, samples(2))
    assert qc.load(keep.path(2)).to_bytes() == expected.to_bytes()


@pytest.mark.usefixtures("heeded")
def test_a_second_interruption_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    calls = iter(range(9))
    plain = InGraphObserver.observe

    def interrupted(*arguments: Any) -> None:
        if next(calls) == 1:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.05)  # time for Python to run the handler
        plain(*arguments)

    monkeypatch.setattr(InGraphObserver, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt, match="of the first sample are kept"):
        qc.onnx.observe(model, samples(4), checkpoint=keep)


@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_ctrl_c_on_the_command_line(command: str, tmp_path: Path) -> None:
    model = save_model(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os, signal\n"
        "import numpy as np\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def samples():\n"
        "    for size in range(5, 12):\n"
        "        if size == 8 and 'STOP' in os.environ:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield {'x': np.ones((1, 3, size, size), np.float32)}\n"
    )
    name = "out.qcal" if command == "observe" else "out.onnx"
    arguments = [command, model, "-o", name, "--samples", "python:mine:samples"]
    kept = f"{name}.first-3.qcal"
    done = run(*arguments, cwd=tmp_path, STOP="1")
    assert done.code == 130
    assert done.err == (
        "interrupted. The histograms of the first 3 samples are kept in "
        f"{kept}; --resume {kept} continues after them.\n"
    )
    done = run(*arguments, "--resume", kept, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    resumed = (tmp_path / name).read_bytes()
    (tmp_path / kept).unlink()
    assert run(*arguments, cwd=tmp_path).code == 0
    assert (tmp_path / name).read_bytes() == resumed


def test_a_command_that_is_terminated_while_writing_loses_nothing(
    tmp_path: Path,
) -> None:
    model = save_model(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os, signal, time\n"
        "import numpy as np\n"
        "from quantcal.onnx import quantizer\n"
        "def ended(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "def samples():\n"
        "    for size in range(5, 8):\n"
        "        yield {'x': np.ones((1, 3, size, size), np.float32)}\n"
        "    if 'STOP' in os.environ:\n"
        "        quantizer.write_prepared = ended\n"
    )
    arguments = [
        "quantize",
        model,
        "-o",
        "out.onnx",
        "-s",
        "mse",
        "--samples",
        "python:mine:samples",
    ]
    done = run(*arguments, cwd=tmp_path, STOP="1")
    assert done.code == 130
    kept = "out.onnx.first-3.qcal"
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert run(*arguments[:4], "--from", kept, cwd=tmp_path).code == 0
    again = (tmp_path / "out.onnx").read_bytes()
    assert run(*arguments, cwd=tmp_path).code == 0
    assert (tmp_path / "out.onnx").read_bytes() == again


@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_no_checkpoint_is_left_after_the_output_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    name = "out.qcal" if command == "observe" else "out.onnx"
    written: list[str] = []
    plain = qc.Calibrator.save

    def save_and_note(self: qc.Calibrator, path: str | Path) -> None:
        plain(self, path)
        written.append(Path(path).name)

    monkeypatch.setattr(checkpoints, "FlagCheckpoint", Often)
    monkeypatch.setattr(qc.Calibrator, "save", save_and_note)
    output = tmp_path / name
    assert call(command, model, "-o", output, "--samples", data).code == 0
    assert f"{name}.first-3.qcal" in written
    assert qc.onnx.Checkpoint(output).found() == []


def test_workers_of_a_command_end_quietly(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import multiprocessing\n"
        "import numpy as np\n"
        "pool = multiprocessing.get_context('fork').Pool(2)\n"
        "def samples():\n"
        "    for size in pool.map(abs, range(5, 8)):\n"
        "        yield {'x': np.ones((1, 3, size, size), np.float32)}\n"
        "    pool.terminate()\n"
        "    pool.join()\n"
    )
    name = "out.qcal"
    done = run(
        *("observe", model, "-o", name, "--samples", "python:mine:samples"),
        cwd=tmp_path,
    )
    assert (done.code, done.err) == (0, "")


def test_outputs_with_different_suffixes_have_separate_checkpoints(
    tmp_path: Path,
) -> None:
    names = ("m.qcal", "m.onnx", "m.v2.onnx")
    keeps = [qc.onnx.Checkpoint(tmp_path / name) for name in names]
    for number, keep in enumerate(keeps, 1):
        keep.write(number, qc.Calibrator())
    found = [[file.name for file in keep.found()] for keep in keeps]
    assert found == [[f"{name}.first-{i}.qcal"] for i, name in enumerate(names, 1)]
