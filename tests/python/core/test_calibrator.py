"""`Calibrator`: observing, merging, saving and computing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import Array, f32


def batches(count: int = 6) -> list[dict[str, Array]]:
    """Return feeds of three tensors each, of different sizes and types."""
    return [
        {
            "conv.input": samples.shape("relu", 3000, seed).reshape(3, 10, 100),
            "attention/scores": samples.shape("laplace", 500, seed + 100),
            "dense.input": samples.shape("student_t3", 40_000, seed).astype(np.float16),
        }
        for seed in range(count)
    ]


def observed(feeds: list[dict[str, Array]], **options: Any) -> qc.Calibrator:
    cal = qc.Calibrator(**options)
    for feed in feeds:
        for name, x in feed.items():
            cal.observe(name, x)
    return cal


def test_each_name_has_the_histogram_of_all_that_was_observed_under_it() -> None:
    feeds = batches()
    cal = observed(feeds)
    assert cal.names == list(feeds[0])
    assert list(cal) == cal.names
    assert len(cal) == 3
    for name in cal.names:
        h = qc.Histogram()
        for feed in feeds:
            h.observe(feed[name])
        assert cal[name] == h
        assert name in cal
        assert cal.stats(name).observations == len(feeds)
    assert "other" not in cal
    assert 5 not in cal


def test_names_stand_in_the_order_of_their_first_observation() -> None:
    cal = qc.Calibrator()
    for name in ("b", "a", "c", "a", "b"):
        cal.observe(name, f32([1.0]))
    assert cal.names == ["b", "a", "c"]


def test_any_string_is_a_name() -> None:
    names = ["", " ", "α/β:0", "*", "a\nb", "x" * 5000, "🙂"]
    cal = qc.Calibrator()
    cal.observe_many({name: f32([1.0]) for name in names})
    assert cal.names == names
    assert qc.Calibrator.from_bytes(cal.to_bytes()) == cal
    assert set(cal.compute("mse")) == set(names)


def test_what_is_returned_for_a_name_is_a_copy() -> None:
    cal = observed(batches(1))
    cal["conv.input"].observe(f32([1e9]))
    assert cal["conv.input"].max != 1e9


def test_observing_many_is_observing_each() -> None:
    feeds = batches()
    cal = qc.Calibrator()
    for feed in feeds:
        cal.observe_many(feed)
    assert cal == observed(feeds)
    assert cal.to_bytes() == observed(feeds).to_bytes()
    cal.observe_many({})
    assert cal == observed(feeds)


@pytest.mark.parametrize("size", [0, 5, 2000, 1 << 16])
def test_empty_arrays_are_observations_of_nothing(size: int) -> None:
    x = samples.shape("gaussian", size)
    cal = qc.Calibrator()
    cal.observe("x", x)
    before = cal["x"]
    cal.observe("x", x[:0])
    cal.observe_many({"x": x[:0].reshape(0, 3)})
    assert cal["x"] == before
    stats = cal.stats("x")
    assert stats.observations == 3
    assert stats.minima.count == stats.maxima.count == (1 if size else 0)


def test_the_extremes_of_each_observation_are_kept() -> None:
    arrays = [
        samples.shape("student_t3", n, seed=n) for n in (3, 2000, 50_000, 300_000)
    ]
    arrays += [f32([np.nan, np.inf]), f32([-np.inf, 2.5, np.nan])]
    cal = qc.Calibrator()
    for x in arrays:
        cal.observe("x", x)
        cal.observe("strided", np.repeat(x, 2)[::2])
    finite = [x[np.isfinite(x)] for x in arrays]
    minima = [x.min() for x in finite if x.size]
    maxima = [x.max() for x in finite if x.size]
    for name in cal.names:
        stats = cal.stats(name)
        assert stats.observations == len(arrays)
        assert stats.minima == qc.Histogram().observe(f32(minima))
        assert stats.maxima == qc.Histogram().observe(f32(maxima))


def test_the_resolution_is_that_asked_for_or_follows_the_data() -> None:
    follows = observed(batches(1))
    assert follows.mantissa_bits is None
    assert follows["dense.input"].mantissa_bits == 10
    assert follows["conv.input"].mantissa_bits == 8
    fixed = observed(batches(1), mantissa_bits=5)
    assert fixed.mantissa_bits == 5
    assert {fixed[name].mantissa_bits for name in fixed} == {5}
    assert fixed["conv.input"] == follows["conv.input"].coarsen(5)


# Laws.


def test_equal_bytes_for_any_order_of_names_and_batches(tmp_path: Path) -> None:
    feeds = batches()
    want = observed(feeds).to_bytes()
    rng = np.random.default_rng(0)
    for trial in range(5):
        shuffled = [feeds[i] for i in rng.permutation(len(feeds))]
        parts = [
            {name: feed[name] for name in rng.permutation(list(feed))}
            for feed in shuffled
        ]
        cal = observed(parts)
        assert cal.to_bytes() == want
        path = tmp_path / f"{trial}.qcal"
        cal.save(path)
        assert path.read_bytes() == want


@pytest.mark.usefixtures("keep_num_threads")
def test_equal_bytes_for_any_number_of_threads() -> None:
    feeds = [{"x": samples.shape("laplace", 400_000, seed)} for seed in range(3)]
    results = set()
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        results.add(observed(feeds).to_bytes())
    assert len(results) == 1


def test_merging_shards_is_observing_everything() -> None:
    feeds = batches()
    whole = observed(feeds)
    shards = [observed(feeds[:1]), observed(feeds[1:4]), observed(feeds[4:])]
    assert sum(shards) == whole
    assert (shards[0] + (shards[1] + shards[2])).to_bytes() == whole.to_bytes()
    assert shards[2] + shards[0] + shards[1] == whole
    merged = observed(feeds[:1])
    for shard in shards[1:]:
        merged.merge(shard)
    assert merged.to_bytes() == whole.to_bytes()


def test_merging_leaves_the_other_alone_and_shares_nothing_with_it() -> None:
    a, b = observed(batches(1)), qc.Calibrator()
    b.observe("only in b", f32([1.0]))
    before = b.to_bytes()
    a.merge(b)
    total = a + b
    assert "only in b" in a
    a.observe("only in b", f32([2.0]))
    assert b.to_bytes() == before
    assert total["only in b"].count == 2
    assert a["only in b"].count == 2


def test_a_new_calibrator_is_the_identity_of_merging() -> None:
    cal = observed(batches(2))
    assert cal + qc.Calibrator() == cal == qc.Calibrator() + cal
    merged = qc.Calibrator()
    merged.merge(cal)
    assert merged == cal


def test_merging_with_itself_doubles() -> None:
    cal = observed(batches(1))
    count = cal["conv.input"].count
    cal.merge(cal)
    assert cal["conv.input"].count == 2 * count


def test_a_sum_keeps_the_settings_of_the_first() -> None:
    first = qc.Calibrator(mantissa_bits=6, on_nonfinite="raise")
    total = first + qc.Calibrator()
    assert (total.mantissa_bits, total.on_nonfinite) == (6, "raise")


def test_only_calibrators_are_added_and_equal() -> None:
    cal = qc.Calibrator()
    assert cal != "a calibrator"
    with pytest.raises(TypeError):
        cal + 3  # type: ignore[operator]
    with pytest.raises(TypeError):
        3 + cal


# Files.


@pytest.mark.parametrize("as_text", [False, True], ids=["Path", "str"])
def test_a_saved_calibrator_loads_as_it_was(tmp_path: Path, as_text: bool) -> None:
    cal = observed(batches(), on_nonfinite="raise", mantissa_bits=9)
    path = tmp_path / "stats.qcal"
    cal.save(str(path) if as_text else path)
    loaded = qc.load(str(path) if as_text else path)
    assert loaded == cal
    assert loaded.to_bytes() == cal.to_bytes()
    assert (loaded.mantissa_bits, loaded.on_nonfinite) == (9, "raise")
    assert sorted(loaded.names) == sorted(cal.names)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(qc.CalibrationError):
        loaded.observe("conv.input", f32([np.nan]))
    more = batches(1)[0]
    cal.observe_many(more)
    loaded.observe_many(more)
    assert loaded == cal


def test_an_empty_calibrator_is_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "empty.qcal"
    qc.Calibrator().save(path)
    assert len(qc.load(path)) == 0


def test_saving_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "stats.qcal"
    observed(batches(6)).save(path)
    observed(batches(1)).save(path)
    assert qc.load(path) == observed(batches(1))


# Computing.


def test_computing_changes_nothing_and_can_be_repeated() -> None:
    cal = observed(batches())
    before = cal.to_bytes()
    tables = [cal.compute(s, format="uint8") for s in ("minmax", "kl", "mse", "mse")]
    assert cal.to_bytes() == before
    assert tables[2] == tables[3]
    assert tables[0] != tables[2]


def test_one_array_is_calibrated_as_a_calibrator_would() -> None:
    x = samples.shape("skewed", 5000)
    cal = qc.Calibrator()
    cal.observe("x", x)
    for strategy in samples.STRATEGIES:
        for format, symmetric in samples.TARGETS:
            options: dict[str, Any] = {"format": format, "symmetric": symmetric}
            want = cal.compute(strategy, **options)["x"]
            assert qc.calibrate(x, strategy, **options) == want
            assert qc.calibrate(cal["x"], strategy, **options) == want


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("tensors", [1, 7, 8, 60])
def test_many_tensors_are_computed_each_as_alone_and_in_order(tensors: int) -> None:
    cal = qc.Calibrator()
    for i in reversed(range(tensors)):
        cal.observe(f"t{i}", samples.shape("student_t3", 500, seed=i))
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        table = cal.compute("kl", format="uint8")
        assert list(table) == list(table.report) == cal.names
        for name in cal.names[::9]:
            assert table[name] == qc.calibrate(cal[name], "kl", format="uint8")


def test_the_defaults_are_mse_and_int8() -> None:
    cal = observed(batches(1))
    assert cal.compute() == cal.compute("mse", format="int8", symmetric=True)


def test_memory_is_constant_in_the_amount_of_data() -> None:
    cal = qc.Calibrator()
    values = samples.shape("gaussian", 1000, 0)
    cal.observe("x", values)
    first = cal.nbytes
    cal.observe("x", np.repeat(values, 256))
    before = cal.nbytes  # a counter that exceeds 255 takes five bytes, once and for all
    for _ in range(10):  # the same values: no octave is new
        cal.observe("x", np.repeat(values, 100))
    assert cal.nbytes == before < 6 * first < 100 << 10
    assert repr(cal) == f"Calibrator(1 tensor, {before / 1024:.0f} KB)"
