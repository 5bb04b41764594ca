"""Real networks, among them those on which onnxruntime's quantizer fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._model.model import load_model, opset_of
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare
from tests.models import MODELS

pytestmark = pytest.mark.model


def lines(widths: tuple[int, ...] = (320, 96, 512)) -> Iterator[dict[str, Any]]:
    for width in widths:
        yield {"x": models.random(1, 3, 48, width, seed=width)}


def files(count: int = 3) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {"bytes": rng.integers(0, 257, (2, 2048)).astype(np.int32)}


def speech(count: int = 3) -> Iterator[dict[str, Any]]:
    state = np.zeros((1, 1, 128), np.float32)
    for seed in range(count):
        yield {"input": 0.1 * models.random(9, 576, seed=seed), "h": state, "c": state}


def assert_written_as_computed(result: Any) -> onnx.ModelProto:
    """Every activation in the file has the table's scale and zero point."""
    model = onnx.load(result.output)
    onnx.checker.check_model(model)
    constants = arrays(model)
    seen = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            name = node.input[0].removesuffix("_QuantizeLinear_Input")
            p = result.table[name]
            assert constants[node.input[1]].tobytes() == np.float32(p.scale).tobytes()
            assert int(constants[node.input[2]]) == p.zero_point
            seen.add(name)
    assert seen == set(result.table)
    assert constants.keys() <= {
        name for node in model.graph.node for name in node.input
    }
    return model


def assert_biases_kept(model: onnx.ModelProto, path: Path) -> None:
    """No 32-bit bias is clipped, although some of their weights are tiny."""
    prepared = prepare(load_model(path), Options.of())
    floats = {
        name: onnx.numpy_helper.to_array(tensor)
        for name, tensor in stored_tensors(prepared.proto.graph).items()
    }
    written = arrays(model)
    codes = {name: a for name, a in written.items() if a.dtype == np.int32}
    assert codes
    largest = 0
    for name, code in codes.items():
        scale = written[f"{name}_scale"].astype(np.float64)
        bias = floats[name.removesuffix("_quantized")]
        error = np.abs(code * scale - bias)
        assert (error <= scale / 2 * (1 + 1e-6) + 1e-7 * np.abs(bias)).all(), name
        largest = max(largest, int(np.abs(code.astype(np.int64)).max()))
    assert 0.99 * 2**30 < largest <= 2**30  # the limit was reached


def arrays(model: onnx.ModelProto) -> dict[str, Any]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_the_text_recognizer(tmp_path: Path) -> None:
    """Opset 12, weights in Constant nodes, variable widths, characters as metadata."""
    path = MODELS["pp-ocr-rec"].fetch()
    before = path.read_bytes()
    output = tmp_path / "rec.onnx"
    result = qc.onnx.quantize(path, output, lines(), progress=False, strategy="mse")
    assert path.read_bytes() == before
    assert result.quantized_nodes == {"Conv": 38, "MatMul": 13}
    assert result.left_in_float == {}
    model = assert_written_as_computed(result)
    assert_biases_kept(model, path)
    assert opset_of(model) == 13
    assert "character" in {p.key for p in model.metadata_props}
    feed = next(lines())
    want = models.session(str(path)).run(None, feed)[0]
    got = models.session(str(output)).run(None, feed)[0]
    assert np.mean(want.argmax(2) == got.argmax(2)) > 0.9


def test_every_tensor_of_the_text_recognizer_equals_the_oracle() -> None:
    path = MODELS["pp-ocr-rec"].fetch()
    model = onnx.load(path)
    cal = qc.onnx.observe(path, lines((96,)), tensors="all", max_memory=5_000_000)
    names = [name for name in cal.names if name != "x"]
    assert len(names) > 300
    arrays = models.outputs(model, next(lines((96,))), names)
    for name, array in zip(names, arrays, strict=True):
        h = cal[name]
        found = (h.count, h.zeros, h.nan, h.min, h.max)
        zeros, nan = int((array == 0).sum()), int(np.isnan(array).sum())
        assert found == (array.size, zeros, nan, array.min(), array.max()), name


def test_the_file_type_classifier(tmp_path: Path) -> None:
    """onnxruntime's quantizer fails on Gemm biases that its preprocessing makes."""
    path = MODELS["magika"].fetch()
    output = tmp_path / "magika.onnx"
    result = qc.onnx.quantize(path, output, files(), progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 2, "Conv": 1}
    assert_written_as_computed(result)
    feed = next(files())
    want = models.session(str(path)).run(None, feed)[0]
    got = models.session(str(output)).run(None, feed)[0]
    np.testing.assert_allclose(got, want, atol=0.1)


def test_the_voice_detector(tmp_path: Path) -> None:
    path = MODELS["silero-16k-sequence"].fetch()
    output = tmp_path / "silero.onnx"
    result = qc.onnx.quantize(path, output, speech(), progress=False, strategy="mse")
    assert result.quantized_nodes == {"Conv": 6}
    assert_written_as_computed(result)
    feed = next(speech())
    want = models.session(str(path)).run(None, feed)[0]
    got = models.session(str(output)).run(None, feed)[0]
    np.testing.assert_allclose(got, want, atol=0.1)


MEASURE = """
import resource, sys
import numpy as np, quantcal as qc
def samples(count, rng=np.random.default_rng(0)):
    for _ in range(count):
        yield {"x": rng.standard_normal((1, 3, 640, 640), dtype=np.float32)}
qc.onnx.observe(sys.argv[1], samples(int(sys.argv[2])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(samples: int) -> int:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            str(MODELS["pp-ocr-det"].fetch()),
            str(samples),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    pytest.importorskip("resource")
    assert peak(12) < 1.05 * peak(3)
