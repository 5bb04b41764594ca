"""Arbitrary bytes are an error, never a crash and never a wrong histogram."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import quantcal as qc
import samples


@functools.cache
def valid_bytes() -> dict[str, bytes]:
    cal = qc.Calibrator()
    cal.observe("first", samples.any_bits(100))
    cal.observe("second", np.arange(20, dtype=np.float16))
    h = qc.Histogram().observe(samples.any_bits(60)).observe(np.zeros(9, np.float32))
    channels = qc.Calibrator()
    channels.observe("whole", np.arange(20, dtype=np.float16))
    channels.observe("channels", samples.any_bits(60).reshape(20, 3), axis=1)
    return {
        "histogram": h.to_bytes(),
        "calibrator": cal.to_bytes(),
        "channels": channels.to_bytes(),
    }


READERS = {
    "histogram": qc.Histogram.from_bytes,
    "calibrator": qc.Calibrator.from_bytes,
    "channels": qc.Calibrator.from_bytes,
}


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw bytes near valid ones: changed, cut, lengthened, moved."""
    altered = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(altered) - 1)))
        kind = draw(st.sampled_from(["set", "insert", "delete", "cut", "repeat"]))
        if kind == "set" and altered:
            altered[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            altered[at:at] = draw(st.binary(min_size=1, max_size=12))
        elif kind == "delete":
            del altered[at : at + draw(st.integers(1, 12))]
        elif kind == "cut":
            del altered[at:]
        elif kind == "repeat":
            altered[at:at] = altered[at : at + draw(st.integers(1, 40))]
    return bytes(altered)


def resealed(data: bytes) -> bytes:
    """Give altered bytes the checksum that they ought to have."""
    body = data[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_altered_bytes_are_an_error_and_nothing_else(kind: str, data: Any) -> None:
    altered = data.draw(mutations(valid_bytes()[kind]))
    assume(altered != valid_bytes()[kind])
    with pytest.raises(qc.CalibrationError):
        READERS[kind](altered)


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_altered_bytes_with_a_right_checksum_are_an_error_or_consistent(
    kind: str, data: Any
) -> None:
    altered = resealed(data.draw(mutations(valid_bytes()[kind])))
    try:
        read: Any = READERS[kind](altered)
    except qc.CalibrationError:
        return
    assert READERS[kind](read.to_bytes()) == read
    cal = read
    if kind == "histogram":
        cal = qc.Calibrator()
        assert read.bins()[2].sum() == read.finite
        read.quantile(0.5)
        params = [
            qc.calibrate(read, s, format=f)
            for s in samples.STRATEGIES
            for f in ("int8", "uint8")
        ]
        assert all(0 < p.scale < np.inf for p in params)
    if len(cal):
        for strategy in samples.STRATEGIES:
            table = cal.compute(strategy)
            assert all(0 < p.scale < np.inf for p in table.values())


@pytest.mark.parametrize("kind", READERS)
@given(noise=st.binary(max_size=200))
def test_random_bytes_are_an_error(kind: str, noise: bytes) -> None:
    for data in (noise, resealed(valid_bytes()[kind][:6] + noise + b"1234")):
        with pytest.raises(qc.CalibrationError):
            READERS[kind](data)


@pytest.mark.parametrize("kind", READERS)
def test_every_cut_is_called_a_cut(kind: str) -> None:
    whole = valid_bytes()[kind]
    for length in range(len(whole)):
        with pytest.raises(qc.CalibrationError, match=r"end too early|cut off"):
            READERS[kind](whole[:length])


@pytest.mark.parametrize("kind", READERS)
def test_every_changed_byte_is_found(kind: str) -> None:
    whole = valid_bytes()[kind]
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 0x10
        with pytest.raises(qc.CalibrationError):
            READERS[kind](bytes(altered))
