"""The main job in one call: observe, choose ranges, write the quantised model."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError, __version__
from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import check_on_random_inputs
from quantcal.onnx._check.files_in_use import policy_files
from quantcal.onnx._model.model import load_light
from quantcal.onnx._observe.calibration_run import (
    CalibrationRun,
    from_before,
    from_samples,
)
from quantcal.onnx._observe.observer import MAX_MEMORY, Method, fresh
from quantcal.onnx._observe.ranges import assign, ranges
from quantcal.onnx._plan.config import config_text
from quantcal.onnx._plan.cpu import WeightBits, decided
from quantcal.onnx._plan.noted_formats import noted
from quantcal.onnx._plan.options import BLOCK_SIZE, OP_TYPES, Options
from quantcal.onnx._plan.prepare import prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._write.output import check_output
from quantcal.onnx._write.saturation import estimate
from quantcal.onnx.result import QuantizeResult, peak_memory, widest_clipped
from quantcal.onnx.writer import write_prepared
from quantcal.stability import Stability
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.calibrator import OnNonfinite
    from quantcal.onnx._model.model import Model
    from quantcal.onnx._observe.checkpoint import Checkpoint


@shared_child()
def quantize(
    model: Model,
    output: str | os.PathLike[str],
    reader: object = None,
    *,
    strategy: StrategyLike = "mse",
    target: str = "onnxruntime",
    activation: str | None = None,
    formats: Mapping[str, str] | None = None,
    weight: str | None = None,
    weight_strategy: str | None = None,
    weight_formats: Mapping[str, str] | None = None,
    block_size: int = BLOCK_SIZE,
    per_channel: bool = True,
    reduce_range: bool | str | Collection[str] = "auto",
    cpu: str = "auto",
    placement: str = "minimal",
    op_types: Sequence[str] = OP_TYPES,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    halves: bool = True,
    progress: bool = True,
    method: Method = "auto",
    max_memory: int = MAX_MEMORY,
    mantissa_bits: int | None = None,
    on_nonfinite: OnNonfinite = "ignore",
    providers: Sequence[str] | None = None,
    calibrator: Calibrator | None = None,
    keep: Checkpoint | None = None,
) -> QuantizeResult:
    """Quantise a float model with the ranges that its data show.

    To try several strategies, observe once with :func:`quantcal.onnx.observe` and
    call :func:`quantcal.onnx.write` for each.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Never changed. In the copy, functions are inlined, and an opset below 13 (21 for 4
        and 16 bits) is converted. All tensors of both forms are compared on the first
        sample, in float; a model that is not the same is refused.
    output : path
        Replaced at once when the new model is complete and checked; of a link, what it
        points at. No file that the run reads.
    reader : iterable of {input name: array}, CalibrationDataReader, Samples, or path
        Calibration samples, read once; see :func:`quantcal.onnx.load_samples`. Not needed
        with a ``calibrator`` that has observed this model already: no sample runs then,
        and the model is the same, to the byte. Without samples the float forms are
        compared on random inputs, if all inputs are floats of a fixed shape, else not.
    strategy : str, strategy object, {pattern: strategy}, Policy, or path of a policy
        How ranges are chosen, as for ``Calibrator.compute``. A pattern ``node:…`` means
        the tensors that nodes of such names read or write.
    target : "onnxruntime" or "tensorrt"
        Decides where tensors are rounded and what formats there are. TensorRT (10 and
        11) wants symmetric ranges, no rounding of what is fused into a node, and biases
        in float.
    activation : str, optional
        ``"uint8"`` (default for onnxruntime) is affine: no code is spent on what ReLU
        cuts off. ``"int8"`` (default for TensorRT) is symmetric. ``"uint16"``,
        ``"int16"``, ``"float8_e4m3fn"``, ``"float8_e5m2"``; TensorRT has the first of
        the last two. ``"none"`` codes weights only, and needs no data. Histograms in a
        ``calibrator`` are for a format, which is then the default (and that of each
        tensor, unless ``formats`` are given).
    formats : {pattern: format}, optional
        Other formats for the activations whose names match; the first match counts.
        ``node:…`` as for ``strategy``.
    weight : str, optional
        ``"int8"`` (default; a small float with small float activations) has the fast
        kernels. ``"uint8"`` is affine, ``"int7"`` leaves a bit of room for sums,
        ``"int4"`` and ``"uint4"`` take an eighth of the float's size.
    weight_strategy : "minmax" or "mse", optional
        Ranges of weights: nothing is clipped (default from 5 bits on, where clipping
        gains 0.1 to 0.4 dB) or the least squared error (default for 4 bits: 1 to 3 dB).
    weight_formats : {pattern: format}, optional
        Other formats for weights, by name of the weight or ``node:…``.
    block_size : int
        So many values of a 4-bit matrix share a scale, along the axis that is summed
        over: 32 by default, as in most 4-bit files; fewer are more exact, more are
        smaller. 0 for one scale a channel.
    per_channel : bool
        One scale for each output channel of a weight (default), or one for all.
    reduce_range : bool, "auto", "nodes", or collection of str
        7-bit weights. ``"auto"`` (default) and ``"nodes"`` take them for onnxruntime when
        ``cpu`` has no VNNI, where 8 bits overflow inside its kernels, and only in the
        nodes where that costs more than the bit (:func:`quantcal.onnx.find_saturation`);
        names are those nodes.
    cpu : "auto", "vnni", "no-vnni" or "arm"
        Where the model will run; ``"auto"`` (default) is this machine.
    placement : "minimal" or "stock"
        Where activations are rounded for onnxruntime. ``"minimal"`` (default) rounds only
        what its integer kernels need: a MatMul or Gemm has a float result, unless a
        quantized node reads it as it is. ``"stock"`` rounds every result too, as
        onnxruntime's own quantizer does; take it to compare with that.
    op_types : sequence of str
        Operator types to quantise, inside ``If``, ``Loop`` and ``Scan`` too. Of Gather,
        LSTM, GRU, RNN and Einsum only constant weights are coded.
    include, exclude : sequence of str
        Names of nodes, or of tensors that they make, or patterns (``*``): quantise these
        only; leave these in float. Unnamed nodes go by type and position, such as
        ``Conv_12``.
    halves : bool
        Keep every second sample apart as well, and tell how far the ranges of the two halves
        differ: whether the samples suffice. It changes nothing else; ranges are chosen three
        times, milliseconds a tensor.
    progress : bool
        Show a bar on stderr when it is a terminal and rich is installed.
    method, max_memory, mantissa_bits, on_nonfinite, providers
        As for :func:`quantcal.onnx.observe`.
    calibrator : Calibrator, optional
        Add the samples to this one, and decide from all that it has seen. Give an empty
        one to keep the histograms, also when writing fails; or one from
        :func:`quantcal.onnx.observe` or :func:`quantcal.load`, and no ``reader``.
    keep : Checkpoint, optional
        Where the histograms of the samples so far are kept in case they do not all run. The
        file stays until :meth:`Checkpoint.remove`. For all of them, when the model cannot
        be written, give a calibrator.

    Returns
    -------
    QuantizeResult

    Raises
    ------
    CalibrationError
        For anything wrong with the model, the data, the options or the output. The
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
    place = check_output(model, output, reader, *policy_files(strategy))
    known: dict[str, str] = {}
    if activation is None and not formats:
        activation, known = noted(calibrator, target)
    options = Options.of(
        target=target,
        activation=activation,
        formats=formats,
        weight=weight,
        weight_strategy=weight_strategy,
        weight_formats=weight_formats,
        block_size=block_size,
        per_channel=per_channel,
        reduce_range=reduce_range,
        cpu=cpu,
        placement=placement,
        op_types=op_types,
        include=include,
        exclude=exclude,
    )
    options = replace(options, given=known)
    # The histograms to come tell which nodes need it.
    by_node = replace(options, reduce_range="nodes")
    bits = (by_node if reduce_range == "auto" else options).bits()
    given = Policy.of(strategy)
    started = time.perf_counter()
    prepared = prepare(load_light(model), options)
    # Before the data, which may take long; a given calibrator may know more tensors.
    policy = assign(given, prepared, calibrator or ())
    seen: CalibrationRun | None = None
    table = CalibrationTable({})
    steadiness: Stability | None = None
    observed = computed = time.perf_counter()
    used = fresh(calibrator, mantissa_bits, on_nonfinite)
    if not options.weights_only:
        if reader is None:
            seen = from_before(prepared, calibrator)
        else:
            seen = from_samples(
                prepared,
                reader,
                calibrator,
                used,
                halves=halves,
                keep=keep,
                method=method,
                max_memory=max_memory,
                progress=progress,
                providers=providers,
            )
        observed = time.perf_counter()
        prepared = seen.prepared
        table = ranges(seen.calibrator, policy, prepared)
        steadiness = seen.stability(policy, table)
        if bits.undecided:
            found = estimate(prepared, seen.calibrator, table, per_channel=per_channel)
            bits = decided(bits, [name for name, s in found.items() if s.needs_bit])
        computed = time.perf_counter()
    first = seen.first if seen else check_on_random_inputs(prepared)
    written = write_prepared(prepared, place, table, bits=bits, sample=first)
    return QuantizeResult(
        output=place.path,
        table=table,
        samples=seen.samples if seen else 0,
        tensors_observed=len(prepared.plan.observed),
        quantized_nodes=written.quantized_nodes,
        quantize_nodes=written.quantize_nodes,
        dequantize_nodes=written.dequantize_nodes,
        left_in_float=written.left_in_float,
        weight_formats=written.weight_formats,
        float_weights=written.float_weights,
        model_bytes=written.model_bytes,
        reduce_range=bits.reduce,
        reduce_range_reason=bits.reason,
        seconds_observe=observed - started,
        seconds_compute=computed - observed,
        seconds_write=time.perf_counter() - computed,
        peak_memory=peak_memory(),
        widest_clipped=widest_clipped(table),
        stability=steadiness,
        config=_config(
            options.planned(prepared.plan.formats), given, model, used, bits
        ),
    )


def _config(
    options: Options,
    policy: Policy,
    model: Model,
    used: Calibrator,
    bits: WeightBits,
) -> str | None:
    """Return the text that repeats the run; None for strategies that no text can hold."""
    import onnx
    import onnxruntime

    name = Path(model).name if isinstance(model, (str, os.PathLike)) else "a model"
    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    top = (
        f"How {name} was quantised, by quantcal {__version__} with {versions}.\n"
        "To repeat it: quantcal quantize MODEL -o OUT --data DATA --config THIS"
    )
    more = {"mantissa_bits": used.mantissa_bits, "on_nonfinite": used.on_nonfinite}
    remarks = {"": top}
    if options.reduce_range in ("auto", "nodes"):
        remarks["reduce_range"] = f"chosen: {bits.reason}"
    try:
        return config_text(options.settled(bits), policy, more, remarks)
    except CalibrationError:
        return None
