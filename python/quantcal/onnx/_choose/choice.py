"""What was chosen by trials, over what, and by how much."""

from __future__ import annotations

from dataclasses import dataclass, field

from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.pick import StrategyLoss
from quantcal.strategies.policy import Policy

_WORTH_SAYING = 0.1  # what is named must lower the loss by a tenth


@dataclass(frozen=True, slots=True)
class TensorLoss:
    """What the outputs lose when one activation alone is rounded.

    Attributes
    ----------
    tensor
    loss
    """

    tensor: str
    loss: float


@dataclass(frozen=True, slots=True)
class Change:
    """Other ranges for some tensors, confirmed on samples that did not propose them.

    Attributes
    ----------
    tensors
    strategy
        The name of the strategy.
    before, after
        The loss on the confirming samples.
    """

    tensors: tuple[str, ...]
    strategy: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What ``strategy="auto"`` chose.

    Attributes
    ----------
    policy
        The chosen strategies, which need no trials any more.
    strategy
        The best strategy for all tensors together.
    losses
        Of all candidates. Those that ran all samples come first, the smallest before all.
    measures
        Output → how its loss is measured: "squared error", "KL", "disagreement" or
        "metric".
    samples
        The number of samples on which strategies were tried.
    folds
        The number of folds. 1 means that the same samples decided ranges and judged them.
    exclude
        Small nodes that are left in float because their rounding costs much.
    loss_before_exclude
        The loss without ``exclude``, on samples that did not propose it.
    loss_excluded
        The loss with ``exclude``, on the same samples.
    changes
        Other strategies for single tensors.
    biases
        The loss without and with corrected biases, on samples that the shifts do not
        know; None where correcting them does not help.
    loss
        With all changes, on the samples of ``losses``. These proposed or confirmed each
        change, so it is a little too good.
    worst
        The tensors that lose most alone, worst first.
    loss_without_worst
        The loss with the first of ``worst`` in float; None if it was not measured.
    in_float
        The tensors that this leaves in float.
    seconds
    runs
        The number of samples that ran for it.
    """

    policy: Policy
    strategy: str
    losses: tuple[StrategyLoss, ...]
    measures: dict[str, str]
    samples: int
    folds: int
    exclude: tuple[str, ...] = ()
    loss_before_exclude: float = float("nan")
    loss_excluded: float = float("nan")
    changes: tuple[Change, ...] = ()
    loss: float = float("nan")
    biases: tuple[float, float] | None = None
    worst: tuple[TensorLoss, ...] = ()
    loss_without_worst: float | None = None
    in_float: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    runs: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Return what a summary says: pairs of a key and a text."""
        # A metric has any unit; a loss of outputs is a share.
        measured = "metric" in self.measures.values()
        word = "drop" if measured else "loss"
        figure = "{:.3g}".format if measured else percent
        first = self.losses[0]
        held = (
            f"{self.samples} samples that did not decide their ranges"
            if self.folds > 1
            else f"the {self.samples} sample{'s' * (self.samples > 1)} of the calibration"
        )
        chosen = f"{self.strategy}: {word} {figure(first.loss)} on {held}"
        rows = [("strategy", chosen)]
        others = [f"{e.strategy} {figure(e.loss)}" for e in self.losses[1:]]
        if others:
            rows.append(("others lose", ", ".join(others)))
        if self.exclude:
            before = figure(self.loss_before_exclude)
            after = figure(self.loss_excluded)
            text = f"{some(self.exclude)} in float: {word} {before} → {after}"
            rows.append(("small nodes", text))
        for change in self.changes:
            rows.append(
                (
                    "changed",
                    f"{some(change.tensors)}: {change.strategy}, {word} "
                    f"{figure(change.before)} → {figure(change.after)}",
                )
            )
        if self.biases is not None:
            before, after = map(figure, self.biases)
            rows.append(("biases", f"corrected: {word} {before} → {after}"))
        rest = self.loss_without_worst
        if rest is not None and gains(self.loss, rest, _WORTH_SAYING) and self.loss > 0:
            less = 1 - rest / self.loss
            rows.append(
                (
                    "to do better",
                    f"{some(self.in_float)} in float: {word} "
                    f"{figure(rest)} (−{less:.0%}); "
                    "`quantcal advise` finds the nodes",
                )
            )
        return rows


def percent(loss: float) -> str:
    """Return a loss as text with two or three digits."""
    if loss == 0:
        return "0"
    return f"{loss:.3g}" if loss >= 10 else f"{100 * loss:.3g} %"


def some(names: tuple[str, ...]) -> str:
    """Return the first names, and how many more there are."""
    listed = ", ".join(names[:3])
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} more"
