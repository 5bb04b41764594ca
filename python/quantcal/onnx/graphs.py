"""Reading a model's graph, for other parts of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import unify_names
from quantcal.onnx._graph.nonstandard_operators import (
    standard_operator,
    why_nonstandard,
)
from quantcal.onnx._model.model import load_model
from quantcal.onnx._model.optional import require
from quantcal.onnx._plan.data_coverage import table_coverage

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model as Model  # noqa: PLC0414

__all__ = [
    "all_nodes",
    "attribute",
    "load_model",
    "operator_of",
    "require",
    "standard_operator",
    "stored_tensors",
    "table_coverage",
    "unify_names",
    "why_nonstandard",
]
