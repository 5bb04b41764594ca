"""`write_report`: one HTML file that shows what a quantization did."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._io.files import INPUT, Used, write_text
from quantcal.calibrator import Calibrator
from quantcal.report.page.render import make_page
from quantcal.report.page.sources import gather
from quantcal.stability import Stability
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.advice.result import Advice
    from quantcal.demo.result import DemoResult
    from quantcal.onnx._model.model import Model
    from quantcal.onnx.evaluation import Evaluation
    from quantcal.onnx.model_cost import ModelCost
    from quantcal.onnx.result import QuantizeResult
    from quantcal.onnx.tune_result import TuneResult


def write_report(
    path: str | os.PathLike[str],
    *,
    calibrator: Calibrator | None = None,
    table: CalibrationTable | None = None,
    model: Model | None = None,
    quantized: Model | None = None,
    result: QuantizeResult | None = None,
    evaluation: Evaluation | dict[str, Any] | str | None = None,
    advice: Advice | dict[str, Any] | str | None = None,
    tune: TuneResult | dict[str, Any] | str | None = None,
    cost: ModelCost | None = None,
    stability: Stability | None = None,
    demo: DemoResult | dict[str, Any] | str | None = None,
    title: str | None = None,
) -> None:
    """Write a report as one HTML file, which needs no network and no other file.

    Give whatever is known; the report shows what follows from it. Equal results give equal
    bytes. A report of 500 tensors has about 2 MB and takes some seconds.

    Parameters
    ----------
    path
        Where to write; replaced when complete. It must not be one of the other files.
    calibrator
        The histograms. They give distributions, percentiles, the ranges of several strategies
        and the error by threshold.
    table
        The ranges. By default those of ``result``. Without either, those of "mse" are
        proposed.
    model
        The float ONNX model: nodes and operators of tensors, in the order of the graph.
    quantized
        Its quantized copy, for the errors of weights. By default the output of ``result``.
    result
        What :func:`quantcal.onnx.quantize` returned.
    evaluation
        What :func:`quantcal.onnx.evaluate` returned. With layers, the loss along the graph is
        drawn. Its ``to_dict()``, or the file of that JSON, will do for this and the next two.
    advice
        What :func:`quantcal.onnx.advise` returned.
    tune
        What :func:`quantcal.onnx.tune` returned; its result and evaluation are shown too.
    cost
        What :func:`quantcal.onnx.measure_cost` returned: loss and latency of the whole model.
    stability
        What :func:`quantcal.check_stability` returned. By default that of ``result``.
    demo
        What :func:`quantcal.demo.run` returned.
    title
        The heading. By default the name of the model's file.

    Raises
    ------
    ImportError
        If jinja2 is missing (extra ``report``), or onnx when a model is given.
    CalibrationError
        If there is nothing to report, something is not what it should be, or the file cannot
        be written.

    Examples
    --------
    >>> cal = qc.Calibrator()
    >>> result = qc.onnx.quantize(
    ...     "model.onnx", "model.int8.onnx", "calibration/", calibrator=cal
    ... )
    >>> qc.write_report("report.html", model="model.onnx", calibrator=cal, result=result)
    """
    written = getattr(tune, "written", None) if result is None else result
    models = [model, quantized, None if written is None else written.output]
    used = _files(models, [evaluation, advice, tune, demo])
    sources = gather(
        calibrator=calibrator,
        table=table,
        model=model,
        quantized=quantized,
        result=result,
        evaluation=evaluation,
        advice=advice,
        tune=tune,
        cost=cost,
        stability=stability,
        demo=demo,
        title=title,
    )
    write_text(Path(path), make_page(sources), used)


def _files(models: Sequence[object], others: Sequence[object]) -> Iterable[Used]:
    """Return the files that a report is made from, with those of the models' weights."""
    if all(model is None for model in models):  # and onnx may be missing
        paths = [each for each in others if isinstance(each, (str, os.PathLike))]
        return [Used(Path(path), INPUT) for path in paths]
    from quantcal.onnx.files import RunFiles

    return RunFiles(None, *models, *others)
