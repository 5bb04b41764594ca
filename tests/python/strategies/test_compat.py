"""The thresholds of other calibrators equal those of the real packages, and obey laws.

`tests/golden/make_compat.py` recorded the packages' results; the files name the versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from paths import GOLDEN
from quantcal import compat

PEERS = {
    "onnxruntime": ("onnxruntime_entropy", "onnxruntime_percentile"),
    "modelopt": ("modelopt_entropy", "modelopt_mse", "modelopt_percentile"),
    "ncnn": ("ncnn_kl",),
}
FUNCTIONS = [name for names in PEERS.values() for name in names]
WITH_EDGES = [name for name in FUNCTIONS if name != "ncnn_kl"]
ONE_SIDED = [name for name in FUNCTIONS if name.startswith("modelopt")]


@cache
def ends() -> dict[str, float]:
    found: dict[str, float] = json.loads((GOLDEN / "compat_ends.json").read_text())
    return found


@cache
def histograms() -> dict[str, Any]:
    with np.load(GOLDEN / "compat_histograms.npz") as packed:
        return {name: packed[name].astype(np.int64) for name in packed.files}


@cache
def golden(peer: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"compat_{peer}.json").read_text())
    return found


def ours(answer: dict[str, Any]) -> Any:
    """Return quantcal's result for the arguments of a recorded answer."""
    counts = histograms()[f"{answer['histogram']}/{answer['form']}"]
    end = ends()[answer["histogram"]]
    low = 0.0 if answer["form"] == "magnitude" else -end
    edges = np.linspace(low, end, counts.size + 1).astype(answer["dtype"])
    second = end if answer["function"] == "ncnn_kl" else edges
    return getattr(compat, answer["function"])(counts, second, **answer["options"])


@pytest.mark.parametrize(
    ("peer", "name"), [(peer, name) for peer, names in PEERS.items() for name in names]
)
def test_thresholds_are_those_of_the_peer(peer: str, name: str) -> None:
    answers = [a for a in golden(peer)["answers"] if a["function"] == name]
    assert len({a["histogram"] for a in answers}) >= 50
    wrong = []
    for answer in answers:
        if "error" in answer:
            with pytest.raises(qc.CalibrationError):
                ours(answer)
            continue
        expected = answer["result"]
        found = ours(answer)
        if found != (tuple(expected) if isinstance(expected, list) else expected):
            wrong.append((answer, found))
    assert not wrong, f"{len(wrong)} of {len(answers)}, such as {wrong[0]}"


def test_golden_files_name_the_versions_they_come_from() -> None:
    assert golden("onnxruntime")["versions"]["onnxruntime"]
    assert golden("modelopt")["versions"]["nvidia-modelopt"] == "0.47.0"
    assert "no real package" in golden("ncnn")["note"]


def test_golden_answers_have_different_candidates() -> None:
    """A search that always takes the first or last candidate cannot pass."""
    for peer, names in PEERS.items():
        for name in names:
            answers = [
                a
                for a in golden(peer)["answers"]
                if a["function"] == name and "result" in a
            ]
            high = [np.max(a["result"]) / ends()[a["histogram"]] for a in answers]
            assert len(set(np.round(high, 3))) >= 20, name


def sample(seed: int = 0, num_bins: int = 301) -> tuple[Any, Any]:
    """Return a histogram over [-6, 6]."""
    x = np.random.default_rng(seed).laplace(size=20_000).clip(-6, 6)
    return np.histogram(x, num_bins, range=(-6, 6))


def call(name: str, counts: Any, edges: Any, **options: Any) -> Any:
    """Call a function by name; `ncnn_kl` gets the last edge."""
    second = float(edges[-1]) if name == "ncnn_kl" else edges
    return getattr(compat, name)(counts, second, **options)


def fitting(name: str, seed: int = 0) -> tuple[Any, Any]:
    counts, edges = sample(seed)
    if name in ONE_SIDED or name == "ncnn_kl":
        return counts, np.linspace(0.0, 6.0, counts.size + 1)
    return counts, edges


# --- laws ----------------------------------------------------------------------------------

INVARIANT = [
    # onnxruntime_entropy gives 1e-4 of a count to empty bins, so it depends on the total.
    ("modelopt_entropy", {}),
    ("modelopt_mse", {"as_released": False}),
    ("modelopt_mse", {"as_released": True}),
    ("modelopt_percentile", {"percentile": 97.0}),
    ("onnxruntime_percentile", {"percentile": 97.0}),
    ("ncnn_kl", {}),
]


@pytest.mark.parametrize(("name", "options"), INVARIANT)
@given(seed=st.integers(0, 1000), power=st.integers(1, 12))
def test_counting_everything_2_to_the_k_times_changes_nothing(
    name: str, options: dict[str, Any], seed: int, power: int
) -> None:
    counts, edges = fitting(name, seed)
    once = call(name, counts, edges, **options)
    assert call(name, counts << power, edges, **options) == once


EQUIVARIANT: list[tuple[str, dict[str, Any]]] = [
    *((n, {}) for n in FUNCTIONS if n != "modelopt_mse"),
    ("modelopt_mse", {"as_released": False}),
]


@pytest.mark.parametrize(("name", "options"), EQUIVARIANT)
@given(seed=st.integers(0, 1000), power=st.integers(-12, 20))
def test_scaling_the_edges_by_2_to_the_k_scales_the_threshold(
    name: str, options: dict[str, Any], seed: int, power: int
) -> None:
    counts, edges = fitting(name, seed)
    once, scaled = (
        call(name, counts, e, **options) for e in (edges, edges * 2.0**power)
    )
    assert np.all(np.asarray(scaled) == np.asarray(once) * 2.0**power)


def test_modelopts_released_mse_differs_from_its_documentation() -> None:
    """It quantizes every value to amax + 8, so it depends on the unit of the data."""
    counts, edges = fitting("modelopt_mse")
    edges = edges.astype(np.float32)
    centers = (edges[1:] + edges[:-1]) / 2
    assert compat.modelopt_mse(counts, edges) == centers[128]
    # With a mean far above 8, the center nearest to the mean less 8 wins.
    wide = edges * 32
    mean = (counts * centers * 32).sum() / counts.sum()
    assert abs(compat.modelopt_mse(counts, wide) - (mean - 8)) <= wide[1]


def test_onnxruntimes_default_entropy_has_one_candidate() -> None:
    counts, edges = sample(num_bins=128)
    assert compat.onnxruntime_entropy(counts, edges) == (edges[0], edges[-1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_arrays_are_not_changed(name: str) -> None:
    counts, edges = fitting(name)
    before = counts.copy(), edges.copy()
    call(name, counts, edges)
    assert np.array_equal(counts, before[0])
    assert np.array_equal(edges, before[1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_counts_may_come_in_any_type_that_holds_them(name: str) -> None:
    counts, edges = fitting(name)
    once = call(name, counts, edges)
    for dtype in ("uint64", "uint16", "float32", "float64"):
        assert call(name, counts.astype(dtype), edges) == once
    # The strides are negative.
    assert call(name, counts[::-1], edges) == call(name, counts[::-1].copy(), edges)


def test_a_rebinned_histogram_is_accepted() -> None:
    x = np.random.default_rng(0).standard_normal(50_000, dtype=np.float32)
    counts, edges = qc.Histogram().observe(x).rebin(1024, -5.0, 5.0)
    low, high = compat.onnxruntime_entropy(counts, edges)
    assert -5 <= low < -2
    assert 2 < high <= 5


# --- what is refused -----------------------------------------------------------------------


def replaced(values: Any, at: int, value: float) -> Any:
    changed = np.array(values, dtype=np.float64)
    changed[at] = value
    return changed


BAD_COUNTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("negative", lambda c: replaced(c, 3, -1), r"counts\[3\] is -1"),
    ("nan", lambda c: replaced(c, 3, np.nan), r"counts\[3\] is nan"),
    ("infinite", lambda c: replaced(c, 3, np.inf), r"counts\[3\] is inf"),
    ("half", lambda c: replaced(c, 3, 0.5), r"counts\[3\] is 0.5"),
    ("flat", lambda c: c[None], "one row of bins"),
    ("none", lambda c: c[:0], "one row of bins"),
    ("number", lambda c: np.float64(3), "one row of bins"),
    ("too many", lambda c: replaced(c, 3, 2.0**60), "exact below"),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), BAD_COUNTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_counts_are_refused(
    name: str, kind: str, spoil: Callable[[Any], Any], message: str
) -> None:
    counts, edges = fitting(name)
    with pytest.raises(qc.CalibrationError, match=message):
        call(name, spoil(counts), edges)


BAD_EDGES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("short", lambda e: e[:-1], "edges have the shape"),
    ("flat", lambda e: e[None], "edges have the shape"),
    ("nan", lambda e: replaced(e, 2, np.nan), r"edges\[2\] is nan"),
    ("infinite", lambda e: replaced(e, -1, np.inf), "must be finite"),
    ("falling", lambda e: e[::-1], "must rise"),
    ("equal", lambda e: replaced(e, 2, e[1]), r"edges\[2\] is"),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), BAD_EDGES)
@pytest.mark.parametrize("name", WITH_EDGES)
def test_bad_edges_are_refused(
    name: str, kind: str, spoil: Callable[[Any], Any], message: str
) -> None:
    counts, edges = fitting(name)
    with pytest.raises(qc.CalibrationError, match=message):
        call(name, counts, spoil(edges))


@pytest.mark.parametrize("wrong", [None, "counts", [1, 2, 3], 7, {}])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_values_than_arrays_are_a_type_error(name: str, wrong: Any) -> None:
    counts, edges = fitting(name)
    with pytest.raises(TypeError, match="counts must be an array"):
        call(name, wrong, edges)
    if name != "ncnn_kl":
        with pytest.raises(TypeError, match="edges must be an array"):
            call(name, counts, wrong)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["bool", "complex128", "object", "U3"])
def test_arrays_of_no_numbers_are_a_type_error(name: str, dtype: str) -> None:
    counts, edges = fitting(name)
    with pytest.raises(TypeError, match="must be integers or floats"):
        call(name, counts.astype(dtype), edges)


OPTIONS = [
    ("onnxruntime_entropy", "num_quantized_bins", 0),
    ("onnxruntime_entropy", "num_quantized_bins", 1000),
    ("ncnn_kl", "target_bins", 1),
    ("ncnn_kl", "target_bins", 1000),
    ("onnxruntime_percentile", "percentile", 100.1),
    ("onnxruntime_percentile", "percentile", float("nan")),
    ("modelopt_percentile", "percentile", -1),
    *((f"modelopt_{m}", "num_bits", v) for m in ("entropy", "mse") for v in (1, 17)),
    *((f"modelopt_{m}", "stride", 0) for m in ("entropy", "mse")),
    *((f"modelopt_{m}", "start_bin", v) for m in ("entropy", "mse") for v in (-1, 302)),
]


@pytest.mark.parametrize(("name", "option", "value"), OPTIONS)
def test_options_out_of_range_are_refused_with_their_value(
    name: str, option: str, value: float
) -> None:
    counts, edges = fitting(name)
    with pytest.raises(qc.CalibrationError, match=option):
        call(name, counts, edges, **{option: value})
    for wrong in ("8", None, True):
        with pytest.raises(TypeError, match=option):
            call(name, counts, edges, **{option: wrong})


@pytest.mark.parametrize("name", ONE_SIDED)
def test_modelopts_functions_need_magnitudes(name: str) -> None:
    with pytest.raises(qc.CalibrationError, match="edges begin at -6"):
        call(name, *sample())


@pytest.mark.parametrize("absmax", [-1.0, float("nan"), float("inf"), 1e39])
def test_ncnn_needs_a_finite_absmax(absmax: float) -> None:
    counts, _ = fitting("ncnn_kl")
    with pytest.raises(qc.CalibrationError, match="absmax"):
        compat.ncnn_kl(counts, absmax)


@pytest.mark.parametrize("absmax", [None, "6", True, [6.0]])
def test_an_absmax_that_is_no_number_is_a_type_error(absmax: Any) -> None:
    counts, _ = fitting("ncnn_kl")
    with pytest.raises(TypeError, match="absmax"):
        compat.ncnn_kl(counts, absmax)


def test_very_sparse_histograms_fail_as_in_onnxruntime() -> None:
    counts = np.zeros(10_003, dtype=np.int64)
    counts[5001] = 5
    edges = np.linspace(-1, 1, counts.size + 1)
    with pytest.raises(qc.CalibrationError, match="onnxruntime fails"):
        # With so many levels there are few windows, and all of them are wide.
        compat.onnxruntime_entropy(counts, edges, num_quantized_bins=10_002)


# --- all counts zero -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("onnxruntime_entropy", (-64.0, 65.0)),  # 129 bins from the middle one on
        ("onnxruntime_percentile", (-150.0, -150.0)),
        ("modelopt_entropy", 300.0),
        ("modelopt_mse", 128.5),
        ("modelopt_percentile", 0.0),
        ("ncnn_kl", 128.5),
    ],
)
def test_an_empty_histogram_has_the_documented_answer(name: str, expected: Any) -> None:
    counts = np.zeros(300, dtype=np.int64)
    one_sided = name in ONE_SIDED or name == "ncnn_kl"
    low = 0.0 if one_sided else -150.0
    edges = low + np.arange(counts.size + 1, dtype=np.float64)
    assert call(name, counts, edges) == expected
