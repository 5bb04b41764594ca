"""The options of a quantization, each in one place: default, text, choices, file and flag.

The fields of :class:`QuantizeOptions` are that place. From them come the signatures and
docstrings of ``quantize``, ``observe`` and ``write``, the keys of a TOML file, and the
flags of the command line with their help.

The functions take the options as plain keywords. ``**changes: Unpack[…]`` lets type
checkers and editors know each keyword. :func:`quantcal.onnx._options.keywords.takes_options`
puts them into ``help()`` and ``inspect.signature``. A type checker reads no metadata,
so the keyword classes below repeat names and types, and nothing else; a test compares
them with the fields.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypedDict

from quantcal._core import CalibrationError
from quantcal._settings import OnNonfinite
from quantcal.onnx._options.cpu import CPUS
from quantcal.onnx._options.info import (
    BOOL,
    INT,
    LIST,
    TABLE,
    TEXT,
    OptionFlag,
    OptionInfo,
    info_of,
    option,
)
from quantcal.onnx._options.values import (
    ACTIVATIONS,
    BLOCK_SIZE,
    CORRECTIONS,
    MAX_MEMORY,
    OBSERVERS,
    OP_TYPES,
    PLACEMENTS,
    WEIGHT_STRATEGIES,
    check_names,
    check_values,
)
from quantcal.strategies.policy import StrategyLike
from quantcal.strategies.presets import NAMED
from quantcal.strategies.registry import plain_names

ObserverName = Literal["auto", "in_graph", "outputs"]

# Panels of --help, in their order there.
NODES = "What is quantized"
RANGES = "Ranges of activations"
WEIGHTS = "Weights"
OBSERVING = "Observing"
PANELS = (NODES, RANGES, WEIGHTS, OBSERVING)

_MEGABYTE = 1_000_000
_NAMED = "by its name, that of a tensor that it makes, or a pattern"


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """The options of :func:`quantcal.onnx.quantize`, which documents them.

    ``quantize``, ``observe`` and ``write`` take one as ``options=``; keywords beside it
    replace its fields. Make variants with :func:`dataclasses.replace`.

    Raises
    ------
    CalibrationError
        For a value that is not known: names the option, the value and what is known.

    Examples
    --------
    >>> options = qc.onnx.QuantizeOptions(strategy="minmax", placement="stock")
    >>> result = qc.onnx.quantize(
    ...     "model.onnx", "model.int8.onnx", "calibration/", options=options
    ... )
    """

    strategy: StrategyLike = option(
        "auto",
        "How ranges are chosen, as for ``Calibrator.compute``: a name, a strategy object, "
        "``{pattern: strategy}``, a ``Policy``, or the path of a policy file. A pattern "
        "``node:…`` means the tensors that the matching nodes read or write. "
        '``"auto"`` (default) tries strategies on the samples and takes what the outputs '
        "lose least by; :class:`quantcal.Auto` has its options. No other strategy is best "
        "for all models.",
        toml=TEXT,
        flag=OptionFlag(
            "--strategy",
            RANGES,
            f"How ranges are chosen: {', '.join(plain_names())}; percentile_99.99, or any "
            f"other number of percent; a named policy ({', '.join(NAMED)}); or a policy "
            "file, .toml or .json. "
            "PATTERN=NAME is for the tensors whose names match, such as '*attn*=minmax' or "
            "'re:layers[.]0[.]=minmax'. Repeat it: the first match counts, and a plain name "
            "or a file decides for the rest.",
            "auto, which tries the others on the samples",
            metavar="RULE",
            short="-s",
            repeated=True,
            rules="strategy",
            for_models="'node:*attn*=minmax' is for what such nodes read and write.",
        ),
    )
    target: str = option(
        "onnxruntime",
        '``"onnxruntime"`` or ``"tensorrt"``. It decides where tensors are rounded and '
        "which formats there are. TensorRT (10 and 11) needs symmetric ranges, no rounding "
        "of what is fused into a node, and biases in float.",
        toml=TEXT,
        choices=tuple(ACTIVATIONS),
        flag=OptionFlag(
            "--target",
            NODES,
            "What will run the model. It decides where tensors are rounded: 'onnxruntime' "
            "needs what its integer kernels read and write. 'tensorrt' (10 and 11) needs "
            "symmetric codes on what nodes read, shortcuts of sums, and float biases.",
            "onnxruntime",
            short="-t",
        ),
    )
    activation_type: str | None = option(
        None,
        'Format of activations. ``"uint8"`` (default for onnxruntime) is affine: no code '
        'is lost on what ReLU cuts off. ``"int8"`` (default for TensorRT) is symmetric. '
        'Others are ``"uint16"``, ``"int16"``, ``"float8_e4m3fn"`` and ``"float8_e5m2"``; '
        'of these TensorRT has ``"float8_e4m3fn"``. ``"none"`` quantizes weights only and '
        "needs no samples. The histograms of a ``calibrator`` are for a format, which is "
        "then the default, unless ``activation_formats`` are given.",
        toml=TEXT,
        flag=OptionFlag(
            "--activation-type",
            RANGES,
            "Format of activations. 'uint8' is affine and loses no code on what ReLU cuts "
            "off. 'int8' is symmetric; TensorRT takes it and 'float8_e4m3fn' only. "
            "onnxruntime also runs 'uint16', 'int16' and 'float8_e5m2', without integer "
            "kernels. 'none' leaves activations in float and needs no samples. "
            "PATTERN=FORMAT is for the tensors whose names match, 'node:PATTERN=FORMAT' for "
            "those beside nodes. Repeat it: the first match counts.",
            "uint8 for onnxruntime, int8 for tensorrt",
            metavar="FORMAT",
            repeated=True,
            rules="activation_formats",
            short="-a",
        ),
    )
    activation_formats: Mapping[str, str] | None = option(
        None,
        "``{pattern: format}``: other formats for the activations whose names match. The "
        "first match counts; ``node:…`` as for ``strategy``.",
        toml=TABLE,
    )
    weight_type: str | None = option(
        None,
        'Format of weights. ``"int8"`` (default) has the fast kernels. Small float '
        "activations take weights of the same type by default. "
        '``"uint8"`` is affine, ``"int7"`` leaves a bit of room for sums, ``"int4"`` and '
        '``"uint4"`` take an eighth of the float\'s size.',
        toml=TEXT,
        flag=OptionFlag(
            "--weight-type",
            WEIGHTS,
            "Format of weights. 'int8' has the fast kernels; 'uint8' is affine; 'int4' and "
            "'uint4' take an eighth of the float's size, best with --activation-type none. "
            "Others are 'int7', 'uint7', 'int16', 'float8_e4m3fn', 'float8_e5m2'. "
            "PATTERN=FORMAT is for weights by name, 'node:PATTERN=FORMAT' for those of "
            "nodes.",
            "int8, or the small float of the activations",
            metavar="FORMAT",
            repeated=True,
            rules="weight_formats",
            short="-w",
        ),
    )
    weight_strategy: str | None = option(
        None,
        '``"minmax"`` clips no weight: the default from 5 bits on, where clipping gains '
        '0.1 to 0.4 dB. ``"mse"`` has the smallest squared error: the default for 4 bits, '
        "where it gains 1 to 3 dB.",
        toml=TEXT,
        choices=WEIGHT_STRATEGIES,
        flag=OptionFlag(
            "--weight-strategy",
            WEIGHTS,
            "Ranges of weights. 'minmax' clips nothing. 'mse' clips where that lowers the "
            "squared error: by 1 to 3 dB with 4 bits, 0.1 to 0.4 with 8.",
            "mse for 4 bits, else minmax",
        ),
    )
    weight_formats: Mapping[str, str] | None = option(
        None,
        "``{pattern: format}``: other formats for weights, by name of the weight or "
        "``node:…``.",
        toml=TABLE,
    )
    block_size: int = option(
        BLOCK_SIZE,
        "Number of values of a 4-bit matrix that share a scale, along the axis that is "
        "summed over. 32 is usual in 4-bit files; a smaller number is more exact and makes "
        "a larger file. 0 for one scale per channel.",
        toml=INT,
        flag=OptionFlag(
            "--block-size",
            WEIGHTS,
            "Number of values of a 4-bit matrix that share a scale. A smaller number is "
            "more exact and makes a larger file; 0 for one scale per channel.",
            f"{BLOCK_SIZE}, as in most 4-bit files",
            metavar="N",
        ),
    )
    per_channel: bool = option(
        True,
        "One scale for each output channel of a weight (default), or one for all.",
        toml=BOOL,
        flag=OptionFlag(
            "--per-channel/--per-tensor",
            WEIGHTS,
            "One scale for each output channel of a weight, or one for all.",
            "per channel, which is more exact and costs nothing",
        ),
    )
    reduce_range: bool | str | Collection[str] = option(
        "auto",
        '7-bit weights: True, False, or names of the nodes that take them. ``"auto"`` '
        '(default) and ``"nodes"`` decide for onnxruntime when ``cpu`` has no VNNI, where '
        "8 bits overflow inside its kernels. They take 7 bits only in nodes where the "
        "overflow costs more than the bit (:func:`quantcal.onnx.find_saturation`).",
        toml=(BOOL, TEXT, LIST),
        flag=OptionFlag(
            "--reduce-range",
            WEIGHTS,
            "7-bit weights, for onnxruntime on a CPU without VNNI, where 8-bit sums overflow. "
            "'nodes' takes them in the nodes where the histograms show a loss by overflow. "
            "'auto' does the same, but with a table, which cannot show it, in all nodes. "
            "'yes' takes them in all nodes on any CPU, 'no' in none.",
            "auto",
            words={"auto": "auto", "nodes": "nodes", "yes": True, "no": False},
        ),
    )
    cpu: str = option(
        "auto",
        'Where the model will run: ``"vnni"``, ``"no-vnni"`` or ``"arm"``; ``"auto"`` '
        "(default) is this machine.",
        toml=TEXT,
        choices=CPUS,
        flag=OptionFlag(
            "--cpu",
            WEIGHTS,
            "Where onnxruntime will run the model, which decides --reduce-range auto and "
            "nodes: 'vnni' and 'arm' need no 7-bit weights.",
            "auto: this machine",
        ),
    )
    placement: str = option(
        "minimal",
        'Where activations are rounded for onnxruntime. ``"minimal"`` (default) rounds '
        "only what its integer kernels need: a MatMul or Gemm has a float result, unless a "
        'quantized node reads it as it is. ``"stock"`` rounds every result too, as '
        "onnxruntime's own quantizer does; take it to compare with that.",
        toml=TEXT,
        choices=PLACEMENTS,
        flag=OptionFlag(
            "--placement",
            NODES,
            "Where activations are rounded for onnxruntime. minimal: only what its integer "
            "kernels need, so results of MatMul and Gemm stay in float. stock: every result "
            "too, as onnxruntime's own quantizer does.",
            "minimal",
        ),
    )
    op_types: Sequence[str] = option(
        OP_TYPES,
        "Operator types to quantize, inside ``If``, ``Loop`` and ``Scan`` too. Of Gather, "
        "LSTM, GRU, RNN and Einsum only constant weights are quantized.",
        toml=LIST,
        flag=OptionFlag(
            "--op-type",
            NODES,
            "Operator type to quantize, inside If, Loop and Scan too. Repeat it for "
            "several.",
            f"{', '.join(OP_TYPES)}: most of the work",
            metavar="TYPE",
            repeated=True,
        ),
    )
    include: Sequence[str] = option(
        (),
        "Names of nodes, or of tensors that they make, or patterns (``*``): quantize only "
        "these. Unnamed nodes go by type and position, such as ``Conv_12``.",
        toml=LIST,
        flag=OptionFlag(
            "--include",
            NODES,
            f"Quantize this node only, {_NAMED}. Repeat it for several.",
            "all of these types",
            metavar="NODE",
            repeated=True,
        ),
    )
    exclude: Sequence[str] = option(
        (),
        "Nodes to leave in float, named as for ``include``.",
        toml=LIST,
        flag=OptionFlag(
            "--exclude",
            NODES,
            f"Node to leave in float, {_NAMED} ('*head*'). Repeat it for several.",
            "none",
            metavar="NODE",
            repeated=True,
            short="-x",
        ),
    )
    corrections: Sequence[str] = option(
        (),
        "Corrections of the model, done in this order. "
        '``"equalize"`` gives the channels between two layers equal ranges '
        '(cross-layer equalization). ``"smooth"`` moves outliers of activations behind '
        'norms into weights (SmoothQuant). ``"bias"`` takes the mean error of each '
        "channel out of the biases, measured on the samples. All need samples that can be "
        "read again; the first two take no histograms of an earlier run.",
        toml=LIST,
        choices=CORRECTIONS,
        flag=OptionFlag(
            "--correct",
            WEIGHTS,
            "Corrections of the model, such as 'equalize,bias'. 'equalize': equal ranges "
            "for the channels between two layers. 'smooth': outliers of activations behind "
            "norms move into weights (SmoothQuant). 'bias': biases take the mean error of "
            "each channel. The samples are read again for each.",
            "none",
            metavar="NAME",
            repeated=True,
        ),
    )
    check_stability: bool = option(
        True,
        "Keep a second histogram of every second sample, and report how far the ranges of "
        "the two halves differ: whether the samples suffice. The model is the same. "
        "Ranges are chosen three times, which takes milliseconds per tensor.",
        flag=OptionFlag(
            "--check-stability/--no-check-stability",
            OBSERVING,
            "Keep every second sample separate too, and report how far the ranges of both "
            "halves differ: whether the samples suffice.",
            "check-stability",
        ),
    )
    observer: ObserverName = option(
        "auto",
        'How tensors are observed. ``"in_graph"`` puts an operator behind each tensor, '
        "which counts it while the model runs: one run per sample, in little more memory "
        'than plain inference, subgraphs included. ``"outputs"`` makes the tensors '
        'outputs of the model, which any runtime can run. ``"auto"`` (default) takes the '
        "first, or with a warning the second where onnxruntime cannot load the operator. "
        "Both give the same histograms.",
        choices=OBSERVERS,
        flag=OptionFlag(
            "--observer",
            OBSERVING,
            "How tensors are observed. 'in_graph': while the model runs, in little more "
            "memory than plain inference. 'outputs': as outputs of the model, for runtimes "
            "that cannot load the operator. 'auto' takes the first available.",
            "auto",
        ),
    )
    max_memory: int = option(
        MAX_MEMORY,
        'For ``"outputs"``: bytes that the observed tensors of one sample may take '
        "together, 1 GiB by default. When they take more, the model runs several times on "
        "each sample, with a group of tensors each time. A tensor larger than this is "
        "alone.",
        flag=OptionFlag(
            "--max-memory",
            OBSERVING,
            "For --observer outputs: megabytes that the observed tensors of one sample may "
            "take together. Beyond, the model runs several times on each sample, with a "
            "group of tensors each time. 'in_graph' keeps no tensors and needs no limit.",
            "1074: 1 GiB, which a laptop can spare",
            metavar="MB",
            unit=_MEGABYTE,
            minimum=1,
        ),
    )
    mantissa_bits: int | None = option(
        None,
        "Resolution of the histograms, as for :class:`quantcal.Calibrator`.",
        toml=INT,
        flag=OptionFlag(
            "--mantissa-bits",
            OBSERVING,
            "Resolution of the histograms: 2^N bins per octave, N from 3 to 12. The "
            "default for float16, 10, is exact.",
            "8 for float32: bins of 0.4 %",
            metavar="N",
            minimum=3,
            maximum=12,
        ),
    )
    on_nonfinite: OnNonfinite = option(
        "ignore",
        '``"ignore"`` counts NaN and infinities and leaves them out of the ranges; '
        '``"raise"`` stops.',
        toml=TEXT,
        choices=("ignore", "raise"),
        flag=OptionFlag(
            "--on-nonfinite",
            OBSERVING,
            "What to do with NaN and infinite activations: 'ignore' counts them and leaves "
            "them out of the ranges, 'raise' stops and names the tensor.",
            "ignore",
        ),
    )
    providers: Sequence[str] | None = option(
        None,
        "onnxruntime execution providers; the CPU by default. One that is not available is "
        "refused, as onnxruntime would use the CPU instead.",
    )

    def __post_init__(self) -> None:
        for name in ("op_types", "include", "exclude"):
            object.__setattr__(self, name, check_names(name, getattr(self, name)))
        if not self.op_types:
            raise CalibrationError(
                "op_types is empty, so nothing would be quantized. Name operator types, such "
                f"as {OP_TYPES[0]}, or leave it out."
            )
        asked = check_names("corrections", self.corrections)
        ordered = [name for name in CORRECTIONS if name in asked]
        ordered += [name for name in asked if name not in CORRECTIONS]  # refused below
        object.__setattr__(self, "corrections", tuple(ordered))
        if not isinstance(self.reduce_range, (bool, str)):
            nodes = check_names("reduce_range", self.reduce_range)
            object.__setattr__(self, "reduce_range", tuple(sorted(nodes)))
        from quantcal.calibrator import Calibrator

        Calibrator(
            mantissa_bits=self.mantissa_bits, on_nonfinite=self.on_nonfinite
        )  # checks them
        check_values({name: getattr(self, name) for name in self.describe()})

    @classmethod
    def describe(cls) -> dict[str, OptionInfo]:
        """Return what is known of each option: its text, choices, kinds and flag."""
        known = {each.name: info_of(each.metadata) for each in fields(QuantizeOptions)}
        return {name: info for name, info in known.items() if info is not None}


class NodeKeywords(TypedDict, total=False):
    """Keywords that choose nodes."""

    target: str
    placement: str
    op_types: Sequence[str]
    include: Sequence[str]
    exclude: Sequence[str]


class ObserveKeywords(NodeKeywords, total=False):
    """Keywords of :func:`quantcal.onnx.observe`."""

    activation_type: str | None
    activation_formats: Mapping[str, str] | None
    observer: ObserverName
    max_memory: int
    mantissa_bits: int | None
    on_nonfinite: OnNonfinite
    providers: Sequence[str] | None


class WriteKeywords(NodeKeywords, total=False):
    """Keywords of :func:`quantcal.onnx.write`."""

    weight_type: str | None
    weight_strategy: str | None
    weight_formats: Mapping[str, str] | None
    block_size: int
    per_channel: bool
    reduce_range: bool | str | Collection[str]
    cpu: str


class QuantizeKeywords(ObserveKeywords, WriteKeywords, total=False):
    """Keywords of :func:`quantcal.onnx.quantize`."""

    strategy: StrategyLike
    corrections: Sequence[str]
    check_stability: bool
