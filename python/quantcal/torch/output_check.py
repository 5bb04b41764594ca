"""Folds scales only where the model's output on a sample stays the same.

Powers of two round nothing, so such scales must leave every bit of the output unchanged.
This detects a second reader of a norm, however small its effect is. The real scales may then
change the output by rounding only. Otherwise the parameters are restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.torch.folding import ParameterBackup, fold, scaled_parameters
from quantcal.torch.groups import Group
from quantcal.torch.sample_runner import SampleRunner, output_distance

ROUNDING = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
    torch.bfloat16: 0.1,
    torch.float16: 0.1,
}
"""How much rounding may change an output, relative to its root mean square, by type."""

_EXACT = 1e-6
_EXACT_FLOAT16 = 1e-2
"""How much powers of two may change an output; float16 has few exponents."""


class OutputCheck:
    """Compares the model's output on a sample with the original output.

    Parameters
    ----------
    run
        Runs the model on the sample.
    modules
        The modules of the model, by path.
    types
        The types of all tensors that the model computes.
    """

    def __init__(
        self,
        run: SampleRunner,
        modules: Mapping[str, nn.Module],
        types: Set[torch.dtype],
    ) -> None:
        self._run = run
        self._modules = modules
        self._wanted = run()
        self._rounding = max((ROUNDING.get(t, 0.0) for t in types), default=0.0)
        exact = _EXACT_FLOAT16 if torch.float16 in types else _EXACT
        # On some devices sums differ from run to run. Only more than eight times that
        # difference counts as a change.
        self._exact = exact + 8 * output_distance(run(), self._wanted)

    def changed_by(self, groups: Sequence[Group]) -> dict[str, str]:
        """Return by source why a group changes the output; the model stays the same.

        Raises
        ------
        CalibrationError
            If the output differs from run to run, so that nothing can be compared.
        """
        if not self._exact < 1:
            msg = (
                "The model's output on the same sample differs from run to run, so no change "
                "of weights can be checked. Give a sample= with a repeatable output."
            )
            raise CalibrationError(msg)
        if not groups or self._is_harmless(groups):
            return {}
        reasons = {
            group.source: (
                f'Scaling "{group.source}" and its readers changes what the model computes, '
                "though their product stays the same; something else reads one of them"
            )
            for group in groups
            if not self._is_harmless([group])
        }
        together = "The groups change the model's output together, but none does alone"
        return reasons or {group.source: together for group in groups}

    def _is_harmless(self, groups: Sequence[Group]) -> bool:
        generator = torch.Generator().manual_seed(0)
        with ParameterBackup(scaled_parameters(groups, self._modules)):
            for group in groups:
                weight = self._modules[group.readers[0]].weight
                steps = torch.randint(0, 2, (weight.shape[1],), generator=generator)
                fold(group, 2.0 ** (2 * steps - 1), self._modules)
            return output_distance(self._run(), self._wanted) <= self._exact

    def fold(self, scales: Sequence[tuple[Group, torch.Tensor]]) -> None:
        """Fold all scales, or none.

        Raises
        ------
        CalibrationError
            If the output changes by more than rounding. The model is then unchanged.
        """
        parameters = scaled_parameters([g for g, _ in scales], self._modules)
        with ParameterBackup(parameters) as backup:
            for group, scale in scales:
                fold(group, scale, self._modules)
            difference = self._float_difference(self._run())
            if not difference <= self._rounding:
                msg = (
                    f"With the scales, the model's output on the sample differs by "
                    f"{difference:.1%} of its size, where rounding explains at most "
                    f"{self._rounding:.1%}; the model is unchanged"
                )
                raise CalibrationError(msg)
            backup.discard()

    def _float_difference(self, found: list[torch.Tensor]) -> float:
        """Return how far the float outputs differ; rounding may change an index."""
        is_float = [t.is_floating_point() or t.is_complex() for t in self._wanted]
        return output_distance(
            [t for t, use in zip(found, is_float, strict=True) if use],
            [t for t, use in zip(self._wanted, is_float, strict=True) if use],
        )
