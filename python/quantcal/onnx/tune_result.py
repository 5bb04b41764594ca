"""What a tuning found: the model, whether it keeps its promise, and what else was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantcal._notebook import Shown
from quantcal._text import plural
from quantcal.onnx._choose.choice import percent, some
from quantcal.onnx._choose.tuning import TunePoint
from quantcal.onnx._timing.node_times import Latency
from quantcal.onnx.evaluation import Evaluation
from quantcal.onnx.result import QuantizeResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class TuneResult(Shown):
    """What :func:`tune` found.

    Attributes
    ----------
    written
        How the model was written.
    exclude
        The nodes in float.
    max_drop
        The promise.
    drop_deciding
        What the model loses on the deciding samples, in exact arithmetic.
    drop
        The same on held-out samples.
    samples_deciding, samples
        The numbers of these samples.
    measure
        What the drop is of: "squared error", "KL" or "metric".
    evaluation
        Of the written file on the held-out samples, exact and native apart.
    float_latency, integer_latency
        Times of the float model and of the written one on this machine.
    points
        The models that were tried.
    free
        Nodes that integers do not make faster.
    in_time
        Whether the search ended by itself, not by the time limit.
    """

    written: QuantizeResult
    exclude: tuple[str, ...]
    max_drop: float
    drop_deciding: float
    drop: float
    samples_deciding: int
    samples: int
    measure: str
    evaluation: Evaluation
    float_latency: Latency
    integer_latency: Latency
    points: tuple[TunePoint, ...]
    free: tuple[str, ...] = ()
    in_time: bool = True

    @property
    def kept(self) -> bool:
        """Whether the model keeps the promise on held-out samples."""
        return self.drop <= self.max_drop

    def summary(self) -> str:
        """Return a few lines of plain text."""
        first, second = self.float_latency.median_ms, self.integer_latency.median_ms
        verdict = "kept" if self.kept else "BROKEN"
        rows = [
            (
                "promise",
                f"{verdict}: drop {percent(self.drop)} of {percent(self.max_drop)} allowed "
                f"({self.measure}), on {plural(self.samples, 'held-out sample')}",
            ),
            (
                "deciding",
                f"drop {percent(self.drop_deciding)} on "
                f"{plural(self.samples_deciding, 'sample')}",
            ),
            (
                "in float",
                f"{plural(len(self.exclude), 'node')}: {some(self.exclude)}"
                if self.exclude
                else "no node of the chosen types",
            ),
            (
                "latency",
                f"{second:.3g} ms a sample, {first:.3g} in float "
                f"({first / second:.2f} times as fast)",
            ),
            ("models tried", str(len(self.points))),
        ]
        if not self.kept:
            rows.append(
                (
                    "to do better",
                    "give more samples, or allow a larger drop"
                    if self.drop_deciding <= self.max_drop
                    else "no set that was tried keeps the promise; allow "
                    + ("a larger drop" if self.in_time else "more time"),
                )
            )
        if not self.in_time:
            rows.append(("note", "the time limit ended the search"))
        head = "\n".join(f"{key:<17} {value}" for key, value in rows)
        return f"{head}\n{self.written.summary()}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "output": str(self.written.output),
            "kept": self.kept,
            "max_drop": self.max_drop,
            "drop": self.drop,
            "drop_deciding": self.drop_deciding,
            "samples": self.samples,
            "samples_deciding": self.samples_deciding,
            "measure": self.measure,
            "exclude": list(self.exclude),
            "float_ms": self.float_latency.median_ms,
            "integer_ms": self.integer_latency.median_ms,
            "evaluation": self.evaluation.to_dict(),
            "points": [
                {
                    "in_float": len(point.exclude),
                    "drop": point.drop,
                    "latency_ms": point.latency_ms,
                }
                for point in self.points
            ],
        }

    def plot(self) -> Figure:
        """Draw what was tried: drop against latency, and against nodes in float.

        Raises
        ------
        ImportError
            Without matplotlib (extra ``plot``).
        """
        from quantcal.report.pareto import draw_pareto

        points = [(len(p.exclude), p.drop, p.latency_ms) for p in self.points]
        chosen = next(p for p in self.points if set(p.exclude) == set(self.exclude))
        return draw_pareto(
            points,
            (len(chosen.exclude), chosen.drop, chosen.latency_ms),
            self.max_drop,
            self.measure,
            self.float_latency.median_ms,
        )
