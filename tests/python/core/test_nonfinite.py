"""NaN and infinities are counted and left out, or refused by name; nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import f32


def test_non_finite_values_are_counted_and_left_out_of_every_range() -> None:
    clean = samples.shape("gaussian", 5000)
    cal = qc.Calibrator()
    cal.observe("clean", clean)
    cal.observe("dirty", np.append(clean, f32([np.nan, np.inf, -np.inf, np.nan])))
    for strategy in samples.STRATEGIES:
        table = cal.compute(strategy)
        assert table["dirty"] == table["clean"]
    report = cal.compute("mse").report["dirty"]
    assert (report.nan, report.posinf, report.neginf) == (2, 1, 1)
    assert report.count == 5004


@pytest.mark.parametrize("size", [4, 1600, 40_000, 300_000])
@pytest.mark.parametrize("known", [False, True], ids=["new name", "known name"])
def test_raising_on_non_finite_values_leaves_nothing_behind(
    known: bool, size: int
) -> None:
    cal = qc.Calibrator(on_nonfinite="raise")
    cal.observe("other", f32([1.0]))
    if known:
        cal.observe("layer.3", samples.shape("gaussian", size))
    before = cal.to_bytes()
    x = samples.shape("gaussian", size)
    x[-3:] = np.nan, np.inf, np.nan
    message = rf'Tensor "layer\.3" has 2 NaN, 1 \+inf and 0 -inf among {size} values'
    for values in (
        x,
        x[::-1],
        x.astype(np.float16),
        np.asfortranarray(x.reshape(2, -1)),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            cal.observe("layer.3", values)
        assert cal.to_bytes() == before
        assert cal.names == (["other", "layer.3"] if known else ["other"])
    cal.observe("layer.3", x[:-3])
    assert cal["layer.3"].count == (2 * size - 3 if known else size - 3)


def test_raising_says_how_to_ignore() -> None:
    cal = qc.Calibrator(on_nonfinite="raise")
    with pytest.raises(qc.CalibrationError, match='on_nonfinite="ignore" would count'):
        cal.observe("x", f32([np.inf]))


@pytest.mark.parametrize(
    "bad", [f32([np.nan]), np.arange(3), "text"], ids=["NaN", "int", "text"]
)
def test_observing_many_is_all_or_nothing(bad: Any) -> None:
    cal = qc.Calibrator(on_nonfinite="raise")
    cal.observe_many({"a": f32([1.0]), "b": f32([2.0])})
    before = cal.to_bytes()
    good = samples.shape("gaussian", 50_000)
    for tensors in (
        {"a": good, "new": good, "b": bad},
        {"new": bad, "a": good},
        {"a": good, "b": good, "z": bad},
    ):
        with pytest.raises((qc.CalibrationError, TypeError), match='Tensor "'):
            cal.observe_many(tensors)
        assert cal.to_bytes() == before
        assert cal.names == ["a", "b"]
