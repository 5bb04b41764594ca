"""Execution providers: one that onnxruntime lacks is refused before any sample runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import onnx_models as models
import quantcal as qc

MISSING = sorted(set(ort.get_all_providers()) - set(ort.get_available_providers()))


def never() -> Any:
    pytest.fail("a sample was read")
    yield


@pytest.mark.parametrize("name", ["FooExecutionProvider", "CPU", *MISSING])
def test_a_provider_that_is_not_available_is_refused(name: str, tmp_path: Path) -> None:
    model, given = models.conv_net(), {"providers": ["CPUExecutionProvider", name]}
    message = f"providers: '{name}' is not available, as .*Available: .*CPUExec"
    with pytest.raises(qc.CalibrationError, match=message) as caught:
        qc.onnx.observe(model, never(), **given)
    assert ("built without it" in str(caught.value)) is (name in MISSING)
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(model, tmp_path / "q.onnx", never(), **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_near_name_is_suggested() -> None:
    for name in ("CPUExecutionprovider", "CpuExecutionProvider"):
        with pytest.raises(qc.CalibrationError, match="Did you mean CPUExecutionP"):
            qc.onnx.observe(models.conv_net(), never(), providers=[name])


@pytest.mark.filterwarnings("ignore:Specified provider")  # onnxruntime's
@pytest.mark.parametrize("observer", ["auto", "in_graph", "outputs"])
def test_a_provider_that_does_not_start_is_refused(
    observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with CUDA of onnxruntime-gpu on a machine without its libraries."""
    name = "CUDAExecutionProvider"
    available = [*ort.get_available_providers(), name]
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    cal = qc.Calibrator()
    message = f"with {name}: it would use CPU"
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.observe(
            models.conv_net(),
            [{"x": models.random(1, 3, 8, 8)}],
            calibrator=cal,
            providers=[name],
            observer=observer,
        )
    assert not len(cal)


def test_the_cpu_by_name_is_the_default() -> None:
    model, samples = models.conv_net(), [{"x": models.random(1, 3, 8, 8)}]
    plain = qc.onnx.observe(model, samples)
    named = qc.onnx.observe(model, samples, providers=["CPUExecutionProvider"])
    assert plain.to_bytes() == named.to_bytes()
