"""`qc.torch.observe`: types and layouts of tensors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Failing, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_all_float_types_are_recorded_as_numpy_holds_them(dtype: str) -> None:
    model = nn.Linear(6, 6).to(getattr(torch, dtype))
    x = random(4, 6).to(getattr(torch, dtype))
    views = [x, x.T.contiguous().T, x[:, ::1].expand(3, 4, 6), x.repeat(1, 2)[:, ::2]]
    with qc.torch.observe(model) as cal:
        for view in views:
            model(view)
    by_hand = qc.Calibrator()
    for view in views:
        array = view.contiguous()
        bits = array.view(torch.int16).numpy() if dtype == "bfloat16" else array.numpy()
        by_hand.observe(
            "Linear", bits.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else bits
        )
    assert cal == by_hand
    assert cal["Linear"].count == 24 + 24 + 72 + 24


def test_negated_views_are_read_correctly() -> None:
    model = nn.Linear(3, 2)
    z = torch.complex(random(4, 3), random(4, 3, seed=1))
    negated = torch.imag(z.conj())
    assert negated.is_neg()
    leaf = random(4, 3, seed=2).requires_grad_()
    with qc.torch.observe(model) as cal:
        model(negated)
        model(leaf).sum().backward()
        with torch.inference_mode():
            model(leaf.detach())
    assert leaf.grad is not None
    assert cal == recorded({"Linear": [-torch.imag(z), leaf, leaf]})


def test_sparse_and_meta_tensors_are_refused_with_a_reason() -> None:
    model = nn.Identity()
    for tensor, kind in (
        (random(4, 4).to_sparse(), "torch.sparse_coo"),
        (torch.empty(4, device="meta"), "a meta tensor"),
    ):
        with (
            pytest.raises(TypeError, match=f'"Identity" is {kind}'),
            qc.torch.observe(model, modules=(nn.Identity,)),
        ):
            model(tensor)


def test_under_autocast_tensors_are_recorded_as_the_modules_get_them() -> None:
    model, x = Failing(), random(4, 6)
    with torch.autocast("cpu", torch.bfloat16), qc.torch.observe(model) as cal:
        model(x)
        between = model.first(x)
    assert between.dtype == torch.bfloat16
    assert cal["first"] == recorded({"first": [x, x]})["first"]
    assert cal["first"].mantissa_bits == 8
    assert cal["second"].mantissa_bits == 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("size", [10, 1000, 50_000, 1_000_000])
def test_subnormals_are_counted_though_torch_flushes_them(
    size: int, dtype: type
) -> None:
    r = np.random.default_rng(size)
    values = (r.integers(-3000, 3000, size) * 2.0**-140).astype(dtype)
    values[::3] = r.standard_normal(len(values[::3])).astype(dtype)
    values[::7] = 0
    zeros = int((values.astype(np.float32) == 0).sum())

    def observed() -> tuple[qc.Calibrator, qc.Calibrator]:
        # This starts new threads, which inherit the flush mode of this one.
        qc.set_num_threads(2)
        whole, rows = qc.Calibrator(), qc.Calibrator()
        for _ in range(2):
            whole.observe("x", values)
            whole.observe_many({"x": values})
            rows.observe("x", values.reshape(10, -1), axis=0)
            rows.observe_many({"x": values.reshape(10, -1)}, axis=0)
        return whole, rows

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        # The mode is active.
        assert (np.full(8, 1e-40, np.float32) == 0).all()
        flushed = observed()
    finally:
        torch.set_flush_denormal(False)
    assert flushed == observed()
    assert flushed[0]["x"].zeros == flushed[1]["x"].zeros == 4 * zeros


@pytest.mark.parametrize("rows", [10, 10_000])
def test_blocks_of_subnormals_do_not_depend_on_the_thread(
    rows: int,
) -> None:
    form = qc.blocks.MXFP8()
    x = (np.random.default_rng(0).standard_normal((rows, 96)) * 1e-39).astype(
        np.float32
    )

    def both() -> tuple[qc.blocks.BlockTensor, np.ndarray]:
        qc.set_num_threads(2)
        coded = form.quantize(x)
        return coded, coded.dequantize()

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        flushed, flushed_values = both()
    finally:
        torch.set_flush_denormal(False)
    coded, values = both()
    np.testing.assert_array_equal(flushed.codes, coded.codes)
    np.testing.assert_array_equal(flushed.scales, coded.scales)
    np.testing.assert_array_equal(flushed_values.view("u4"), values.view("u4"))
    assert values.any()


def test_answers_about_subnormals_do_not_depend_on_the_thread() -> None:
    x = np.float32([0.0, 1e-40, 2e-40, -3e-41, -1e-39, -1e-39])
    h = qc.Histogram().observe(x)

    def answers() -> list[object]:
        part = h.cut(-1e-39, 1e-40)
        return [
            *(column.tolist() for column in h.bins()),
            (h.min, h.max, part.min, part.max, part.to_bytes()),
            [h.quantile(q) for q in (0.1, 0.3, 0.5, 0.9)],
            [h.abs_quantile(q) for q in (0.1, 0.3, 0.5, 0.9)],
        ]

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        flushed = repr(answers())
    finally:
        torch.set_flush_denormal(False)
    assert flushed == repr(answers())
    assert h.min < 0 < h.max
