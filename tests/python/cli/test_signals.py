"""Ctrl-C and SIGTERM at any moment: a clean end, and never a lie about what is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli_runs import environment, save_model, save_samples
from quantcal._process import imports
from quantcal._process.signals import deferred

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SIGNALS = [signal.SIGINT, signal.SIGTERM]

# The tests may run in the background, where Ctrl-C is ignored. `Watch` reports the first
# import after the package's first lines have run.
START = """
from __future__ import annotations
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "quantcal"
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name != "quantcal" and not name.startswith("quantcal._process"):
            sys.meta_path.remove(self)
            print("started", file=sys.stderr, flush=True)
sys.meta_path.insert(0, Watch())
{code}
from quantcal.cli import main
main()
"""

COMMAND = ["quantize", "model.onnx", "-o", "q.onnx", "--samples", "samples"]

ENDS = {0, 130, -signal.SIGINT, -signal.SIGTERM}
"""Done before the signal came; ended by Python; ended by the system, which shells call 130
and 143."""


def start(folder: Path, *arguments: object, code: str = "") -> subprocess.Popen[str]:
    """Start the command, and wait until it has run the package's first lines.

    What comes earlier is Python's own start, which nothing in a package can change.
    """
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(code=code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(TMPDIR=str(folder / "tmp")),
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    return process


def left(folder: Path) -> list[str]:
    """Temporary files of ours."""
    return [
        file.name
        for file in folder.rglob("*")
        if file.name.startswith("quantcal-") or "quantcal-tmp" in file.name
    ]


def test_a_signal_at_any_moment_ends_the_command_cleanly(tmp_path: Path) -> None:
    save_model(tmp_path)
    save_samples(tmp_path)
    began = time.monotonic()
    start(tmp_path, *COMMAND).communicate(timeout=120)
    whole = time.monotonic() - began
    (tmp_path / "q.onnx").unlink()
    for turn in range(30):
        process = start(tmp_path, *COMMAND)
        time.sleep(1.05 * whole * turn / 30)
        process.send_signal(SIGNALS[turn % 2])
        out, err = process.communicate(timeout=120)
        output = (turn, process.returncode, out, err)
        assert process.returncode in ENDS, output
        assert "Traceback" not in err, output
        assert "Install" not in err, output
        assert left(tmp_path) == [], output
        if process.returncode == 0:
            assert (tmp_path / "q.onnx").exists(), output


@pytest.mark.parametrize("number", SIGNALS, ids=["INT", "TERM"])
@pytest.mark.parametrize("module", ["numpy", "onnx", "onnxruntime"])
def test_a_signal_while_a_package_is_loaded_waits(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    """The signal comes where the package's compiled part is being loaded."""
    save_model(tmp_path)
    save_samples(tmp_path)
    code = f"""
import os
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
        elif name.startswith({module + "."!r}) and "came" not in globals():
            globals()["came"] = True
            print("went on", file=sys.stderr, flush=True)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGTERM, signal.default_int_handler)
"""
    process = start(tmp_path, *COMMAND, code=code)
    out, err = process.communicate(timeout=120)
    assert process.returncode in {130, -signal.SIGINT}, err
    assert err == "went on\ninterrupted\n"
    assert out == ""
    assert not (tmp_path / "q.onnx").exists()


def test_a_signal_while_the_package_is_loaded_is_not_lost(tmp_path: Path) -> None:
    """It comes in a callback of Python's importing, which swallows exceptions."""
    code = """
import os, weakref
class Thing: pass
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "quantcal.cli.app":
            thing = Thing()
            self.reference = weakref.ref(thing, self.interrupt)
            del thing
    def interrupt(self, _):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
sys.meta_path.insert(0, Finder())
"""
    process = start(tmp_path, "--help", code=code)
    out, err = process.communicate(timeout=120)
    assert (out, err) == ("", "interrupted\n")
    assert process.returncode in {130, -signal.SIGINT}


def test_a_signal_waits_for_the_end_of_a_block() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []

    def work() -> None:
        with deferred():
            with deferred():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")

    try:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == ["inner", "outer"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup has it
        with deferred():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_other_threads_nothing_is_changed() -> None:
    seen = []

    def work() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


MISSING = 'quantcal.onnx needs onnx and onnxruntime. Install them with: pip install "quantcal[onnx]"'


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (None, MISSING),
        ("import google_that_is_missing", "No module named 'google_that_is_missing'"),
        ("raise ImportError('libx.so.1: cannot open')", "libx.so.1: cannot open"),
        ("raise RuntimeError('compiled for numpy 1')", "compiled for numpy 1"),
        ("{}['version']", "KeyError('version')"),
    ],
    ids=["missing", "needs another", "no library", "other numpy", "defect"],
)
def test_a_package_that_is_broken_is_told_apart_from_one_that_is_missing(
    content: str | None,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "package_of_this_test"
    if content is not None:
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(ImportError) as caught:
        imports.require((name,), "quantcal.onnx needs", "onnx", "onnx and onnxruntime")
    message = str(caught.value)
    assert output in message
    assert caught.value.__cause__ is not None
    assert ("Install them" in message) is (content is None)
    if content is not None:
        assert f"the {name} that is installed cannot be imported" in message


def test_a_broken_package_of_the_command_is_told(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('too old', name='rich')")
    code = "import sys; sys.path.insert(0, '.')\nfrom quantcal.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "inspect", "x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "but the rich that is installed cannot be imported: too old" in done.stderr
