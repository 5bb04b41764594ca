"""Why inputs of modules cost accuracy, and what else than float helps: with measured losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from quantcal._core import ChannelStats
from quantcal.advice.diagnosis import Diagnosis, diagnose
from quantcal.advice.grid_errors import relative_error
from quantcal.advice.remedies import try_remedies
from quantcal.advice.result import GuiltyTensor, Remedy
from quantcal.advice.search import FloatChoice, Halves, LossMeter, OutOfTimeError
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike, QuantFormat
from quantcal.torch._advice.shared_inputs import SharedInput
from quantcal.torch._advice.trial_runs import TrialRuns
from quantcal.torch.observation import observe
from quantcal.torch.sample_runner import SampleRunner
from quantcal.torch.weight_quantization import select_weights

SHOWN = 0.01
"""Inputs that alone make less than a hundredth of the loss are not reported."""

REMEDIED = 4
"""The number of inputs on which remedies are tried."""

RANGES = ("minmax", "percentile_adaptive", "percentile_99.99", "kl")
"""Strategies that are tried in the place of the chosen one."""

_CHANNEL_AXES = {nn.Linear: -1, nn.Conv1d: -2, nn.Conv2d: -3, nn.Conv3d: -4}


@dataclass
class Evidence:
    """What the search used, and what explains its result.

    Parameters
    ----------
    model
        The model that the user gave.
    modules
        Its modules by path.
    runners
        One for each sample.
    calibrator
        The histograms.
    weights
        The format of the weights, or None.
    trial, meter
        Measure losses.
    halves
        The samples that propose and confirm.
    """

    model: Any
    modules: Mapping[str, nn.Module]
    runners: Sequence[SampleRunner]
    calibrator: Calibrator
    weights: FormatLike | None
    trial: TrialRuns
    meter: LossMeter
    halves: Halves

    def tensors(
        self, shared: Sequence[SharedInput], choice: FloatChoice, *, remedies: bool
    ) -> tuple[tuple[GuiltyTensor, ...], bool]:
        """Return the guilty inputs, and whether the time sufficed for all remedies."""
        names = [each.name for each in shared]
        loss = choice.loss_screened
        by_name = {each.name: each for each in shared}
        guilty = [
            by_name[name]
            for name, alone in sorted(choice.alone.items(), key=lambda item: -item[1])
            if name in choice.kept or alone >= SHOWN * loss > 0
        ]
        channels = self._channels(guilty)
        found, finished = [], True
        for place, each in enumerate(guilty):
            tried: tuple[Remedy, ...] = ()
            if remedies and finished and place < REMEDIED:
                try:
                    tried = self._remedies(names, each.name)
                except OutOfTimeError:
                    finished = False
            alone = choice.alone[each.name]
            found.append(
                GuiltyTensor(
                    name=each.name,
                    nodes=each.paths,
                    loss_alone=alone,
                    share=alone / loss if loss else 0.0,
                    diagnoses=self._diagnoses(each, channels),
                    remedies=tried,
                )
            )
        return tuple(found), finished

    def _channels(self, guilty: Sequence[SharedInput]) -> dict[str, ChannelStats]:
        """Return the inputs by channel, observed on the proposing samples."""
        found: dict[str, ChannelStats] = {}
        for kind, axis in _CHANNEL_AXES.items():
            paths = [g.name for g in guilty if isinstance(self.modules[g.name], kind)]
            if not paths:
                continue
            with observe(self.model, paths, modules=(kind,), axis=axis) as cal:
                for number in self.halves.proposing:
                    self.runners[number]()
            found |= {name: cal.channels(name).stats for name in cal.names}
        return found

    def _diagnoses(
        self, guilty: SharedInput, channels: Mapping[str, ChannelStats]
    ) -> tuple[Diagnosis, ...]:
        """Return the reasons of the first tensor that the modules read."""
        name, params = next(iter(self.trial.tables[guilty.name].items()))
        weight = None
        if self.weights is not None:
            selected = select_weights(
                self.weights, {path: {} for path in guilty.paths}, self.modules
            )
            errors = [
                relative_error(w.tensor.detach().float().cpu().numpy(), p)
                for w, p in selected.values()
                if w.tensor is not None
            ]
            weight = max(errors, default=None)
        return diagnose(
            self.calibrator.stats(name),
            params,
            channels=channels.get(name),
            weight=weight,
        )

    def _remedies(self, names: Sequence[str], guilty: str) -> tuple[Remedy, ...]:
        """Return the remedies that were tried on one input."""
        tables, variants = self.trial.tables, {}
        of_guilty = tables[guilty]
        own = Calibrator()
        own.add_stats(
            [(name, self.calibrator.stats(name).copy()) for name in of_guilty]
        )
        first = next(iter(of_guilty.values()))
        for strategy in RANGES:
            if strategy == first.strategy:
                continue
            variants[strategy] = f"{guilty} {strategy}"
            tables[variants[strategy]] = own.compute(
                strategy, format=first.format, symmetric=first.symmetric
            )
        others = {}
        format = QuantFormat(first.format)
        if not format.is_float and format.bits < 16:
            others["16 bits"] = f"{guilty} 16 bits"
            wide = "uint16" if first.format.startswith("u") else "int16"
            tables[others["16 bits"]] = own.compute(
                "minmax", format=wide, symmetric=first.symmetric
            )
        return try_remedies(
            self.meter, names, guilty, self.halves, ranges=variants, others=others
        )
