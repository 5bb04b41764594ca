"""Remedies for the whole model: corrections, and scales of weights, each measured.

Half of the samples gives the factors and shifts of a correction. The other half judges it,
with the ranges of the other folds. A model whose channels are scaled has other activations,
so the kept samples run through it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.advice.result import Remedy
from quantcal.onnx._choose.joint_trials import JointTrials
from quantcal.onnx._choose.started_run import Started
from quantcal.onnx._choose.time_limit import is_late
from quantcal.onnx._correct.corrections import Corrections
from quantcal.onnx._model.model import load_light
from quantcal.onnx._observe.calibration_run import run_samples
from quantcal.onnx._observe.recording import empty_calibrator
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.values import CORRECTIONS
from quantcal.onnx._plan.data_coverage import histogram_coverage
from quantcal.onnx._plan.preparation import prepare
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._trial.judge import Judge

if TYPE_CHECKING:
    from quantcal.onnx._model.model import LoadedModel, Model

_SCALED = ("equalize", "smooth")  # corrections that change activations


@dataclass(slots=True)
class ModelRemedies:
    """Tries what changes a whole model.

    Attributes
    ----------
    model
        As the caller gave it.
    asked
        The options of the base, with the strategies that it has.
    begun
        The base.
    kept, judge
        The samples and the float model's outputs.
    joint
        Measures the base.
    until
        The time of ``time.monotonic`` after which nothing is tried.
    on_run
        Called after each remedy.
    notes
        Why something was not tried, a sentence each.
    """

    model: Model
    asked: QuantizeOptions
    begun: Started
    kept: KeptSamples
    judge: Judge
    joint: JointTrials
    until: float | None
    on_run: Callable[[], object]
    notes: list[str]

    @property
    def _proposing(self) -> list[int]:
        return list(range(0, len(self.kept), 2))

    @property
    def _confirming(self) -> list[int]:
        return list(range(1, len(self.kept), 2))

    def tried(self) -> tuple[Remedy, ...]:
        """Return what was tried, the lowest loss first.

        What would change nothing is left out.
        """
        steps = [self._scales, self._biases]
        steps += [_bound(self._scaled, name) for name in _SCALED]
        found: list[Remedy] = []
        for number, step in enumerate(steps):
            if is_late(self.until):
                self.notes.append(
                    f"the time limit left {len(steps) - number} remedies for the whole "
                    "model untried"
                )
                break
            try:
                made = step()
            except CalibrationError as error:
                self.notes.append(f"a remedy could not be tried: {error}")
                continue
            self.on_run()
            if made is not None:
                found.append(made)
        return tuple(sorted(found, key=lambda each: each.loss))

    def _remedy(self, name: str, before: float, after: float, text: str) -> Remedy:
        return Remedy.of(name, before, after, len(self._confirming), text)

    def _scales(self) -> Remedy | None:
        """Try one scale for a weight in place of one for each channel, or the reverse."""
        run = self.begun.run
        options = run.prepared.options
        each = not options.per_channel
        made = prepare(run.prepared.original, replace(options, per_channel=each))
        made = made.drop_uncovered(histogram_coverage(run.calibrator))
        if not set(made.plan.tensors) <= set(run.calibrator.names):
            return None
        name = "per-channel weights" if each else "per-tensor weights"
        before = self.joint.loss((), self._confirming)
        if "bias" in options.corrections:
            made, _ = self.joint.with_biases(made, self._proposing)
        after = self.joint.loss_of(made, self._confirming)
        return self._remedy(name, before, after, f"per_channel={each}")

    def _biases(self) -> Remedy | None:
        prepared = self.begun.run.prepared
        if "bias" in prepared.options.corrections:
            return None
        changed, made = self.joint.with_biases(prepared, self._proposing)
        if not made.changed:
            return None
        before = self.joint.loss((), self._confirming)
        after = self.joint.loss_of(changed, self._confirming)
        return self._remedy("bias", before, after, _advice("bias", made.summary()))

    def _scaled(self, name: str) -> Remedy | None:
        """Try a correction that scales the channels of activations."""
        options = self.begun.run.prepared.options
        if name in options.corrections:
            return None
        asked = tuple(n for n in CORRECTIONS if n in (*options.corrections, name))
        feeds = [self.kept.feed(index) for index in self._proposing]
        corrections = Corrections(
            load_light(self.model), replace(options, corrections=asked), feeds, None
        )
        made = next(each for each in corrections.done if each.name == name)
        if not made.changed:
            return None
        after = self._again(corrections.loaded, asked)
        before = self.joint.loss((), self._confirming)
        if self.begun.run.samples > len(self.kept):
            # The other model has the histograms of kept samples only, so compare with those.
            original = self.begun.run.prepared.original
            before = self._again(original, options.corrections)
        return self._remedy(name, before, after, _advice(name, made.summary()))

    def _again(self, model: LoadedModel, corrections: Sequence[str]) -> float:
        """Return the loss of a model that the kept samples calibrate."""
        options = replace(
            self.begun.run.prepared.options, corrections=tuple(corrections)
        )
        prepared = prepare(model, options)
        kept = KeptSamples(self.kept.folds, max(len(self.kept), 2 * self.kept.folds))
        try:
            run = run_samples(
                prepared,
                # One at a time: they may be on the disk, as memory is too small for all.
                (self.kept.feed(index) for index in range(len(self.kept))),
                self.asked,
                None,
                empty_calibrator(None, self.asked.mantissa_bits, "ignore"),
                checkpoint=None,
                progress=False,
                kept=kept,
            )
            begun = replace(self.begun, run=run)
            joint = JointTrials(
                begun, kept, self.judge, folded=True, shifting=self._proposing
            )
            return joint.loss((), self._confirming)
        finally:
            kept.close()


def _bound(
    step: Callable[[str], Remedy | None], name: str
) -> Callable[[], Remedy | None]:
    return lambda: step(name)


def _advice(name: str, summary: str) -> str:
    """Return what to write, and what it changes."""
    return f'corrections=["{name}"], {summary.partition("; ")[0].partition(": ")[2]}'
