"""`qc.torch.observe`: what is recorded of a model, under which names, and what is not."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Branches, Failing, Masked, Shared, conv_net, hooks_of, random  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def recorded(tensors: dict[str, list[Any]], **options: Any) -> qc.Calibrator:
    """Return what a calibrator holds when it is given the tensors by hand."""
    cal = qc.Calibrator()
    for name, observations in tensors.items():
        for x in observations:
            cal.observe(name, x.detach().numpy(), **options)
    return cal


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


def test_what_is_changed_in_place_afterwards_was_recorded_before() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    with qc.torch.observe(model, include="0", outputs=True) as cal:
        model(x)
    assert cal["0:output"].min < 0  # the next layer is an in-place ReLU


def test_every_forward_is_an_observation() -> None:
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
        ({"mask": lambda name, x: None, "axis": 2}, "name it from the end, as -1 is"),
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


def test_a_module_called_several_times_has_a_name_for_each_call() -> None:
    model, x = Shared(3), random(4, 6)
    second = model.block(x)
    third = model.block(second)
    with qc.torch.observe(model, outputs=True) as cal:
        model(x)
    wanted = {
        "block#1": [x],
        "block#1:output": [second],
        "block#2": [second],
        "block#2:output": [third],
        "block#3": [third],
        "block#3:output": [model.block(third)],
    }
    assert cal == recorded(wanted)
    with qc.torch.observe(model, merge_calls=True) as merged:
        model(x)
    assert merged == recorded({"block": [x, second, third]})


def test_a_module_called_once_in_some_forwards_keeps_its_plain_name_there() -> None:
    model, x = Shared(2), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
        model.calls = 1
        model(x)
    assert cal.names == ["block#1", "block#2", "block"]


def test_a_module_called_outside_a_forward_is_recorded_too() -> None:
    model, x = Shared(1), random(4, 6)
    with qc.torch.observe(model) as cal:
        model.block(x)
        model.block(x)
    assert cal == recorded({"block": [x, x]})


def test_a_model_that_is_itself_one_of_the_modules_goes_by_its_class() -> None:
    model, x = nn.Linear(6, 2), random(4, 6)
    with qc.torch.observe(model, outputs=True) as cal:
        model(x)
    assert cal == recorded({"Linear": [x], "Linear:output": [model(x)]})


def test_several_tensors_of_a_call_are_numbered() -> None:
    model = nn.Bilinear(3, 4, 2)
    x, y = random(5, 3), random(5, 4)
    with qc.torch.observe(model, modules=(nn.Bilinear,)) as cal:
        model(x, input2=y)
    assert cal == recorded({"Bilinear:input.0": [x], "Bilinear:input.1": [y]})


def test_a_forward_that_raises_leaves_nothing_and_the_others_stay() -> None:
    model, x = Failing(), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
        with pytest.raises(RuntimeError, match="between"):
            model(2 * x, fail=True)
        model(3 * x)
    assert cal == recorded(
        {"first": [x, 3 * x], "second": [model.first(x), model.first(3 * x)]}
    )


def test_after_an_exception_the_hooks_are_gone_and_nothing_is_half_recorded() -> None:
    model, x = Failing(), random(4, 6)
    given = qc.Calibrator()
    with (
        pytest.raises(RuntimeError, match="between"),
        qc.torch.observe(model, calibrator=given) as cal,
    ):
        model(x, fail=True)
    assert cal is given
    assert not given.names
    assert hooks_of(model) == 0
    model(x)
    assert not given.names


def test_an_interrupted_forward_does_not_disturb_the_next() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Any, stop: bool = False) -> Any:
            x = self.fc(x)
            if stop:
                raise KeyboardInterrupt
            return x

    model, x = Interrupted(), random(4, 6)
    with qc.torch.observe(model) as cal:
        with pytest.raises(KeyboardInterrupt):
            model(x, stop=True)
        model(2 * x)
    assert cal == recorded({"fc": [2 * x]})


def test_a_tensor_that_is_refused_names_its_module() -> None:
    model = nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 2))
    with (
        pytest.raises(TypeError, match='Tensor "0": elements of type int64'),
        qc.torch.observe(model, modules=(nn.Embedding, nn.Linear)) as cal,
    ):
        model(torch.tensor([1, 2]))
    assert not cal.names


def test_a_calibrator_with_another_axis_refuses_a_forward_whole() -> None:
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


@pytest.mark.parametrize("rows", [1, 4, 1024, 1025])  # few are held back, many are not
def test_by_channel_a_forward_counts_when_it_is_complete(rows: int) -> None:
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


def test_by_channel_what_is_changed_in_place_afterwards_was_recorded_before() -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    with qc.torch.observe(model, "0", outputs=True, inputs=False, axis=1) as cal:
        model(x)
    assert cal == recorded({"0:output": [model[0](x)]}, axis=1)


def test_calls_with_other_channels_refuse_a_forward_whole() -> None:
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


def test_values_that_need_resolving_are_read_right() -> None:
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


def test_what_the_model_computes_does_not_change() -> None:
    model, x = conv_net(), random(2, 3, 8, 8).requires_grad_()
    wanted = model(x)
    (gradient,) = torch.autograd.grad(wanted.sum(), x)
    with qc.torch.observe(model, outputs=True):
        found = model(x)
    assert torch.equal(found, wanted)
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], gradient)


def test_padding_is_left_out_by_the_attention_mask() -> None:
    model, x = Masked(), random(2, 5, 6)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    wanted = recorded(
        {"up": [torch.cat([x[0, :3], x[1]])], "head": [model.up(x)[:, 0]]}
    )
    for name, given in (("attention_mask", mask), ("padding_mask", mask == 0)):
        with qc.torch.observe(model, mask=name) as cal:
            model(x, **{name: given})
        assert cal == wanted
    with qc.torch.observe(model, mask="attention_mask") as positional:
        model(x, mask.bool())
    assert positional == wanted
    with qc.torch.observe(model, mask="attention_mask") as unmasked:
        model(x)
    assert unmasked == recorded({"up": [x], "head": [model.up(x)[:, 0]]})


def test_flattened_tokens_take_the_mask_flattened() -> None:
    class Flat(Masked):
        def forward(self, x: Any, attention_mask: Any = None) -> Any:
            return self.up(x.flatten(0, 1))

    model, x = Flat(), random(2, 3, 6)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    with qc.torch.observe(model, include="up", mask="attention_mask") as cal:
        model(x, attention_mask=mask)
    assert cal == recorded({"up": [x[mask.bool()]]})


def test_a_callable_masks_by_name() -> None:
    model, x = Failing(), random(4, 6)

    def mask(name: str, tensor: Any) -> Any:
        return tensor > 0 if name == "first" else None

    with qc.torch.observe(model, mask=mask) as cal:
        model(x)
    assert cal == recorded({"first": [x[x > 0]], "second": [model.first(x)]})


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(2, 5), TypeError, "is torch.float32, but it must be"),
        (
            torch.ones(2, 4, dtype=torch.bool),
            qc.CalibrationError,
            "a mask of \\[2, 4\\]",
        ),
        (
            torch.ones(2, 1, 5, 5, dtype=torch.bool),
            qc.CalibrationError,
            "only masks of",
        ),
        ([[1, 1]], TypeError, "is list"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: Any, error: Any, message: str) -> None:
    model = Masked()
    with (
        pytest.raises(error, match=message),
        qc.torch.observe(model, mask="attention_mask") as cal,
    ):
        model(random(2, 5, 6), attention_mask=mask)
    assert not cal.names


def test_first_positions_are_left_out_or_recorded_apart() -> None:
    model, x = nn.Linear(6, 6), random(2, 5, 6)
    with qc.torch.observe(model, skip_positions=2) as cal:
        model(x)
    assert cal == recorded({"Linear": [x[:, 2:]]})
    with qc.torch.observe(model, skip_positions=2, record_skipped=True) as cal:
        model(x)
        model(x[0])  # tokens of one sequence
    assert cal == recorded(
        {"Linear": [x[:, 2:], x[0, 2:]], "Linear:skipped": [x[:, :2], x[0, :2]]}
    )
    with qc.torch.observe(model, skip_positions=9) as cal:
        model(x)
    assert cal["Linear"].count == 0


def test_first_positions_are_counted_from_the_first_token_after_the_padding() -> None:
    model, x = Masked(), random(2, 4, 6)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    options = {"mask": "attention_mask", "skip_positions": 1, "record_skipped": True}
    with qc.torch.observe(model, include="up", **options) as cal:
        model(x, attention_mask=mask)
    kept, skipped = torch.cat([x[0, 3:], x[1, 1:3]]), torch.stack([x[0, 2], x[1, 0]])
    assert cal == recorded({"up": [kept], "up:skipped": [skipped]})


def test_active_dropout_is_warned_of_and_recorded_as_it_runs() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
    with (
        pytest.warns(UserWarning, match=r'"0" \(Dropout\) is in training mode'),
        qc.torch.observe(model) as cal,
    ):
        model(torch.ones(1000, 6))
    assert cal["1"].zeros > 0
    assert model.training


def test_training_mode_without_consequence_is_no_warning() -> None:
    model, x = Failing().train(), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
    assert len(cal) == 2


def test_under_autocast_tensors_are_recorded_as_the_modules_get_them() -> None:
    model, x = Failing(), random(4, 6)
    with torch.autocast("cpu", torch.bfloat16), qc.torch.observe(model) as cal:
        model(x)
        between = model.first(x)
    assert between.dtype == torch.bfloat16
    assert cal["first"] == recorded({"first": [x, x]})["first"]
    assert cal["first"].mantissa_bits == 8
    assert cal["second"].mantissa_bits == 7


@pytest.mark.parametrize("part", ["whole", "inside", "in place"])
def test_compiled_models_run_as_written_meanwhile(part: str) -> None:
    model, x = Failing(), random(4, 6)
    wanted = recorded({"first": [x], "second": [model.first(x)]})
    if part == "whole":
        compiled = torch.compile(model, backend="eager")
    elif part == "inside":
        model.first, compiled = torch.compile(model.first, backend="eager"), model
    else:
        model.compile(backend="eager")
        compiled = model
    compiled(x)  # what was compiled before knows nothing of the hooks
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


def test_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="Module, not int"), qc.torch.observe(3):
        pass


def test_replicas_in_threads_are_recorded_each_as_a_forward() -> None:
    inner, x = Shared(2), random(8, 6)
    model = nn.DataParallel(inner)
    halves = list(x.chunk(2))
    with qc.torch.observe(model) as cal:
        replicas = []
        for _ in halves:  # as torch.nn.parallel.replicate makes them, which needs a GPU
            replica = inner._replicate_for_data_parallel()
            replica.block = inner.block._replicate_for_data_parallel()
            replica.block.weight, replica.block.bias = (
                inner.block.weight,
                inner.block.bias,
            )
            replicas.append(replica)
        barrier = threading.Barrier(2)

        def run(replica: Any, part: Any) -> None:
            barrier.wait()
            replica(part)

        threads = [
            threading.Thread(target=run, args=pair)
            for pair in zip(replicas, halves, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert model(x).shape == (8, 6)  # without a GPU it calls the module itself
    first, second = [*halves, x], [inner.block(part) for part in (*halves, x)]
    assert cal == recorded({"block#1": first, "block#2": second})


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
    monkeypatch.setattr("quantcal.torch.recording.is_elsewhere", lambda _: elsewhere)
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
    from quantcal.torch import recording

    read: list[str] = []
    readable = recording.readable
    monkeypatch.setattr(
        recording, "readable", lambda name, x: (read.append(name), readable(name, x))[1]
    )
    for change, names in ((False, ["q"]), (True, ["q", "v"])):
        read.clear()
        model = Branches(change).requires_grad_(False)
        with qc.torch.observe(model):
            model(random(4, 6))
        assert read == names
