"""Record the activations of an ONNX model, to compute ranges later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import first_sample_check
from quantcal.onnx._model.model import load_light
from quantcal.onnx._observe.checkpoint import Checkpoint
from quantcal.onnx._observe.ranges import share_histograms
from quantcal.onnx._observe.recording import (
    RecordingTask,
    check_given,
    empty_calibrator,
    record,
)
from quantcal.onnx._observe.select_tensors import ObservedGraph, find_tensors
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.names import rule_for
from quantcal.onnx._options.quantize_options import ObserveKeywords, QuantizeOptions
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import check_names
from quantcal.onnx._plan.preparation import prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.providers import check_providers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model
    from quantcal.onnx._plan.plan import Plan

__all__ = ["observe"]


@takes_options(ObserveKeywords)
@shared_child()
def observe(
    model: Model,
    samples: object,
    *,
    tensors: str | Iterable[str] | None = None,
    calibrator: Calibrator | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
    options: QuantizeOptions | None = None,
    **changes: Unpack[ObserveKeywords],
) -> Calibrator:
    """Run samples through a model and record its activations.

    Use it to save the histograms and compute ranges later. :func:`quantcal.onnx.quantize`
    does all in one call. Weights and other constants are never observed.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``. It is not changed. Models above 2 GB have
        external data. Give such a model as a path; its weights are memory-mapped.
    samples
        An iterable of ``{input name: array}``, images, WAV files or texts of
        :mod:`quantcal.data`, a DataLoader of torch, a dataset of Hugging Face, an onnxruntime
        ``CalibrationDataReader``, ``Samples``, or a path, which is opened as
        :func:`quantcal.onnx.load_samples` does.
        They are read once, so a generator is enough. Inputs of types that numpy lacks,
        such as bfloat16, are arrays of ``ml_dtypes``.
    tensors
        None (default) observes what :func:`quantcal.onnx.quantize` needs for the options
        below. ``"all"`` observes every float tensor (16, 32 or 64 bits, or bfloat16),
        inside subgraphs too. Names observe exactly those tensors.
    calibrator
        Add to this calibrator and return it. After an error it is unchanged.
    checkpoint
        Where the histograms so far are saved in case the samples end early. The file stays
        until you call :meth:`Checkpoint.remove`; save the result first.
    progress
        Show a bar on stderr when it is a terminal and rich is installed.
    options
        All options as one object; the keywords below replace its fields. Options of
        weights and of ranges have no effect here.
    <options>

    Returns
    -------
    Calibrator
        One histogram per tensor, with the format that the tensor is intended for
        (``Calibrator.formats``). ``Calibrator.compute`` takes that format by default.

    Raises
    ------
    CalibrationError
        When the model cannot be loaded, a tensor name is unknown, or there are no samples.
        Also when a sample does not fit the model or the model fails on it; names the sample.

    Examples
    --------
    >>> cal = qc.onnx.observe("model.onnx", [{"x": batch} for batch in batches])
    >>> table = cal.compute("mse")
    """
    check_given(calibrator, checkpoint)
    tensors = _names(tensors)
    loaded = load_light(model)
    asked = with_changes("observe", ObserveKeywords, options, changes)
    check_providers(asked.providers)
    chosen = Options.of(asked)
    plan = check = None
    if tensors is None:
        prepared = prepare(loaded, chosen, external=False)
        plan = prepared.plan
        _check_observed(plan, chosen, loaded.label)
        source = ObservedGraph(prepared.converted, prepared.types, plan.observed)
        check = first_sample_check(prepared)
        del prepared  # only the check holds the weights now, and it frees them
    else:
        source = find_tensors(loaded, tensors)

    def named(seen: Calibrator) -> Calibrator:
        if plan is not None:
            return share_histograms(seen, plan)
        if not chosen.weights_only:
            rules, default = chosen.activation_formats, chosen.activation_type
            seen.add_formats(
                {name: [rule_for(rules, name, (), default)] for name in seen}
            )
        return seen

    new = empty_calibrator(calibrator, asked.mantissa_bits, asked.on_nonfinite)
    task = RecordingTask(source, plan, named, calibrator, checkpoint, check)
    return record(task, samples, asked, [new], progress=progress).calibrator


def _names(tensors: str | Iterable[str] | None) -> str | tuple[str, ...] | None:
    """Return what to observe; refuse no tensors."""
    if tensors is None or isinstance(tensors, str):
        return tensors
    names = check_names("tensors", tensors)
    if not names:
        raise CalibrationError(
            'tensors is empty, so there is nothing to observe. Name tensors, or give "all", '
            "or leave it out."
        )
    return names


def _check_observed(plan: Plan, options: Options, label: str) -> None:
    """Refuse a plan that needs no histogram, before any sample runs."""
    if plan.observed:
        return
    reason = f"the chosen nodes of {label} only have their weights quantized"
    if options.weights_only:
        reason = 'activation_type="none" (--activation-type none) leaves them in float'
    raise CalibrationError(
        f"There are no activations to observe: {reason}. Quantize without samples, or name "
        "tensors (tensors=, --tensor)."
    )
