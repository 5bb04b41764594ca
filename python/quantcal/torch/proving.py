"""Scales are folded for good only where the model's output on a sample stays what it was.

Scales that are powers of two round nothing, so they must leave every bit of the output:
this shows a second reader of a norm however small its effect is. The real scales must then
leave the output as it is but for rounding. Otherwise the parameters get their values back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.torch.folding import Kept, fold, scaled_parameters
from quantcal.torch.groups import Group
from quantcal.torch.samples import Runner, distance

ROUNDING = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
    torch.bfloat16: 0.1,
    torch.float16: 0.1,
}
"""What rounding may change of an output, as a share of its root mean square, by type."""

_EXACT = 1e-6
_EXACT_FLOAT16 = 1e-2
"""What powers of two may change, for the same share: float16 has few exponents."""


class Proof:
    """Compares the model's output on a sample with what it was at first.

    Parameters
    ----------
    run
        Runs the model on the sample.
    modules
        The model's, by path.
    types
        Of all that the model computes.
    """

    def __init__(
        self, run: Runner, modules: Mapping[str, nn.Module], types: Set[torch.dtype]
    ) -> None:
        self._run = run
        self._modules = modules
        self._wanted = run()
        self._rounding = max((ROUNDING.get(t, 0.0) for t in types), default=0.0)
        exact = _EXACT_FLOAT16 if torch.float16 in types else _EXACT
        # Sums of some devices differ from run to run; eight times as much is no proof of harm.
        self._exact = exact + 8 * distance(run(), self._wanted)

    def disturbed_by(self, groups: Sequence[Group]) -> dict[str, str]:
        """Return why groups change the output, by their sources; the model stays as it is."""
        if not self._exact < 1:
            msg = (
                "The model's output on the same sample differs from run to run, so no change "
                "of weights can be checked. Give a sample= for which it does not."
            )
            raise CalibrationError(msg)
        if not groups or self._is_harmless(groups):
            return {}
        reasons = {}
        for group in groups:
            if not self._is_harmless([group]):
                reasons[group.source] = (
                    f'Scaling "{group.source}" and its readers changes what the model '
                    "computes, though their product stays the same; something else reads one "
                    "of them"
                )
        told = "The groups together change what the model computes, each alone does not"
        return reasons or {group.source: told for group in groups}

    def _is_harmless(self, groups: Sequence[Group]) -> bool:
        generator = torch.Generator().manual_seed(0)
        with Kept(scaled_parameters(groups, self._modules)):
            for group in groups:
                weight = self._modules[group.readers[0]].weight
                steps = torch.randint(0, 2, (weight.shape[1],), generator=generator)
                fold(group, 2.0 ** (2 * steps - 1), self._modules)
            return distance(self._run(), self._wanted) <= self._exact

    def fold(self, scales: Sequence[tuple[Group, torch.Tensor]]) -> None:
        """Fold scales, all or none.

        Raises
        ------
        CalibrationError
            If the output changes by more than rounding; the model is as it was then.
        """
        with Kept(scaled_parameters([g for g, _ in scales], self._modules)) as kept:
            for group, scale in scales:
                fold(group, scale, self._modules)
            found = self._run()
            numbers = [t.is_floating_point() or t.is_complex() for t in self._wanted]
            far = distance(
                [t for t, n in zip(found, numbers, strict=True) if n],
                [t for t, n in zip(self._wanted, numbers, strict=True) if n],
            )
            if not far <= self._rounding:
                msg = (
                    f"With the scales, the model's output on the sample differs by "
                    f"{far:.1%} of its size, where rounding explains {self._rounding:.1%} "
                    "at most; the model is as it was"
                )
                raise CalibrationError(msg)
            kept.keep()
