"""Prepare a model for quantization, in subgraphs too, without changing its results.

The steps, in order:

1. Inline the model's functions.
2. Name unnamed nodes, and rename nodes and subgraph values whose names are used twice.
3. Convert to the first opset with the requested formats. 13 has a scale for each channel,
   19 has 8-bit floats, 21 has 4-bit and 16-bit integers.
4. Turn weights that Constant, Identity, Transpose… nodes compute into initializers.
5. Fold BatchNormalization into the Conv before it. Otherwise its factor would multiply
   rounded values, and take time in each inference.
6. Normalize weights and biases: biases become vectors, and the Gemm's alpha and beta are
   multiplied in.

:mod:`quantcal.onnx._check.equivalence` checks on a sample that the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import all_nodes, operator_of, tensors_of
from quantcal.onnx._graph.nested_scopes import (
    inferred_types,
    name_nodes,
    scopes,
    unify_names,
)
from quantcal.onnx._graph.tied_weights import Tie
from quantcal.onnx._graph.weights import drop_unread, uses_of
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import LoadedModel, opset_of
from quantcal.onnx._model.opset import convert_opset
from quantcal.onnx._options.names import near
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.data_coverage import NEVER_RAN, Coverage
from quantcal.onnx._plan.fold import fold_batch_norms, fold_constants
from quantcal.onnx._plan.node_selection import check_names, why_excluded
from quantcal.onnx._plan.operands import normalize_operands
from quantcal.onnx._plan.plan import Plan, PlanRequest
from quantcal.onnx._plan.unquantizable import find_unquantizable
from quantcal.onnx._plan.weight_budget import plan_within
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready for the quantizer.

    Attributes
    ----------
    original : LoadedModel
        The model as given.
    converted : LoadedModel
        After steps 1 to 3: the graph to observe, with the values of the float model.
    proto : ModelProto
        After all steps: the graph to rewrite.
    types : dict of str to str
        onnxruntime's types of all tensors in ``converted``, subgraphs included.
    ranks : dict of str to int
        Ranks of tensors, where onnxruntime knows them.
    plan : Plan
    options : Options
        The options of the plan.
    unsupported : dict of str to str
        Nodes whose operands cannot be quantized: name → reason.
    ties : dict of str to Tie
        Constants of ``proto`` that are derived from another one.
    without : dict of str to str, optional
        Tensors that cannot be rounded, because no sample gave them a range: name → reason.
        None for the first plan, which checks the options.
    """

    original: LoadedModel
    converted: LoadedModel
    proto: onnx.ModelProto
    types: dict[str, str]
    ranks: dict[str, int]
    plan: Plan
    options: Options
    unsupported: dict[str, str]
    ties: dict[str, Tie]
    without: dict[str, str] | None = None

    def request(self) -> PlanRequest:
        """Return the request from which the plan was made."""
        return PlanRequest(
            self.proto,
            self.types,
            self.ranks,
            self.converted.label,
            self.options,
            self.unsupported,
            self.ties,
            self.without,
        )

    def drop_uncovered(self, known: Coverage) -> Prepared:
        """Return the model with the nodes that have no range left in float.

        A branch that no sample takes has no data. A tensor that was empty or not finite in
        every sample has no range. The nodes of such tensors stay in float, and are counted.

        Parameters
        ----------
        known : mapping of str to (str or None)
            The coverage of the observed tensors.

        Raises
        ------
        CalibrationError
            When no node is left; the message names the tensors.
        """
        plan, unsupported = self.plan, dict(self.unsupported)
        without = dict(self.without or {})
        # A plan of fewer nodes may round other tensors, so coverage is checked again.
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
        if plan is self.plan:
            return self
        return replace(self, plan=plan, unsupported=unsupported, without=without)

    def outside(self, names: Iterable[str]) -> list[str]:
        """Return those tensors that lie in the main graph, not in a subgraph."""
        graph = self.proto.graph
        there = {value.name for value in graph.input}.union(tensors_of(graph))
        return [name for name in names if name in there]

    def require_coverage(
        self, known: Coverage, lacking: str, advice: Callable[[], str]
    ) -> Prepared:
        """Do the same for given ranges or histograms, and refuse incomplete ones.

        They must have every tensor of the main graph, since each sample computes these.
        Tensors inside subgraphs may be missing.

        Parameters
        ----------
        known : mapping of str to (str or None)
            As for :meth:`drop_uncovered`.
        lacking : str
            Start of the error, such as "The table has no range".
        advice : callable
            Returns a sentence for the error that says what to do, if that is known.

        Raises
        ------
        CalibrationError
            When a tensor is missing; the message names it and similar ones.
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
    """Return the tensors of the plan that have no range, and the reasons."""
    reasons = {name: known.get(name, NEVER_RAN) for name in plan.tensors}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def prepare(
    loaded: LoadedModel,
    options: Options,
    opset: int | None = None,
    *,
    external: bool = True,
) -> Prepared:
    """Do all steps and make the plan; ``loaded`` is changed.

    Parameters
    ----------
    loaded : LoadedModel
    options : Options
    opset : int, optional
        The minimum opset; that of the formats in ``options`` by default.
    external : bool
        Whether weights outside the file are read to check that all can be quantized.

    Raises
    ------
    CalibrationError
        When the model cannot be converted or loaded, or nothing would be quantized.
    """
    import onnx

    original = replace(loaded, proto=onnx.ModelProto())
    original.proto.CopyFrom(loaded.proto)
    loaded = inline_functions(loaded)
    name_nodes(loaded.proto.graph)
    check_names(loaded.proto, loaded.label, options)
    if not opset_of(loaded.proto):  # nodes of other domains only
        standard = onnx.helper.make_opsetid("", opset or options.opset)
        loaded.proto.opset_import.append(standard)
    converted = convert_opset(loaded, opset or options.opset)
    unify_names(converted.proto.graph)
    if "Upsample" in options.op_types:  # the converter replaces it by Resize
        kinds = tuple(dict.fromkeys((*options.op_types, "Resize")))
        options = replace(options, op_types=kinds)
    chosen = _selected_nodes(converted.proto.graph, options)
    _drop_weight_inputs(converted.proto, chosen)
    types, ranks = _types_and_ranks(converted)
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


def _selected_nodes(graph: onnx.GraphProto, options: Options) -> set[str]:
    """Return the names of the nodes that operator types and patterns select."""
    return {
        node.name
        for node in all_nodes(graph)
        if operator_of(node) in options.op_types and not why_excluded(node, options)
    }


def _types_and_ranks(converted: LoadedModel) -> tuple[dict[str, str], dict[str, int]]:
    """Return the types of all tensors, and the ranks that onnxruntime knows."""
    graph = converted.proto.graph
    with Workspace(converted) as work:
        types, ranks = work.types_and_ranks(tensors_of(graph))
        types |= declared_types(graph)
        return inferred_types(work.light, types) | types, ranks


def _drop_weight_inputs(proto: onnx.ModelProto, chosen: set[str]) -> None:
    """Make weights that are also inputs of the model constants.

    Before IR version 4 every weight had to be an input. A quantized weight cannot be
    replaced by an input.
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
    """Return the types of inputs and initializers, as onnxruntime names them.

    Inputs of subgraphs are not included.
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
