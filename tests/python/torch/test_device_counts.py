"""Counting on a device gives the same bytes as the engine, for any bits.

The test machines have no GPU, so the operations for a device run on the CPU here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from quantcal.torch import recorder  # noqa: E402
from quantcal.torch.device_counts import count_on_device  # noqa: E402
from torch_models import Failing, Masked, Shared, random  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat CPU tensors as if they were on another device."""
    monkeypatch.setattr(recorder, "is_off_cpu", lambda tensor: True)


def awkward(dtype: Any, seed: int = 0) -> Any:
    """Return values of every magnitude, including the special values."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 1 << 32, 4000, dtype=np.uint64).astype(np.uint32)
    wild = torch.from_numpy(bits.view(np.float32).copy())
    special = torch.tensor(
        [
            *(0.0, -0.0, 1e-45, -1e-45, 1e-39, -3e-39, 2.0**-24, -(2.0**-25)),
            *(float("inf"), float("-inf"), float("nan")),
            *(65504.0, -3.3e38, 1.0, 1 + 2**-9),
        ]
    )
    nan_with_low_bits = torch.tensor([0x7F800001], dtype=torch.int32).view(
        torch.float32
    )
    tame = random(4081 - len(special), seed=seed)
    values = torch.cat([wild, special, nan_with_low_bits, tame])
    if dtype == torch.float64:
        return torch.cat([values.double()[:-1], torch.tensor([1e300], dtype=dtype)])
    return values.to(dtype)


def bytes_of(stats: Any) -> bytes:
    return qc._core.write_archive("", [("x", stats)])


def engine(values: Any, axis: int | None, bits: int | None) -> Any:
    cal = qc.Calibrator(mantissa_bits=bits)
    cal.observe("x", values, axis=axis)
    return cal.stats("x")


@pytest.mark.parametrize("bits", [None, 3, 7, 8, 12])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_tensors_are_counted_as_the_engine_counts_them(
    dtype: Any, bits: int | None
) -> None:
    values = awkward(dtype)
    found = count_on_device(values, None, None, bits).fetch()
    assert bytes_of(found) == bytes_of(engine(values, None, bits))
    assert found.histogram.nan > 1
    assert found.histogram.neginf > 0


@pytest.mark.parametrize("bits", [None, 3, 9])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_channels_are_counted_as_the_engine_counts_them(
    dtype: Any, bits: int | None
) -> None:
    values = awkward(dtype)[:8080].reshape(4, 20, 101)
    for axis in (0, 1, -1):
        found = count_on_device(values, None, axis, bits).fetch()
        assert bytes_of(found) == bytes_of(engine(values, axis, bits))


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(0),
        torch.tensor(2.5),
        torch.zeros(7),
        torch.tensor([float("nan")] * 3),
        torch.tensor([float("inf"), -0.0]),
        torch.arange(-300.0, 300.0),
        torch.full((9,), -1e-45),
        random(6, 5).T,
        random(6, 8)[:, ::3],
    ],
)
def test_odd_tensors_are_counted_as_the_engine_counts_them(values: Any) -> None:
    found = count_on_device(values, None, None, None).fetch()
    assert bytes_of(found) == bytes_of(engine(values, None, None))
    if values.ndim == 2:
        found = count_on_device(values, None, -1, None).fetch()
        assert bytes_of(found) == bytes_of(engine(values, -1, None))


def test_masked_positions_do_not_count() -> None:
    values = awkward(torch.float32)[:8000].reshape(20, 40, 10)
    keep = random(20, 40) > 0
    for axis in (None, -1):
        found = count_on_device(values, keep, axis, None).fetch()
        assert bytes_of(found) == bytes_of(engine(values[keep], axis, None))


@pytest.mark.parametrize("axis", [None, 1])
def test_observations_add_up_in_any_order(axis: int | None) -> None:
    batches = [awkward(torch.float32, seed)[:8000].reshape(-1, 8) for seed in range(3)]
    cal = qc.Calibrator()
    for batch in batches:
        cal.observe("x", batch, axis=axis)
    for order in (batches, batches[::-1]):
        total = count_on_device(order[0], None, axis, None)
        for batch in order[1:]:
            part = count_on_device(batch, None, axis, None)
            assert total.fits(part)
            total.add(part)
        assert bytes_of(total.fetch()) == bytes_of(cal.stats("x"))


@pytest.mark.parametrize(
    "options",
    [
        {"outputs": True},
        {"axis": -1, "outputs": True},
        {"merge_calls": True},
        {"skip_positions": 1, "record_skipped": True},
    ],
)
def test_a_model_is_observed_as_the_engine_observes_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = Shared(2), [random(3, 5, 6, seed=seed) for seed in range(3)]
    found = []
    for elsewhere in (False, True):
        monkeypatch.setattr(recorder, "is_off_cpu", lambda _, e=elsewhere: e)
        with qc.torch.observe(model, **options) as cal:
            for batch in batches:
                model(batch)
        found.append(cal.to_bytes())
    assert found[0] == found[1]


def test_masks_and_mixed_types_are_observed_as_the_engine_observes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    for elsewhere in (False, True):
        monkeypatch.setattr(recorder, "is_off_cpu", lambda _, e=elsewhere: e)
        model, x = Masked(), random(2, 3, 6)
        given = qc.Calibrator()
        options = {"mask": "attention_mask", "include": "up", "calibrator": given}
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            with qc.torch.observe(model.to(dtype), **options):
                model(x.to(dtype), attention_mask=mask)
        found.append(given.to_bytes())
    assert found[0] == found[1]


@pytest.mark.usefixtures("on_device")
def test_counts_are_fetched_when_the_calibrator_is_read() -> None:
    model, x = Failing(), random(4, 6)
    with qc.torch.observe(model) as cal:
        assert cal.names == []
        model(x)
        assert cal.fetched == {}
        assert cal["first"].count == 24
        with pytest.raises(RuntimeError, match="between"):
            model(x, fail=True)
        assert cal["first"].count == 24
        model(x)
    assert cal.fetched["first"].histogram.count == 48
    assert cal == cal + qc.Calibrator()


def run(model: Any, x: Any, given: qc.Calibrator) -> None:
    model(x)
    assert not given.names
    model(x, fail=True)


@pytest.mark.usefixtures("on_device")
def test_counts_arrive_in_a_given_calibrator_when_the_block_ends() -> None:
    model, x = Failing(), random(4, 6)
    given = qc.Calibrator(mantissa_bits=5)
    with (
        pytest.raises(RuntimeError, match="between"),
        qc.torch.observe(model, calibrator=given),
    ):
        run(model, x, given)
    assert given["first"].count == 24
    assert given["first"].mantissa_bits == 5


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("limit", ["MAX_DEVICE_BYTES", "MAX_OBSERVATIONS"])
def test_the_counts_on_a_device_are_limited(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, limit, 2)
    model, x = Failing(), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
        model(x)
        assert cal.fetched["first"].observations == 2


@pytest.mark.usefixtures("on_device")
def test_refused_tensors_are_named_and_not_recorded() -> None:
    for model, tensor, options, error, message in (
        (nn.Embedding(3, 2), torch.tensor([1]), {}, TypeError, '"Embedding": elements'),
        (nn.Linear(6, 2), random(4, 6), {"axis": 2}, qc.CalibrationError, "axis is 2"),
    ):
        kinds = (nn.Embedding, nn.Linear)
        with (
            pytest.raises(error, match=message),
            qc.torch.observe(model, modules=kinds, **options) as cal,
        ):
            model(tensor)
        assert not cal.names
    strict, model = qc.Calibrator(on_nonfinite="raise"), nn.Linear(6, 2)
    x = torch.tensor([[1.0, float("nan"), 0, 0, 0, float("inf")]])
    with (
        pytest.raises(qc.CalibrationError, match='"Linear" has 1 NaN, 1'),
        qc.torch.observe(model, calibrator=strict),
    ):
        model(x)
    assert not strict.names


def counts(**changed: Any) -> Any:
    """Return a histogram of 1.0, 1.0 and -2.5 from its counts, some of them changed."""
    given = {
        "mantissa_bits": 8,
        "codes": np.array([0x3F80 << 1, 0xC020 << 1], dtype=np.uint64),
        "counts": np.array([2, 1], dtype=np.uint64),
        "specials": (0, 0, 0, 0),
        "extremes": (-2.5, 1.0),
        "exact": True,
        "fixed": False,
    }
    return qc._core.histogram_of_counts(**{**given, **changed})


def test_counts_make_the_histogram_that_was_recorded() -> None:
    recorded = qc.Histogram()
    recorded.observe(np.array([1, 1, -2.5], dtype=np.float32))
    assert counts() == recorded
    assert counts().to_bytes() == recorded.to_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mantissa_bits": 13}, "mantissa_bits is 13"),
        ({"counts": np.array([2], dtype=np.uint64)}, "a count for each code"),
        ({"counts": np.array([2, 0], dtype=np.uint64)}, "the count of a bin"),
        ({"counts": np.array([2, 1 << 63], dtype=np.uint64)}, "the count of a bin"),
        ({"codes": np.array([0x18040, 0x7F00], dtype=np.uint64)}, "not in order"),
        ({"codes": np.array([0x7F00, 1 << 40], dtype=np.uint64)}, "does not exist"),
        ({"codes": np.array([0x7F00, 0xFF80 << 1], dtype=np.uint64)}, "not finite"),
        ({"specials": (1 << 61, 0, 0, 0)}, "impossibly large"),
        ({"extremes": (-2.5, 1.5)}, "the extremes do not fit the bins"),
        ({"extremes": (-2.5, float("nan"))}, "the extremes do not fit the bins"),
        ({"extremes": None}, "the extremes do not fit the bins"),
        ({"extremes": (-2.5, 1.001)}, "an extreme is not exact"),
    ],
)
def test_inconsistent_counts_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        counts(**changed)


def test_inconsistent_statistics_are_refused() -> None:
    core, h, none = qc._core, counts(), qc.Histogram()
    with pytest.raises(qc.CalibrationError, match="do not match the observations"):
        core.TensorStats.from_counts(h, 1, h, h)
    with pytest.raises(qc.CalibrationError, match="do not match the observations"):
        core.TensorStats.from_counts(h, 9, h, none)
    fixed, other = counts(fixed=True), counts(fixed=True, specials=(1, 0, 0, 0))
    for channels, message in (
        ([], "without any"),
        ([fixed, h], "differ in resolution"),
        ([fixed, other], "differ in their number of values"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            core.ChannelStats.from_counts(0, channels, 1)
    with pytest.raises(qc.CalibrationError, match="without any"):
        core.ChannelStats.from_counts(0, [fixed], 0)
