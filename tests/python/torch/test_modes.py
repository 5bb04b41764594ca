"""`qc.torch.observe`: models in training mode, compiled and scripted."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Failing, conv_net, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def test_active_dropout_gives_a_warning_and_is_recorded() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
    with (
        pytest.warns(UserWarning, match=r'"0" \(Dropout\) is in training mode'),
        qc.torch.observe(model) as cal,
    ):
        model(torch.ones(1000, 6))
    assert cal["1"].zeros > 0
    assert model.training


def test_training_mode_without_effect_gives_no_warning() -> None:
    model, x = Failing().train(), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
    assert len(cal) == 2


@pytest.mark.parametrize("part", ["whole", "inside", "in place"])
def test_compiled_models_run_uncompiled_inside_the_block(part: str) -> None:
    model, x = Failing(), random(4, 6)
    wanted = recorded({"first": [x], "second": [model.first(x)]})
    if part == "whole":
        compiled = torch.compile(model, backend="eager")
    elif part == "inside":
        model.first, compiled = torch.compile(model.first, backend="eager"), model
    else:
        model.compile(backend="eager")
        compiled = model
    # A graph that was compiled before the block does not run the hooks.
    compiled(x)
    with qc.torch.observe(compiled) as cal:
        compiled(x)
    assert cal == wanted
    compiled(2 * x)
    assert cal == wanted


def test_torchscript_is_refused_with_a_reason() -> None:
    model = conv_net()
    with pytest.warns(Warning, match="deprecated"):
        scripted = torch.jit.trace(model, random(1, 3, 8, 8))
    for given in (scripted, nn.Sequential(scripted)):
        with (
            pytest.raises(qc.CalibrationError, match="without hooks"),
            qc.torch.observe(given),
        ):
            pass
