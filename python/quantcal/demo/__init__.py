"""A real network, quantised end to end with every method, with its accuracy.

The network is PP-OCRv4's text-line recogniser. :func:`run` reads drawn lines with the
float model, observes other lines once, computes every strategy from the same
histograms, writes an INT8 model with each and reads the first lines again. To quantise
a model of your own use :func:`quantcal.onnx.quantize` instead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal._io.files import check_target
from quantcal._process import imports
from quantcal.calibrator import Calibrator
from quantcal.demo.errors import DemoError
from quantcal.demo.fetch import cache_folder, fetch
from quantcal.demo.lines import SEED, Line, contact_sheet, render_lines
from quantcal.demo.ocr import RECOGNIZER, Accuracy, LineSamples, evaluate
from quantcal.demo.report import show
from quantcal.demo.result import DemoResult, StrategyResult, environment
from quantcal.onnx import find_saturation, observe, write
from quantcal.onnx._plan.cpu import weight_bits
from quantcal.onnx.result import peak_memory
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

__all__ = [
    "RECOGNIZER",
    "SEED",
    "STRATEGIES",
    "Accuracy",
    "DemoError",
    "DemoResult",
    "Line",
    "LineSamples",
    "StrategyResult",
    "cache_folder",
    "contact_sheet",
    "evaluate",
    "fetch",
    "render_lines",
    "run",
    "show",
]

STRATEGIES = ("minmax", "percentile_99.99", "kl", "mse")
"""The strategies that the demo compares unless told otherwise."""


def run(
    *,
    calibration_lines: int = 64,
    evaluation_lines: int = 400,
    strategies: Sequence[str] = STRATEGIES,
    output: str | os.PathLike[str] = "demo-output",
    seed: int = SEED,
    progress: bool = True,
) -> DemoResult:
    """Quantise the recogniser with each strategy and measure how well it still reads.

    Takes about two minutes on two idle cores with the defaults, most of it for reading
    the evaluation lines. The result is returned and saved, not printed; :func:`show`
    prints it.

    Parameters
    ----------
    calibration_lines : int
        Lines to observe. Default: 64, a usual size of a calibration set.
    evaluation_lines : int
        Other lines to read with every model. Default: 400, which tells differences of
        about 0.03 apart; take 1000 or more to rank close strategies.
    strategies : sequence of str
        Names that :meth:`quantcal.Calibrator.compute` knows.
    output : path-like
        Folder for the models ``rec.<strategy>.onnx``, their ranges
        ``rec.<strategy>.json``, the histograms ``rec.qcal``, the figures ``demo.json``
        and six of the lines, ``lines.png``. It is made when it does not exist.
    seed : int
        Chooses the lines; not negative.
    progress : bool
        Tell on stderr what is being done.

    Raises
    ------
    DemoError
        The model or the fonts cannot be fetched, or `output` cannot be made.
    CalibrationError
        A strategy is not known, with a list of those that are, or is named twice; or a file
        cannot be written.
    ValueError
        A number of lines is less than 1, or `seed` is negative.
    ImportError
        Pillow, onnx or onnxruntime is missing; says how to install it.
    """
    _check(calibration_lines, evaluation_lines, strategies)
    say = _teller(progress)
    folder = _folder(output)
    names = ["rec.qcal", "demo.json", "lines.png"]
    names += [f"rec.{s}.{ending}" for s in strategies for ending in ("onnx", "json")]
    for name in names:
        check_target(folder / name)
    say("Fetching the model and the fonts (15 and 3 MB, the first time)")
    model = RECOGNIZER.fetch()
    say(f"Drawing {calibration_lines} + {evaluation_lines} lines of text")
    observed = render_lines(calibration_lines, split="calibration", seed=seed)
    lines = render_lines(evaluation_lines, split="evaluation", seed=seed)
    contact_sheet(lines[:6], folder / "lines.png")
    say("Reading the lines in FP32")
    float32 = evaluate(model, lines)
    peaks = {"after reading in FP32": peak_memory()}
    say("Observing the calibration lines")
    calibrator, seconds = _observe(model, observed, folder, progress=progress)
    peaks["after observing"] = peak_memory()
    rows = tuple(
        _quantise(model, calibrator, strategy, folder, lines=lines, say=say)
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
        ("onnx", "onnxruntime", "PIL", "PIL.Image"),
        "quantcal.demo needs",
        "demo",
        "onnx, onnxruntime and Pillow",
    )
    if len(set(strategies)) < len(strategies):
        raise CalibrationError(
            f"Each strategy has files of its own, but {', '.join(strategies)} names one "
            "twice. Give it once."
        )
    trial = Calibrator()
    trial.observe("trial", np.linspace(-1, 1, 100, dtype=np.float32))
    for strategy in strategies:
        trial.compute(strategy, format="uint8")


def _folder(output: str | os.PathLike[str]) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(
            f"Cannot make the folder {folder}: {error.strerror}. Choose another output."
        ) from error
    return folder


def _teller(progress: bool) -> Callable[[str], None]:
    """Return what tells the user what is being done, with the time since the start."""
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


def _quantise(
    model: Path,
    calibrator: Calibrator,
    strategy: str,
    folder: Path,
    *,
    lines: Sequence[Line],
    say: Callable[[str], None],
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
