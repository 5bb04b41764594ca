"""The main job in one call: observe, choose ranges, write the quantised model."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from quantcal import CalibrationError, Calibrator
from quantcal.onnx.cpu import decided
from quantcal.onnx.model import load_model
from quantcal.onnx.observer import MAX_MEMORY, Source, fresh, record
from quantcal.onnx.output import check_output
from quantcal.onnx.plan import OP_TYPES
from quantcal.onnx.prepare import prepare
from quantcal.onnx.result import QuantizeResult, peak_memory, widest_clipped
from quantcal.onnx.saturation import estimate
from quantcal.onnx.writer import FORMATS, check_weight, write_prepared
from quantcal.strategies.policy import Policy, StrategyLike

if TYPE_CHECKING:
    from quantcal.calibrator import OnNonfinite
    from quantcal.onnx.model import Model


def quantize(
    model: Model,
    output: str | os.PathLike[str],
    reader: object,
    *,
    strategy: StrategyLike = "mse",
    activation: str = "uint8",
    weight: str = "int8",
    per_channel: bool = True,
    reduce_range: bool | str | Collection[str] = "auto",
    cpu: str = "auto",
    op_types: Sequence[str] = OP_TYPES,
    exclude: Sequence[str] = (),
    progress: bool = True,
    max_memory: int = MAX_MEMORY,
    mantissa_bits: int | None = None,
    on_nonfinite: OnNonfinite = "ignore",
    providers: Sequence[str] | None = None,
    calibrator: Calibrator | None = None,
) -> QuantizeResult:
    """Quantise a float model for onnxruntime with the ranges that its data show.

    To try several strategies, observe once with :func:`quantcal.onnx.observe` and
    call :func:`quantcal.onnx.write` for each.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Never changed. Opset below 13 is converted in the copy.
    output : path
        Replaced at once when the new model is complete and checked.
    reader : iterable of {input name: array}, CalibrationDataReader, Feeds, or path
        Calibration samples, read once; see :func:`quantcal.onnx.load_feeds`.
    strategy : str, strategy object, {pattern: strategy}, Policy, or path of a policy
        How ranges are chosen, as for ``Calibrator.compute``.
    activation, weight : "uint8" or "int8"
        ``uint8`` is affine, ``int8`` symmetric.
    per_channel : bool
        One scale for each output channel of a weight (default), or one for all.
    reduce_range : bool, "auto", or collection of str
        7-bit weights in all nodes or none. ``"auto"`` (default) takes them when ``cpu``
        has no VNNI, where 8 bits overflow inside onnxruntime's kernels, and only in the
        nodes where that costs more than the bit (:func:`quantcal.onnx.saturations`).
        Names are the nodes that take them.
    cpu : "auto", "vnni", "no-vnni" or "arm"
        Where the model will run; ``"auto"`` (default) is this machine.
    op_types, exclude : sequence of str
        Operator types to quantise; node names or patterns (``*``) to leave in float.
        Unnamed nodes go by type and position, such as ``Conv_12``.
    progress : bool
        Show a bar on stderr when it is a terminal and rich is installed.
    max_memory, mantissa_bits, on_nonfinite, providers
        As for :func:`quantcal.onnx.observe`.
    calibrator : Calibrator, optional
        Add the samples to this one, and decide from all that it has seen. Give an empty
        one to keep the histograms, also when writing fails.

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
    """
    target = check_output(model, output)
    # The histograms to come tell which nodes need it.
    bits = check_weight(
        weight, "nodes" if reduce_range == "auto" else reduce_range, cpu
    )
    if activation not in FORMATS:
        raise CalibrationError(
            f"activation={activation!r} is not known. Known formats: "
            f"{', '.join(FORMATS)}."
        )
    policy = Policy.of(strategy)
    started = time.perf_counter()
    prepared = prepare(load_model(model), op_types=op_types, exclude=exclude)
    # Before the data, which may take long; a given calibrator may know more tensors.
    policy.assign([*(calibrator or ()), *prepared.plan.tensors])
    new = fresh(calibrator, mantissa_bits, on_nonfinite)
    samples, first = record(
        Source(prepared.converted, prepared.types, prepared.plan.tensors),
        reader,
        new,
        max_memory=max_memory,
        progress=progress,
        providers=providers,
    )
    observed = time.perf_counter()
    if calibrator is None:
        calibrator = new
    else:
        calibrator.merge(new)
    table = calibrator.compute(policy, format=activation)
    if bits.undecided:
        found = estimate(prepared, calibrator, table, per_channel=per_channel)
        bits = decided(bits, [name for name, s in found.items() if s.needs_bit])
    computed = time.perf_counter()
    written = write_prepared(
        prepared,
        target,
        table,
        weight=weight,
        per_channel=per_channel,
        bits=bits,
        sample=first,
    )
    return QuantizeResult(
        output=target,
        table=table,
        samples=samples,
        tensors_observed=len(prepared.plan.tensors),
        quantized_nodes=written.quantized_nodes,
        quantize_nodes=written.quantize_nodes,
        dequantize_nodes=written.dequantize_nodes,
        left_in_float=written.left_in_float,
        reduce_range=bits.reduce,
        reduce_range_reason=bits.reason,
        seconds_observe=observed - started,
        seconds_compute=computed - observed,
        seconds_write=time.perf_counter() - computed,
        peak_memory=peak_memory(),
        widest_clipped=widest_clipped(table),
    )
