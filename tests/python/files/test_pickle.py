"""Pickles: public objects pass between processes in the checked format."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import f32

WAIT = 120.0  # seconds; a new interpreter has to start


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator(mantissa_bits=9, on_nonfinite="raise")
    cal.observe("x", samples.shape("student_t3", 3000))
    cal.observe("y", np.arange(7, dtype=np.float16))
    return cal


OBJECTS: dict[str, Any] = {
    "Histogram": qc.Histogram().observe(samples.any_bits(1000)),
    "empty Histogram": qc.Histogram(),
    "coarse Histogram": qc.Histogram(3).observe(f32([1.0])),
    "Calibrator": calibrator(),
    "empty Calibrator": qc.Calibrator(),
    "CalibrationTable": calibrator().compute("mse"),
    "QuantParams": qc.QuantParams.from_range(-1, 2, format="uint8"),
    "TensorReport": calibrator().compute("kl").report["x"],
    "MinMax": qc.MinMax(),
    "Percentile": qc.Percentile(99.5),
    "KL": qc.KL(512),
    "MSE": qc.MSE(),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, (qc.Histogram, qc.Calibrator)) and a.to_bytes() != b.to_bytes():
        return False
    return type(a) is type(b) and bool(a == b)


def observe_more(value: Any) -> Any:
    """Use what came in another process, and send it back."""
    if isinstance(value, qc.Histogram):
        value.observe(f32([0.5]))
    if isinstance(value, qc.Calibrator):
        value.observe("x", f32([0.5]))
    return value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", OBJECTS)
def test_everything_public_survives_pickling(name: str, protocol: int) -> None:
    value = OBJECTS[name]
    assert same(pickle.loads(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("name", OBJECTS)
def test_everything_public_can_be_copied(name: str) -> None:
    value = OBJECTS[name]
    assert same(copy.copy(value), value)
    assert same(copy.deepcopy(value), value)


def test_a_copy_is_independent() -> None:
    h, cal = qc.Histogram().observe(f32([1.0])), calibrator()
    count = cal["x"].count
    for duplicate in (copy.copy, copy.deepcopy):
        duplicate(h).observe(f32([2.0]))
        duplicate(cal).observe("x", f32([2.0]))
    assert h.count == 1
    assert cal["x"].count == count


def test_settings_survive_pickling() -> None:
    cal = pickle.loads(pickle.dumps(calibrator()))
    assert (cal.mantissa_bits, cal.on_nonfinite) == (9, "raise")
    assert cal.stats("x").observations == 1


def test_a_pickle_holds_the_checked_format_and_nothing_to_run() -> None:
    h = qc.Histogram().observe(samples.shape("gaussian", 100))
    assert h.to_bytes() in pickle.dumps(h)
    altered = bytearray(pickle.dumps(h))
    at = altered.index(b"QCAL") + 20
    altered[at] ^= 0xFF
    with pytest.raises(qc.CalibrationError):
        pickle.loads(bytes(altered))


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(qc.CalibrationError("why", 3)))
    assert isinstance(error, qc.CalibrationError)
    assert error.args == ("why", 3)


def test_everything_public_travels_to_a_new_process_and_back() -> None:
    values = [copy.deepcopy(value) for value in OBJECTS.values()]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back = pool.map_async(observe_more, values).get(timeout=WAIT)
    assert len(back) == len(values)
    for value, returned in zip(values, back, strict=True):
        assert same(returned, observe_more(value))
