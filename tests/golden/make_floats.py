"""Writes float8.json: floats in 8 and 4 bits by other libraries.

Run from anywhere, with ml_dtypes, onnx and onnxruntime (the versions are written down in the
file): `python tests/golden/make_floats.py`. Floats are given by their bits, so that NaN, -0 and
the last place are unmistakable.

* `decode`: the float32 of every code, by ml_dtypes.
* `inputs`: every positive level; the tie to the next level and its two neighbors; values that
  overflow; infinities; NaN; zeros; the negatives of a few.
* `ml_dtypes`: the codes of the inputs by `astype`, after clipping to the finite range (`astype`
  itself turns what overflows into NaN or infinity).
* `onnx`: the codes of the inputs by ONNX QuantizeLinear with scale 1, which saturates: by
  onnxruntime's CPU kernel where it has one, else by onnx.reference, named in `onnx_by`.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

FORMATS = {
    "float8_e4m3fn": (ml_dtypes.float8_e4m3fn, "FLOAT8E4M3FN"),
    "float8_e5m2": (ml_dtypes.float8_e5m2, "FLOAT8E5M2"),
    "float4_e2m1fn": (ml_dtypes.float4_e2m1fn, "FLOAT4E2M1"),
}


def decoded(dtype: Any) -> NDArray[np.float32]:
    codes = 1 << (4 if "float4" in np.dtype(dtype).name else 8)
    return np.arange(codes, dtype=np.uint8).view(dtype).astype(np.float32)


def inputs(dtype: Any) -> NDArray[np.float32]:
    levels = decoded(dtype)
    levels = np.unique(levels[np.isfinite(levels) & (levels >= 0)])
    top, smallest = levels[-1], levels[1]
    ties = (levels[1:] + levels[:-1]) / 2
    over = [top * 1.01, (levels[-1] - levels[-2]) / 2 + top, top * 2, 3e38]
    tiny = [smallest / 4, smallest / 1024, np.float32(1e-45)]
    infinity = np.float32(np.inf)
    positive = np.concatenate(
        [
            levels,
            ties,
            np.nextafter(ties, infinity),
            np.nextafter(ties, -infinity),
            [np.nextafter(top, infinity)],
            over,
            tiny,
            [np.inf, np.nan],
        ]
    ).astype(np.float32)
    sample = np.concatenate([positive[:: max(1, len(positive) // 40)], positive[-10:]])
    return np.concatenate([positive, -sample])


def by_ml_dtypes(x: NDArray[np.float32], dtype: Any) -> NDArray[np.uint8]:
    top = np.float32(ml_dtypes.finfo(dtype).max)
    with np.errstate(invalid="ignore"):
        return np.clip(x, -top, top).astype(dtype).view(np.uint8)


def by_onnx(x: NDArray[np.float32], tensor_type: str) -> tuple[NDArray[np.uint8], str]:
    kind = getattr(onnx.TensorProto, tensor_type)
    opset, ir = (23, 11) if kind == onnx.TensorProto.FLOAT4E2M1 else (19, 9)
    node = onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "quantize",
        [value("x", onnx.TensorProto.FLOAT, [len(x)])],
        [value("y", kind, [len(x)])],
        [
            onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [1.0]),
            onnx.helper.make_tensor("zero", kind, [], [0.0]),
        ],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        with np.errstate(all="ignore"):
            codes = ReferenceEvaluator(model).run(None, {"x": x})[0]
        return codes.view(np.uint8), f"onnx.reference {onnx.__version__}"
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu")
    session.run_with_iobinding(binding)
    # numpy knows no 8-bit floats, so the bytes are read where they lie.
    output = binding.get_outputs()[0]
    raw = ctypes.string_at(output.data_ptr(), len(x))
    return np.frombuffer(raw, np.uint8), f"onnxruntime {onnxruntime.__version__}"


def bits(x: NDArray[np.float32]) -> list[int]:
    return [int(b) for b in x.view(np.uint32)]


def main() -> None:
    golden: dict[str, Any] = {"ml_dtypes_version": ml_dtypes.__version__}
    for name, (dtype, tensor_type) in FORMATS.items():
        x = inputs(dtype)
        onnx_codes, by = by_onnx(x, tensor_type)
        golden[name] = {
            "onnx_by": by,
            "decode": bits(decoded(dtype)),
            "inputs": bits(x),
            "ml_dtypes": by_ml_dtypes(x, dtype).tolist(),
            "onnx": onnx_codes.tolist(),
        }
    path = Path(__file__).with_name("float8.json")
    text = json.dumps(golden, separators=(",", ":")).replace(',"', ',\n"')
    path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
