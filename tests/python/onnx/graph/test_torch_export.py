"""Models from torch's exporter (`dynamo=True`) with dynamic sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantcal as qc

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn
Dim = torch.export.Dim


def convolutions() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def encoder() -> Any:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


CASES = {
    "convolutions": (
        convolutions,
        {0: "batch", 2: "height", 3: "width"},
        [(2, 3, 16, 20), (1, 3, 24, 18), (5, 3, 11, 30)],
        {"Conv": 2, "Gemm": 1},
    ),
    "encoder": (
        encoder,
        {0: "batch", 1: "length"},
        [(2, 7, 32), (1, 12, 32), (3, 5, 32)],
        {"Gemm": 2, "MatMul": 10},
    ),
}


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize(
    ("make", "open_sizes", "shapes", "nodes"), CASES.values(), ids=CASES
)
def test_an_exported_model_is_quantized_with_samples_of_any_size(
    make: Any,
    open_sizes: dict[int, str],
    shapes: list[tuple[int, ...]],
    nodes: dict[str, int],
    optimize: bool,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    path, made = tmp_path / "model.onnx", tmp_path / "made.onnx"
    sizes = {axis: Dim(name, min=1, max=64) for axis, name in open_sizes.items()}
    torch.onnx.export(
        make().eval(),
        (torch.randn(*shapes[0]),),
        str(path),
        dynamo=True,
        dynamic_shapes=(sizes,),
        input_names=["x"],
        optimize=optimize,
        verbose=False,
    )
    exported = onnx.load(path)
    assert exported.opset_import[0].version >= 18
    assert path.with_suffix(".onnx.data").exists()  # external data
    dims = exported.graph.input[0].type.tensor_type.shape.dim
    assert [axis for axis, dim in enumerate(dims) if dim.dim_param] == list(sizes)

    data = tmp_path / "data"
    data.mkdir()
    for number, shape in enumerate(shapes):
        values = np.random.default_rng(number).standard_normal(shape, np.float32)
        np.save(data / f"{number}.npy", values)
    quantized = qc.onnx.quantize(path, made, data, progress=False, strategy="mse")
    assert dict(quantized.quantized_nodes) == nodes
    assert not quantized.left_in_float
    onnx.checker.check_model(str(made), full_check=True)
    (found,) = qc.onnx.evaluate(path, made, data).outputs.values()
    assert found["exact"].sqnr_db > 30
