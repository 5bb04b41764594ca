"""One small model for each operator that changed between opsets 7 and 21.

The list follows the adapters of onnx.version_converter, and what they leave out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class Case:
    """A model of one node, with its inputs."""

    op_type: str
    opset: int
    feed: Arrays
    weights: Arrays = field(default_factory=dict)
    outputs: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)
    names: list[str] | None = None

    def __str__(self) -> str:
        said = [f"{key}={value}" for key, value in self.attributes.items()]
        kinds = {str(array.dtype) for array in self.feed.values()} - {"float32"}
        shapes = [f"{n}={a.ravel()[:4].tolist()}" for n, a in self.weights.items()][:1]
        more = [*said, *sorted(kinds), *(shapes if self.op_type == "Resize" else [])]
        return f"{self.op_type}-{self.opset} {self.outputs} {' '.join(more)}"

    def model(self, *, open_shapes: bool) -> onnx.ModelProto:
        """Return the model; ``open_shapes`` says nothing of its sizes."""
        names = self.names or [*self.feed, *self.weights]
        made = [f"y{number}" for number in range(self.outputs)]
        node = helper.make_node(self.op_type, names, made, "n", **self.attributes)
        inputs = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                [
                    f"{name}_{k}" if open_shapes else d
                    for k, d in enumerate(array.shape)
                ],
            )
            for name, array in self.feed.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in made]
        weights = [numpy_helper.from_array(a, n) for n, a in self.weights.items()]
        graph = helper.make_graph([node], "one", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        types = [value.type for value in plain_session(model).get_outputs()]
        for value, kind in zip(model.graph.output, types, strict=True):
            if kind.startswith("tensor("):
                name = kind.removeprefix("tensor(").rstrip(")").upper()
                value.type.tensor_type.elem_type = TensorProto.DataType.Value(name)
        return model


def plain_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    content = model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


_RNG = np.random.default_rng(11)


def _f(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return _RNG.standard_normal(shape).astype(dtype)


def _i(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def _s(value: float) -> np.ndarray[Any, Any]:
    return np.array(value, np.float32)


CASES: list[Case] = []


def _add(
    op_type: str,
    opsets: int | tuple[int, ...],
    feed: Arrays,
    weights: Arrays | None = None,
    outputs: int = 1,
    names: list[str] | None = None,
    **attributes: Any,
) -> None:
    for opset in (opsets,) if isinstance(opsets, int) else opsets:
        CASES.append(
            Case(op_type, opset, feed, weights or {}, outputs, attributes, names)
        )


_IMAGE, _ROWS = _f(2, 3, 8, 6), _f(4, 5)
_FLOATS = (np.float32, np.float64, np.float16)

# Resizing: growing, shrinking, both, and scales that are computed
for _scales in (
    (2, 2),
    (0.7, 0.7),
    (2, 0.6),
    (1.5, 1),
    (0.45, 1.3),
    (1, 1),
    (3, 2),
    (0.5, 1.1),
):
    _values = np.array([1, 1, *_scales], np.float32)
    for _mode in ("nearest", "linear"):
        _add("Resize", 10, {"x": _IMAGE}, {"s": _values}, mode=_mode)
        _add("Resize", 10, {"x": _IMAGE, "s": _values}, mode=_mode)
        if min(_scales) >= 1:
            _add("Upsample", 9, {"x": _IMAGE}, {"s": _values}, mode=_mode)
            _add("Upsample", 9, {"x": _IMAGE, "s": _values}, mode=_mode)
            _listed = [float(v) for v in _values]
            _add("Upsample", (7, 8), {"x": _IMAGE}, mode=_mode, scales=_listed)
_none, _double = np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)
for _how in ("half_pixel", "align_corners", "tf_half_pixel_for_nn", "asymmetric"):
    for _mode in ("nearest", "linear", "cubic"):
        _where = {"coordinate_transformation_mode": _how, "mode": _mode}
        _add("Resize", 11, {"x": _IMAGE}, {"r": _none, "s": _double}, **_where)
_half = {"s": np.array([1, 1, 0.5, 0.5], np.float32)}
_add("Resize", 13, {"x": _IMAGE}, _half, names=["x", "", "s"], mode="cubic")

# Axes from one on taken together, until 13
for _op in ("Softmax", "LogSoftmax", "Hardmax"):
    _add(_op, (7, 11, 12, 13), {"x": _IMAGE})
    for _axis in (0, 1, 2, 3, -1, -2):
        _add(_op, (7, 11, 12) if _axis >= 0 else (11, 12), {"x": _IMAGE}, axis=_axis)
for _axis in (0, 1, 2, 4):
    _add("Flatten", (7, 9), {"x": _IMAGE}, axis=_axis)
_add("Flatten", 11, {"x": _IMAGE}, axis=-1)

# Constants that became inputs, for each type of float
for _dtype in _FLOATS:  # onnxruntime has no Clip for float64, and no Pad-2 for float16
    _x = _f(3, 4, dtype=_dtype)
    for _bounds in ({"min": -0.5, "max": 0.5}, {"max": 0.5}, {"min": 0.5}, {}):
        if _dtype != np.float64:
            _add("Clip", (6, 7), {"x": _x}, **_bounds)
    _pads = {"pads": [1, 0, 0, 2]}
    _add("Pad", 7 if _dtype == np.float16 else (2, 7), {"x": _x}, value=1.5, **_pads)
    _add("Pad", 7, {"x": _x}, mode="reflect", **_pads)
    _add("Dropout", 7, {"x": _x}, ratio=0.3)
    _add("Dropout", 7, {"x": _x}, outputs=2, ratio=0.3)
_add("Pad", 2, {"x": _IMAGE}, pads=[0, 0, 1, 1, 0, 0, -1, 1], mode="edge")
for _count in (1, 2):
    _add("Dropout", (10, 12, 13), {"x": _IMAGE}, outputs=_count)

_add("Slice", 1, {"x": _IMAGE}, starts=[0, 1], ends=[2, 1000], axes=[1, 2])
_add("Slice", 1, {"x": _IMAGE}, starts=[0, -2], ends=[-1, 2147483647])
_add("Slice", 1, {"x": np.arange(20).reshape(4, 5)}, starts=[0, -2], ends=[-1, 100])
_add("TopK", 1, {"x": _ROWS}, outputs=2, k=3)
_add("TopK", 1, {"x": _ROWS}, outputs=2, k=3, axis=0)
_add("TopK", (10, 11), {"x": _ROWS}, {"k": _i(2)}, outputs=2)
_add("Reshape", 1, {"x": _IMAGE}, shape=[2, -1])
_add("Reshape", 5, {"x": _IMAGE}, {"s": _i(0, -1)})
_add("Split", 2, {"x": _IMAGE}, outputs=2, split=[1, 2], axis=1)
_add("Split", (2, 11, 13), {"x": _IMAGE}, outputs=3, axis=1)
_add("Split", 2, {"x": _IMAGE}, outputs=2)
_add("Split", 11, {"x": _IMAGE}, outputs=2, axis=-1)
_add("Squeeze", 1, {"x": _f(1, 3, 1)}, axes=[0])
_add("Squeeze", 1, {"x": _f(1, 3, 1)})
_add("Squeeze", 11, {"x": _f(1, 3, 1)}, axes=[-1])
_add("Unsqueeze", 1, {"x": _ROWS}, axes=[0, 3])
_add("Unsqueeze", 11, {"x": _ROWS}, axes=[-1])
_kinds = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"
for _name in _kinds.split():
    _old = (7, 11) if _name == "Sum" else (7, 11, 13, 17)
    _add(f"Reduce{_name}", _old, {"x": abs(_IMAGE)}, axes=[1, 3], keepdims=0)
    _add(f"Reduce{_name}", _old, {"x": abs(_IMAGE)})
    _add(f"Reduce{_name}", _old[1:], {"x": abs(_IMAGE)}, axes=[-1])

# Normalizing
_names = ("g", "b", "m", "v")
_params = {name: abs(_f(3)) + 0.5 for name in _names}
_add("BatchNormalization", (7, 8, 9, 13), {"x": _IMAGE}, _params)
_each = {name: abs(_f(3, 8, 6)) + 0.5 for name in _names}
_add("BatchNormalization", (7, 8), {"x": _IMAGE}, _each, spatial=0)
_add("BatchNormalization", 9, {"x": _IMAGE}, _params, outputs=5)
_add("BatchNormalization", 14, {"x": _IMAGE}, _params, outputs=3, training_mode=1)
_groups = {"s": _f(3), "b": _f(3)}
_add("GroupNormalization", 18, {"x": _f(2, 6, 4, 4)}, _groups, num_groups=3)
_add("GroupNormalization", (18, 20), {"x": _f(2, 12, 5)}, _groups, num_groups=3)
_wanted = {"x": _f(2, 6, 4, 4), **_groups}
_add("GroupNormalization", 20, _wanted, num_groups=3, epsilon=0.1)
_add("InstanceNormalization", 6, {"x": _IMAGE}, {"g": _f(3), "b": _f(3)})
_add("LayerNormalization", (12, 16, 17), {"x": _ROWS}, {"s": _f(5), "b": _f(5)})
_add("SimplifiedLayerNormalization", (12, 17), {"x": _ROWS}, {"s": _f(5)}, axis=-1)
_add("MeanVarianceNormalization", 9, {"x": _IMAGE})
_add("MeanVarianceNormalization", 9, {"x": _IMAGE}, axes=[1, 2])
_add("LRN", 1, {"x": _IMAGE}, size=3)
_add("LpNormalization", 1, {"x": _IMAGE}, p=1, axis=1)

# Arithmetic and comparisons
for _name in ("Sum", "Max", "Min", "Mean"):
    for _count in (1, 2, 3):
        _terms = {f"x{k}": _f(3, 4) for k in range(_count)}
        _add(_name, (6, 8), _terms)
    _add(_name, 8, {"x": _f(3, 4), "z": _f(4)})
for _name in ("Add", "Sub", "Mul", "Div", "Pow"):
    _add(_name, (7, 12), {"x": abs(_IMAGE), "z": _f(3, 1, 1)})
_add("Pow", 12, {"x": abs(_ROWS)}, {"z": np.array(2, np.int64)})
for _name in ("Greater", "Less"):
    _add(_name, (7, 9), {"x": _IMAGE, "z": _f(3, 1, 1)})
for _name in ("And", "Or", "Xor"):
    _add(_name, 7, {"x": _IMAGE > 0, "z": _f(3, 1, 1) > 0})
_add("Equal", 7, {"x": _IMAGE.astype(np.int32), "z": np.zeros((3, 1, 1), np.int32)})
_add("Where", 9, {"k": _ROWS > 0, "x": _ROWS, "z": _f(5)})
_add("Mod", 10, {"x": _i(5, -5, 7), "z": _i(3, 3, -3)})
_add("Mod", 10, {"x": _f(3), "z": _f(3)}, fmod=1)
_add("Not", 1, {"x": _ROWS > 0})
_names1 = "Relu Sigmoid Tanh Exp Abs Neg Floor Ceil Reciprocal Elu Selu LeakyRelu"
for _name in f"{_names1} HardSigmoid Softplus Softsign Sqrt Log".split():
    _add(_name, 6, {"x": abs(_ROWS) + 0.1 if _name in ("Sqrt", "Log") else _ROWS})
_add("ThresholdedRelu", (7, 10), {"x": _ROWS}, alpha=0.4)
for _name, _opset in (
    ("Erf", 9),
    ("Sign", 9),
    ("IsNaN", 9),
    ("IsInf", 10),
    ("Round", 11),
):
    _add(_name, _opset, {"x": _ROWS})
for _name, _opset in (("HardSwish", 14), ("Mish", 18), ("Gelu", 20), ("Trilu", 14)):
    _add(_name, _opset, {"x": _ROWS})
_add("Shrink", 9, {"x": _ROWS}, lambd=0.3)
_add("Celu", 12, {"x": _ROWS}, alpha=0.5)
for _slope in (_f(3, 1, 1), _f(6)):
    _add("PRelu", (7, 9), {"x": _IMAGE}, {"s": _slope})
for _kind in (TensorProto.INT32, TensorProto.BOOL, TensorProto.DOUBLE):
    _add("Cast", (6, 9), {"x": _IMAGE * 3}, to=_kind)

# Products and pooling
_add("MatMul", (1, 9), {"x": _ROWS}, {"w": _f(5, 3)})
_add("Gemm", 7, {"x": _ROWS}, {"w": _f(5, 3), "b": _f(3)}, alpha=0.5)
_add("Gemm", 11, {"x": _ROWS}, {"w": _f(5, 3)})
_add("Einsum", 12, {"x": _ROWS, "z": _f(5, 3)}, equation="ij,jk->ik")
_kernel, _wide = {"w": _f(4, 3, 3, 3)}, {"w": _f(3, 4, 3, 3)}
_add("Conv", (1, 11), {"x": _IMAGE}, _kernel, auto_pad="SAME_LOWER", strides=[2, 2])
_add("Conv", (1, 11), {"x": _IMAGE}, _kernel, auto_pad="SAME_UPPER", strides=[2, 2])
_up = {"strides": [2, 2]}
_add("ConvTranspose", 1, {"x": _IMAGE}, _wide, auto_pad="SAME_UPPER", **_up)
_add("ConvTranspose", 1, {"x": _IMAGE}, _wide, output_shape=[16, 12], **_up)
_add("ConvTranspose", 11, {"x": _IMAGE}, _wide, output_padding=[1, 1], **_up)
_three = {"kernel_shape": [3, 3]}
_pools = (7, 10, 11)
_add("AveragePool", _pools, {"x": _IMAGE}, pads=[1] * 4, strides=[2, 2], **_three)
_add("AveragePool", _pools, {"x": _IMAGE}, pads=[1] * 4, count_include_pad=1, **_three)
_add("AveragePool", _pools, {"x": _IMAGE}, auto_pad="SAME_LOWER", **_three)
_ceil = {"ceil_mode": 1, "strides": [2, 2]}
_add("AveragePool", (10, 11, 18), {"x": _IMAGE}, **_ceil, **_three)
_add("AveragePool", (10, 11), {"x": _IMAGE}, count_include_pad=1, **_ceil, **_three)
_add("MaxPool", (1, 8, 10, 11), {"x": _IMAGE}, auto_pad="SAME_LOWER", **_three)
_add("MaxPool", (10, 11), {"x": _IMAGE}, **_ceil, **_three)
for _order in (0, 1):
    _pool = {"storage_order": _order, **_three}
    _add("MaxPool", (8, 10, 11), {"x": _IMAGE}, outputs=2, **_pool)
_add(
    "MaxUnpool",
    9,
    {"x": _f(1, 1, 1, 2), "k": np.array([[[[1, 5]]]])},
    kernel_shape=[2, 2],
)
_add("LpPool", (2, 11), {"x": _IMAGE}, kernel_shape=[2, 2], p=2)
_add("GlobalLpPool", 2, {"x": _IMAGE}, p=2)
_boxes = np.array([[0, 0, 4, 5], [1, 2, 5, 7]], np.float32)
_pooled = {"output_height": 3, "output_width": 3, "sampling_ratio": 2}
for _mode in ("avg", "max"):
    _rois = {"x": _IMAGE, "r": _boxes, "b": _i(0, 1)}
    _add("RoiAlign", (10, 16), _rois, mode=_mode, spatial_scale=0.9, **_pooled)
_add("MaxRoiPool", 1, {"x": _IMAGE, "r": _f(1, 5) * 0}, pooled_shape=[2, 2])
_grid = _RNG.uniform(-1.2, 1.2, (2, 5, 4, 2)).astype(np.float32)
for _mode in ("bilinear", "nearest", "bicubic"):
    for _corners in (0, 1):
        _where = {"mode": _mode, "align_corners": _corners}
        _add("GridSample", 16, {"x": _IMAGE, "g": _grid}, **_where)
_add("GridSample", 16, {"x": _IMAGE, "g": _grid}, padding_mode="reflection")

# Moving and indexing
_add("ArgMax", (7, 11), {"x": np.round(_IMAGE)}, axis=1)
_add("ArgMin", 12, {"x": np.round(_IMAGE)}, axis=1, select_last_index=1)
_add("Gather", 1, {"x": _ROWS}, {"k": _i(0, 2)}, axis=1)
_add("Gather", 11, {"x": _ROWS}, {"k": _i(-1, 2)}, axis=-1)
_add("GatherElements", 11, {"x": _ROWS}, {"k": np.array([[0, -1]])}, axis=1)
_add("GatherND", 11, {"x": _ROWS}, {"k": np.array([[0, 1], [2, 3]])})
_add("GatherND", 12, {"x": _IMAGE}, {"k": np.array([[1], [2]])}, batch_dims=1)
_put = {"x": _ROWS, "k": np.array([[0, 1]]), "u": _f(1, 2)}
_add("Scatter", 9, _put, axis=1)
_add("ScatterElements", 11, _put, axis=1)
_add("ScatterND", 11, {"x": _ROWS, "k": np.array([[0], [1]]), "u": _f(2, 5)})
_hot = {"d": np.array([4]), "v": np.array([0, 1], np.float32)}
_add("OneHot", (9, 11), {"k": _i(0, 2, -1)}, _hot)
_add("DepthToSpace", (1, 11), {"x": _f(1, 8, 2, 3)}, blocksize=2)
_add("DepthToSpace", 11, {"x": _f(1, 8, 2, 3)}, blocksize=2, mode="CRD")
_add("SpaceToDepth", 1, {"x": _f(1, 2, 4, 6)}, blocksize=2)
_add("Tile", 6, {"x": _ROWS}, {"r": _i(2, 3)})
_add("Concat", 4, {"x": _ROWS, "z": _ROWS}, axis=1)
_add("Expand", 8, {"x": _f(3, 1)}, {"s": _i(2, 3, 4)})
_add("Transpose", 1, {"x": _IMAGE}, perm=[2, 0, 1, 3])
for _name in ("Identity", "Shape", "Size"):
    _add(_name, 1, {"x": _ROWS})
_add("Compress", (9, 11), {"x": _ROWS}, {"k": np.array([True, False, True])}, axis=1)
_add("NonZero", 9, {"x": np.round(_ROWS)})
_add("EyeLike", 9, {"x": _ROWS}, k=1)
_three_i = numpy_helper.from_array(np.array([3], np.int32))
_add("ConstantOfShape", 9, {"s": _i(2, 3)}, value=_three_i)
_add("ReverseSequence", 10, {"x": _f(4, 3, 2)}, {"l": _i(4, 2, 1)})
_nms = {"m": _i(3), "o": np.array([0.5], np.float32), "t": np.array([0.1], np.float32)}
_add("NonMaxSuppression", 10, {"b": abs(_f(1, 6, 4)), "s": abs(_f(1, 2, 6))}, _nms)
_add("CumSum", 11, {"x": _ROWS}, {"a": np.array(1, np.int32)}, exclusive=1, reverse=1)
_add("Range", 11, {"a": np.array(0), "b": np.array(5), "c": np.array(2)})
_add("Unique", 11, {"x": np.round(_ROWS)}, outputs=4)
_add("CenterCropPad", 18, {"x": _IMAGE}, {"s": _i(4, 4)}, axes=[2, 3])

# Recurrent, quantized, spectral
for _name, _gates, _count in (("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)):
    _size = {"w": _f(1, 5 * _gates, 3), "r": _f(1, 5 * _gates, 5)}
    _add(_name, (7, 13), {"x": _f(4, 2, 3)}, _size, outputs=_count, hidden_size=5)
_q = {"s": _s(0.1), "z": np.array(3, np.uint8)}
_add("QuantizeLinear", 10, {"x": _ROWS}, _q)
_add("DequantizeLinear", 10, {"x": abs(_ROWS * 10).astype(np.uint8)}, _q)
_codes = {
    "a": abs(_ROWS * 10).astype(np.uint8),
    "b": abs(_f(5, 3) * 9).astype(np.uint8),
}
_add("MatMulInteger", 10, _codes)
for _length in ({}, {"n": np.array(4)}):
    _add("DFT", 17, {"x": _f(2, 8, 3, 1)}, _length, axis=1)
_add("DFT", 17, {"x": _f(2, 8, 3, 1)})

# Only in onnxruntime, in ONNX's domain
_add("Affine", 7, {"x": _ROWS}, alpha=2.0, beta=0.5)
_add("ImageScaler", 7, {"x": _IMAGE}, scale=2.0, bias=[1.0, 2.0, 3.0])
_add("Crop", 7, {"x": _IMAGE}, border=[1, 0, 1, 2])
_add("Crop", 7, {"x": _IMAGE}, border=[1, 2, 0, 0], scale=[3, 4])
_add("ParametricSoftplus", 7, {"x": _ROWS}, alpha=1.5, beta=2.0)
_add("ScaledTanh", 7, {"x": _ROWS}, alpha=1.5, beta=2.0)
_add("DynamicSlice", 7, {"x": _ROWS}, {"s": _i(0, 1), "e": _i(2, 3)})
