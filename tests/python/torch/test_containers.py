"""Tensors in lists, dicts, dataclasses and pytrees, and tensors without values."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import hooks_of, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


@dataclasses.dataclass(frozen=True)
class Frozen:
    hidden: Any
    extra: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any


class Registered:
    """A cache as in transformers, which only PyTorch's pytrees know."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys


torch.utils._pytree.register_pytree_node(
    Registered, lambda r: ([r.keys], None), lambda parts, _: Registered(parts[0])
)


class Rows(list):
    """A subclass of list that pytrees do not know."""


CONTAINERS: dict[str, Any] = {
    "list": lambda x: [x],
    "tuple": lambda x: (x,),
    "dict": lambda x: {"a": x},
    "ordered dict": lambda x: collections.OrderedDict(a=x),
    "user's dict": lambda x: collections.UserDict({"a": x}),
    "default dict": lambda x: collections.defaultdict(list, a=x),
    "deque": lambda x: collections.deque([x]),
    "dataclass": Frozen,
    "named tuple": lambda x: Pair(x, None),
    "own list": lambda x: Rows([x]),
    "pytree": Registered,
    "nested": lambda x: {"a": [None, {"b": (Frozen({"c": x}), "text", 3)}]},
}


class Inner(nn.Module):
    """Takes a tensor in a container, and returns twice the tensor in a container."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, value: Any) -> Any:
        leaf, *_ = leaves(value)
        return self.wrap(2 * leaf)


class Outer(nn.Module):
    def __init__(self, inner: Any, wrap: Any) -> None:
        super().__init__()
        self.inner, self.wrap = inner, wrap

    def forward(self, x: Any) -> Any:
        self.given = self.wrap(x)
        return self.inner(self.given)


def leaves(value: Any) -> list[Any]:
    """Return the tensors of one of the containers."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Frozen):
        value = [value.hidden, value.extra]
    if isinstance(value, Registered):
        value = [value.keys]
    if isinstance(value, (dict, collections.UserDict)):
        value = list(value.values())
    if isinstance(value, (list, tuple, collections.deque)):
        return [leaf for part in value for leaf in leaves(part)]
    return []


@pytest.mark.parametrize("kind", CONTAINERS)
def test_one_tensor_in_a_container_has_the_plain_name(kind: str) -> None:
    wrap, x = CONTAINERS[kind], random(4, 6)
    model = Outer(Inner(wrap), wrap)
    with qc.torch.observe(model, "inner", modules=(Inner,), outputs=True) as cal:
        model(x)
    assert cal == recorded({"inner": [x], "inner:output": [2 * x]})


@pytest.mark.parametrize("kind", CONTAINERS)
def test_tensors_in_containers_are_quantized_and_the_callers_containers_stay(
    kind: str,
) -> None:
    wrap, x = CONTAINERS[kind], random(4, 6)
    model = Outer(Inner(wrap), wrap)
    params = qc.calibrate(x.numpy(), "mse", format="int4")
    twice = qc.calibrate(x.numpy(), "minmax", format="int4")

    def faked(of: Any, value: Any) -> Any:
        return torch.from_numpy(of.fake_quantize(value.numpy()))

    with qc.torch.fake_quantize(model, {"inner": params, "inner:output": twice}):
        output = model(x)
    assert type(output) is type(wrap(x))
    assert torch.equal(leaves(output)[0], faked(twice, 2 * faked(params, x)))
    assert leaves(model.given)[0] is x


class Several(nn.Module):
    def forward(self, x: Any, *rest: Any, **named: Any) -> Any:
        return x, {"sum": x + 1, "numbers": torch.arange(3)}, [x + 2, (x + 3,)]


def test_nested_tensors_are_numbered_behind_those_passed_directly() -> None:
    model = nn.Sequential(Several())
    x, y, z = (random(2, 3, seed=seed) for seed in range(3))
    options = {"modules": (Several,), "outputs": True}
    with qc.torch.observe(model, **options) as cal:
        model(x)
        model[0](x, y, rotations=(z, torch.tensor(3)))
    assert cal == recorded(
        {
            "0": [x],
            "0:input.0": [x],
            "0:input.1": [y],
            "0:input.2": [z],
            "0:output": [x, x],
            "0:output.1": [x + 1, x + 1],
            "0:output.2": [x + 2, x + 2],
            "0:output.3": [x + 3, x + 3],
        }
    )


def test_the_states_of_an_lstm_follow_its_output() -> None:
    model, x = nn.LSTM(6, 4), random(5, 6)
    state = (random(1, 4, seed=1), random(1, 4, seed=2))
    output, (hidden, cell) = model(x, state)
    with qc.torch.observe(model, modules=(nn.LSTM,), outputs=True) as cal:
        model(x, state)
    assert cal == recorded(
        {
            "LSTM": [x],
            "LSTM:input.1": [state[0]],
            "LSTM:input.2": [state[1]],
            "LSTM:output": [output],
            "LSTM:output.1": [hidden],
            "LSTM:output.2": [cell],
        }
    )
    table = cal.compute("minmax", format="int4")
    with torch.no_grad(), qc.torch.fake_quantize(model, table):
        _, (found, _) = model(x, state)
    assert len(torch.unique(found)) <= 16


def test_packed_sequences_are_read_and_rebuilt() -> None:
    model, x = nn.GRU(6, 4, batch_first=True), random(3, 5, 6)
    packed = nn.utils.rnn.pack_padded_sequence(
        x, [5, 3, 2], batch_first=True, enforce_sorted=False
    )
    with qc.torch.observe(model, modules=(nn.GRU,), outputs=True) as cal:
        output, hidden = model(packed)
    # The state is passed directly, the values inside the sequence.
    assert cal == recorded(
        {
            "GRU": [packed.data],
            "GRU:output": [hidden],
            "GRU:output.1": [output.data],
        }
    )
    params = qc.calibrate(x.numpy(), "mse", format="int4")
    with torch.no_grad(), qc.torch.fake_quantize(model, {"GRU": params}):
        found, _ = model(packed)
    assert isinstance(found, nn.utils.rnn.PackedSequence)
    assert not torch.equal(found.data, output.data)


def test_a_container_that_holds_itself_is_read_once() -> None:
    x = random(4, 6)
    endless: list[Any] = [x]
    endless.append(endless)
    model = nn.Identity()
    with qc.torch.observe(model, modules=(nn.Identity,)) as cal:
        model(endless)
    assert cal == recorded({"Identity": [x]})


class Opaque:
    def __init__(self, x: Any) -> None:
        self.x = x


class Silent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.source = Hidden(), Source()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        return self.fc(self.hidden(Opaque(x)).x + self.source())


class Hidden(nn.Module):
    def forward(self, value: Any) -> Any:
        return Opaque(value.x + 1)


class Source(nn.Module):
    def forward(self) -> Any:
        return torch.ones(6)


def test_called_modules_without_tensors_are_warned_of() -> None:
    model, kinds = Silent(), (Hidden, Source, nn.Linear)
    with (
        pytest.warns(
            UserWarning,
            match='of the input of "hidden", the output of "hidden": no tensor of floats',
        ),
        qc.torch.observe(model, modules=kinds, outputs=True) as cal,
    ):
        model(random(4, 6))
    assert cal.names == ["source:output", "fc", "fc:output"]
    with (
        pytest.warns(
            UserWarning, match='the input of "hidden", the input of "source":'
        ),
        qc.torch.observe(model, modules=kinds),
    ):
        model(random(4, 6))
    numbers = torch.tensor([1]), torch.tensor([2])
    whole = Several()
    with (
        pytest.warns(
            UserWarning, match='of the input of "Several": no tensor of floats'
        ),
        qc.torch.observe(whole, modules=(Several,)) as cal,
    ):
        whole(*numbers)
    assert not cal.names


def test_tables_with_tensors_that_a_module_lacks_are_warned_of() -> None:
    model, x = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2)), random(4, 6)
    params = qc.calibrate(x.numpy(), "mse", format="int4")
    table = {"0": params, "0:output.2": params, "1#2": params, "1#1": params}
    with (
        pytest.warns(UserWarning, match='The table has "0:output.2", "1#2", but'),
        qc.torch.fake_quantize(model, table),
    ):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A module that is not called gives no warning.
        with qc.torch.fake_quantize(model, table):
            pass


def transformed(kind: str, net: Any, x: Any) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    if kind == "vmap":
        torch.func.vmap(net)(x)
    elif kind == "grad":
        torch.func.grad(lambda t: net(t).sum())(x)
    elif kind == "jvp":
        torch.func.jvp(net, (x,), (x,))
    elif kind == "jacrev":
        torch.func.jacrev(net)(x)
    elif kind == "functionalize":
        torch.func.functionalize(net)(x)
    elif kind == "export":
        torch.export.export(net, (x,))
    elif kind == "meta":
        net.to("meta")(x.to("meta"))
    elif kind == "nested":
        net(torch.nested.nested_tensor([x[0], x[1]]))
    elif kind == "zeros":
        net(torch._efficientzerotensor((4, 6)))
    else:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            net(mode.from_tensor(x))


REFUSED = {
    "vmap": "torch.func",
    "grad": "torch.func",
    "jvp": "torch.func",
    "jacrev": "torch.func",
    "functionalize": "torch.func",
    "export": "a fake tensor",
    "fake": "a fake tensor",
    "meta": "a meta tensor",
    "nested": "a nested tensor",
    "zeros": "zeros without memory",
}


# torch warns of calls inside torch.
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("faking", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
def test_tensors_without_values_are_refused_by_name(kind: str, faking: bool) -> None:
    net, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU()).eval(), random(4, 6)
    params = qc.calibrate(x.numpy(), "mse", format="int4")
    block = (
        qc.torch.fake_quantize(net, {"0": params}) if faking else qc.torch.observe(net)
    )
    with (
        pytest.raises(TypeError, match=f'Tensor "0" is .*{REFUSED[kind]}'),
        block,
    ):
        transformed(kind, net, x)
    assert hooks_of(net) == 0


def test_a_refused_forward_pass_keeps_earlier_records() -> None:
    net, x = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), random(4, 6)
    with qc.torch.observe(net, include="0", axis=-1) as cal:
        net(x)
        with pytest.raises(TypeError, match=r"torch\.func"):
            torch.func.vmap(net)(x)
        net(2 * x)
    assert cal == recorded({"0": [x, 2 * x]}, axis=-1)


def test_plain_subclasses_are_read_as_tensors() -> None:
    class Image(torch.Tensor):
        pass

    x = random(4, 6)
    model = nn.Identity()
    with qc.torch.observe(model, modules=(nn.Identity,)) as cal:
        model(x.as_subclass(Image))
    assert cal == recorded({"Identity": [x]})
