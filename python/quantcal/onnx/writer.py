"""Writing a quantized model with given ranges: QuantizeLinear and DequantizeLinear.

Only the output is written, after the result has been checked and loaded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._notebook import Shown
from quantcal._text import shown
from quantcal.onnx._check.equivalence import check_on_random_inputs
from quantcal.onnx._check.onnx_checker import check_validity
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.inputs import Sample
from quantcal.onnx._model.model import load_light
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.quantize_options import QuantizeOptions, WriteKeywords
from quantcal.onnx._options.recorded_formats import (
    activation_from_table,
    format_mismatch,
)
from quantcal.onnx._options.resolved import Options, opset_for
from quantcal.onnx._options.run_text import text_of_run
from quantcal.onnx._options.values import ACTIVATIONS
from quantcal.onnx._plan.data_coverage import table_coverage
from quantcal.onnx._plan.option_advice import suggest_options
from quantcal.onnx._plan.preparation import Prepared, prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._write.float_weights import count_float_weights
from quantcal.onnx._write.output import Output, check_output, save
from quantcal.onnx._write.qdq_insertion import insert_qdq
from quantcal.onnx._write.quantized_gather import gather_codes
from quantcal.onnx._write.saturation import check_reducible
from quantcal.onnx.result import weights_text
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model

__all__ = ["WriteResult", "check_output", "write", "write_prepared"]


@dataclass(frozen=True, slots=True)
class WriteResult(Shown):
    """What a written model consists of.

    Attributes
    ----------
    output
        The written model.
    quantized_nodes
        Operator type → number of nodes that compute on quantized data.
    quantize_nodes, dequantize_nodes
        Numbers of QuantizeLinear and DequantizeLinear nodes.
    left_in_float
        Reason → number of nodes of the chosen operator types left as they were.
    weight_bits
        7 or 8.
    weight_bits_reason
        Why.
    weight_formats
        Format → number of weights stored in it.
    float_weights
        Operator type → bytes of the constants that it reads and the model still stores in
        float, largest first. Nodes that were not chosen count too.
    model_bytes
        Size of the model, with the weights that lie beside it.
    config
        The options as TOML, which :func:`quantcal.onnx.read_config` reads from a file. It has
        no strategy: the ranges are those of the table.
    """

    output: Path
    quantized_nodes: dict[str, int]
    quantize_nodes: int
    dequantize_nodes: int
    left_in_float: dict[str, int]
    weight_bits: int
    weight_bits_reason: str
    weight_formats: dict[str, int]
    float_weights: dict[str, int]
    model_bytes: int
    config: str | None = field(default=None, repr=False)

    @property
    def weights(self) -> str:
        """How the weights are stored, and why."""
        return weights_text(self.weight_formats, self.weight_bits_reason)


@takes_options(WriteKeywords)
@shared_child()
def write(
    model: Model,
    output: str | os.PathLike[str],
    table: CalibrationTable | Mapping[str, QuantParams],
    *,
    options: QuantizeOptions | None = None,
    **changes: Unpack[WriteKeywords],
) -> WriteResult:
    """Write a quantized copy of a model with the ranges of a table.

    Use it when the ranges are there already, from :func:`quantcal.onnx.observe` and
    ``Calibrator.compute`` or from a file. It runs no samples. Where the model must be
    converted, both forms are compared on random inputs, if all inputs are floats of a
    fixed shape. For other models nothing is checked here.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``. It is never changed. An opset below 13 is
        converted in the copy.
    output
        The path of the new model. The file is replaced when the model is complete, else
        left as it was; of a link, what it points at. A model beyond 2 GiB keeps its weights
        in ``<output>.data``.
    table
        The range of every activation that is rounded, in a format of the target; more is
        ignored. What :func:`quantcal.onnx.observe` records for the same target, nodes
        and formats has all. Only tensors inside subgraphs may be missing, as no sample
        may have reached them: their nodes stay in float, and are counted.
    options
        All options as one object; the keywords below replace its fields. Options of
        activations and of ranges do not matter here: the table has them.
    <options>

    Returns
    -------
    WriteResult

    Raises
    ------
    CalibrationError
        When the model cannot be read, nothing would be quantized, a range is missing,
        or the output cannot be written. When ``reduce_range`` is ``"nodes"``, as which
        nodes need it is not known here: give the names that
        :func:`quantcal.onnx.find_saturation` finds.
    """
    asked = with_changes("write", WriteKeywords, options, changes)
    place = check_output(model, output)
    if not isinstance(table, Mapping):
        raise CalibrationError(
            f"table is {shown(table)}. Give a CalibrationTable, such as that of "
            "Calibrator.compute, or a mapping of tensor names to QuantParams."
        )
    formats = {name: params.format for name, params in table.items()}
    activation = activation_from_table(formats, asked.target)
    asked = replace(asked, activation_type=activation, activation_formats=None)
    chosen = Options.of(asked, formats)
    bits = chosen.bits()
    if bits.undecided:
        raise CalibrationError(
            'reduce_range="nodes" needs the histograms, which write() does not have. '
            "Give the names that quantcal.onnx.find_saturation finds."
        )
    opset = max(chosen.opset, opset_for(formats.values()))
    prepared = prepare(load_light(model), chosen, opset)
    suggest = partial(suggest_options, prepared, table, formats.values(), table=True)
    prepared = prepared.require_coverage(
        table_coverage(table), "The table has no range", suggest
    )
    sample = check_on_random_inputs(prepared)
    written = write_prepared(prepared, place, table, bits=bits, sample=sample)
    planned = chosen.planned(prepared.plan.formats)
    return replace(written, config=text_of_run(planned, model, bits))


def write_prepared(
    prepared: Prepared,
    output: Output,
    table: Mapping[str, QuantParams],
    *,
    bits: WeightBits | None = None,
    sample: Sample | None = None,
) -> WriteResult:
    """Rewrite a prepared model, check the result, and put it in its place.

    With a ``sample`` the check includes a run on it.
    """
    ranges = _needed_ranges(prepared, table)
    bits = bits or prepared.options.bits()
    check_reducible(prepared, bits.nodes)
    inserted = insert_qdq(prepared, ranges, bits)
    proto = inserted.proto
    floats = count_float_weights(proto.graph)
    if prepared.options.target == "onnxruntime":
        gather_codes(proto.graph)
    kinds = Counter(operator_of(node) for node in all_nodes(proto.graph))
    label = prepared.converted.label
    check_validity(proto, prepared.original.proto, f"the quantized copy of {label}")
    size = save(proto, output, label, sample)
    return WriteResult(
        output=output.path,
        quantized_nodes=dict(Counter(prepared.plan.nodes.values()).most_common()),
        quantize_nodes=kinds["QuantizeLinear"],
        dequantize_nodes=kinds["DequantizeLinear"],
        left_in_float=dict(prepared.plan.left_in_float.most_common()),
        weight_bits=bits.bits,
        weight_bits_reason=bits.reason,
        weight_formats=dict(inserted.weights.most_common()),
        float_weights=floats,
        model_bytes=size,
    )


def _needed_ranges(
    prepared: Prepared, table: Mapping[str, QuantParams]
) -> dict[str, QuantParams]:
    ranges = {name: table[name] for name in prepared.plan.tensors}
    for name, params in ranges.items():
        if params.format not in ACTIVATIONS[prepared.options.target][:-1]:
            raise CalibrationError(
                f"The range of {name!r} is for {params.format}; "
                f"{format_mismatch(prepared.options.target)}"
            )
        if prepared.options.target == "tensorrt" and params.zero_point != 0:
            raise CalibrationError(
                f"The range of {name!r} has the zero point {params.zero_point}; "
                "TensorRT takes symmetric ranges only. Choose the ranges with "
                "symmetric=True (quantcal compute --symmetric)."
            )
        if params.axis is not None:
            raise CalibrationError(
                f"The range of {name!r} is by channel (axis {params.axis}); models are "
                "written with one range for each activation: observe it without axis."
            )
    return ranges
