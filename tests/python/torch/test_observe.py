"""`qc.torch.observe`: which tensors of a model are recorded, and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Branches, conv_net, hooks_of, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def test_inputs_outputs_and_weights_are_recorded_as_by_hand() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    hidden = torch.relu(model[0](x)).flatten(1)
    with qc.torch.observe(model, outputs=True, weights=True) as cal:
        model(x)
    wanted = {
        "0": [x],
        "0:output": [model[0](x)],
        "0:weight": [model[0].weight],
        "3": [hidden],
        "3:output": [model[3](hidden)],
        "3:weight": [model[3].weight],
    }
    assert cal == recorded(wanted)


def test_tensors_are_recorded_before_in_place_changes() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    with qc.torch.observe(model, include="0", outputs=True) as cal:
        model(x)
    # The next layer is an in-place ReLU.
    assert cal["0:output"].min < 0


def test_every_forward_pass_is_an_observation() -> None:
    model = conv_net()
    batches = [random(2, 3, 8, 8, seed=seed) for seed in range(3)]
    with qc.torch.observe(model, include="0") as cal:
        for batch in batches:
            model(batch)
    assert cal == recorded({"0": batches})
    assert cal.stats("0").observations == 3


def test_patterns_and_types_choose_the_modules() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    for options, names in (
        ({"include": "3"}, ["3"]),
        ({"exclude": ["re:^0$"]}, ["3"]),
        ({"modules": (nn.Conv2d,)}, ["0"]),
        ({"modules": (nn.ReLU,)}, ["1"]),
        ({"include": ["*"], "exclude": "3"}, ["0"]),
    ):
        with qc.torch.observe(model, **options) as cal:
            model(x)
        assert cal.names == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "4"}, 'include="4" matches no module'),
        ({"exclude": "featurs"}, 'exclude="featurs" matches no module'),
        ({"modules": (nn.LSTM,)}, "none is one of LSTM"),
        ({"skip_positions": -1}, "skip_positions is -1"),
        ({"skip_positions": True}, "skip_positions is True"),
        ({"mask": "attention_mask"}, "the model's inputs are input; give a callable"),
        (
            {"mask": lambda name, x: None, "axis": 2},
            "Count it from the end, such as -1",
        ),
    ],
)
def test_options_that_fit_no_module_are_refused(
    options: dict[str, Any], message: str
) -> None:
    model = conv_net()
    with (
        pytest.raises(qc.CalibrationError, match=message),
        qc.torch.observe(model, **options),
    ):
        pass
    assert hooks_of(model) == 0


@pytest.mark.parametrize("options", [{"include": [3]}, {"mask": 3}])
def test_options_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with (
        pytest.raises(TypeError, match="must be"),
        qc.torch.observe(conv_net(), **options),
    ):
        pass


def test_the_results_of_the_model_do_not_change() -> None:
    model, x = conv_net(), random(2, 3, 8, 8).requires_grad_()
    wanted = model(x)
    (gradient,) = torch.autograd.grad(wanted.sum(), x)
    with qc.torch.observe(model, outputs=True):
        found = model(x)
    assert torch.equal(found, wanted)
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], gradient)


WRONG: list[tuple[str, Any, str]] = [
    ("axis", "x", "axis is 'x'. Give the number of an axis"),
    ("axis", 1.5, "axis is 1.5. Give the number of an axis"),
    ("axis", True, "axis is True. Give the number of an axis"),
    ("axis", [10**5000], "axis is a list that holds a number of too many digits"),
    ("weight_axis", "x", "weight_axis is 'x'. Give the number of an axis"),
    ("inputs", "no", "inputs is 'no'. Give True or False"),
    ("outputs", 3, "outputs is 3. Give True or False"),
    ("merge_calls", None, "merge_calls is None. Give True or False"),
    ("calibrator", 3, "calibrator is 3. Give a quantcal.Calibrator"),
    ("modules", nn.Linear, "Give types of modules, such as"),
    ("modules", ["Linear"], "modules is \\['Linear'\\]. Give types of modules"),
    ("modules", (), "Give types of modules"),
]


@pytest.mark.parametrize(("option", "value", "message"), WRONG)
def test_an_argument_of_another_kind_is_refused_before_any_hook(
    option: str, value: Any, message: str
) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with (
        pytest.raises(qc.CalibrationError, match=message),
        qc.torch.observe(model, **{"weights": True, option: value}),
    ):
        pass
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_patterns_that_are_no_text_are_refused(option: str) -> None:
    for value in (3, [3]):
        with (
            pytest.raises(TypeError, match=f"{option} must be patterns .* not 3"),
            qc.torch.observe(nn.Linear(4, 4), **{option: value}),  # type: ignore[arg-type]
        ):
            pass


def test_an_axis_may_be_a_number_of_numpy() -> None:
    model = nn.Linear(4, 4)
    with qc.torch.observe(model, axis=np.int64(-1)) as cal:  # type: ignore[arg-type]
        model(torch.ones(2, 4))
    assert cal.axis("Linear") == -1


def test_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="Module, not int"), qc.torch.observe(3):
        pass


def test_modules_that_were_never_called_are_warned_of() -> None:
    model, x = nn.MultiheadAttention(6, 2), random(3, 4, 6)
    with (
        pytest.warns(UserWarning, match='No activations of "out_proj" were recorded'),
        qc.torch.observe(model) as cal,
    ):
        model(x, x, x)
    assert not cal.names


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("options", [{}, {"axis": -1}, {"skip_positions": 1}])
def test_a_tensor_that_several_modules_get_is_counted_for_each(
    options: dict[str, Any], elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantcal.torch.recorder.is_off_cpu", lambda _: elsewhere)
    x = random(4, 6)
    h = x[options.get("skip_positions", 0) :] + 1
    axis = {"axis": -1} if "axis" in options else {}
    for change in (False, True):
        model = Branches(change).requires_grad_(False)
        with qc.torch.observe(model, **options) as cal:
            model(x)
            model(x)
            with torch.inference_mode():
                model(x)
        last = 2 * h if change else h
        wanted = {"q": [h] * 3, "k": [h] * 3, "v": [last] * 3}
        assert cal == recorded(wanted, **axis)


def test_a_tensor_that_several_modules_get_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantcal.torch import recorder

    read: list[str] = []
    plain_values = recorder.plain_values
    monkeypatch.setattr(
        recorder,
        "plain_values",
        lambda name, x: (read.append(name), plain_values(name, x))[1],
    )
    for change, names in ((False, ["q"]), (True, ["q", "v"])):
        read.clear()
        model = Branches(change).requires_grad_(False)
        with qc.torch.observe(model):
            model(random(4, 6))
        assert read == names
