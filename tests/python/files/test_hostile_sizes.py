"""A small file takes little memory and time to read, whatever its bytes hold."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TIMES = 100
"""Bytes of memory for each byte of a file at most; a list of bins takes a tenth of that."""
SECONDS = 5.0
"""Of processor time, for a quarter of a megabyte; it takes some hundredths."""

READ = """
import json, sys, time
import quantcal as qc
kind, path, pickled = sys.argv[1:]
readers = {"histogram": qc.Histogram.from_bytes, "calibrator": qc.Calibrator.from_bytes}
small = qc.Calibrator()
small.observe("x", __import__("numpy").ones(3, "float32"))
qc.Calibrator.from_bytes(small.to_bytes())  # what reading imports and makes once
data = open(path, "rb").read()
def kilobytes(field):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before, begun = kilobytes("VmRSS"), time.process_time()
try:
    if pickled == "pickled":
        import pickle
        message = type(pickle.loads(data)).__name__
    else:
        message = type(readers[kind](data)).__name__
except qc.CalibrationError as error:
    message = f"refused: {error}"
taken = 1024 * (kilobytes("VmHWM") - before)
print(json.dumps([message, taken, time.process_time() - begun]))
"""


def number(value: int) -> bytes:
    """LEB128, as the format has it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def body(bits: int, octaves: Iterable[int], count: int) -> bytes:
    """One histogram with a bin in each of some octaves, which lie as far apart as they can."""
    codes = sorted((octave << bits) + 1 for octave in octaves)
    sign = 256 << bits
    edge = [
        np.uint32((c % sign) << (23 - bits)).view(np.float32) * (-1 if c >= sign else 1)
        for c in codes
    ]
    head = bytes([1 | 2 | 4, bits])  # fixed, exact, of a known resolution
    head += b"".join(map(number, (len(codes) * count, 0, 0, 0, 0)))
    head += np.float32([min(edge), max(edge)]).tobytes() + number(len(codes))
    last = 0
    for code in codes:
        head += number(code - last) + number(count)
        last = code + 1
    return head


def sealed(version: int, kind: int, content: bytes) -> bytes:
    data = b"QCAL" + bytes([version, kind]) + content
    return data + zlib.crc32(data).to_bytes(4, "little")


def tensor(histogram: bytes) -> bytes:
    return number(1) + histogram + bytes([2, 2])  # of no extremes


def calibrator(tensors: Iterable[bytes], version: int = 1) -> bytes:
    """As many tensors as there are, each with a different name."""
    each = [number(len(n)) + n + t for n, t in zip(names(), tensors)]  # noqa: B905
    settings = b"{}"
    content = number(len(settings)) + settings + number(len(each)) + b"".join(each)
    return sealed(version, 2, content)


def names() -> Iterable[bytes]:
    return (f"{i:x}".encode() for i in range(1 << 30))


ALL = [*range(255), *range(256, 511)]
SIZE = 1 << 18
WIDE = body(12, ALL, 300)  # pages of which would take ten megabytes
FAR = body(12, [100, 380], 300)  # and of this one 40 KB, for 26 bytes


def as_many(piece: bytes, size: int = SIZE) -> list[bytes]:
    return [piece] * (size // len(piece))


def channels(histograms: list[bytes]) -> bytes:
    head = bytes([4]) + number(1) + number(1) + number(len(histograms))
    return head + b"".join(histograms)


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "one histogram of all octaves": ("histogram", lambda: sealed(1, 1, WIDE)),
    "tensors of all octaves": (
        "calibrator",
        lambda: calibrator(as_many(tensor(WIDE))),
    ),
    "tensors of two octaves": ("calibrator", lambda: calibrator(as_many(tensor(FAR)))),
    "extremes of all octaves": (
        "calibrator",
        lambda: calibrator(as_many(number(510 * 300) + 3 * WIDE)),
    ),
    "a tensor of many channels": (
        "calibrator",
        lambda: calibrator([channels(as_many(FAR))], version=2),
    ),
    "channels of all octaves": (
        "calibrator",
        lambda: calibrator([channels(as_many(WIDE))], version=2),
    ),
    "channels without a value": (
        "calibrator",
        lambda: calibrator([channels(as_many(empty(5)))], version=2),
    ),
    "channels of different resolutions": (
        "calibrator",
        lambda: calibrator([channels([empty(5), *as_many(WIDE)])], version=2),
    ),
    "tensors without a value": (
        "calibrator",
        lambda: calibrator(as_many(tensor(empty(8)))),
    ),
    "tensors that were never observed": (
        "calibrator",
        lambda: calibrator(as_many(bytes([0, 2, 2, 2]))),
    ),
    "settings that nest": (
        "calibrator",
        lambda: sealed(1, 2, number(SIZE) + b"[{}," * (SIZE // 4) + number(0)),
    ),
    "settings of many lists": (
        "calibrator",
        lambda: sealed(
            1, 2, number(9 * SIZE + 3) + b"[" + b"[],[],[]," * SIZE + b"1]" + number(0)
        ),
    ),
    "a billion claimed bins": (
        "histogram",
        lambda: sealed(1, 1, WIDE[:30] + number(1 << 30) + b"\x01\x01" * (SIZE // 2)),
    ),
}


def empty(bits: int) -> bytes:
    ends = np.float32([np.inf, -np.inf]).tobytes()
    return bytes([1 | 2 | 4, bits, 0, 0, 0, 0, 0]) + ends + bytes([0])


def in_a_process(kind: str, data: bytes, path: Path, how: str) -> tuple[str, int]:
    """Read in a separate process; return the outcome and the bytes it took."""
    path.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(path), how],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    message, taken, seconds = json.loads(done.stdout)
    assert seconds < SECONDS
    return message, taken


@linux
@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_takes_memory_in_proportion_to_its_size(
    what: str, tmp_path: Path
) -> None:
    kind, make = HOSTILE[what]
    data = make()
    message, taken = in_a_process(kind, data, tmp_path / "hostile.qcal", "bytes")
    assert taken <= TIMES * len(data) + (1 << 20), message


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tensors that were never observed", "thousands of tensors were never"),
        ("channels of different resolutions", "the channels differ in resolution"),
        ("settings that nest", "the settings have"),
        ("settings of many lists", "the settings have"),
        ("a billion claimed bins", "the data were altered"),
    ],
)
def test_what_would_take_more_is_refused_with_the_reason(
    what: str, message: str
) -> None:
    kind, make = HOSTILE[what]
    read: Any = qc.Histogram if kind == "histogram" else qc.Calibrator
    with pytest.raises(qc.CalibrationError, match=message):
        read.from_bytes(make())


@linux
def test_a_pickle_takes_no_more_than_the_file(tmp_path: Path) -> None:
    made = {
        "histogram": qc.Histogram.from_bytes(sealed(1, 1, WIDE)),
        "calibrator": qc.Calibrator.from_bytes(calibrator(as_many(tensor(WIDE)))),
    }
    for kind, value in made.items():
        data = pickle.dumps(value)
        assert pickle.loads(data) == value
        message, taken = in_a_process(kind, data, tmp_path / "pickle", "pickled")
        assert not message.startswith("refused")
        assert taken <= TIMES * len(data) + (1 << 20)


@pytest.mark.parametrize("bits", [None, *range(3, 13)])
@pytest.mark.parametrize("axis", [None, 0])
def test_what_the_library_writes_is_read_at_every_resolution(
    bits: int | None, axis: int | None
) -> None:
    """Also with outliers in many octaves, whose counts exceed a byte."""
    rng = np.random.default_rng(0)
    bulk = rng.standard_normal((4, 20_000)).astype(np.float32)
    apart = np.ldexp(np.float32(1.3), np.arange(-140, 128)).astype(np.float32)
    apart = np.tile(np.concatenate([apart, -apart]), (4, 300))
    for values in (bulk, apart, np.concatenate([bulk, apart[:, :536]], axis=1)):
        cal = qc.Calibrator(mantissa_bits=bits)
        cal.observe("x", values, axis=axis)
        back = qc.Calibrator.from_bytes(cal.to_bytes())
        assert back == cal
        assert back.to_bytes() == cal.to_bytes()
        for each in (cal, back):
            each.observe("x", values[:, ::7], axis=axis)
        assert back == cal
        assert back + cal == cal + cal
        table, read = (each.compute("mse") for each in (cal, back))
        assert table == read


def test_a_histogram_of_a_few_bins_far_apart_keeps_little_memory() -> None:
    data = sealed(1, 1, WIDE)
    h = qc.Histogram.from_bytes(data)
    assert h.nbytes < 16 * len(data)
    assert h.count == len(ALL) * 300
    assert (h.min, h.max) == (-h.max, h.max)
    h.observe(np.ones(1, np.float32))
    assert h.count == len(ALL) * 300 + 1


# Names that occur twice, and counts beyond what can be counted.


def test_a_tensor_that_occurs_twice_in_a_file_is_refused_by_name(
    tmp_path: Path,
) -> None:
    once = [number(1) + b"b" + tensor(FAR), number(1) + b"a" + tensor(empty(8))]
    for version, kind in ((1, b""), (2, bytes([3]))):
        each = [t[:2] + kind + t[2:] for t in once]
        content = b"\x02{}" + number(3) + each[0] + each[1] + each[0]
        path = tmp_path / "twice.qcal"
        path.write_bytes(sealed(version, 2, content))
        with pytest.raises(qc.CalibrationError, match=r'twice\.qcal.*"b" occurs twice'):
            qc.load(path)
        content = b"\x02{}" + number(2) + each[0] + each[1]
        path.write_bytes(sealed(version, 2, content))
        assert sorted(qc.load(path)) == ["a", "b"]


def refusal_to_double(thing: Any) -> str:
    """Merge it with itself; return why not, if that is refused."""
    try:
        thing.merge(thing)
    except qc.CalibrationError as error:
        return str(error)
    return ""


def maximum_count(values: list[float]) -> qc.Histogram:
    """Merge a histogram with itself until that is refused."""
    h = qc.Histogram().observe(np.float32(values))
    for _ in range(70):
        before, message = h.to_bytes(), refusal_to_double(h)
        assert qc.Histogram.from_bytes(h.to_bytes()) == h
        if message:
            assert f"there would be {2 * h.count} values" in message
            assert h.to_bytes() == before
            return h
    raise AssertionError("it is never refused")


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 1.0], [np.nan], [np.inf, -np.inf, 0.0, 1.0]]
)
def test_counts_that_no_file_could_hold_are_refused(values: list[float]) -> None:
    h = maximum_count(values)
    assert h.count == 2**60
    before = h.to_bytes()
    x = np.float32(values)
    for more in (x, np.tile(x, 40_000), x.astype(np.float16)):
        with pytest.raises(qc.CalibrationError, match="at most 2\\^60"):
            h.observe(more)
    with pytest.raises(qc.CalibrationError, match="at most 2\\^60"):
        h + h
    with pytest.raises(qc.CalibrationError, match="at most 2\\^60"):
        sum([h, h])
    assert h.to_bytes() == before
    assert qc.Histogram.from_bytes(before) == h


@pytest.mark.parametrize("axis", [None, 0])
def test_a_calibrator_that_is_full_refuses_by_name_and_stays_as_it_was(
    axis: int | None,
) -> None:
    cal = qc.Calibrator()
    cal.observe_many({"a": np.float32([1]), "b": np.float32([[]])})
    cal.observe("full", np.float32([[1], [2]]), axis=axis)
    message = ""
    while not message:
        before, message = cal.to_bytes(), refusal_to_double(cal)
        assert qc.Calibrator.from_bytes(cal.to_bytes()) == cal
        assert cal.stats("full").count <= 2**60
    assert 'Tensor "full": there would be' in message
    assert cal.to_bytes() == before  # the other tensors, too
    assert cal.stats("full").count == 2**60
    for size in (2, 200_000):
        values = np.ones((2, size), np.float32)
        with pytest.raises(qc.CalibrationError, match='Tensor "full": there would be'):
            cal.observe("full", values, axis=axis)
        axes = None if axis is None else {"full": axis}
        with pytest.raises(qc.CalibrationError, match='Tensor "full": there would be'):
            cal.observe_many({"new": values, "full": values}, axis=axes)
    assert cal.to_bytes() == before
    assert cal.names == ["a", "b", "full"]
    assert qc.Calibrator.from_bytes(before) == cal
