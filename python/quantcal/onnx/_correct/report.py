"""What a correction did: which nodes it changed, what it left, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorrectedNodes:
    """Nodes that were changed together.

    Attributes
    ----------
    nodes
        Their names: what makes a tensor first, then what reads it. A corrected bias has one.
    largest
        The largest factor by which a channel was scaled up or down. For biases, the largest
        value that was added, without its sign.
    """

    nodes: tuple[str, ...]
    largest: float


@dataclass(frozen=True, slots=True)
class Correction:
    """What one correction did to a model.

    Attributes
    ----------
    name
        ``"equalize"``, ``"smooth"`` or ``"bias"``.
    changed
        In the order of the graph.
    skipped
        Name of a node or tensor → why it was left as it is.
    """

    name: str
    changed: tuple[CorrectedNodes, ...]
    skipped: Mapping[str, str]

    def summary(self) -> str:
        """Return one line: how many were changed, the largest change, what was skipped."""
        unit = {"equalize": "pairs", "smooth": "groups", "bias": "biases"}[self.name]
        text = f"{self.name}: {len(self.changed)} {unit}"
        if self.changed:
            largest = max(each.largest for each in self.changed)
            how = "shift" if self.name == "bias" else "factor"
            text += f" (largest {how} {largest:.3g})"
        reasons = Counter(self.skipped.values()).most_common()
        skipped = ", ".join(f"{count} {reason}" for reason, count in reasons)
        return f"{text}; skipped: {skipped}" if skipped else text
