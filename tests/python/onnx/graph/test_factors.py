"""Constant factors of 4 bits have a scale for each row or column of what they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc

FORMS: dict[str, tuple[str, bool, bool, dict[str, int]]] = {
    "first": ("MatMul", True, False, {}),
    "stack first": ("MatMul", True, True, {}),
    "stack second": ("MatMul", False, True, {}),
    "Gemm first": ("Gemm", True, False, {}),
    "Gemm first, turned": ("Gemm", True, False, {"transA": 1}),
    "Gemm second, turned": ("Gemm", False, False, {"transB": 1}),
}


@pytest.mark.parametrize("activation", ["uint8", "none"])
@pytest.mark.parametrize("weight", ["int4", "uint4"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_factor_of_four_bits_has_a_scale_for_each_row_or_column(
    tmp_path: Path,
    form: tuple[str, bool, bool, dict[str, int]],
    weight: str,
    activation: str,
) -> None:
    """Rows, or columns, differ in size by 30, which one scale could not hold."""
    op_type, first, stacked, attributes = form
    sizes = np.geomspace(1, 30, 16, dtype=np.float32)
    stack: tuple[int, ...] = (3,) if stacked else ()
    w = models.random(*stack, 16, 16) * (sizes[:, None] if first else sizes)
    if attributes:
        w = np.ascontiguousarray(w.T)
    inputs = ["w", "x"] if first else ["x", "w"]
    node = helper.make_node(op_type, inputs, ["y"], "product", **attributes)
    x, y = models.value("x", [*stack, 16, 16]), models.value("y", [*stack, 16, 16])
    model, path = models.build([node], [x], [y], {"w": w}), tmp_path / "q.onnx"
    feeds: Any = [{"x": models.random(*stack, 16, 16, seed=n)} for n in range(4)]
    qc.onnx.quantize(
        model,
        path,
        None if activation == "none" else feeds,
        activation_type=activation,
        weight_type=weight,
        block_size=0,
        progress=False,
        strategy="mse",
    )
    (want,) = models.session(model).run(None, feeds[0])
    scaled = want / (sizes[:, None] if first else sizes)
    for exact in (True, False):
        (got,) = models.session(str(path), exact=exact).run(None, feeds[0])
        got = got / (sizes[:, None] if first else sizes)
        assert models.signal_to_noise(scaled, got) > 17
