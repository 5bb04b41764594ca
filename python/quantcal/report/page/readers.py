"""Results from the JSON that the commands print, as the objects that functions return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from quantcal._core import CalibrationError
from quantcal.advice.diagnosis import Diagnosis
from quantcal.advice.result import Advice, GuiltyTensor, Remedy

if TYPE_CHECKING:
    from quantcal.onnx.evaluation import Evaluation
    from quantcal.onnx.layer_error import LayerError
    from quantcal.onnx.output_error import OutputError

_Read = TypeVar("_Read")

_MADE_BY = {
    "evaluation": "quantcal evaluate --json",
    "advice": "quantcal advise --json",
    "tune": "quantcal tune --json",
    "demo": "quantcal demo (demo.json)",
}


@dataclass(frozen=True, slots=True)
class TriedModel:
    """A model that a tuning tried: nodes in float, drop, and estimated milliseconds."""

    in_float: int
    drop: float
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the page shows of a tuning; see :class:`quantcal.onnx.TuneResult`."""

    kept: bool
    max_drop: float
    drop: float
    drop_deciding: float
    samples: int
    measure: str
    exclude: tuple[str, ...]
    float_ms: float
    integer_ms: float
    points: tuple[TriedModel, ...]
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The accuracy of one model of the demo, with half of its 95 % interval."""

    name: str
    exact: float
    native: float
    margin: float


def kind_of(content: object) -> str | None:
    """Return what JSON holds: "evaluation", "advice", "tune", "demo"; None if unknown."""
    keys = set(content) if isinstance(content, Mapping) else set()
    for kind, needed in (
        ("tune", {"max_drop", "points", "kept"}),
        ("evaluation", {"outputs", "layers", "verdicts"}),
        ("advice", {"loss", "loss_after", "exclude", "tensors"}),
        ("demo", {"float32", "strategies", "calibration_lines"}),
    ):
        if needed <= keys:
            return kind
    return None


def read_evaluation(content: Mapping[str, Any]) -> Evaluation:
    """Return an evaluation from what ``to_dict`` returned."""
    return _reading("evaluation", _evaluation, content)


def read_advice(content: Mapping[str, Any]) -> Advice:
    """Return advice from what ``to_dict`` returned."""
    return _reading("advice", _advice, content)


def read_tuning(content: Mapping[str, Any]) -> Tuning:
    """Return a tuning from what ``to_dict`` returned."""
    return _reading("tune", _tuning, content)


def read_demo(content: Mapping[str, Any]) -> tuple[Accuracy, ...]:
    """Return the accuracies of the demo from what ``to_dict`` returned."""
    return _reading("demo", _demo, content)


def _reading(
    what: str, read: Callable[[Mapping[str, Any]], _Read], content: Mapping[str, Any]
) -> _Read:
    try:
        return read(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else f"has {error}"
        raise CalibrationError(
            f"The {what} {reason}. Give what `{_MADE_BY[what]}` prints."
        ) from error


def _evaluation(content: Mapping[str, Any]) -> Evaluation:
    from quantcal.onnx.evaluation import Evaluation
    from quantcal.onnx.verdict import MetricMean

    outputs = {
        str(name): {str(a): _error(e) for a, e in by.items()}
        for name, by in content["outputs"].items()
    }
    metrics = {
        str(name): {
            str(m): MetricMean(_real(e["mean"]), _real(e["margin"]))
            for m, e in by.items()
        }
        for name, by in content["metrics"].items()
    }
    return Evaluation(
        samples=int(content["samples"]),
        outputs=outputs,
        metrics=metrics,
        layers=tuple(map(_layer, content["layers"])),
        verdicts=_names(content["verdicts"]),
        warnings=_names(content["warnings"]),
    )


def _layer(content: Mapping[str, Any]) -> LayerError:
    from quantcal.onnx.layer_error import LayerError

    own = content["own"]
    return LayerError(
        node=str(content["node"]),
        operator=str(content["operator"]),
        tensor=str(content["tensor"]),
        inputs=_names(content["inputs"]),
        errors={str(a): _error(e) for a, e in content["errors"].items()},
        own=None if own is None else _error(own),
    )


def _error(content: Mapping[str, Any]) -> OutputError:
    from quantcal.onnx.output_error import OutputError

    fields = ("sqnr_db", "loss", "cosine", "max_error", "kl", "top1")
    return OutputError(**{name: _maybe(content.get(name)) for name in fields})


def _advice(content: Mapping[str, Any]) -> Advice:
    return Advice(
        loss=_real(content["loss"]),
        loss_after=_real(content["loss_after"]),
        exclude=_names(content["exclude"]),
        tensors=tuple(map(_guilty, content["tensors"])),
        samples=int(content["samples"]),
        float_share={str(k): _real(v) for k, v in content["float_share"].items()},
        method=str(content["method"]),
        notes=_names(content["notes"]),
        noun=str(content["noun"]),
    )


def _guilty(content: Mapping[str, Any]) -> GuiltyTensor:
    return GuiltyTensor(
        name=str(content["name"]),
        nodes=_names(content["nodes"]),
        loss_alone=_real(content["loss_alone"]),
        share=_real(content["share"]),
        diagnoses=tuple(
            Diagnosis(d["kind"], _real(d["figure"]), str(d["text"]))
            for d in content["diagnoses"]
        ),
        remedies=tuple(
            Remedy(
                str(r["name"]),
                _real(r["loss"]),
                _real(r["change"]),
                int(r["samples"]),
                str(r["text"]),
            )
            for r in content["remedies"]
        ),
    )


def _tuning(content: Mapping[str, Any]) -> Tuning:
    return Tuning(
        kept=bool(content["kept"]),
        max_drop=_real(content["max_drop"]),
        drop=_real(content["drop"]),
        drop_deciding=_real(content["drop_deciding"]),
        samples=int(content["samples"]),
        measure=str(content["measure"]),
        exclude=_names(content["exclude"]),
        float_ms=_real(content["float_ms"]),
        integer_ms=_real(content["integer_ms"]),
        points=tuple(
            TriedModel(int(p["in_float"]), _real(p["drop"]), _maybe(p["latency_ms"]))
            for p in content["points"]
        ),
        evaluation=_evaluation(content["evaluation"]),
    )


def _demo(content: Mapping[str, Any]) -> tuple[Accuracy, ...]:
    first = content["float32"]
    whole = _real(first["exact_match"])
    rows = [Accuracy("FP32", whole, whole, _real(first["margin"]))]
    for row in content["strategies"]:
        exact, native = row["exact"], row["native"]
        rows.append(
            Accuracy(
                f"INT8 {row['strategy']}",
                _real(exact["exact_match"]),
                _real(native["exact_match"]),
                _real(native["margin"]),
            )
        )
    return tuple(rows)


def _real(value: Any) -> float:
    """Return a number; None stands for NaN, and infinities are texts."""
    if value is None:
        return math.nan
    if isinstance(value, str) and value not in ("inf", "-inf"):
        msg = f"{value!r:.40} where a number is needed"
        raise ValueError(msg)
    return float(value)


def _maybe(value: Any) -> float | None:
    return None if value is None else _real(value)


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        msg = f"{values!r:.40} where a list is needed"
        raise TypeError(msg)
    return tuple(map(str, values))
