"""Bringing a model into a form that can be quantised rightly, in subgraphs too.

The float model computes what it did. In order:

1. the model's own functions are inlined;
2. unnamed or equally named nodes get names of their own, and so do values inside
   subgraphs whose names are used elsewhere (others keep theirs);
3. the opset becomes the first with the formats asked for: 13 has one scale a channel, 19
   8-bit floats, 21 4-bit and 16-bit integers;
4. weights that come from Constant, Identity, Transpose… nodes become initializers;
5. BatchNormalization is folded into the Conv before it: otherwise its factor would be
   applied to rounded values, and at inference time;
6. weights and biases get the one form that is quantised rightly: biases as vectors, the
   Gemm's alpha and beta multiplied in.

Whether it computes the same is checked on a sample: :mod:`quantcal.onnx._check.float_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.external import external_tensors
from quantcal.onnx._graph.graph import all_nodes, operator_of, tensors_of
from quantcal.onnx._graph.scopes import inferred_types, name_nodes, scopes, unify_names
from quantcal.onnx._graph.ties import Tie
from quantcal.onnx._graph.weights import drop_unread, uses_of
from quantcal.onnx._model.functions import flatten
from quantcal.onnx._model.model import Loaded, opset_of, with_weights
from quantcal.onnx._model.old_operators import (
    check_convertible,
    put_back,
    reason,
    set_aside,
)
from quantcal.onnx._plan.data_coverage import NEVER_RAN, Coverage
from quantcal.onnx._plan.fold import fold_batch_norms, fold_constants
from quantcal.onnx._plan.names import near
from quantcal.onnx._plan.operands import normalize_operands
from quantcal.onnx._plan.options import Options
from quantcal.onnx._plan.plan import Plan, PlanRequest, check_names, why_excluded
from quantcal.onnx._plan.unquantizable import find_unquantizable
from quantcal.onnx._plan.weight_budget import plan_within
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx

# Format versions that came with the opsets; from 4 on weights need not be inputs.
_IRS = {13: 7, 19: 9, 21: 10}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready for the quantizer.

    Attributes
    ----------
    original : Loaded
        The model as it was given.
    converted : Loaded
        Only steps 1 to 3: the graph to observe, whose values are the float model's.
    proto : ModelProto
        All steps: the graph to rewrite.
    types : dict of str to str
        onnxruntime's types of all tensors in ``converted``, those of subgraphs too.
    ranks : dict of str to int
        Of those whose rank onnxruntime knows.
    plan : Plan
    options : Options
        What was chosen by.
    unsupported : dict of str to str
        Nodes whose operands cannot be quantised: name → reason.
    ties : dict of str to Tie
        Constants of ``proto`` that follow from another one.
    """

    original: Loaded
    converted: Loaded
    proto: onnx.ModelProto
    types: dict[str, str]
    ranks: dict[str, int]
    plan: Plan
    options: Options
    unsupported: dict[str, str]
    ties: dict[str, Tie]

    def request(self) -> PlanRequest:
        """Return what the plan was made from."""
        return PlanRequest(
            self.proto,
            self.types,
            self.ranks,
            self.converted.label,
            self.options,
            self.unsupported,
            self.ties,
        )

    def drop_uncovered(self, known: Coverage) -> Prepared:
        """Return the same without the nodes for which the data gave no range.

        A branch that no sample takes has no data, and what was empty in every sample or
        held no finite value has no range. Such nodes stay in float, and are counted.

        Parameters
        ----------
        known : mapping of str to (str or None)
            Tensors that were observed: None, or why they have no range.

        Raises
        ------
        CalibrationError
            When no node is left; names the tensors.
        """
        plan, unsupported = self.plan, dict(self.unsupported)
        without: dict[str, str] = {}
        # A plan of fewer nodes may round other tensors than the one before it.
        while new := _without_range(plan, known):
            without |= new
            for name, why in new.items():
                for node in plan.beside[name]:
                    unsupported.setdefault(node, why)
            try:
                request = replace(
                    self.request(), unsupported=unsupported, without=without
                )
                plan = plan_within(request)
            except CalibrationError as error:
                more = f" and {len(without) - 10} more" if len(without) > 10 else ""
                listed = ", ".join(list(without)[:10]) + more
                raise CalibrationError(
                    f"{error} Without a finite value in any sample: {listed}. Give "
                    "samples that reach these tensors."
                ) from None
        return self if plan is self.plan else replace(self, plan=plan)

    def outside(self, names: Iterable[str]) -> list[str]:
        """Return those of some tensors that lie in the main graph, not in a subgraph."""
        graph = self.proto.graph
        there = {value.name for value in graph.input}.union(tensors_of(graph))
        return [name for name in names if name in there]

    def require_coverage(
        self, known: Coverage, lacking: str, advice: Callable[[], str]
    ) -> Prepared:
        """Do the same for ranges or histograms that were there before.

        They must have every tensor of the main graph, which each sample computes; what
        lies inside subgraphs may never have been reached.

        Parameters
        ----------
        known : mapping of str to (str or None)
            As for :meth:`drop_uncovered`.
        lacking : str
            Begins the error, such as "The table has no range".
        advice : callable
            Returns what to do, where that is known: a sentence for the error.

        Raises
        ------
        CalibrationError
            When one is missing; names it and those like it.
        """
        needed = self.outside(self.plan.tensors)
        missing = [name for name in needed if name not in known]
        if missing:
            listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise CalibrationError(
                f"{lacking} for {len(missing)} of the {len(self.plan.tensors)} tensors "
                f"that the chosen nodes of {self.converted.label} need: {listed}. "
                f"{near(missing[0], known, lead='Known')}{advice()} Observe this model "
                "with the same target, formats and nodes (--target, --activation-type, "
                "--op-type, --include, --exclude), or exclude their nodes."
            )
        return self.drop_uncovered(known)


def _without_range(plan: Plan, known: Coverage) -> dict[str, str]:
    """Return the tensors to be rounded that have no range, and why."""
    reasons = {name: known.get(name, NEVER_RAN) for name in plan.tensors}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def prepare(
    loaded: Loaded,
    options: Options,
    opset: int | None = None,
    *,
    external: bool = True,
) -> Prepared:
    """Do all steps and choose the nodes; ``loaded`` is changed.

    Parameters
    ----------
    loaded : Loaded
    options : Options
    opset : int, optional
        The least opset; that of the formats in ``options`` by default.
    external : bool
        Whether weights outside the file are read to see if all values can be coded.

    Raises
    ------
    CalibrationError
        When the model cannot be converted or loaded, or nothing would be quantised.
    """
    import onnx

    original = replace(loaded, proto=onnx.ModelProto())
    original.proto.CopyFrom(loaded.proto)
    loaded = flatten(loaded)
    name_nodes(loaded.proto.graph)
    check_names(loaded.proto, loaded.label, options)
    if not opset_of(loaded.proto):  # nodes of other domains only
        standard = onnx.helper.make_opsetid("", opset or options.opset)
        loaded.proto.opset_import.append(standard)
    converted = convert_opset(loaded, opset or options.opset)
    unify_names(converted.proto.graph)
    if "Upsample" in options.op_types:  # which conversion writes as Resize
        kinds = tuple(dict.fromkeys((*options.op_types, "Resize")))
        options = replace(options, op_types=kinds)
    chosen = {
        node.name
        for node in all_nodes(converted.proto.graph)
        if operator_of(node) in options.op_types and not why_excluded(node, options)
    }
    _drop_weight_inputs(converted.proto, chosen)
    with Workspace(converted) as work:
        types, ranks = work.types_and_ranks(tensors_of(converted.proto.graph))
        types |= declared_types(converted.proto.graph)
        types = inferred_types(work.light, types) | types
    proto = onnx.ModelProto()
    proto.CopyFrom(converted.proto)
    read = uses_of(proto.graph)
    ties = fold_constants(proto, chosen, types, converted.folder)
    if "BatchNormalization" not in options.op_types:
        tied = {*ties, *(tie.root for tie in ties.values())}
        fold_batch_norms(proto.graph, chosen, converted.folder, tied)
    unsupported = find_unquantizable(
        proto.graph, chosen, options, converted.folder, external=external
    )
    unsupported |= normalize_operands(
        proto.graph, chosen - unsupported.keys(), converted.folder, ties
    )
    drop_unread(proto.graph, read)
    types |= declared_types(proto.graph)
    request = PlanRequest(proto, types, ranks, loaded.label, options, unsupported, ties)
    plan = plan_within(request)
    return Prepared(
        original, converted, proto, types, ranks, plan, options, unsupported, ties
    )


def convert_opset(loaded: Loaded, opset: int) -> Loaded:
    """Return the model in at least this opset; the same model when it is already."""
    from onnx import version_converter

    version = opset_of(loaded.proto)
    # 0: no standard operators
    least = max(ir for known, ir in _IRS.items() if known <= opset)
    if not 0 < version < opset:
        loaded.proto.ir_version = max(loaded.proto.ir_version, least)
        return loaded
    kept = sum(1 for _ in external_tensors(loaded.proto))
    hidden = type(loaded.proto)()
    hidden.CopyFrom(loaded.proto)
    check_convertible(hidden, version, opset, loaded.label)
    aside = set_aside(hidden, version, opset)
    try:
        proto = version_converter.convert_version(hidden, opset)
    except Exception as error:  # the converter raises RuntimeError and its own
        raise CalibrationError(
            f"{loaded.label} has opset {version}; what is asked for needs {opset}, and "
            f"onnx cannot convert it: {reason(error, hidden)}. Export the model again "
            f"with opset {opset} or later."
        ) from error
    if sum(1 for _ in external_tensors(proto)) < kept:  # as older converters do
        return convert_opset(with_weights(loaded), opset)
    put_back(proto, aside)
    proto.ir_version = max(proto.ir_version, least)
    name_nodes(proto.graph)
    return replace(loaded, proto=proto)


def _drop_weight_inputs(proto: onnx.ModelProto, chosen: set[str]) -> None:
    """Make weights that are also inputs of the model constants.

    Before format version 4 every weight had to be an input; a quantised one cannot be
    replaced from outside.
    """
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    if proto.ir_version >= 4:
        read = [
            n for node in all_nodes(graph) if node.name in chosen for n in node.input
        ]
        weights &= set(read)
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def declared_types(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the types of inputs and initializers, in onnxruntime's words.

    Of subgraphs, only initializers.
    """
    import onnx

    def text(elem_type: int) -> str:
        name = onnx.TensorProto.DataType.Name(elem_type).lower()
        return f"tensor({name})"

    found = {
        tensor.name: text(tensor.data_type)
        for scope in scopes(graph)
        for tensor in scope.initializer
    }
    for value in graph.input:
        if value.type.HasField("tensor_type"):
            found[value.name] = text(value.type.tensor_type.elem_type)
    return found
