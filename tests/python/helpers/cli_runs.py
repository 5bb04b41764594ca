"""Running the `quantcal` command as a user does, for the tests of the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from typer.testing import CliRunner

import onnx_models as models
import quantcal as qc
from quantcal.cli.app import app

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> dict[str, str]:
        """The two columns of a summary, up to its first empty line."""
        head = self.out.split("\n\n")[0].splitlines()
        return dict(re.split(r"  +", line, maxsplit=1) for line in head)

    def error_text(self) -> str:
        """Return the one line of an error; fails if there are more lines, or none."""
        assert self.code == 1, self
        assert self.out == "", self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("error: ").rstrip("\n")


_UNWANTED = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "NO_COLOR", "COLUMNS")
"""Variables that color output or change its width."""


def environment(**changes: str) -> dict[str, str]:
    """Return the variables for a separate process."""
    kept = {key: value for key, value in os.environ.items() if key not in _UNWANTED}
    return {**kept, "PYTHONIOENCODING": "utf-8", **changes}


def call(*arguments: object) -> Done:
    """Run `quantcal` in this process; a defect of it is raised."""
    result = CliRunner(env=dict.fromkeys(_UNWANTED)).invoke(
        app, list(map(str, arguments)), prog_name="quantcal", catch_exceptions=False
    )
    return Done(result.exit_code, result.stdout, result.stderr)


def run(*arguments: object, cwd: Path | None = None, **variables: str) -> Done:
    """Run `quantcal` in a separate process, with pipes for output."""
    done = subprocess.run(
        [sys.executable, "-m", "quantcal", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment(**variables),
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_without(modules: list[str], *arguments: object) -> Done:
    """Run `quantcal` as if some packages were not installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r}))\n"
        "from quantcal.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_in_terminal(columns: int, *arguments: object) -> list[str]:
    """Run `quantcal` in a terminal of that width; return its lines without colors."""
    import fcntl
    import pty
    import struct
    import termios

    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "quantcal", *map(str, arguments)],
        stdin=other,
        stdout=other,
        stderr=other,
        env=environment(TERM="xterm-256color"),
    ) as process:
        os.close(other)
        shown = b""
        try:
            while part := os.read(main, 65536):
                shown += part
        except OSError:  # Linux: the other side is closed
            pass
        assert process.wait(60) == 0, shown.decode()
    os.close(main)
    return [plain(line) for line in shown.decode().split("\n")]


def plain(text: str) -> str:
    """Text without colors and cursor movements."""
    return _ANSI.sub("", text)


def unboxed(text: str) -> str:
    """Return the words in a box, as one line."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", plain(text)).split())


def save_model(folder: Path, model: onnx.ModelProto | None = None) -> Path:
    """Write a small model: two Conv and a Relu unless another is given."""
    path = folder / "model.onnx"
    onnx.save_model(model or models.conv_net(), str(path))
    return path


def save_samples(folder: Path, *, bad: float | None = None) -> Path:
    """Write three samples of different sizes for it; `bad` replaces a value in one."""
    data = folder / "samples"
    data.mkdir()
    for number, width in enumerate((8, 12, 20)):
        x = models.random(1, 3, 9, width, seed=number)
        if bad is not None and number == 1:
            x[0, 0, 0, 0] = bad
        np.savez(data / f"{number}.npz", x=x)
    return data


def save_stats(folder: Path) -> Path:
    """Write histograms of a few very different tensors."""
    rng = np.random.default_rng(5)
    bell = rng.standard_normal(5000).astype(np.float32)
    outlier = bell.copy()
    outlier[0] = 300
    broken = bell[:2000].copy()
    broken[:7] = np.nan
    broken[7] = np.inf
    broken[8:10] = -np.inf
    cal = qc.Calibrator()
    layer = "/model/layers.{}/mlp/a_rather_long_module_name/down_proj/MatMul_output_0"
    for number, values in enumerate((bell, np.maximum(bell, 0), outlier)):
        cal.observe(layer.format(number), values)
    cal.observe(layer.format(10), (bell / 3).astype(np.float16))
    cal.observe("broken", broken)
    cal.observe("logits[0]/[bold]", bell[:100])
    cal.observe("constant", np.full(10, 2.5, np.float32))
    cal.observe("nothing", np.zeros((0,), np.float32))
    cal.observe("only_nan", np.full(3, np.nan, np.float32))
    cal.observe("ширина", bell[:50])
    path = folder / "stats.qcal"
    cal.save(path)
    return path
