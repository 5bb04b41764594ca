"""What the page shows of the whole model: outputs, layers, methods, tuning, weights, advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from quantcal._text import NONE, decibels, plural, real, share
from quantcal.advice.result import Advice
from quantcal.report.page.distributions import pool
from quantcal.report.page.methods import summarize
from quantcal.report.page.numbers import short
from quantcal.report.page.sources import Sources
from quantcal.stability import Stability

Section = dict[str, Any]


def model_sections(sources: Sources, rows: Sequence[Section]) -> Section:
    """Return the sections of the model that something is known of."""
    found: Section = {
        "layers": _layers(sources),
        "methods": _methods(sources),
        "ranges": summarize(
            row["detail"].get("methods", ()) for row in rows if "detail" in row
        ),
        "accuracies": [
            {
                "name": each.name,
                "exact": short(each.exact),
                "native": short(each.native),
                "margin": short(each.margin),
            }
            for each in sources.demo
        ],
        "tuning": _tuning(sources),
        "stability": _stability(sources.stability),
        "weights": _weights(sources),
    }
    return {key: value for key, value in found.items() if value}


def _layers(sources: Sources) -> list[Section]:
    layers = () if sources.evaluation is None else sources.evaluation.layers
    return [
        {
            "node": layer.node,
            "op": layer.operator,
            "tensor": layer.tensor,
            **{name: short(error.loss) for name, error in layer.errors.items()},
            "own": None if layer.own is None else short(layer.own.loss),
        }
        for layer in layers
    ]


def _methods(sources: Sources) -> Section | None:
    """Return the losses of the strategies that "auto" tried."""
    choice = None if sources.result is None else sources.result.choice
    if choice is None:
        return None
    return {
        "metric": "metric" in choice.measures.values(),
        "measures": choice.measures,
        "chosen": choice.strategy,
        "folds": choice.folds,
        "final": short(choice.loss),
        "rows": [
            {
                "name": each.strategy,
                "loss": short(each.loss),
                "low": short(each.low),
                "high": short(each.high),
                "samples": each.samples,
            }
            for each in choice.losses
        ],
        "steps": [
            {"name": name, "text": text}
            for name, text in choice.rows()
            if name not in ("strategy", "others lose")
        ],
    }


def _tuning(sources: Sources) -> Section | None:
    tuning = sources.tuning
    if tuning is None:
        return None
    return {
        "promise": short(tuning.max_drop),
        "measure": tuning.measure,
        "float_ms": short(tuning.float_ms),
        "integer_ms": short(tuning.integer_ms),
        "chosen": len(tuning.exclude),
        "points": [
            {
                "in_float": point.in_float,
                "drop": short(point.drop),
                "ms": short(point.latency_ms),
            }
            for point in tuning.points
        ],
    }


def _stability(found: Stability | None) -> list[Section]:
    return [
        {
            "name": each.name,
            "difference": short(each.difference, 3),
            "loss": short(each.loss_db, 3),
        }
        for each in found or ()
    ]


def _weights(sources: Sources) -> list[Section]:
    return [
        {
            "name": each.name,
            "node": each.node,
            "op": each.operator,
            "format": each.format,
            "shape": " × ".join(map(str, each.shape)) or "1",
            "values": math.prod(each.shape),
            "channels": len(each.maxima) if each.axis is not None else None,
            "sqnr": short(each.sqnr_db),
            "scaled": each.scaled or None,
            "max": short(each.maxima.max(initial=0)),
            "maxima": pool(each.maxima),
        }
        for each in sources.weights
    ]


def output_rows(sources: Sources) -> list[Section]:
    """Return the error of each output in each arithmetic, as text."""
    outputs = {} if sources.evaluation is None else sources.evaluation.outputs
    return [
        {
            "name": name,
            "arithmetic": arithmetic,
            "sqnr": NONE if error.sqnr_db is None else decibels(error.sqnr_db),
            "loss": real(error.loss),
            "cosine": NONE if error.cosine is None else f"{error.cosine:.6f}",
            "max_error": real(error.max_error),
            "top1": NONE if error.top1 is None else share(error.top1),
        }
        for name, by in outputs.items()
        for arithmetic, error in by.items()
    ]


def metric_rows(sources: Sources) -> list[Section]:
    """Return the means of the caller's metrics, as text."""
    metrics = {} if sources.evaluation is None else sources.evaluation.metrics
    return [
        {
            "name": name,
            "model": model,
            "mean": f"{mean.mean:.4g}",
            "margin": _margin(mean.margin),
        }
        for name, by in metrics.items()
        for model, mean in by.items()
    ]


def advice_rows(advice: Advice | None) -> list[Section]:
    """Return the tensors that cost accuracy, why, and what was tried."""
    return [
        {
            "name": tensor.name,
            "nodes": tensor.nodes,
            "share": NONE if math.isnan(tensor.share) else share(tensor.share),
            "diagnoses": [(each.kind, each.text) for each in tensor.diagnoses],
            "remedies": [
                (tried.name, change_text(tried.change), tried.text)
                for tried in tensor.remedies
            ],
        }
        for tensor in (() if advice is None else advice.tensors)
    ]


def change_text(change: float) -> str:
    """Return a relative change in percent, with its sign."""
    if math.isnan(change):
        return NONE
    return f"{'−' if change < 0 else '+'}{abs(100 * change):.3g} %"


def _margin(margin: float) -> str:
    return "" if math.isnan(margin) else f"± {margin:.2g}"


def counted(sources: Sources) -> str:
    """Return what the report covers, in a few words."""
    parts = []
    if sources.calibrator is not None:
        parts.append(plural(len(sources.calibrator), "histogram"))
    if sources.table is not None and not sources.proposed:
        parts.append(plural(len(sources.table), "range"))
    if sources.evaluation is not None:
        parts.append(f"an evaluation on {plural(sources.evaluation.samples, 'sample')}")
    if sources.advice is not None:
        parts.append("advice")
    if sources.tuning is not None:
        parts.append("a tuning")
    return ", ".join(parts)
