"""What a report is made from: everything that was given, in one form."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.files import read_bytes
from quantcal.advice.result import Advice
from quantcal.calibrator import Calibrator
from quantcal.report.page.readers import (
    Accuracy,
    Tuning,
    kind_of,
    read_advice,
    read_demo,
    read_evaluation,
    read_tuning,
)
from quantcal.stability import Stability
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model
    from quantcal.onnx.evaluation import Evaluation
    from quantcal.onnx.model_cost import ModelCost
    from quantcal.onnx.result import QuantizeResult
    from quantcal.onnx.tensor_places import TensorPlace
    from quantcal.onnx.weight_errors import WeightError

LARGEST = 1 << 28
"""Bytes of JSON that are read."""


@dataclass(frozen=True)
class Sources:
    """Everything that a report shows; None or empty where it was not given.

    Attributes
    ----------
    title
        The name of the model, or another one.
    file
        The name of the float model's file for commands; ``MODEL`` where unknown.
    model_bytes
        The size of the float model's file; None where unknown.
    proposed
        Whether the table was computed for the report, because none was given.
    places
        The node of each tensor, in the order of the graph.
    """

    title: str
    file: str = "MODEL"
    model_bytes: int | None = None
    calibrator: Calibrator | None = None
    table: CalibrationTable | None = None
    proposed: bool = False
    result: QuantizeResult | None = None
    places: Mapping[str, TensorPlace] = field(default_factory=dict)
    weights: tuple[WeightError, ...] = ()
    evaluation: Evaluation | None = None
    advice: Advice | None = None
    tuning: Tuning | None = None
    cost: ModelCost | None = None
    stability: Stability | None = None
    demo: tuple[Accuracy, ...] = ()


def gather(
    *,
    calibrator: Calibrator | None,
    table: CalibrationTable | None,
    model: Model | None,
    quantized: Model | None,
    result: QuantizeResult | None,
    evaluation: Any,
    advice: Any,
    tune: Any,
    cost: ModelCost | None,
    stability: Stability | None,
    demo: Any,
    title: str | None,
) -> Sources:
    """Return the sources of a report; what one object holds of another is taken from it."""
    if tune is not None and result is None:
        result = getattr(tune, "written", None)
    tuning = None if tune is None else read_tuning(_content(tune, "tune"))
    if evaluation is not None:
        evaluation = read_evaluation(_content(evaluation, "evaluation"))
    elif tuning is not None:
        evaluation = tuning.evaluation
    if advice is not None and not isinstance(advice, Advice):
        advice = read_advice(_content(advice, "advice"))
    if result is not None:
        table = result.table if table is None else table
        stability = result.stability if stability is None else stability
        if quantized is None and result.output.is_file():
            quantized = result.output
    given = (
        calibrator,
        table,
        quantized,
        evaluation,
        advice,
        tune,
        cost,
        stability,
        demo,
    )
    if all(each is None for each in given):
        raise CalibrationError(
            "There is nothing to report. Give histograms, a table, a quantized model, or what "
            "quantize, evaluate, advise or tune returned."
        )
    proposed = table is None and calibrator is not None and len(calibrator) > 0
    if proposed:
        table = _propose(calibrator)
    return Sources(
        title=title or _name_of(model) or _name_of(quantized) or "Calibration",
        file=_name_of(model) or "MODEL",
        model_bytes=_size_of(model),
        calibrator=calibrator,
        table=table,
        proposed=proposed,
        result=result,
        places=_places(model, quantized),
        weights=_weights(quantized, model),
        evaluation=evaluation,
        advice=advice,
        tuning=tuning,
        cost=cost,
        stability=stability,
        demo=() if demo is None else read_demo(_content(demo, "demo")),
    )


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    CalibrationError
        If it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_bytes(Path(path), LARGEST))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CalibrationError):
            raise
        raise CalibrationError(f"{path} is no JSON: {error}") from error


def _content(given: Any, kind: str) -> Mapping[str, Any]:
    """Return the plain data of a result: of an object, of JSON or of its file."""
    if isinstance(given, (str, os.PathLike)):
        given = read_json(given)
    elif hasattr(given, "to_dict"):
        given = given.to_dict()
    if not isinstance(given, Mapping) or kind_of(given) != kind:
        raise CalibrationError(
            f"{kind} is {type(given).__name__} of something else. Give the result, its "
            "to_dict(), or the file of that JSON."
        )
    return given


def _propose(calibrator: Calibrator | None) -> CalibrationTable:
    """Return the ranges of "mse", in the formats that the tensors were observed for."""
    assert calibrator is not None
    several = any(len(formats) > 1 for formats in calibrator.formats.values())
    with warnings.catch_warnings():
        # The page itself names tensors without values.
        warnings.simplefilter("ignore", UserWarning)
        return calibrator.compute("mse", format="int8" if several else None)


def _places(model: Model | None, quantized: Model | None) -> Mapping[str, TensorPlace]:
    known = model if model is not None else quantized
    if known is None:
        return {}
    from quantcal.onnx.tensor_places import find_places

    return find_places(known)


def _weights(quantized: Model | None, model: Model | None) -> tuple[WeightError, ...]:
    if quantized is None:
        return ()
    from quantcal.onnx.weight_errors import measure_weights

    return measure_weights(quantized, model)


def _name_of(model: object) -> str | None:
    return Path(model).name if isinstance(model, (str, os.PathLike)) else None


def _size_of(model: object) -> int | None:
    if not isinstance(model, (str, os.PathLike)):
        return None
    from quantcal.onnx.model_cost import model_bytes

    return model_bytes(Path(model))
