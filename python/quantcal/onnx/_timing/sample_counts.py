"""The multiply-adds of a model's nodes on a few samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.onnx._graph.inputs import InputSpec, Sample
from quantcal.onnx._graph.nested_scopes import name_nodes, unify_names
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import load_light, model_inputs
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._runtime.session import Workspace
from quantcal.onnx._timing.operation_counts import multiply_adds
from quantcal.onnx._timing.shapes import tensor_shapes

if TYPE_CHECKING:
    from quantcal.onnx._model.model import LoadedModel, Model


@shared_child()
def count_multiply_adds(
    model: Model, samples: object, *, max_samples: int = 3
) -> dict[str, int]:
    """Count the multiply-adds of a model's nodes, without measuring a time.

    They stand in for the gain of integers where no times of the deploying machine are known.
    They overrate depthwise convolutions, whose integer kernels are often slower than float.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``.
    samples
        As for :func:`quantcal.onnx.observe`; typical shapes count.
    max_samples
        How many of them run, once each.

    Returns
    -------
    dict of str to int
        Node → products that it adds up for one sample, the mean over the samples. Nodes in
        a Loop count for each iteration. It has the nodes that ran of these types: Conv,
        ConvTranspose, MatMul, Gemm, RNN, GRU, LSTM and com.microsoft's Attention.

    Raises
    ------
    CalibrationError
        When the model cannot be loaded or run, a sample does not fit, or there are none.

    Examples
    --------
    >>> qc.onnx.count_multiply_adds("model.onnx", "calibration/")
    {'Conv_0': 7560, 'Conv_2': 560}
    """
    check_number("max_samples", max_samples, 1)
    loaded = with_unique_names(load_light(model))
    inputs = model_inputs(loaded.proto)
    return mean_counts(loaded, first_samples(samples, inputs, max_samples))


def with_unique_names(loaded: LoadedModel) -> LoadedModel:
    """Inline functions, and name nodes and values as quantization does; changes the model."""
    loaded = inline_functions(loaded)
    name_nodes(loaded.proto.graph)
    unify_names(loaded.proto.graph)
    return loaded


def mean_counts(loaded: LoadedModel, samples: Sequence[Sample]) -> dict[str, int]:
    """Return the multiply-adds of each node that ran, the mean over the samples."""
    totals: dict[str, int] = {}
    with Workspace(loaded) as work:
        for sample in samples:
            shapes, runs = tensor_shapes(work, sample)
            for name, count in multiply_adds(loaded.proto, shapes).items():
                if name in runs:
                    totals[name] = totals.get(name, 0) + count * runs[name]
    return {name: round(total / len(samples)) for name, total in totals.items()}


def first_samples(
    samples: object, inputs: Sequence[InputSpec], most: int
) -> list[Sample]:
    """Return the first samples, checked against a model's inputs.

    Raises
    ------
    CalibrationError
        When a sample does not fit, or there are none.
    """
    feeds = islice(as_samples(samples, inputs), most)
    found = [Sample(feed, f"sample {place}") for place, feed in enumerate(feeds)]
    if not found:
        raise CalibrationError("There are no samples to run. Give one or more.")
    return found


def check_number(name: str, value: object, least: int) -> None:
    """Refuse anything but a whole number from a minimum on.

    Raises
    ------
    CalibrationError
        Names the argument and its value.
    """
    if type(value) is not int or value < least:
        raise CalibrationError(
            f"{name} is {shown(value)}. Give a whole number of {least} or more."
        )
