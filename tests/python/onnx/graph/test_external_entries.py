"""The places of external data are read in the same way as by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx._model.model import load_model


def entries(**said: Any) -> onnx.ModelProto:
    """A MatMul with external data of 16 × 16 float32, at the place that the entries give."""
    model = models.build(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        [models.value("x", ["n", 16])],
        [models.value("y", ["n", 16])],
        {"w": models.random(16, 16)},
    )
    [tensor] = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in said.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


@pytest.mark.parametrize(
    ("said", "before"),
    [
        ({"location": "w"}, 0),
        ({"location": "./w", "length": 0}, 0),
        ({"location": "w", "offset": 4096, "length": 1024}, 4096),
        ({"location": "w", "checksum": "00" * 20}, 0),
    ],
)
def test_every_form_of_external_data_is_read(
    said: dict[str, Any], before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes after the weight in the file are ignored."""
    (tmp_path / "m.onnx").write_bytes(entries(**said).SerializeToString())
    weight = models.random(16, 16)
    (tmp_path / "w").write_bytes(bytes(before) + weight.tobytes() + bytes(99))
    loaded = load_model(tmp_path / "m.onnx")
    [tensor] = loaded.proto.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), weight)
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0)
    feeds = [{"x": models.random(2, 16)}]
    cal = qc.onnx.observe(tmp_path / "m.onnx", feeds, tensors="all")
    assert cal["y"].max == np.float32((feeds[0]["x"] @ weight).max())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "external data without a file name"),
        ({"location": "w", "offset": -1}, "the offset '-1'"),
        ({"location": "w", "offset": "one"}, "the offset 'one'"),
        ({"location": "w", "offset": "9" * 5000}, "the offset '999"),
        ({"location": "w", "length": 1000}, "1024 bytes, but .* the length 1000"),
        ({"location": "w", "offset": 99}, "up to byte 1123, but the file has 1024"),
    ],
)
def test_impossible_places_of_external_data_are_refused(
    said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(entries(**said).SerializeToString())
    (tmp_path / "w").write_bytes(b"\x01" * 1024)
    with pytest.raises(
        qc.CalibrationError, match=rf"m\.onnx: its weight 'w'.*{message}"
    ):
        qc.onnx.observe(tmp_path / "m.onnx", [{"x": models.random(2, 16)}])


def test_weights_packed_in_less_than_a_byte_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 values of 4 bits take 8 bytes."""
    model = models.build(
        [
            onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
            onnx.helper.make_node("MatMul", ["x", "d"], ["h"]),
            onnx.helper.make_node("MatMul", ["h", "w"], ["y"]),
        ],
        [models.value("x", ["n", 3])],
        [models.value("y", ["n", 4])],
        {
            "q": np.zeros((3, 5), ml_dtypes.int4),
            "s": np.asarray(0.5, np.float32),
            "w": models.random(5, 4),
        },
        opset=21,
        ir=10,
    )
    packed = model.graph.initializer[0]
    packed.ClearField("raw_data")
    packed.data_location = packed.EXTERNAL
    packed.external_data.add(key="location", value="q.bin")
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "q.bin").write_bytes(bytes(range(8)))
    feeds = [{"x": models.random(2, 3)}]
    qc.onnx.quantize(
        tmp_path / "m.onnx", tmp_path / "q.onnx", feeds, progress=False, strategy="mse"
    )
    (tmp_path / "q.bin").unlink()
    assert models.session(str(tmp_path / "q.onnx")).run(None, feeds[0])
