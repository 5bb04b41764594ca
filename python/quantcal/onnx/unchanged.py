"""Whether rewriting left the float model as it was: both forms run on one sample.

What a conversion changes would be calibrated and written without a word, so all tensors
of the main graph are compared before calibrating. Only rounding may differ. Rounding can
tip what is discrete, such as an ArgMax between two equal scores; nothing behind that is
judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import CalibrationError
from quantcal.onnx.graph import all_nodes, inputs_of, operator_of, sort_nodes, subgraphs
from quantcal.onnx.model import model_inputs, opset_of
from quantcal.onnx.session import Workspace
from quantcal.onnx.sizes import GroupedRun, run

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from quantcal.onnx.inputs import Feed
    from quantcal.onnx.prepare import Prepared

    Array = np.ndarray[Any, Any]

MAX_MEMORY = 1 << 28
"""Bytes of tensors of either form that are alive together: 256 MiB."""

# The rounding of a hundred layers stays below 1e-4 of a tensor's size in float32, and
# what we know to change meaning is above 1e-2. 16-bit floats have 13 bits less.
_ROUNDING = {"tensor(float16)": 2e-2, "tensor(float)": 1e-3, "tensor(double)": 1e-3}
_DISCRETE = frozenset(
    f"tensor({kind})"
    for kind in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)
# Where a small difference of the inputs may become a large one.
_STEPS = frozenset(
    ("Ceil", "Floor", "Hardmax", "Mod", "Round", "Shrink", "Sign", "ThresholdedRelu")
)
_RANDOM = ("Random", "Multinomial", "Bernoulli")
# Sums whose terms may cancel: what is left is then rounding of the terms.
_SUMS = frozenset(
    (
        *("Add", "Sub", "Sum", "Mean", "ReduceMean", "ReduceSum"),
        *("Conv", "ConvTranspose", "Gemm", "MatMul"),
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization"),
    )
)
_CANCELLED = 1e-2  # of the rounding that is allowed for the terms


def check_unchanged(
    prepared: Prepared, feed: Feed, where: str, max_memory: int = MAX_MEMORY
) -> None:
    """Refuse a model that computes something else once it is prepared.

    Models that need no rewriting are not run.

    Parameters
    ----------
    prepared : Prepared
    feed : feed
        One sample.
    where : str
        Names it in errors.
    max_memory : int
        As ``MAX_MEMORY``, which is the default.

    Raises
    ------
    CalibrationError
        Names the first tensor, in the order of the graph, that differs by more than
        rounding; also when one of both forms cannot run.
    """
    if not is_rewritten(prepared):
        return
    changed = replace(prepared.converted, proto=prepared.proto)
    with Workspace(prepared.original) as before, Workspace(changed) as after:
        graph = type(before.light.graph)()
        graph.CopyFrom(before.light.graph)
        sort_nodes(graph)
        made = [name for node in graph.node for name in node.output if name]
        here = {name for node in changed.proto.graph.node for name in node.output}
        types = before.types(name for name in made if name in here)
        known = {n: t for n, t in types.items() if t in _ROUNDING or t in _DISCRETE}
        comparison = _Comparison(prepared, graph, known, feed, where)
        for arrays in GroupedRun(before, known, max_memory // 2)(feed, where):
            names = list(arrays)
            session = after.open(names)
            for name, got in zip(names, run(session, names, feed, where), strict=True):
                comparison.add(name, arrays.pop(name), got)


def checking_once(prepared: Prepared) -> Callable[[Feed, str], None]:
    """Return a check that holds the prepared model until it is called."""
    held = [prepared]

    def check(feed: Feed, where: str) -> None:
        while held:
            check_unchanged(held.pop(), feed, where)

    return check


def is_rewritten(prepared: Prepared) -> bool:
    """Return whether more than names was changed in the float model."""
    original, converted = prepared.original.proto, prepared.converted.proto
    return bool(
        opset_of(original) != opset_of(converted)
        or original.functions
        or prepared.proto.graph != converted.graph
    )


def check_without_data(prepared: Prepared) -> Feed | None:
    """Do the same with random inputs, where the model says what they are.

    Returns
    -------
    feed, optional
        The inputs. None when nothing was checked: an input is no float tensor of fixed
        shape, or the model as it was given fails on random numbers.
    """
    feed: Feed = {}
    rng = np.random.default_rng(0)
    for spec in model_inputs(prepared.original.proto):
        if not spec.required:
            continue
        sizes = [size for size in spec.shape or () if size is not None]
        fixed = spec.shape is not None and len(sizes) == len(spec.shape)
        if not fixed or spec.dtype is None or spec.dtype.kind != "f":
            return None
        feed[spec.name] = rng.standard_normal(sizes).astype(spec.dtype)
    outputs = [value.name for value in prepared.original.proto.graph.output]
    try:
        with Workspace(prepared.original) as before:
            run(before.open(outputs), outputs, feed, "random inputs")
    except CalibrationError:
        return None
    check_unchanged(prepared, feed, "random inputs")
    return feed


class _Comparison:
    """Compares tensors in the order of the graph, and remembers how they agreed.

    Parameters
    ----------
    prepared : Prepared
    graph : GraphProto
        The model as it was given, its nodes sorted.
    types : mapping of str to str
        The tensors that are compared.
    feed : feed
    where : str
        Names the sample.
    """

    def __init__(
        self,
        prepared: Prepared,
        graph: onnx.GraphProto,
        types: dict[str, str],
        feed: Feed,
        where: str,
    ) -> None:
        self._prepared = prepared
        self._where = where
        self._types = types
        self._nodes = iter(graph.node)
        self._node: onnx.NodeProto | None = None
        self._equal = set(feed) | {tensor.name for tensor in graph.initializer}
        self._tipped: set[str] = set()
        self._size = {name: _size(np.asarray(array)) for name, array in feed.items()}

    def add(self, name: str, want: Array, got: Array) -> None:
        """Compare a tensor; the order must be that of the graph."""
        node = self._up_to(name)
        self._size[name] = _size(want)
        if name in self._tipped:
            return
        if want.shape == got.shape and want.dtype == got.dtype and _same(want, got):
            self._equal.add(name)
        elif not self._rounded(node, name, want, got):
            if _steps(node, self._types[name]) and not self._equal.issuperset(
                inputs_of(node)
            ):
                self._tipped.add(name)
            else:
                self._refuse(node, name, want, got)

    def _up_to(self, name: str) -> onnx.NodeProto:
        """Go on to the node that makes a tensor, and note what lies between."""
        while self._node is None or name not in self._node.output:
            self._node = node = next(self._nodes)
            read = inputs_of(node)
            if _is_random(node) or not self._tipped.isdisjoint(read):
                self._tipped.update(node.output)
            size = max((self._size.get(n, 0.0) for n in read), default=0.0)
            self._size.update(dict.fromkeys(node.output, size))
        return self._node

    def _rounded(
        self, node: onnx.NodeProto, name: str, want: Array, got: Array
    ) -> bool:
        share = _ROUNDING.get(self._types[name])
        if share is None or want.shape != got.shape or want.dtype != got.dtype:
            return False
        finite = np.isfinite(want)
        if not np.array_equal(finite, np.isfinite(got)):
            return False
        if not np.array_equal(want[~finite], got[~finite], equal_nan=True):
            return False
        wide = np.where(finite, want, 0).astype(np.float64)
        off = np.abs(np.where(finite, got, 0).astype(np.float64) - wide)
        allowed = self._size[name] * share
        if operator_of(node) in _SUMS:
            terms = max((self._size.get(n, 0.0) for n in inputs_of(node)), default=0.0)
            allowed = max(allowed, terms * share * _CANCELLED)
        return bool((off <= np.abs(wide) * share + allowed).all())

    def _refuse(self, node: onnx.NodeProto, name: str, want: Array, got: Array) -> None:
        label = self._prepared.converted.label
        old = opset_of(self._prepared.original.proto)
        new = opset_of(self._prepared.converted.proto)
        called = f" {node.name!r}" if node.name else ""
        if old != new:
            done = f"Converting {label} from opset {old} to {new} would change it"
            help_ = f"Export the model again with opset {new} or later."
        else:
            done = f"Preparing {label} would change it"
            help_ = "Leave the node in float with exclude=, and please report it."
        raise CalibrationError(
            f"{done}: {name!r}, which the {node.op_type} node{called} makes, "
            f"{_told(want, got)} on {self._where}. {help_}"
        )


def _same(want: Array, got: Array) -> bool:
    return bool(np.array_equal(want, got, equal_nan=want.dtype.kind == "f"))


def _size(array: Array) -> float:
    """Return the root mean square of the finite values of a tensor of numbers."""
    if array.dtype.kind not in "fiub" or not array.size:
        return 0.0
    wide = array.astype(np.float64)
    wide = wide[np.isfinite(wide)]
    return float(np.sqrt(np.mean(wide * wide))) if wide.size else 0.0


def _steps(node: onnx.NodeProto, kind: str) -> bool:
    """Whether rounding of the inputs may change an output by more than rounding."""
    return (
        kind in _DISCRETE
        or node.domain != ""
        or operator_of(node) in _STEPS
        or any(True for _ in subgraphs(node))
    )


def _is_random(node: onnx.NodeProto) -> bool:
    inner = [n for graph in subgraphs(node) for n in all_nodes(graph)]
    return any(
        n.op_type.startswith(_RANDOM) or (n.op_type == "Dropout" and len(n.input) > 2)
        for n in (node, *inner)
    )


def _told(want: Array, got: Array) -> str:
    if want.shape != got.shape:
        return f"has shape {list(got.shape)} instead of {list(want.shape)}"
    if want.dtype != got.dtype:
        return f"is of {got.dtype} instead of {want.dtype}"
    if want.dtype.kind != "f":
        return f"differs at {int((want != got).sum())} of {want.size} places"
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    most = float(np.max(off[np.isfinite(off)], initial=0.0))
    if not most:
        return "has NaN or infinities at other places"
    return f"differs by up to {most:.3g}, its values being about {_size(want):.3g},"
