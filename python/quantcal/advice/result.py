"""`Advice`: what a model loses, the tensors that lose it, and what to leave in float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from quantcal._notebook import Shown
from quantcal._text import NONE, plural, share
from quantcal.advice.diagnosis import Diagnosis

_SHOWN = 8  # tensors and names in a summary


@dataclass(frozen=True)
class Remedy:
    """A remedy that was tried on one tensor or on the whole model, and measured.

    Parameters
    ----------
    name
        Of a tensor: "float", "range percentile_99.99", "16 bits". Of a model: "smooth",
        "bias", "equalize", "per-channel weights", "per-tensor weights", or a strategy.
    loss
        The loss of the whole quantized model with this remedy alone, on samples that did not
        propose it.
    change
        The relative change of the loss on the same samples; -0.4 is 40 % less.
    samples
        The number of these samples.
    text
        The remedy in words, such as what to write; may be empty.
    before
        The loss without the remedy, on the same samples; NaN if it is not known.
    """

    name: str
    loss: float
    change: float
    samples: int
    text: str = ""
    before: float = math.nan

    @classmethod
    def of(
        cls, name: str, before: float, after: float, samples: int, text: str = ""
    ) -> Remedy:
        """Return a remedy with the change that follows from both losses."""
        change = after / before - 1 if before else 0.0
        return cls(name, after, change, samples, text, before)


@dataclass(frozen=True)
class GuiltyTensor:
    """A tensor whose quantization costs accuracy.

    Parameters
    ----------
    name
        The tensor.
    nodes
        The nodes or modules that read it. All stay in float if the tensor does.
    loss_alone
        The loss if only this tensor is quantized.
    share
        `loss_alone` as a share of the loss of the whole quantized model. Shares need not sum
        to 1, as errors may cancel or add up.
    diagnoses
        Why it loses accuracy, from its histogram.
    remedies
        What was tried, the lowest loss first.
    """

    name: str
    nodes: tuple[str, ...]
    loss_alone: float
    share: float
    diagnoses: tuple[Diagnosis, ...] = ()
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True)
class Advice(Shown):
    """Which parts of a model to leave in float, why, and what that gains.

    Parameters
    ----------
    loss
        The loss of the quantized model: how far its outputs are from those of the float model.
    loss_after
        The same with `exclude` in float, measured with all of them together.
    exclude
        The nodes or modules to leave in float, for `exclude=` of the same framework. Empty if
        nothing helps.
    tensors
        The tensors that were found to cost accuracy, the largest damage first.
    samples
        The number of samples behind `loss` and `loss_after`, none of which chose `exclude`.
    float_share
        What stays in float, as shares of 0 to 1 by the name of what is counted: "tensors",
        "weights", "multiply-adds".
    method
        What the loss is, with its unit.
    notes
        What limits the result, such as a search that ran out of time.
    noun
        What the names in `exclude` are: "node" or "module".
    remedies
        What was tried on the whole model, each alone and with nothing more in float, the
        lowest loss first.
    strategy
        The strategy or policy for all tensors that was chosen among several. Empty where
        the caller gave it.
    """

    loss: float
    loss_after: float
    exclude: tuple[str, ...]
    tensors: tuple[GuiltyTensor, ...]
    samples: int
    float_share: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    notes: tuple[str, ...] = ()
    noun: str = "node"
    remedies: tuple[Remedy, ...] = ()
    strategy: str = ""

    def __post_init__(self) -> None:
        worst_first = sorted(self.tensors, key=lambda t: -_damage(t))
        object.__setattr__(self, "tensors", tuple(worst_first))

    @property
    def change(self) -> float:
        """The relative change of the loss by leaving `exclude` in float; NaN without loss."""
        return self.loss_after / self.loss - 1 if self.loss else math.nan

    def summary(self) -> str:
        """Return what to do and why, in a few lines of plain text."""
        lines = [self._verdict()]
        measured = f"loss {_figure(self.loss)}"
        if self.exclude:
            measured += f" → {_figure(self.loss_after)}"
        if self.method:
            measured += f" ({self.method})"
        lines.append(f"{measured}, {plural(self.samples, 'sample')}")
        if self.strategy:
            lines.append(
                f"strategy: {self.strategy} lost least of those that were tried"
            )
        if self.exclude and self.float_share:
            kept = ", ".join(
                f"{share(v)} of the {k}" for k, v in self.float_share.items()
            )
            lines.append(f"in float: {kept}")
        lines += map(_line_of, self.remedies)
        for tensor in self.tensors[:_SHOWN]:
            lines += _lines_of(tensor)
        if len(self.tensors) > _SHOWN:
            lines.append(f"and {plural(len(self.tensors) - _SHOWN, 'tensor')} more")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _verdict(self) -> str:
        if not self.exclude:
            return f"leave no {self.noun} in float: it gains nothing on these samples"
        names = ", ".join(self.exclude[:_SHOWN])
        more = len(self.exclude) - _SHOWN
        names += f" and {more} more" if more > 0 else ""
        these = f"these {len(self.exclude)} {self.noun}s"
        if len(self.exclude) == 1:
            these = f"this {self.noun}"
        return f"leave {these} in float: {_percent(self.change)} of the loss: {names}"

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON; None stands for NaN and infinities."""
        content: dict[str, Any] = _plain(asdict(self) | {"change": self.change})
        return content

    def __str__(self) -> str:
        return self.summary()


def _damage(tensor: GuiltyTensor) -> float:
    return math.inf if math.isnan(tensor.loss_alone) else tensor.loss_alone


def _line_of(tried: Remedy) -> str:
    """Return the line of a remedy for the whole model."""
    measured = f"loss {_figure(tried.before)} → {_figure(tried.loss)}"
    words = f": {tried.text}" if tried.text else ""
    change = _percent(tried.change)
    return f"tried {tried.name} on all: {measured} ({change}){words}"


def _lines_of(tensor: GuiltyTensor) -> list[str]:
    lines = [f"{tensor.name}: {share(tensor.share)} of the loss alone"]
    lines += [f"  {found.kind}: {found.text}" for found in tensor.diagnoses]
    for tried in tensor.remedies:
        words = f": {tried.text}" if tried.text else ""
        lines.append(
            f"  tried {tried.name}: {_percent(tried.change)} of the loss{words}"
        )
    return lines


def _figure(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3g}"


def _percent(change: float) -> str:
    """Return a relative change with its sign, such as −88 %, cut to a tenth of a percent.

    Only a loss that vanishes is −100 %.
    """
    if math.isnan(change):
        return NONE
    percent = math.floor(1000 * abs(change) + 1e-6) / 10
    return f"{'−' if change < 0 else '+'}{percent:,.6g} %"


def _plain(value: Any) -> Any:
    """Return data without tuples, NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
