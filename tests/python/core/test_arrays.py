"""Arrays as input: every dtype, layout and origin gives the histogram of its elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import Array, f32

ACCEPTED = "float16, bfloat16, float32 and float64"
dtypes = pytest.mark.parametrize("dtype", samples.DTYPES.values(), ids=samples.DTYPES)


def of(values: Any) -> qc.Histogram:
    return qc.Histogram().observe(values)


def cube(dtype: np.dtype[Any], side: int = 40) -> Array:
    """Return a C-ordered array of three dimensions, 64,000 elements by default."""
    x = samples.shape("student_t3", side**3, seed=4).reshape(side, side, side)
    return samples.cast(x, dtype)


VIEWS: dict[str, Callable[[Array], Array]] = {
    "as it is": lambda x: x,
    "Fortran order": np.asfortranarray,
    "transposed": lambda x: x.transpose(1, 2, 0),
    "every second": lambda x: x[:, ::2],
    "every third of the last axis": lambda x: x[..., 1::3],
    "reversed": lambda x: x[::-1, ::-1, ::-1],
    "reversed and strided": lambda x: x[::-2, :, ::-3],
    "one plane": lambda x: x[:, 3],
    "one column": lambda x: x[:, 3, 5],
    "broadcast": lambda x: np.broadcast_to(x[:1, 2], (7, 40, 40)),
    "diagonal": lambda x: np.einsum("iij->ij", x),
    "new axes": lambda x: x[None, :, None, ::5],
    "0-d": lambda x: x[1, 2, 3, ...],
    "empty": lambda x: x[:0],
    "empty and strided": lambda x: x[::2, 5:5, ::-1],
    "empty of shape (0, 3, 0)": lambda x: x[:0, :3, :0],
}


@dtypes
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_any_memory_layout_gives_the_histogram_of_its_elements(
    view: Callable[[Array], Array], dtype: np.dtype[Any]
) -> None:
    x = view(cube(dtype))
    plain = np.array(x, dtype=dtype, order="C").ravel()
    h = of(x)
    assert h == of(plain)
    assert h.count == x.size


@pytest.mark.parametrize("size", [1000, 65_535, 65_536, 65_537, 131_072, 300_000])
def test_strided_arrays_of_any_size_lose_nothing(size: int) -> None:
    x = samples.any_bits(2 * size)
    assert of(x[::2]) == of(x[::2].copy())
    assert of(x[::-2]) == of(x[::-2].copy())


@dtypes
def test_read_only_arrays_are_read(dtype: np.dtype[Any]) -> None:
    x = cube(dtype)
    want = of(x)
    x.setflags(write=False)
    assert of(x) == want
    assert of(x[::2]).count == x[::2].size


@dtypes
def test_arrays_are_not_modified(dtype: np.dtype[Any]) -> None:
    x = samples.cast(samples.any_bits(50_000), dtype)
    before = x.tobytes()
    of(x)
    of(x[::-3])
    assert x.tobytes() == before


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_bytes_in_the_other_order_are_read_rightly(name: str) -> None:
    x = cube(np.dtype(name))
    swapped = x.astype(x.dtype.newbyteorder())
    assert not swapped.dtype.isnative
    assert of(swapped) == of(x)
    assert of(swapped[::-2, 1]) == of(x[::-2, 1])


@dtypes
@pytest.mark.parametrize("offset", [1, 3])
def test_unaligned_arrays_are_read_rightly(dtype: np.dtype[Any], offset: int) -> None:
    x = cube(dtype, side=20).ravel()
    raw = np.zeros(x.nbytes + 8, dtype=np.uint8)
    raw[offset : offset + x.nbytes] = x.view(np.uint8)
    unaligned = raw[offset : offset + x.nbytes].view(dtype)
    assert not unaligned.flags.aligned
    assert of(unaligned) == of(x)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_fields_of_packed_records_are_read_rightly(name: str) -> None:
    """Their stride is no multiple of the element's size."""
    x = cube(np.dtype(name), side=20).ravel()
    records = np.zeros(x.size, dtype=[("tag", "u1"), ("value", name)])
    records["tag"], records["value"] = 255, x
    assert of(records["value"]) == of(x)
    assert of(records["value"][::-2]) == of(x[::-2])


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_real_and_imaginary_parts_are_read_as_views(name: str) -> None:
    x = cube(np.dtype(name), side=20).ravel()
    numbers = x[::2] + 1j * x[1::2]
    assert of(numbers.imag) == of(x[1::2])
    assert of(numbers.real) == of(x[::2])


@dtypes
def test_masked_elements_are_left_out(dtype: np.dtype[Any]) -> None:
    x = cube(dtype, side=12)
    mask = np.zeros(x.shape, dtype=bool)
    mask[::3, 1] = True
    masked = np.ma.MaskedArray(x, mask=mask)
    assert of(masked) == of(x[~mask])


def test_subclasses_of_ndarray_are_arrays(tmp_path: Any) -> None:
    x = cube(np.dtype(np.float32), side=10).reshape(100, 10)
    file = np.memmap(tmp_path / "x.bin", dtype=np.float32, mode="w+", shape=x.shape)
    file[:] = x
    assert of(file) == of(x)
    assert of(x.view(np.recarray)) == of(x)


class WithArray:
    """An array of a library that numpy knows through `__array__` only."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.values, dtype=dtype)


class WithDLPack:
    """An array of a library that exports DLPack only."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


class OnAnotherDevice(WithArray):
    """Has DLPack, but not for this device; `__array__` copies it here."""

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not on this device")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@dtypes
def test_objects_with_array_are_read(dtype: np.dtype[Any]) -> None:
    x = cube(dtype, side=8)
    assert of(WithArray(x)) == of(x)
    assert of(OnAnotherDevice(x)) == of(x)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_objects_with_dlpack_are_read(name: str) -> None:
    x = cube(np.dtype(name), side=8)
    assert of(WithDLPack(x)) == of(x)
    assert of(WithDLPack(x[::2, ::-1])) == of(x[::2])


def test_lists_and_numbers_are_float64() -> None:
    assert of([[1.5, -2.0], [0.0, 1e300]]) == of(np.array([1.5, -2.0, 0.0, 1e300]))
    assert of((0.1, 0.2)) == of(np.array([0.1, 0.2]))
    assert of(2.5) == of(np.array([2.5]))
    assert of(np.float32(2.5)) == of(np.array([2.5], dtype=np.float32))
    assert of(np.float16(2.5)) == of(np.array([2.5], dtype=np.float16))
    assert of([]).count == 0


@pytest.mark.torch
@pytest.mark.parametrize("name", samples.DTYPES)
def test_torch_tensors_are_read(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = cube(np.dtype(np.float32), side=8)
    tensor = torch.from_numpy(x).to(getattr(torch, name))
    want = of(samples.cast(x, samples.DTYPES[name]))
    assert of(tensor) == want
    assert of(tensor.permute(2, 0, 1)) == want
    assert of(tensor.clone().requires_grad_()) == want
    assert of(tensor[::2]) == of(samples.cast(x[::2], samples.DTYPES[name]))
    assert of(tensor[0, 0, 0]).count == 1
    assert of(tensor[:0]).count == 0
    assert of(WithDLPack(tensor.float())) == of(tensor.float())
    assert of(tensor.to_sparse().to_dense()) == want


@pytest.mark.torch
def test_torch_tensors_of_other_types_are_refused() -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.arange(3), torch.ones(3, dtype=torch.complex64)):
        with pytest.raises(TypeError, match=ACCEPTED):
            of(tensor)


REFUSED = {
    "int64": np.arange(3),
    "uint8": np.arange(3, dtype=np.uint8),
    "bool": np.ones(3, dtype=bool),
    "complex64": np.ones(3, dtype=np.complex64),
    "complex128": np.ones(3, dtype=np.complex128),
    "object": np.array([1.0, None]),
    "str": np.array(["1.5"]),
    "datetime64": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "records": np.zeros(2, dtype=[("a", "f4")]),
    "longdouble": np.ones(2, dtype=np.longdouble),
    "list of int": [1, 2, 3],
    "int": 3,
    "text": "abc",
    "None": None,
    "dict": {"a": 1.0},
    "generator": (x for x in (1.0, 2.0)),
    "empty of int": np.array([], dtype=np.int32),
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_other_element_types_are_refused_with_those_accepted(values: Any) -> None:
    h = of(f32([1.0]))
    before = h.to_bytes()
    with pytest.raises(TypeError, match=ACCEPTED):
        h.observe(values)
    assert h.to_bytes() == before


def test_the_refusal_names_the_type_and_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"type int64 .*\.astype\(numpy\.float32\)"):
        of(np.arange(3))


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(TypeError, match="list cannot be read as an array"):
        of([[1.0], [1.0, 2.0]])


def test_eight_bit_floats_are_refused() -> None:
    import ml_dtypes

    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        with pytest.raises(TypeError, match=ACCEPTED):
            of(np.zeros(3, dtype=dtype))


def test_an_array_whose_conversion_fails_is_named() -> None:
    class Broken:
        def __array__(self, *_: Any, **__: Any) -> Array:
            raise RuntimeError("the device is gone")

    with pytest.raises(TypeError, match=r"Broken cannot be read .* the device is gone"):
        of(Broken())
