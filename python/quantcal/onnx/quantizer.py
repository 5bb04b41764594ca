"""The main job in one call: observe, choose ranges, write the quantized model."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import check_on_random_inputs
from quantcal.onnx._check.files_in_use import policy_files
from quantcal.onnx._choose.auto_choice import choose_ranges
from quantcal.onnx._choose.candidates import CANDIDATES, find_auto, replace_auto
from quantcal.onnx._choose.choice import Choice
from quantcal.onnx._choose.node_trials import leave_in_float
from quantcal.onnx._choose.repeated_options import fitting_options
from quantcal.onnx._choose.started_run import filled_options, first_bits, kept_for
from quantcal.onnx._correct.bias_correction import BIAS_SAMPLES
from quantcal.onnx._correct.corrections import Corrections
from quantcal.onnx._model.model import load_light, model_inputs
from quantcal.onnx._observe.calibration_run import (
    CalibrationRun,
    reuse_histograms,
    run_samples,
)
from quantcal.onnx._observe.ranges import compute_ranges, resolve_policy
from quantcal.onnx._observe.recording import check_given, empty_calibrator
from quantcal.onnx._options.cpu import WeightBits, with_reduced_nodes
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.quantize_options import QuantizeKeywords, QuantizeOptions
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.run_text import text_of_run
from quantcal.onnx._plan.preparation import Prepared, prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.kept_samples import FirstSamples
from quantcal.onnx._runtime.providers import check_providers
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._write.output import check_output
from quantcal.onnx._write.saturation import estimate_saturation
from quantcal.onnx.result import QuantizeResult, peak_memory, widest_clipped
from quantcal.onnx.writer import write_prepared
from quantcal.stability import Stability
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model
    from quantcal.onnx._observe.checkpoint import Checkpoint


@takes_options(QuantizeKeywords)
@shared_child()
def quantize(
    model: Model,
    output: str | os.PathLike[str],
    samples: object = None,
    *,
    calibrator: Calibrator | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
    options: QuantizeOptions | None = None,
    **changes: Unpack[QuantizeKeywords],
) -> QuantizeResult:
    """Quantize a float model with the ranges that its samples show.

    To try several strategies, observe once with :func:`quantcal.onnx.observe` and
    call :func:`quantcal.onnx.write` for each.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``. It is never changed. In the copy, functions
        are inlined, and an opset below 13 (21 for 4 and 16 bits) is converted. All tensors
        of both forms are compared on the first sample, in float. A model whose forms
        differ is refused.
    output
        The path of the new model. The file is replaced when the model is complete and
        checked; of a link, what it points at. It must not be a file that the run reads.
    samples
        Calibration samples: an iterable of ``{input name: array}``, images, WAV files or
        texts of :mod:`quantcal.data`, a DataLoader of torch, a dataset of Hugging Face, an
        onnxruntime ``CalibrationDataReader``, ``Samples``, or a path as for
        :func:`quantcal.onnx.load_samples`. Labels behind the inputs of a tuple are left
        out. Samples are read once. With a ``calibrator`` that
        has observed this model already they are not needed: no sample runs then. With a
        fixed strategy the model is the same, to the byte; ``"auto"`` cannot try anything
        then and takes ``"mse"``. Without samples the float forms are compared on
        random inputs, if all inputs are floats of a fixed shape.
    calibrator
        Add the samples to this one, and choose ranges from all that it has seen. Give an
        empty one to keep the histograms, also when writing fails. Or give one from
        :func:`quantcal.onnx.observe` or :func:`quantcal.load`, and no ``samples``.
    checkpoint
        Where the histograms of the samples so far are kept in case they do not all run. The
        file stays until :meth:`Checkpoint.remove`. To keep those of all samples when the
        model cannot be written, give a ``calibrator``.
    progress
        Show a bar on stderr when it is a terminal and rich is installed.
    options
        All options as one object; the keywords below replace its fields.
    <options>

    Returns
    -------
    QuantizeResult

    Raises
    ------
    CalibrationError
        For anything wrong with the model, the samples, the options or the output. The
        output is then as it was.

    Examples
    --------
    >>> result = qc.onnx.quantize("model.onnx", "model.int8.onnx", "calibration/")
    >>> print(result.summary())

    Observe once, write twice:

    >>> cal = qc.onnx.observe("model.onnx", "calibration/")
    >>> for name in ("mse", "minmax"):
    ...     done = qc.onnx.quantize(
    ...         "model.onnx", f"{name}.onnx", calibrator=cal, strategy=name
    ...     )
    """
    asked = with_changes("quantize", QuantizeKeywords, options, changes)
    check_given(calibrator, checkpoint)
    check_providers(asked.providers)
    place = check_output(model, output, samples, *policy_files(asked.strategy))
    chosen = filled_options(asked, calibrator)
    bits = first_bits(chosen)
    given = Policy.of(asked.strategy)
    started = time.perf_counter()
    corrections = Corrections(load_light(model), chosen, samples, calibrator)
    prepared = prepare(corrections.loaded, chosen)
    # Before the samples run, which may take long. A calibrator may know more tensors.
    policy = resolve_policy(given, prepared, calibrator or ())
    new = empty_calibrator(calibrator, asked.mantissa_bits, asked.on_nonfinite)
    observed = computed = time.perf_counter()
    found = _Found(prepared, bits)
    auto = find_auto(policy)
    biased = "bias" in chosen.corrections
    first = FirstSamples(BIAS_SAMPLES if auto or biased else 0)
    if not chosen.weights_only:
        if samples is None:
            run = reuse_histograms(prepared, calibrator)
        else:
            run = run_samples(
                prepared,
                corrections.samples,
                asked,
                calibrator,
                new,
                checkpoint=checkpoint,
                progress=progress,
                kept=kept_for(auto),
                keep=first.add,
            )
        observed = time.perf_counter()
        found = _choose(run, policy, bits, halves=asked.check_stability)
        computed = time.perf_counter()
    elif biased:
        first.fill(
            as_samples(corrections.samples, model_inputs(prepared.converted.proto))
        )
    final = found.prepared
    if biased or (found.choice is not None and found.choice.biases is not None):
        final = corrections.biases(final, found.table, found.bits, first)
    first.close()
    written = write_prepared(
        final,
        place,
        found.table,
        bits=found.bits,
        sample=found.run.first if found.run else check_on_random_inputs(prepared),
    )
    planned = chosen.planned(found.prepared.plan.formats)
    return QuantizeResult(
        output=place.path,
        table=found.table,
        samples=found.run.samples if found.run else 0,
        tensors_observed=len(found.prepared.plan.observed),
        quantized_nodes=written.quantized_nodes,
        quantize_nodes=written.quantize_nodes,
        dequantize_nodes=written.dequantize_nodes,
        left_in_float=written.left_in_float,
        weight_formats=written.weight_formats,
        float_weights=written.float_weights,
        model_bytes=written.model_bytes,
        reduce_range=found.bits.reduce,
        reduce_range_reason=found.bits.reason,
        seconds_observe=observed - started,
        seconds_compute=computed - observed,
        seconds_write=time.perf_counter() - computed,
        peak_memory=peak_memory(),
        widest_clipped=widest_clipped(found.table),
        corrections=tuple(corrections.done),
        stability=found.stability,
        choice=found.choice,
        config=_config(planned, given, model, new, found),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was chosen before the model is written; without a run, for weights only."""

    prepared: Prepared
    bits: WeightBits
    run: CalibrationRun | None = None
    table: CalibrationTable = field(default_factory=lambda: CalibrationTable({}))
    stability: Stability | None = None
    choice: Choice | None = None


def _choose(
    run: CalibrationRun, policy: Policy, bits: WeightBits, *, halves: bool
) -> _Found:
    """Choose all ranges, and the nodes that take 7-bit weights."""
    prepared = run.prepared
    choice = choose_ranges(run, policy, bits)
    if choice is not None:
        policy = choice.policy
        prepared = leave_in_float(prepared, choice.exclude)
        run = replace(run, prepared=prepared)
    table = compute_ranges(run.calibrator, policy, prepared)
    stability = run.stability(policy, table) if halves else None
    if bits.undecided:
        found = estimate_saturation(prepared, run.calibrator, table)
        bits = with_reduced_nodes(
            bits, [name for name, s in found.items() if s.needs_bit]
        )
    return _Found(prepared, bits, run, table, stability, choice)


def _config(
    options: Options, given: Policy, model: Model, used: Calibrator, found: _Found
) -> str | None:
    """Return the text that repeats the run, with the strategies that were chosen."""
    choice = found.choice
    if choice is None:
        # Without samples, auto took the strategy of least squared error.
        fixed = replace_auto(given, CANDIDATES[0])
        return text_of_run(options, model, found.bits, fixed, used)
    note = f"Asked for: auto. Its choice is below: {choice.strategy} loses least."
    made = () if choice.biases is None else ("bias",)
    both = tuple(dict.fromkeys((*options.corrections, *made)))
    options = replace(options, corrections=both, strategy=choice.policy)
    policy = choice.policy
    if choice.exclude:
        options = fitting_options(options, found.prepared, choice.exclude)
        policy = Policy.of(options.strategy)
    return text_of_run(options, model, found.bits, policy, used, note)
