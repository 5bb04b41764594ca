"""The first steps of a run that chooses: options, the prepared model, and the samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._correct.corrections import Corrections
from quantcal.onnx._model.model import load_light
from quantcal.onnx._observe.calibration_run import CalibrationRun, run_samples
from quantcal.onnx._observe.ranges import resolve_policy
from quantcal.onnx._observe.recording import empty_calibrator
from quantcal.onnx._options.cpu import WeightBits, with_reduced_nodes
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.recorded_formats import activation_from_histograms
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._trial.metric_judge import load_metric
from quantcal.strategies.auto import FOLDS, Auto
from quantcal.strategies.policy import Policy

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model


def refuse_weights_only(function: str, asked: QuantizeOptions) -> None:
    """Refuse a run without activations.

    Raises
    ------
    CalibrationError
        When they stay in float.
    """
    if asked.activation_type == "none":
        raise CalibrationError(
            f'{function}() looks at activations, and activation_type is "none". '
            "Leave it out."
        )


def filled_options(asked: QuantizeOptions, calibrator: Calibrator | None) -> Options:
    """Fill in all defaults: those of the histograms, else those of the target."""
    known: dict[str, str] = {}
    if asked.activation_type is None and not asked.activation_formats:
        activation, known = activation_from_histograms(calibrator, asked.target)
        asked = replace(asked, activation_type=activation)
    return Options.of(asked, known)


def kept_for(auto: Auto | None) -> KeptSamples | None:
    """Return where the samples for ``auto`` are kept; None without it.

    Raises
    ------
    CalibrationError
        When its metric cannot be imported, before the samples run.
    """
    if auto is None:
        return None
    if auto.metric is not None:
        load_metric(auto.metric)
    return KeptSamples(FOLDS, auto.samples)


def first_bits(options: Options) -> WeightBits:
    """Return the bits of weights; the nodes are undecided where histograms decide."""
    if options.reduce_range == "auto":
        options = replace(options, reduce_range="nodes")
    return options.bits()


def trial_bits(bits: WeightBits) -> WeightBits:
    """Return the bits for trials: 8 while the nodes that take 7 are undecided."""
    return with_reduced_nodes(bits, []) if bits.undecided else bits


@dataclass(frozen=True, slots=True)
class Started:
    """What a choice starts from.

    Attributes
    ----------
    run
        The histograms by fold, the prepared model and the kept samples.
    policy
        The strategies, with tensors in place of nodes.
    bits
        Of weights.
    """

    run: CalibrationRun
    policy: Policy
    bits: WeightBits


def start(
    model: Model,
    samples: object,
    asked: QuantizeOptions,
    kept: KeptSamples,
    *,
    progress: bool,
) -> Started:
    """Prepare a model and run the samples through it.

    The model has the corrections that were asked for, except that of biases: it needs the
    ranges.

    Parameters
    ----------
    model, samples, progress
        As for :func:`quantcal.onnx.quantize`.
    asked : QuantizeOptions
    kept : KeptSamples
        Keeps samples for trials.
    """
    chosen = filled_options(asked, None)
    corrections = Corrections(load_light(model), chosen, samples, None)
    prepared = prepare(corrections.loaded, chosen)
    policy = resolve_policy(Policy.of(asked.strategy), prepared, ())
    run = run_samples(
        prepared,
        corrections.samples,
        asked,
        None,
        empty_calibrator(None, asked.mantissa_bits, asked.on_nonfinite),
        checkpoint=None,
        progress=progress,
        kept=kept,
    )
    return Started(run, policy, first_bits(chosen))
