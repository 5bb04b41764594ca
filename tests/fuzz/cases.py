"""From an integer to a random model, its samples, and the options to quantize it with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import fuzz.bodies
import fuzz.elementwise
import fuzz.moves  # noqa: F401  (its steps are listed)
import numpy as np
import onnx
from fuzz.layers import conv, gemm, grow, matmul
from fuzz.net import STYLES, Array, Names, Net, Value
from onnx import TensorProto, helper

Feed = dict[str, Array]
FORMATS = 2  # so many sets of options for each graph
_SAMPLES, _HELD_OUT, _MORE = 24, 8, 48
_TOKENS = 12
_IRS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class Case:
    """A model and what is done with it.

    Attributes
    ----------
    steps : int
        How many steps the model grew by, those that are left out among them.
    held_out, more : list of dict
        Samples that calibration does not see; more of them, to be sure of a loss.
    given : str
        How the model is handed over: "proto", "bytes", "path" or "external".
    options : list of dict
        For :func:`quantcal.onnx.quantize`.
    """

    seed: int
    model: onnx.ModelProto
    samples: list[Feed]
    held_out: list[Feed]
    more: list[Feed]
    steps: int
    given: str
    options: list[dict[str, Any]] = field(default_factory=list)


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(key))


def make(seed: int, without: Collection[int] = ()) -> Case:
    """Return the case of a seed; ``without`` leaves steps out, to find which matter."""
    rng = _rng(seed, 0)
    opset = int(rng.integers(7, 22))
    odd = {
        "weights": float(rng.choice([1, 1, 1, 1, 1, 1e-5, 1e4])),
        "values": float(rng.choice([1, 1, 1, 1, 1, 1e-6, 1e5])),
        "dead": float(rng.choice([0, 0.1, 0.5])),
        "inputs": float(rng.choice([0, 0, 0.3])),
        "functions": float(rng.random() < 0.25),
    }
    style = str(rng.choice(["plain", "plain", *STYLES]))
    nodes = str(rng.choice(["named", "named", "unnamed", "equal"]))
    net = Net(rng, opset, Names(style, nodes), odd)
    inputs = _inputs(net)
    steps = net.between(2, 12)
    x = net.values[0]
    for step in range(steps):
        net.rng = _rng(seed, 1, step)
        if step in without:
            continue
        if step == steps // 2 and net.flip(0.7):
            first = {2: gemm, 3: matmul, 4: conv}.get(x.rank, matmul)
            x = first(net, x) or grow(net, x)
            net.values.append(x)
        else:
            x = grow(net, net.pick(lambda value: value.rank > 0) or x)
    net.rng = _rng(seed, 2)
    model = _model(net, inputs)
    given = net.draw("proto", "proto", "bytes", "path", "external")
    count = _SAMPLES + _HELD_OUT + _MORE
    feeds = [_feed(seed, n, model, net) for n in range(count)]
    choices = [_options(_rng(seed, 3, k), model) for k in range(FORMATS)]
    samples, held_out = feeds[:_SAMPLES], feeds[_SAMPLES:-_MORE]
    more = feeds[-_MORE:]
    return Case(seed, model, samples, held_out, more, steps, given, choices)


def _inputs(net: Net) -> list[onnx.ValueInfoProto]:
    """Draw the inputs: an image, a sequence, a matrix or tokens, perhaps a second one."""
    form = net.draw(
        "image", "image", "signal", "sequence", "sequence", "matrix", "tokens"
    )
    batch = net.between(1, 3)
    shape = {
        "image": (
            batch,
            net.draw(1, 2, 3, 4, 6, 8),
            net.between(4, 9),
            net.between(4, 9),
        ),
        "signal": (batch, net.between(1, 6), net.between(6, 20)),
        "sequence": (batch, net.between(2, 7), net.draw(4, 8, 12, 16)),
        "matrix": (net.between(1, 6), net.draw(4, 7, 16, 24)),
        "tokens": (batch, net.between(2, 6)),
    }[form]
    name = net.draw("x", "input", net.names.tensor("input"))
    declared: list[Any] = list(shape)
    open_ = net.draw("fixed", "fixed", "batch", "all")
    for axis in range(len(shape)):
        if (open_ == "all" and axis != 1) or (open_ == "batch" and axis == 0):
            declared[axis] = f"d{axis}"
    if form != "tokens":
        net.values.append(Value(name, shape))
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, declared)]
    size = net.draw(4, 8)
    table = net.weight(_TOKENS, size, fan=1)
    h = net.add("Gather", [table, name], (*shape, size))
    net.values.append(h)
    return [helper.make_tensor_value_info(name, TensorProto.INT64, declared)]


def _model(net: Net, inputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    made = {name for node in net.nodes for name in node.output}
    last = [value for value in net.values if value.name in made] or net.values[:1]
    results = [last[-1]]
    while net.flip(0.3):
        results.append(last[net.between(0, len(last) - 1)])
    if results[0].name not in made:
        results = [net.add("Identity", [results[0]], results[0].shape)]
    shown = net.draw("shape", "rank", "none")
    outputs = []
    for value in dict.fromkeys(results):
        shape = {"shape": value.shape, "rank": [None] * value.rank}.get(shown)
        outputs.append(
            helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape)
        )
    ir = _IRS.get(net.opset, 10)
    ir = max(ir, 8) if net.functions else ir
    both = {tensor.name: tensor for tensor in net.constants}
    listed = list(both) if ir < 4 else net.inputs
    for name in listed:
        tensor = both[name]
        more = helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        inputs.append(more)
    imports = [helper.make_opsetid("", net.opset)]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted(net.domains)]
    return helper.make_model(
        net.graph("fuzz", inputs, outputs),
        opset_imports=imports,
        ir_version=ir,
        functions=net.functions,
    )


def _feed(seed: int, position: int, model: onnx.ModelProto, net: Net) -> Feed:
    rng = _rng(seed, 4, position)
    given = model.graph.input[0]
    shape = net.values[0].shape
    if given.type.tensor_type.elem_type == TensorProto.INT64:
        shape = shape[: len(given.type.tensor_type.shape.dim)]
        size = int(np.prod(shape))
        # In turn, so that calibration sees every one.
        tokens = (np.arange(size) + position * size) % _TOKENS
        return {given.name: rng.permutation(tokens).reshape(shape)}
    # Uniform, so that few samples show the whole range.
    array = rng.uniform(-1.7, 1.7, shape) * net.odd["values"]
    return {given.name: array.astype(np.float32)}


def _options(rng: np.random.Generator, model: onnx.ModelProto) -> dict[str, Any]:
    def draw(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    target = draw(
        "onnxruntime", "onnxruntime", "onnxruntime", "onnxruntime", "tensorrt"
    )
    options: dict[str, Any] = {"target": target}
    if target == "tensorrt":
        options["activation_type"] = draw("int8", "int8", "float8_e4m3fn", "none")
        weights = {
            "int8": ("int8",),
            "none": ("int8", "int4"),
            "float8_e4m3fn": (None,),
        }
        options["weight_type"] = draw(*weights[options["activation_type"]])
    else:
        more = ("int8", "uint16", "int16", "float8_e4m3fn", "none")
        options["activation_type"] = draw(*["uint8"] * 5, *more)
        weights_ = (*["int8"] * 5, "uint8", "int7", "int4", "uint4", "int16")
        options["weight_type"] = draw(*weights_, "float8_e4m3fn")
        if options["activation_type"].startswith("float"):
            options["weight_type"] = None
        options["placement"] = draw("minimal", "minimal", "minimal", "stock")
    options["per_channel"] = draw(True, True, False)
    options["strategy"] = draw("minmax", "minmax", "mse", "percentile_99.99")
    options["observer"] = draw(*["auto", "in_graph"] * 3, "outputs")
    options["cpu"] = draw("auto", "auto", "vnni", "no-vnni", "arm")
    options["reduce_range"] = draw("auto", "auto", True, False)
    options["check_stability"] = draw(True, False)
    if draw(True, False, False):
        kinds = {node.op_type for node in model.graph.node if not node.domain}
        kinds -= {"Constant", "If", "Loop", "Scan"}
        chosen = draw(1, 2, 4, len(kinds))
        extra = [str(kind) for kind in rng.permutation(sorted(kinds))[:chosen]]
        common = [kind for kind in ("Conv", "MatMul", "Gemm") if kind in kinds]
        options["op_types"] = list(dict.fromkeys([*common, *extra]))
    return {name: value for name, value in options.items() if value is not None}
