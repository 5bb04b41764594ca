"""The steps of the demo: read, observe, quantize with each strategy, read again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal._io.files import check_target
from quantcal._process import imports
from quantcal.calibrator import Calibrator
from quantcal.demo.errors import DemoError
from quantcal.demo.lines import SEED, Line, contact_sheet, render_lines
from quantcal.demo.ocr import RECOGNIZER, LineSamples, evaluate
from quantcal.demo.result import DemoResult, StrategyResult, environment
from quantcal.onnx import find_saturation, observe, quantize, write
from quantcal.onnx.options import weight_bits
from quantcal.onnx.result import peak_memory
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx._choose.choice import Choice

STRATEGIES = ("auto", "kl")
"""What the demo compares by default: the choice by trials, and a widespread fixed one."""

ALL_STRATEGIES = ("auto", "minmax", "percentile_99.99", "kl", "mse")
"""What ``quantcal demo --full`` compares."""

REPORT = "report.html"
"""The page that ``quantcal demo`` writes into the folder, unless another file is named."""

LINES = 200
FULL_LINES = 400
"""The lines that are read with every model, by default and with ``--full``."""

_WORST = 3  # tensors that are named

Say = Callable[[str], None]
"""Prints a line of progress."""


def run(
    *,
    calibration_lines: int = 32,
    evaluation_lines: int = LINES,
    strategies: Sequence[str] = STRATEGIES,
    output: str | os.PathLike[str] = "demo-output",
    seed: int = SEED,
    progress: bool = True,
) -> DemoResult:
    """Quantize the recognizer with each strategy and measure how well it still reads.

    Takes about two minutes on two idle cores with the defaults. Half of it is for the
    choice by trials, the rest for reading. The result is returned and saved; :func:`show`
    prints it.

    Parameters
    ----------
    calibration_lines
        Lines to observe and to try strategies on. The default of 32 keeps the trials
        short; a calibration set usually has 64 or more.
    evaluation_lines
        Other lines to read with every model. The default of 200 resolves differences of
        about 0.04; take 1000 or more to rank close strategies.
    strategies
        Names that :meth:`quantcal.Calibrator.compute` knows. ``"auto"`` tries them on the
        calibration lines, as :func:`quantcal.onnx.quantize` does.
    output
        Folder for the models ``rec.<strategy>.onnx``, their ranges
        ``rec.<strategy>.json``, the histograms ``rec.qcal``, the figures ``demo.json``
        and six of the lines, ``lines.png``. It is made when it does not exist.
    seed
        Chooses the lines; not negative.
    progress
        Whether to print on stderr what is being done.

    Raises
    ------
    DemoError
        If the model or the fonts cannot be fetched, or `output` cannot be made.
    CalibrationError
        If a strategy is not known or is named twice, or a file cannot be written.
    ValueError
        If a number of lines is less than 1, or `seed` is negative.
    ImportError
        If Pillow, onnx or onnxruntime is missing; says how to install it.
    """
    _check(calibration_lines, evaluation_lines, strategies)
    say = _progress_printer(progress)
    folder = _prepare_folder(output, strategies)
    model, observed, lines = _fetch_data(
        calibration_lines, evaluation_lines, seed=seed, say=say
    )
    contact_sheet(lines[:6], folder / "lines.png")
    say("Reading the lines in FP32")
    float32 = evaluate(model, lines)
    peaks = {"after reading in FP32": peak_memory()}
    say("Observing the calibration lines")
    calibrator, seconds = _observe(model, observed, folder, progress=progress)
    peaks["after observing"] = peak_memory()
    rows = tuple(
        _choose(model, observed, folder, lines=lines, say=say)
        if strategy == "auto"
        else _quantize(model, calibrator, strategy, folder, lines=lines, say=say)
        for strategy in strategies
    )
    peaks["at the end"] = peak_memory()
    weights = weight_bits()
    result = DemoResult(
        output=folder,
        float32=float32,
        strategies=rows,
        calibration_lines=calibration_lines,
        tensors=len(calibrator),
        observe_seconds=seconds,
        peak_bytes={stage: size for stage, size in peaks.items() if size is not None},
        weight_bits=weights.bits,
        weight_reason=weights.reason,
        seed=seed,
        environment=environment(),
    )
    result.save(folder / "demo.json")
    return result


def _check(
    calibration_lines: int, evaluation_lines: int, strategies: Sequence[str]
) -> None:
    """Refuse what cannot work before minutes are spent on it."""
    if calibration_lines < 1 or evaluation_lines < 1:
        raise ValueError(
            "The demo needs at least one line to observe and one to read, not "
            f"{calibration_lines} and {evaluation_lines}."
        )
    imports.require(
        ("onnx", "onnxruntime", "PIL", "PIL.Image", "jinja2"),
        "quantcal.demo needs",
        "demo",
        "onnx, onnxruntime, Pillow and jinja2",
    )
    if len(set(strategies)) < len(strategies):
        raise CalibrationError(
            f"Each strategy writes its files once, but {', '.join(strategies)} names one "
            "twice. Give it once."
        )
    trial = Calibrator()
    trial.observe("trial", np.linspace(-1, 1, 100, dtype=np.float32))
    for strategy in strategies:
        trial.compute(strategy, format="uint8")


def _prepare_folder(output: str | os.PathLike[str], strategies: Sequence[str]) -> Path:
    """Make the folder, and refuse files in it that cannot be written."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(
            f"Cannot make the folder {folder}: {error.strerror}. Choose another output."
        ) from error
    names = ["rec.qcal", "demo.json", "lines.png", REPORT]
    names += [f"rec.{s}.{ending}" for s in strategies for ending in ("onnx", "json")]
    for name in names:
        check_target(folder / name)
    return folder


def _fetch_data(
    calibration_lines: int, evaluation_lines: int, *, seed: int, say: Say
) -> tuple[Path, list[Line], list[Line]]:
    """Return the model, the lines to observe and the lines to read."""
    say("Fetching the model and the fonts (15 and 3 MB, the first time)")
    model = RECOGNIZER.fetch()
    say(f"Drawing {calibration_lines} + {evaluation_lines} lines of text")
    observed = render_lines(calibration_lines, split="calibration", seed=seed)
    lines = render_lines(evaluation_lines, split="evaluation", seed=seed)
    return model, observed, lines


def _progress_printer(progress: bool) -> Say:
    """Return a function that prints a line with the time since the start."""
    start = time.perf_counter()

    def say(text: str) -> None:
        if progress:
            seconds = time.perf_counter() - start
            print(f"{seconds:6.1f} s  {text}", file=sys.stderr, flush=True)

    return say


def _observe(
    model: Path, lines: Sequence[Line], folder: Path, *, progress: bool
) -> tuple[Calibrator, float]:
    """Return the histograms of one pass over the lines, and its seconds."""
    start = time.perf_counter()
    calibrator = observe(model, LineSamples(lines), progress=progress)
    seconds = time.perf_counter() - start
    calibrator.save(folder / "rec.qcal")
    return calibrator, seconds


def _narrow(model: Path, calibrator: Calibrator, table: CalibrationTable) -> list[str]:
    """Return the nodes whose weights lose a bit on this machine, as `quantize` does."""
    if not weight_bits().reduce:
        return []
    found = find_saturation(model, calibrator, table)
    return [name for name, node in found.items() if node.needs_bit]


def _choose(
    model: Path,
    observed: Sequence[Line],
    folder: Path,
    *,
    lines: Sequence[Line],
    say: Say,
) -> StrategyResult:
    """Write the INT8 model that `quantize` makes by itself, and read the lines with it."""
    written = folder / "rec.auto.onnx"
    say("Choosing strategies on the calibration lines")
    done = quantize(model, written, LineSamples(observed), progress=False)
    done.table.save(folder / "rec.auto.json")
    say("Reading the lines in INT8, auto")
    return StrategyResult(
        strategy="auto",
        model=written,
        choice=() if done.choice is None else _facts(done.choice),
        exact=evaluate(written, lines, arithmetic="exact"),
        native=evaluate(written, lines, arithmetic="native"),
        search_seconds=done.seconds_observe + done.seconds_compute,
        write_seconds=done.seconds_write,
    )


def _facts(choice: Choice) -> tuple[tuple[str, str], ...]:
    """Return what was chosen, and the tensors that lose most alone."""
    worst = [f"{each.tensor} ({each.loss:.2%})" for each in choice.worst[:_WORST]]
    alone = [("most loss by one tensor", ", ".join(worst))] if worst else []
    return (*choice.rows(), *alone)


def _quantize(
    model: Path,
    calibrator: Calibrator,
    strategy: str,
    folder: Path,
    *,
    lines: Sequence[Line],
    say: Say,
) -> StrategyResult:
    """Write the INT8 model of one strategy and read the lines with it, twice."""
    written = folder / f"rec.{strategy}.onnx"
    start = time.perf_counter()
    table = calibrator.compute(strategy, format="uint8")
    searched = time.perf_counter()
    table.save(folder / f"rec.{strategy}.json")
    write(model, written, table, reduce_range=_narrow(model, calibrator, table))
    done = time.perf_counter()
    say(f"Reading the lines in INT8, {strategy}")
    return StrategyResult(
        strategy=strategy,
        model=written,
        exact=evaluate(written, lines, arithmetic="exact"),
        native=evaluate(written, lines, arithmetic="native"),
        search_seconds=searched - start,
        write_seconds=done - searched,
    )
