"""The ranges with which each fold of the samples is judged: those of the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantcal.calibrator import Calibrator
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._trial.trial_session import Grids, TrialSession
from quantcal.strategies.policy import Policy

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared


class Folds:
    """Histograms of the folds; they merge exactly, so no sample runs again.

    Parameters
    ----------
    prepared : Prepared
    whole : Calibrator
        All histograms.
    parts : sequence of Calibrator
        Those of the folds; none if the samples were not divided.
    earlier : Calibrator, optional
        Histograms of an earlier run, which belong to no fold.
    """

    def __init__(
        self,
        prepared: Prepared,
        whole: Calibrator,
        parts: Sequence[Calibrator],
        earlier: Calibrator | None = None,
    ) -> None:
        self._prepared = prepared
        self._whole = whole
        self._others = [
            _merged([*parts[:fold], *parts[fold + 1 :]], earlier, whole)
            for fold in range(len(parts))
        ]

    def whole(self, policy: Policy, session: TrialSession) -> Grids:
        """Return the grids of a policy from all samples."""
        return session.grids(compute_ranges(self._whole, policy, self._prepared))

    def grids(self, policy: Policy, session: TrialSession) -> list[Grids]:
        """Return the grids of a policy: for each fold, from the samples of the others.

        A tensor that the others never reached has the range of all.
        """
        whole = compute_ranges(self._whole, policy, self._prepared)
        if not self._others:
            return [session.grids(whole)]
        made = []
        for other in self._others:
            found = compute_ranges(other, policy, self._prepared, among=self._whole)
            finite = {n: p for n, p in found.items() if found.report[n].min is not None}
            made.append(session.grids({**whole, **finite}))
        return made


def _merged(
    parts: Sequence[Calibrator], earlier: Calibrator | None, like: Calibrator
) -> Calibrator:
    total = Calibrator(mantissa_bits=like.mantissa_bits, on_nonfinite=like.on_nonfinite)
    for part in parts if earlier is None else (earlier, *parts):
        total.merge(part)
    return total
