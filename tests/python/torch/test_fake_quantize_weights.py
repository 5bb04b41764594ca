"""`qc.torch.fake_quantize(weights=...)`: the weights of every kind of module."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import parametrizations  # noqa: E402

import quantcal as qc  # noqa: E402
from torch_models import random, recorded  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
]
nn = torch.nn
RANGE = qc.QuantParams.from_range(-1, 1, format="int8")


def by_rows(weight: Any, axis: int = 0, format: str = "int4") -> Any:
    """Return a weight quantized in the range of each output's extremes."""
    values = weight.detach().numpy()
    params = qc.calibrate(values, "minmax", format=format, axis=axis)
    return torch.from_numpy(params.fake_quantize(values))


def attention(**options: Any) -> Any:
    return nn.MultiheadAttention(6, 2, **options)


class Odd(nn.Module):
    """Experts as in transformers: one parameter with another name."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.randn(2, 6, 6))
        self.scale_bias = nn.Parameter(torch.randn(1, 6))

    def forward(self, x: Any) -> Any:
        return x @ self.gate_up[0] + self.scale_bias


KINDS: dict[str, tuple[Any, list[str]]] = {
    "Linear": (lambda: nn.Linear(6, 4), ["weight"]),
    "Conv1d": (lambda: nn.Conv1d(6, 4, 3), ["weight"]),
    "Bilinear": (lambda: nn.Bilinear(6, 4, 3), ["weight"]),
    "Embedding": (lambda: nn.Embedding(7, 6), ["weight"]),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(7, 6), ["weight"]),
    "RNN": (lambda: nn.RNN(6, 4), ["weight_ih_l0", "weight_hh_l0"]),
    "GRU": (
        lambda: nn.GRU(6, 4, bidirectional=True),
        [f"weight_{part}_l0{way}" for way in ("", "_reverse") for part in ("ih", "hh")],
    ),
    "LSTM": (
        lambda: nn.LSTM(6, 4, num_layers=2, proj_size=3),
        [f"weight_{part}_l{i}" for i in (0, 1) for part in ("ih", "hh", "hr")],
    ),
    "LSTMCell": (lambda: nn.LSTMCell(6, 4), ["weight_ih", "weight_hh"]),
    "GRUCell": (lambda: nn.GRUCell(6, 4), ["weight_ih", "weight_hh"]),
    "RNNCell": (lambda: nn.RNNCell(6, 4), ["weight_ih", "weight_hh"]),
    "attention": (attention, ["in_proj_weight", "out_proj.weight"]),
    "attention of other widths": (
        lambda: attention(kdim=5, vdim=3, add_bias_kv=True),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
    ),
}


def call(model: Any) -> Any:
    """Run a module of one of the kinds, and return its outputs as one vector."""
    x = random(5, 6)
    given: tuple[Any, ...] = (x,)
    if isinstance(model, nn.Bilinear):
        given = (x, random(5, 4, seed=1))
    elif isinstance(model, (nn.Embedding, nn.EmbeddingBag)):
        given = (torch.tensor([[1, 2], [3, 6]]),)
    elif isinstance(model, nn.MultiheadAttention):
        k, v = model.kdim or 6, model.vdim or 6
        given = (x, random(5, k, seed=1), random(5, v, seed=2))
    elif isinstance(model, nn.Conv1d):
        given = (random(2, 6, 8),)
    output = model(*given)
    flat = torch.utils._pytree.tree_leaves(output)
    return torch.cat([t.flatten() for t in flat])


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_of_a_kind_are_quantized_and_restored(kind: str) -> None:
    make, names = KINDS[kind]
    model = make().eval()
    path = type(model).__name__
    before = dict(model.named_parameters())
    plain = call(model)
    by_hand = make().eval()
    state = {n: by_rows(p) if n in names else p for n, p in before.items()}
    by_hand.load_state_dict(state)
    with qc.torch.fake_quantize(model, {path: RANGE}, weights="int4", activations=None):
        during = dict(model.named_parameters())
        changed = [n for n, p in during.items() if not torch.equal(p, before[n])]
        assert sorted(changed) == sorted(names)
        assert all(torch.equal(during[n], state[n]) for n in names)
        found = call(model)
    assert torch.equal(found, call(by_hand))
    assert not torch.equal(found, plain)
    assert all(p is before[n] for n, p in model.named_parameters())
    assert torch.equal(call(model), plain)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "attention", "Bilinear"])
def test_weights_that_were_observed_have_names_that_fit(kind: str) -> None:
    make, names = KINDS[kind]
    model = make().eval()
    path = type(model).__name__
    options: dict[str, Any] = {"modules": (type(model),), "inputs": False}
    with qc.torch.observe(
        model, weights=True, weight_axis=0, outputs=True, **options
    ) as cal:
        call(model)
    of_weights = [n for n in cal.names if not n.startswith(f"{path}:output")]
    assert sorted(of_weights) == sorted(f"{path}:{n}" for n in names)
    weight = model.get_parameter(names[0])
    wanted = recorded({f"{path}:{names[0]}": [weight]}, axis=0)
    assert cal.stats(f"{path}:{names[0]}") == wanted.stats(f"{path}:{names[0]}")
    table = {n: cal.compute("minmax", format="int4")[n] for n in of_weights}
    with qc.torch.fake_quantize(model, table):
        assert torch.equal(model.get_parameter(names[0]), by_rows(weight))
    one = {f"{path}:{names[-1]}": table[f"{path}:{names[-1]}"]}
    last = model.get_parameter(names[-1])
    with qc.torch.fake_quantize(model, {}, weights=one):
        assert torch.equal(model.get_parameter(names[-1]), by_rows(last))
        assert len(names) == 1 or model.get_parameter(names[0]) is weight


def test_one_of_several_weights_must_be_named() -> None:
    model = nn.Sequential(nn.LSTM(6, 4))
    with (
        pytest.raises(qc.CalibrationError, match='has several: name "0:weight_ih_l0"'),
        qc.torch.fake_quantize(model, {}, weights={"0": RANGE}),
    ):
        pass
    with (
        pytest.raises(qc.CalibrationError, match='"0:weight_xy", but the model has no'),
        qc.torch.fake_quantize(model, {}, weights={"0:weight_xy": RANGE}),
    ):
        pass


def test_weights_that_stay_in_float_are_named_once() -> None:
    model = nn.ModuleDict(
        {
            "fc": nn.Linear(6, 4),
            "odd": Odd(),
            "block": nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)),
            "lstm": nn.LSTM(6, 4),
            "cell": nn.GRUCell(6, 4),
            "mha": attention(),
            "head": nn.Linear(6, 4),
            "embedding": nn.Embedding(7, 6),
        }
    )
    table = {"fc": RANGE, "odd": RANGE, "block:output": RANGE}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with qc.torch.fake_quantize(model, table, weights="int8"):
            pass
    (message,) = [str(w.message) for w in caught]
    assert caught[0].filename == __file__
    for name in (
        '"odd:gate_up"',
        '"block.0:weight"',
        '"lstm:weight_ih_l0"',
        '"lstm:weight_hh_l0"',
        '"cell:weight_ih"',
        '"mha:in_proj_weight"',
        '"mha:out_proj.weight"',
    ):
        assert name in message
    # These are not in the table on purpose, or are no matrices.
    for name in ("fc", "head", "embedding", "bias", "block.1"):
        assert f'"{name}' not in message
        assert f"{name}:" not in message


def test_weights_named_in_a_warning_can_be_given() -> None:
    model = nn.ModuleDict({"odd": Odd()})
    weight = model.odd.gate_up
    params = qc.calibrate(weight.detach().numpy(), "minmax", format="int4", axis=-1)
    for table, weights in (({"odd:gate_up": params}, "int4"), ({}, {"odd": params})):
        with qc.torch.fake_quantize(model, table, weights=weights):
            wanted = params.fake_quantize(weight.detach().numpy())
            assert torch.equal(model.odd.gate_up, torch.from_numpy(wanted))
        assert model.odd.gate_up is weight


def test_the_gpt2_layer_of_transformers_has_its_outputs_along_axis_1() -> None:
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    model = pytorch_utils.Conv1D(4, 6)
    assert tuple(model.weight.shape) == (6, 4)
    wanted = by_rows(model.weight, axis=1)
    with qc.torch.fake_quantize(model, {"Conv1D": RANGE}, weights="int4"):
        assert torch.equal(model.weight, wanted)


@pytest.mark.parametrize("kind", ["parametrized", "by a hook"])
def test_weights_of_recurrent_layers_that_are_computed_are_refused(kind: str) -> None:
    model = nn.Sequential(nn.LSTM(6, 4))
    if kind == "parametrized":
        parametrizations.weight_norm(model[0], "weight_hh_l0")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(model[0], "weight_hh_l0")
    before = model[0].weight_ih_l0
    with (
        pytest.raises(qc.CalibrationError, match='"0" has no parameter "weight_hh_l0"'),
        qc.torch.fake_quantize(model, {"0": RANGE}, weights="int8"),
    ):
        pass
    assert model[0].weight_ih_l0 is before


def test_weights_are_restored_after_an_exception_in_every_kind() -> None:
    def failing(model: Any) -> None:
        call(model)
        raise KeyError

    for make, _ in KINDS.values():
        model = make()
        before = list(model.parameters())
        table = {type(model).__name__: RANGE}
        options = {"weights": "int8", "activations": None}
        with (
            pytest.raises(KeyError),
            qc.torch.fake_quantize(model, table, **options),
        ):
            failing(model)
        assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
        if isinstance(model, nn.RNNBase):
            flat = [getattr(model, n) for n in model._flat_weights_names]
            assert all(a is b for a, b in zip(model._flat_weights, flat, strict=True))
