"""Histograms by channel: each equals that of the channel's values, selected with numpy."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
import samples
from samples import Array, f32


def observed(*arrays: Array, axis: int, **options: Any) -> qc.Calibrator:
    cal = qc.Calibrator(**options)
    for x in arrays:
        cal.observe("x", x, axis=axis)
    return cal


def assert_is_each_channel(
    cal: qc.Calibrator, x: Array, axis: int, bits: int = 5
) -> None:
    """Compare with one histogram for each slice of the array."""
    slices = np.moveaxis(x, axis, 0)
    channels = cal.channels("x")
    assert len(channels) == len(slices)
    for histogram, values in zip(channels, slices, strict=True):
        assert histogram == qc.Histogram(bits).observe(values.copy())


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3, -4])
@pytest.mark.parametrize("dtype", samples.DTYPES.values(), ids=samples.DTYPES)
def test_every_channel_has_the_histogram_of_its_values(
    axis: int, dtype: np.dtype[Any]
) -> None:
    x = samples.cast(samples.any_bits(2 * 37 * 5 * 9).reshape(2, 37, 5, 9), dtype)
    assert_is_each_channel(observed(x, axis=axis), x, axis)


@pytest.mark.parametrize(
    "shape", [(3000, 130), (130, 3000), (4, 70, 600), (300, 3, 40)]
)
def test_large_arrays_too(shape: tuple[int, ...]) -> None:
    x = samples.shape("student_t3", int(np.prod(shape))).reshape(shape)
    for axis in range(len(shape)):
        assert_is_each_channel(observed(x, axis=axis), x, axis)


LAYOUTS: dict[str, Any] = {
    "Fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(
        1, 2, 0
    ),
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "with gaps": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "big-endian": lambda x: x.astype(">f4"),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "bfloat16 transposed": lambda x: x.astype(ml_dtypes.bfloat16).transpose(2, 0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_layout_in_memory_does_not_matter(layout: str, axis: int) -> None:
    x = LAYOUTS[layout](samples.shape("laplace", 7 * 11 * 13).reshape(7, 11, 13))
    assert_is_each_channel(observed(x, axis=axis), x, axis)


def test_the_resolution_is_that_asked_for_or_5() -> None:
    x = samples.shape("gaussian", 600).reshape(200, 3)
    cal = observed(x, axis=1, mantissa_bits=9)
    assert_is_each_channel(cal, x, 1, bits=9)
    assert observed(x.astype(np.float16), axis=1).channels("x")[0].mantissa_bits == 5


def test_extremes_are_exact_and_nan_where_there_is_no_value() -> None:
    x = samples.any_bits(4000).reshape(1000, 4)
    x[:, 2] = np.nan
    channels = observed(x, axis=-1).channels("x")
    finite = np.where(np.isfinite(x), x, np.nan)
    assert channels.min.dtype == channels.max.dtype == np.float32
    columns = [0, 1, 3]
    np.testing.assert_array_equal(
        channels.min[columns], np.nanmin(finite[:, columns], 0)
    )
    np.testing.assert_array_equal(
        channels.max[columns], np.nanmax(finite[:, columns], 0)
    )
    assert np.isnan(channels.min[2])
    assert np.isnan(channels.max[2])


def test_the_histogram_of_the_name_is_that_of_all_channels_together() -> None:
    x = samples.shape("skewed", 9000).reshape(30, 100, 3)
    cal = observed(x, axis=1)
    assert cal["x"] == cal.channels("x").total() == qc.Histogram(5).observe(x)


def test_channels_are_a_sequence_and_a_view() -> None:
    x = samples.shape("gaussian", 40).reshape(10, 4)
    cal = observed(x, axis=1)
    channels = cal.channels("x")
    assert (len(channels), channels.axis, cal.axis("x")) == (4, 1, 1)
    assert channels[-1] == channels[3] == list(channels)[3]
    assert channels[1:3] == [channels[1], channels[2]]
    assert repr(channels) == "Channels(4 along axis 1, count=40)"
    assert channels == observed(x, axis=1).channels("x")
    assert channels != observed(x[:5], axis=1).channels("x")
    assert channels != "channels"
    assert channels.nbytes == cal.nbytes
    for missing in (4, -5):
        with pytest.raises(IndexError, match=f"no channel {missing}: the tensor has 4"):
            channels[missing]
    channels[0].observe(f32([1e9]))
    assert channels[0].max != 1e9
    cal.observe("x", x, axis=1)
    assert channels[0].count == 20


# Laws.


@given(
    cuts=st.lists(st.integers(0, 50), max_size=4),
    axis=st.integers(-2, -1),
    backwards=st.booleans(),
)
def test_any_split_and_order_gives_the_same_bytes(
    cuts: list[int], axis: int, backwards: bool
) -> None:
    x = samples.any_bits(50 * 3 * 4).reshape(50, 3, 4)
    pieces = np.split(x, sorted(cuts))
    if backwards:
        pieces.reverse()
    one_by_one = observed(*pieces, axis=axis)
    merged = sum(observed(piece, axis=axis) for piece in pieces)
    assert isinstance(merged, qc.Calibrator)
    assert one_by_one == merged
    assert one_by_one.to_bytes() == merged.to_bytes()
    assert_is_each_channel(one_by_one, x, axis)


@pytest.mark.usefixtures("keep_num_threads")
def test_equal_bytes_for_any_number_of_threads() -> None:
    x = samples.shape("laplace", 600_000)
    for shape in ((200_000, 3), (3000, 200), (3, 200_000)):
        results = set()
        for threads in (1, 2, 7):
            qc.set_num_threads(threads)
            results.add(observed(x.reshape(shape), axis=1).to_bytes())
        assert len(results) == 1


def test_threads_may_observe_the_same_name_at_once() -> None:
    parts = [samples.shape("gaussian", 60_000, s).reshape(600, 100) for s in range(8)]
    cal = qc.Calibrator()

    def work(part: Array) -> None:
        for rows in np.split(part, 6):
            cal.observe("x", rows, axis=-1)
            assert len(cal.channels("x")) == 100

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cal.stats("x").observations == 48
    assert_is_each_channel(cal, np.concatenate(parts), -1)


def test_arrays_of_several_ranks_share_a_negative_axis() -> None:
    x = samples.shape("gaussian", 120)
    cal = observed(
        x.reshape(30, 4), x.reshape(2, 15, 4), x.reshape(2, 5, 3, 4), axis=-1
    )
    assert_is_each_channel(cal, np.tile(x.reshape(30, 4), (3, 1)), -1)


def test_an_empty_array_is_an_observation_of_nothing() -> None:
    cal = observed(np.zeros((0, 5), np.float32), axis=1)
    assert len(cal.channels("x")) == 5
    assert cal.stats("x").observations == 1
    assert cal["x"].count == 0
    assert np.isnan(cal.channels("x").min).all()
    assert qc.Calibrator.from_bytes(cal.to_bytes()) == cal


# Files.


def mixed() -> qc.Calibrator:
    cal = observed(samples.shape("relu", 600).reshape(2, 6, 50), axis=1)
    cal.observe("whole", samples.shape("gaussian", 100))
    cal.observe("last", samples.shape("gaussian", 100).reshape(20, 5), axis=-1)
    return cal


def test_files_pickles_and_copies_keep_channels(tmp_path: Path) -> None:
    cal = mixed()
    cal.save(tmp_path / "stats.qcal")
    for other in (
        qc.load(tmp_path / "stats.qcal"),
        pickle.loads(pickle.dumps(cal)),
        copy.deepcopy(cal),
    ):
        assert other == cal
        assert other.to_bytes() == cal.to_bytes()
        assert [other.axis(n) for n in ("x", "whole", "last")] == [1, None, -1]
        other.observe("x", np.ones((1, 6, 1), np.float32), axis=1)
        assert other != cal


def test_only_files_with_channels_need_a_new_reader() -> None:
    cal = qc.Calibrator()
    cal.observe("whole", f32([1.0]))
    assert cal.to_bytes()[4] == 1
    cal.observe("x", f32([[1.0]]), axis=1)
    assert cal.to_bytes()[4] == 2


def test_calibrators_are_equal_when_their_channels_are() -> None:
    x = samples.shape("gaussian", 12).reshape(3, 4)
    whole = qc.Calibrator()
    whole.observe("x", x)
    different = [whole, observed(x, axis=0), observed(x, axis=1), observed(x, axis=-1)]
    for i, a in enumerate(different):
        for j, b in enumerate(different):
            assert (a == b) is (i == j)


def test_merging_shares_nothing_with_the_other() -> None:
    cal, x = qc.Calibrator(), f32([[1.0, 2.0]])
    other = observed(x, axis=1)
    before = other.to_bytes()
    cal.merge(other)
    cal.observe("x", x, axis=1)
    assert other.to_bytes() == before
    assert cal.channels("x")[0].count == 2


# Errors.

X = f32([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

MISMATCHES: dict[str, tuple[Array, int | None, list[str]]] = {
    "no axis": (X, None, ["axis is None", "had axis 1"]),
    "another axis": (X, 0, ["axis is 0", "had axis 1"]),
    "another sign": (X, -1, ["axis is -1", "had axis 1"]),
    "fewer channels": (X[:, :2], 1, ["there are 2 channels", "had 3"]),
    "no such axis": (X[0], 1, ["axis is 1", "shape [3] has axes -1 to 0"]),
    "no channels": (X[:, :0], 1, ["axis 1", "shape [2, 0]", "no channels"]),
    "a number": (X[0, 0], 1, ["axis is 1", "single number"]),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_what_does_not_match_is_refused_by_name_and_changes_nothing(case: str) -> None:
    x, axis, parts = MISMATCHES[case]
    cal = observed(X, axis=1)
    before = cal.to_bytes()
    with pytest.raises(qc.CalibrationError) as caught:
        cal.observe("x", x, axis=axis)
    for part in ['Tensor "x"', *parts]:
        assert part in str(caught.value)
    with pytest.raises(qc.CalibrationError, match='Tensor "x"'):
        cal.observe_many({"new": X, "x": x}, axis={} if axis is None else {"x": axis})
    assert cal.to_bytes() == before


def test_channels_of_a_tensor_that_was_whole_are_refused() -> None:
    cal = qc.Calibrator()
    cal.observe("x", X)
    with pytest.raises(qc.CalibrationError, match=r"axis is 1, but .* had axis None"):
        cal.observe("x", X, axis=1)
    with pytest.raises(qc.CalibrationError, match='"x" was observed as a whole'):
        cal.channels("x")
    assert cal.axis("x") is None
    for ask in (cal.channels, cal.axis):
        with pytest.raises(KeyError, match="never observed"):
            ask("y")


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_calibrators_that_do_not_match_are_not_merged(axis: int | None) -> None:
    cal, other = observed(X, axis=1), qc.Calibrator()
    other.observe("a", X)
    other.observe("x", X, axis=axis)
    before = cal.to_bytes()
    for merge in (cal.merge, cal.__add__):
        with pytest.raises(qc.CalibrationError, match='Tensor "x": axis is'):
            merge(other)
    assert cal.to_bytes() == before
    fewer = observed(X[:, :2], axis=1)
    with pytest.raises(qc.CalibrationError, match='Tensor "x": there are 2 channels'):
        cal.merge(fewer)
    assert cal.to_bytes() == before


@pytest.mark.parametrize("size", [4, 400_000])
def test_non_finite_values_can_be_refused_and_their_channel_is_named(size: int) -> None:
    x = np.ones((size, 3), np.float32)
    cal = observed(x, axis=1, on_nonfinite="raise")
    before = cal.to_bytes()
    x[2, 1], x[3, 1], x[1, 2] = np.nan, np.inf, -np.inf
    text = (
        f'Tensor "x", channel 1 has 1 NaN, 1 +inf and 0 -inf among {size} values '
        '(2 of 3 channels have such); on_nonfinite="ignore" would count them'
    )
    for name in ("x", "new"):
        with pytest.raises(
            qc.CalibrationError, match=re.escape(text.replace('"x"', f'"{name}"'))
        ):
            cal.observe(name, x, axis=1)
    assert cal.to_bytes() == before
    ignoring = observed(x, axis=1)
    assert_is_each_channel(ignoring, x, 1)


def test_types_that_have_no_channels_are_refused_by_name() -> None:
    masked = np.ma.MaskedArray(X, mask=X > 2)
    for bad, axis in ((masked, 1), (X.astype(int), 1), (X, "1"), (X, 1.5)):
        cal = qc.Calibrator()
        with pytest.raises(TypeError):
            cal.observe("x", bad, axis=axis)  # type: ignore[arg-type]
        assert len(cal) == 0
    with pytest.raises(TypeError, match=r'Tensor "x": a masked array'):
        qc.Calibrator().observe("x", masked, axis=1)
    for axis in (10**30, -(10**30)):
        with pytest.raises(qc.CalibrationError, match="has axes -2 to 1"):
            qc.Calibrator().observe("x", X, axis=axis)


def test_observing_many_takes_one_axis_or_one_for_each_name() -> None:
    cal = qc.Calibrator()
    cal.observe_many({"a": X, "b": X.reshape(1, 2, 3)}, axis=-1)
    assert [cal.axis(n) for n in "ab"] == [-1, -1]
    cal.observe_many({"a": X, "c": X}, axis={"a": -1})
    assert cal.axis("c") is None
    assert cal.channels("a")[0].count == 4
