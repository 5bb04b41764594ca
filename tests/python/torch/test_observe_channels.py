"""`qc.torch.observe` by channel."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Failing, conv_net, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def test_a_calibrator_with_another_axis_refuses_the_whole_forward_pass() -> None:
    model, x = Failing(), random(4, 6)
    given = qc.Calibrator()
    given.observe("second", x, axis=-1)
    before = given.to_bytes()
    with (
        pytest.raises(qc.CalibrationError, match='"second": axis is None'),
        qc.torch.observe(model, calibrator=given),
    ):
        model(x)
    assert given.to_bytes() == before


def test_channels_are_recorded_along_an_axis() -> None:
    model, x = Failing(), random(4, 6)
    with qc.torch.observe(model, axis=-1, weights=True, weight_axis=0) as cal:
        model(x)
    wanted = recorded({"first": [x], "second": [model.first(x)]}, axis=-1)
    weights = {f"{n}:weight": [getattr(model, n).weight] for n in ("first", "second")}
    assert cal == wanted + recorded(weights, axis=0)


# The engine buffers few values, and counts many at once.
@pytest.mark.parametrize("rows", [1, 4, 1024, 1025])
def test_by_channel_a_forward_pass_is_recorded_when_complete(rows: int) -> None:
    model, x = Failing(), random(rows, 6)
    with qc.torch.observe(model, axis=-1) as cal:
        model(x)
        with pytest.raises(RuntimeError, match="between"):
            model(2 * x, fail=True)
        assert cal["first"].count == x.numel()
        model(3 * x)
    seen = {"first": [x, 3 * x], "second": [model.first(x), model.first(3 * x)]}
    assert cal == recorded(seen, axis=-1)
    assert cal.stats("second").observations == 2


def test_by_channel_tensors_are_recorded_before_in_place_changes() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    with qc.torch.observe(model, "0", outputs=True, inputs=False, axis=1) as cal:
        model(x)
    assert cal == recorded({"0:output": [model[0](x)]}, axis=1)


def test_calls_with_other_channels_refuse_the_whole_forward_pass() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.GELU()

        def forward(self, x: Any, y: Any) -> Any:
            return self.act(x).sum() + self.act(y).sum()

    model, given = Twice(), qc.Calibrator()
    options = {"modules": (nn.GELU,), "merge_calls": True, "axis": -1}
    with (
        pytest.raises(qc.CalibrationError, match='"act": there are 5 channels, but'),
        qc.torch.observe(model, calibrator=given, **options),
    ):
        model(random(4, 6), random(4, 5))
    assert not given.names
