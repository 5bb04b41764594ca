"""quantcal.onnx without onnx or onnxruntime, and its progress bar without rich."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from quantcal.onnx._runtime.progress import track

BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(code: str, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("blocked", ["onnx", "onnxruntime"])
@pytest.mark.parametrize(
    "call",
    [
        "observe('m.onnx', [])",
        "quantize('m.onnx', 'q.onnx', [])",
        "write('m.onnx', 'q.onnx', {})",
        "load_samples('calibration', 'm.onnx')",
    ],
)
def test_each_function_says_how_to_install_them(blocked: str, call: str) -> None:
    done = run(f"import quantcal.onnx\nquantcal.onnx.{call}", {blocked})
    assert done.returncode == 1
    assert (
        "ImportError: quantcal.onnx needs onnx and onnxruntime. "
        'Install them with: pip install "quantcal[onnx]"'
    ) in done.stderr


def test_importing_it_imports_no_framework() -> None:
    code = (
        "import quantcal.onnx\nprint({'onnx', 'onnxruntime', 'rich'} & {*sys.modules})"
    )
    assert run(code, set()).stdout.strip() == "set()"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def numbers() -> Iterator[int]:
    yield from range(5)


def test_the_bar_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, show, seen in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        assert list(track(numbers(), total=5, show=show)) == [0, 1, 2, 3, 4]
        assert ("Observing" in stream.getvalue()) is seen


def test_without_rich_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert list(track(numbers(), total=None, show=True)) == [0, 1, 2, 3, 4]
    assert stream.getvalue() == ""
