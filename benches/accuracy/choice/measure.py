"""Measures one case: quantizes with every method and judges the models."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benches.accuracy.cases import session
from benches.accuracy.choice.loss import LossCounter
from benches.accuracy.choice.methods import METHODS, Job, run
from benches.accuracy.choice.observation import Observation
from benches.accuracy.choice.rivals import MissingRivalError
from benches.accuracy.collection.case import Case, Outputs

ARITHMETICS = ("exact", "native")
_PRODUCTS = ("Conv", "MatMul", "Gemm")
_DEQUANTIZE = ("DequantizeLinear",)


def measure(
    case: Case,
    methods: Iterable[str],
    arithmetics: Sequence[str],
    entry: dict[str, Any],
    keep: Callable[[], None],
) -> None:
    """Put the facts of a case and the row of each method into `entry`.

    `keep` is called after each row, in case the run is interrupted.
    """
    # onnxruntime advises to prepare a model that is prepared.
    logging.getLogger().setLevel(logging.ERROR)
    expected = _run(case.model, case, exact=False)
    decisions = [case.metric.decide(outputs) for outputs in expected]
    observation = Observation()
    rows = entry.setdefault("rows", {})
    entry |= {
        "kind": case.kind,
        "data": case.data,
        "calibration": len(case.calibration),
        "held_out": len(case.held_out),
        "metric": case.metric.name,
        "float": float(np.mean(case.metric.rate(decisions, decisions))),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in methods:
            job = Job(
                case.model, case.calibration, Path(folder) / "model.onnx", observation
            )
            start = time.perf_counter()
            row = rows[name] = _row(case, name, job, arithmetics, expected, decisions)
            for how in arithmetics:
                # They are those of the float model, so one copy serves all methods.
                entry["moments"] = row.get(how, {}).pop("moments", entry.get("moments"))
            keep()
            seconds = time.perf_counter() - start
            print(f"{case.name}: {name}: {_shown(row)} ({seconds:.0f} s)", flush=True)
            job.output.unlink(missing_ok=True)


def _row(
    case: Case,
    name: str,
    job: Job,
    arithmetics: Sequence[str],
    expected: list[Outputs],
    decisions: list[Any],
) -> dict[str, Any]:
    """Return what a method costs and how its model does; or why there is none."""
    ours = "quantcal" if name[:4] not in ("ONNX", "onnx") else "rival"
    try:
        cost = run(METHODS[name], job)
        found: dict[str, Any] = {
            "seconds": cost.seconds,
            "mebibytes": cost.mebibytes,
            "products": _integer_products(job.output),
        }
        for how in arithmetics:
            found[how] = _judge(case, job.output, expected, decisions, how == "exact")
    except MissingRivalError as error:
        return {"skipped": str(error)}
    except Exception as error:  # a rival's failure is a result
        if ours == "quantcal":
            raise
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return found


def _integer_products(model: Path) -> str:
    """Return how many Conv, MatMul and Gemm read two quantized inputs, of how many."""
    graph = onnx.load(model, load_external_data=False).graph
    made = {name for n in graph.node if n.op_type in _DEQUANTIZE for name in n.output}
    products = [n for n in graph.node if n.op_type in _PRODUCTS]
    full = sum(made.issuperset(node.input[:2]) for node in products)
    return f"{full} of {len(products)}"


def _run(model: Path, case: Case, *, exact: bool) -> list[Outputs]:
    opened = session(model, exact=exact)
    names = [output.name for output in opened.get_outputs()]
    return [
        dict(zip(names, opened.run(None, feed), strict=True)) for feed in case.held_out
    ]


def _judge(
    case: Case, model: Path, expected: list[Outputs], decisions: list[Any], exact: bool
) -> dict[str, Any]:
    opened = session(model, exact=exact)
    names = [output.name for output in opened.get_outputs()]
    counter = LossCounter()
    decided = []
    for feed, right in zip(case.held_out, expected, strict=True):
        outputs = dict(zip(names, opened.run(None, feed), strict=True))
        counter.add(case.view(right, right), case.view(right, outputs))
        decided.append(case.metric.decide(outputs))
    rates = np.array(case.metric.rate(decisions, decided))
    reference = np.array(case.metric.rate(decisions, decisions))
    return counter.result() | {
        "moments": counter.moments(),
        "task": float(rates.mean()),
        "task_difference": float((rates - reference).mean()),
        "task_margin": float(1.96 * (rates - reference).std() / np.sqrt(len(rates))),
    }


def _shown(row: dict[str, Any]) -> str:
    if "exact" not in row:
        return str(row.get("error", row.get("skipped")))
    exact = row["exact"]
    return f"loss {exact['loss']:.3g}, task {exact['task']:.3f}"
