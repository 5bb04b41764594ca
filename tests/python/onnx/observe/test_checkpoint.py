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
from cli_runs import call, run, save_model
from quantcal.cli import checkpoints
from quantcal.onnx._check import float_model, trial_run
from quantcal.onnx._observe import in_graph
from quantcal.onnx._observe.in_graph import InGraphObserver
from quantcal.onnx._plan.quantize_options import ObserverName


def samples(count: int, *, bad: int | None = None) -> list[dict[str, Any]]:
    """Samples of several sizes; one may hold an infinity, which can stop the run."""
    made = [{"x": models.random(1, 3, 6, 5 + n, seed=n)} for n in range(count)]
    if bad is not None:
        made[bad]["x"][0, 0, 0, 0] = np.inf
    return made


def save(folder: Path, feeds: list[dict[str, Any]]) -> Path:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for number, feed in enumerate(feeds):
        np.savez(data / f"{number}.npz", **feed)
    return data


@pytest.fixture
def heeded() -> Iterator[None]:
    """Handle SIGINT, which is ignored if tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def failing(count: int, error: BaseException) -> Iterator[dict[str, Any]]:
    yield from samples(count)
    raise error


@pytest.mark.parametrize("method", ["in_graph", "outputs"])
@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_a_bad_sample_loses_nothing_and_the_run_can_continue(
    command: str, method: ObserverName, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(5))
    name = "out.qcal" if command == "observe" else "out.onnx"
    output, whole = tmp_path / name, tmp_path / f"whole-{name}"
    how = ["--samples", data, "--observer", method]
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


def test_a_run_that_fails_twice_continues_twice(tmp_path: Path) -> None:
    model, output = save_model(tmp_path), tmp_path / "out.qcal"
    calibrator, keep = None, qc.onnx.Checkpoint(output)
    for count in (2, 5):
        with pytest.raises(qc.CalibrationError, match=f"first {count} samples"):
            qc.onnx.observe(
                model,
                failing(count, qc.CalibrationError("no more")),
                calibrator=calibrator,
                checkpoint=keep,
            )
        calibrator, keep = qc.onnx.Checkpoint.resume(keep.path(count), output)
    found = qc.onnx.observe(model, samples(7), calibrator=calibrator, checkpoint=keep)
    assert found.to_bytes() == qc.onnx.observe(model, samples(7)).to_bytes()
    assert keep.complete == 7


def test_a_run_resumes_when_no_samples_are_left(tmp_path: Path) -> None:
    """The last sample was bad, and is removed."""
    model, output = save_model(tmp_path), tmp_path / "out.onnx"
    data = save(tmp_path, samples(3))
    (data / "3.npz").write_bytes(b"nonsense")
    assert call("quantize", model, "-o", output, "--samples", data).code == 1
    (data / "3.npz").unlink()
    kept = tmp_path / "out.onnx.first-3.qcal"
    done = call("quantize", model, "-o", output, "--samples", data, "--resume", kept)
    assert (done.code, done.facts["samples"]) == (0, "3")
    whole = tmp_path / "whole.onnx"
    qc.onnx.quantize(model, whole, data)
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("earlier", [0, 2, 3])
def test_a_resumed_run_checks_the_models_on_the_sample_that_a_whole_run_takes(
    earlier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first sample, also if it ran earlier, and if all did."""
    model, output = save_model(tmp_path), tmp_path / "out.onnx"
    how: dict[str, Any] = {}
    if earlier:
        kept = qc.onnx.Checkpoint(output).path(earlier)
        qc.onnx.observe(model, samples(earlier)).save(kept)
        how["calibrator"], how["checkpoint"] = qc.onnx.Checkpoint.resume(kept, output)
    ran: list[tuple[list[int], str]] = []

    def note(_: object, *rest: Any) -> None:
        *_, feed, where = rest
        ran.append((list(feed["x"].shape), where))

    monkeypatch.setattr(float_model, "check_unchanged", note)  # of the float forms
    monkeypatch.setattr(trial_run, "run", note)
    result = qc.onnx.quantize(model, output, samples(3), progress=False, **how)
    assert result.samples == 3
    written = f"the quantized copy of {model}, sample 0"
    assert ran == [([1, 3, 6, 5], "sample 0"), ([1, 3, 6, 5], written)]


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


class Often(qc.onnx.Checkpoint):
    """Writes a checkpoint after each sample."""

    def __init__(self, output: Path, samples: int = 0) -> None:
        super().__init__(output, samples, seconds=0)


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

    monkeypatch.setattr(checkpoints, "Checkpoint", Often)
    monkeypatch.setattr(qc.Calibrator, "save", save_and_note)
    output = tmp_path / name
    assert call(command, model, "-o", output, "--samples", data).code == 0
    assert f"{name}.first-3.qcal" in written
    assert qc.onnx.Checkpoint(output).found() == []


@pytest.mark.parametrize("model_too", [False, True])
def test_histograms_are_kept_when_their_file_cannot_be_written(
    model_too: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx import quantizer

    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.onnx")

    arguments = ["quantize", model, "-o", tmp_path / "out.onnx", "--samples", data]
    with monkeypatch.context() as patch:
        refusing("stats.qcal", patch)
        if model_too:
            patch.setattr(quantizer, "write_prepared", full)
        done = call(*arguments, "--save-stats", tmp_path / "stats.qcal")
    assert done.code == 1
    first = "out.onnx: No space left on device" if model_too else "stats.qcal: no space"
    assert first in done.err
    kept = tmp_path / "out.onnx.first-3.qcal"
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert qc.load(kept).to_bytes() == qc.onnx.observe(model, data).to_bytes()


def test_an_error_is_reported_when_no_checkpoint_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(self: qc.Calibrator, path: str | Path) -> None:
        if "first-2" not in str(path):
            raise qc.CalibrationError(f"{path}: no space left on device")
        plain(self, path)

    plain = qc.Calibrator.save
    output = tmp_path / "out.qcal"
    monkeypatch.setattr(checkpoints, "Checkpoint", Often)
    monkeypatch.setattr(qc.Calibrator, "save", full)
    with pytest.warns(UserWarning, match="No checkpoint can be written"):
        done = call("observe", model, "-o", output, "--samples", data)
    assert done.code == 1
    assert f"{output}: no space left on device" in done.err
    assert "The last samples could not be kept" in done.err
    kept = tmp_path / "out.qcal.first-2.qcal"
    assert f"first 2 samples are kept in {kept}" in done.err
    assert kept.exists()


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
    for samples, keep in enumerate(keeps, 1):
        keep.write(samples, qc.Calibrator())
    found = [[file.name for file in keep.found()] for keep in keeps]
    assert found == [[f"{name}.first-{i}.qcal"] for i, name in enumerate(names, 1)]


def test_unusable_checkpoints_are_refused(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    output = tmp_path / "out.qcal"

    def message(file: Path, *more: object) -> str:
        how = ["-o", output, "--samples", data, "--resume", file]
        return call("observe", model, *how, *more).error_text()

    whole = qc.onnx.observe(model, data)
    whole.save(tmp_path / "stats.qcal")
    assert "does not say how many samples" in message(tmp_path / "stats.qcal")
    whole.save(tmp_path / "out.qcal.first-3.qcal")
    assert "2 samples, but the checkpoint holds 3" in message(
        tmp_path / "out.qcal.first-3.qcal"
    )
    whole.save(tmp_path / "out.qcal.first-1.qcal")
    first = tmp_path / "out.qcal.first-1.qcal"
    assert "lacks" in message(first, "--all-tensors")
    assert "holds" in message(first, "--tensor", "y")
    how = ["-o", output, "--samples", data, "--resume", first, "--mantissa-bits", "7"]
    wrong = call("observe", model, *how)
    assert wrong.code == 2
    assert not output.exists()


def test_a_configuration_with_other_settings_is_not_resumed(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    kept, output = tmp_path / "out.qcal.first-1.qcal", tmp_path / "out.onnx"
    qc.onnx.observe(model, samples(2)[:1], mantissa_bits=7).save(kept)
    config = tmp_path / "run.toml"

    def resumed(text: str) -> Any:
        config.write_text(text)
        how = ["-o", output, "--samples", data, "--resume", kept, "--config", config]
        return call("quantize", model, *how)

    message = resumed("mantissa_bits = 9\n").error_text()
    assert "says mantissa_bits = 9" in message
    assert f"{kept} were made with 7" in message
    assert (
        "says on_nonfinite = 'raise'"
        in resumed('on_nonfinite = "raise"\n').error_text()
    )
    assert not output.exists()
    assert resumed("mantissa_bits = 7\n").code == 0
    assert output.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mantissa_bits = 9\n", "says mantissa_bits = 9"),
        ('on_nonfinite = "raise"\n', "says on_nonfinite = 'raise'"),
        ('mantissa_bits = 7\non_nonfinite = "ignore"\n', ""),
        ("", ""),
    ],
)
def test_complete_histograms_must_have_the_settings_of_the_configuration(
    text: str, message: str, tmp_path: Path
) -> None:
    model, stats, config = (
        save_model(tmp_path),
        tmp_path / "s.qcal",
        tmp_path / "c.toml",
    )
    qc.onnx.observe(model, samples(2), mantissa_bits=7).save(stats)
    config.write_text(text)
    how = ["-o", tmp_path / "q.onnx", "--from", stats, "--config", config]
    done = call("quantize", model, *how)
    if message:
        assert message in done.error_text()
        assert f"{stats} were made with" in done.error_text()
    else:
        assert done.code == 0


@pytest.mark.parametrize("resumed", [False, True])
def test_the_settings_of_a_configuration_are_those_of_the_histograms(
    resumed: bool, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    config, output = tmp_path / "c.toml", tmp_path / "q.onnx"
    config.write_text('mantissa_bits = 7\non_nonfinite = "raise"\n')
    how = ["--samples", data, "--config", config, "--save-stats", tmp_path / "s.qcal"]
    if resumed:
        settings: dict[str, Any] = {"mantissa_bits": 7, "on_nonfinite": "raise"}
        kept = tmp_path / "q.onnx.first-1.qcal"
        qc.onnx.observe(model, samples(1), **settings).save(kept)
        how += ["--resume", kept]
    assert call("quantize", model, "-o", output, *how).code == 0
    found = qc.load(tmp_path / "s.qcal")
    assert (found.mantissa_bits, found.on_nonfinite) == (7, "raise")
    written = qc.onnx.read_config(tmp_path / "q.quantcal.toml")
    assert (written["mantissa_bits"], written["on_nonfinite"]) == (7, "raise")
    save(tmp_path, samples(3, bad=2))
    assert "sample 2" in call("quantize", model, "-o", output, *how).error_text()


def test_a_calibrator_that_counts_infinities_refuses_to_raise(
    tmp_path: Path,
) -> None:
    model, cal = save_model(tmp_path), qc.Calibrator()
    with pytest.raises(qc.CalibrationError, match="was made with 'ignore'"):
        qc.onnx.observe(model, samples(2), calibrator=cal, on_nonfinite="raise")
    assert not len(cal)


@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_an_output_with_the_name_of_a_checkpoint_is_refused(
    command: str, tmp_path: Path
) -> None:
    """A run for `out` would replace and remove it."""
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    name = tmp_path / "out.first-3.qcal"
    name.write_bytes(b"old")
    wanted = "has the name of a checkpoint"
    assert wanted in call(command, model, "-o", name, "--samples", data).error_text()
    if command == "quantize":
        how = ["-o", tmp_path / "out", "--samples", data, "--save-stats", name]
        assert wanted in call(command, model, *how).error_text()
    assert name.read_bytes() == b"old"


def test_the_resumed_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    kept = tmp_path / "out.qcal.first-2.qcal"
    qc.onnx.observe(model, samples(2)).save(kept)
    (tmp_path / "link").symlink_to(kept)
    before = kept.read_bytes()
    how = ["-o", tmp_path / "link", "--samples", data, "--resume", kept]
    assert (
        "is an input, which would be lost" in call("observe", model, *how).error_text()
    )
    assert kept.read_bytes() == before


def test_histograms_are_kept_when_the_model_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx import quantizer

    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.onnx")

    whole = tmp_path / "whole.onnx"
    assert call("quantize", model, "-o", whole, "--samples", data).code == 0
    output = tmp_path / "out.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(quantizer, "write_prepared", full)
        done = call("quantize", model, "-o", output, "--samples", data)
    kept = tmp_path / "out.onnx.first-3.qcal"
    assert done.code == 1
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert call("quantize", model, "-o", output, "--from", kept).code == 0
    assert output.read_bytes() == whole.read_bytes()


def refusing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writing histograms to a file of this name fail."""
    plain = qc.Calibrator.save

    def save(self: qc.Calibrator, path: str | Path) -> None:
        if Path(path).name == name:
            raise qc.CalibrationError(f"{path}: no space left on device")
        plain(self, path)

    monkeypatch.setattr(qc.Calibrator, "save", save)


def test_histograms_are_kept_when_they_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    output, kept = tmp_path / "out.qcal", tmp_path / "out.qcal.first-3.qcal"
    with monkeypatch.context() as patch:
        refusing(output.name, patch)
        done = call("observe", model, "-o", output, "--samples", data)
    assert done.code == 1
    assert "no space left on device" in done.err
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert f"--resume {kept} does not run them again" in done.err
    again = call("observe", model, "-o", output, "--samples", data, "--resume", kept)
    assert again.code == 0
    assert output.read_bytes() == kept.read_bytes()
    assert qc.load(kept).to_bytes() == qc.onnx.observe(model, data).to_bytes()


def test_a_failed_checkpoint_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    with monkeypatch.context() as patch:
        refusing("s.qcal.first-2.qcal", patch)
        with pytest.warns(
            UserWarning, match="No checkpoint can be written: .*no space"
        ):
            found = qc.onnx.observe(model, samples(4), checkpoint=keep)
    assert found.to_bytes() == qc.onnx.observe(model, samples(4)).to_bytes()
    assert keep.complete == 4
    assert keep.found() == [keep.path(4)]


def test_an_earlier_checkpoint_is_reported_when_the_last_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    feeds = failing(2, qc.CalibrationError("x.npz: it is damaged."))
    with monkeypatch.context() as patch:
        refusing("s.qcal.first-2.qcal", patch)
        with (
            pytest.warns(UserWarning, match="No checkpoint can be written"),
            pytest.raises(qc.CalibrationError) as message,
        ):
            qc.onnx.observe(model, feeds, checkpoint=keep)
    text = str(message.value)
    assert text.startswith("x.npz: it is damaged. The last samples could not be kept: ")
    assert "first sample are kept" in text
    assert keep.path(1).exists()
