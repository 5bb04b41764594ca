"""Options that several commands share, declared once: name, unit, default and why."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from quantcal._core import CalibrationError
from quantcal.formats import QuantFormat
from quantcal.strategies.policy import Policy
from quantcal.strategies.presets import NAMED

MB = 1_000_000
"""Bytes; memory is given and shown in these."""

# Panels of --help.
RANGES = "Ranges of activations"
WEIGHTS = "Weights"
NODES = "What is quantised"
OBSERVING = "Observing"
KEEP = "Other files"


class Target(str, Enum):
    """What runs the model."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"


class Placement(str, Enum):
    """Where activations are rounded for onnxruntime."""

    MINIMAL = "minimal"
    STOCK = "stock"


class OnNonfinite(str, Enum):
    """What happens to NaN and infinities."""

    IGNORE = "ignore"
    RAISE = "raise"


class Observer(str, Enum):
    """How tensors are observed."""

    AUTO = "auto"
    IN_GRAPH = "in_graph"
    OUTPUTS = "outputs"


ModelArgument = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="The float ONNX model. It is never changed."),
]
StatsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="STATS", help="Histograms that `quantcal observe` wrote (.qcal)."
    ),
]
DATA_HELP = (
    "Calibration samples: a folder of .npz files, one each, whose keys are the input "
    "names; a single .npz; .npy files for a model with one input; or "
    "python:MODULE:CALLABLE, which yields {input name: array}. 100 to 1000 typical "
    "samples are usual."
)
DataOption = Annotated[str, typer.Option("--data", metavar="PATH", help=DATA_HELP)]
StrategyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        "-s",
        metavar="RULE",
        show_default="mse, which clips only where it lowers the error",
        rich_help_panel=RANGES,
        help="How ranges are chosen: mse, minmax, percentile_99.99 (or any number, in "
        "percent), percentile_adaptive, kl, entropy, aciq, hybrid, softmax; llm_layers, by "
        "kind of transformer layer; or a policy file, .toml or .json. Or PATTERN=NAME "
        "for the tensors whose names match, such as "
        "'*attn*=minmax', 're:layers[.]0[.]=minmax' or, for what nodes read and write, "
        "'node:*attn*=minmax': repeat it, the first match "
        "counts, and a plain name or a file decides for the rest.",
    ),
]
PlacementOption = Annotated[
    Placement | None,
    typer.Option(
        "--placement",
        rich_help_panel=NODES,
        show_default="minimal",
        help="Where activations are rounded for onnxruntime. minimal: only what its "
        "integer kernels need, so results of MatMul and Gemm stay in float. stock: every "
        "result too, as onnxruntime's own quantizer does.",
    ),
]
OpTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--op-type",
        rich_help_panel=NODES,
        metavar="TYPE",
        show_default="Conv, MatMul, Gemm: most of the work",
        help="Operator type to quantise, inside If, Loop and Scan too. Repeat it for "
        "several.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        rich_help_panel=NODES,
        metavar="NODE",
        show_default="all of these types",
        help="Quantise this node only, by its name, that of a tensor that it makes, or a "
        "pattern. Repeat it for several.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        rich_help_panel=NODES,
        metavar="NODE",
        show_default="none",
        help="Node to leave in float, by its name, that of a tensor that it makes, or a "
        "pattern ('*head*'). Repeat it for several.",
    ),
]
TargetOption = Annotated[
    Target | None,
    typer.Option(
        "--target",
        rich_help_panel=NODES,
        show_default="onnxruntime",
        help="What will run the model. It decides where tensors are rounded: "
        "'onnxruntime' wants what its integer kernels read and write; 'tensorrt' (10 and "
        "11) symmetric codes on what nodes read, shortcuts of sums, and float biases.",
    ),
]
ActivationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--activation",
        metavar="FORMAT",
        show_default="uint8 for onnxruntime, int8 for tensorrt",
        rich_help_panel=RANGES,
        help="Format of activations. 'uint8' is affine and spends no code on what ReLU "
        "cuts off; 'int8' is symmetric, all that TensorRT takes beside "
        "'float8_e4m3fn'; onnxruntime also runs 'uint16', 'int16' and 'float8_e5m2', "
        "without integer kernels; 'none' leaves activations in float, and needs no "
        "data. Or PATTERN=FORMAT for the tensors whose names match, "
        "'node:PATTERN=FORMAT' for those beside nodes: repeat it, the first match "
        "counts.",
    ),
]
MantissaOption = Annotated[
    int | None,
    typer.Option(
        "--mantissa-bits",
        rich_help_panel=OBSERVING,
        min=3,
        max=12,
        metavar="N",
        show_default="8 for float32: bins of 0.4 %",
        help="Resolution of the histograms: 2^N bins an octave, N from 3 to 12. The "
        "default for float16, 10, is exact.",
    ),
]
_NONFINITE_HELP = (
    "What to do with NaN and infinite activations: 'ignore' counts them and leaves them "
    "out of the ranges, 'raise' stops and names the tensor."
)
NonfiniteOption = Annotated[
    OnNonfinite | None,
    typer.Option(
        "--on-nonfinite",
        rich_help_panel=OBSERVING,
        show_default="ignore",
        help=_NONFINITE_HELP,
    ),
]
ObserverOption = Annotated[
    Observer,
    typer.Option(
        "--observer",
        rich_help_panel=OBSERVING,
        help="How tensors are observed: 'in_graph' while the model runs, in little more "
        "memory than plain inference; 'outputs' as outputs of the model, for runtimes "
        "that cannot load the operator; 'auto' takes the first available.",
    ),
]
MemoryOption = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        rich_help_panel=OBSERVING,
        min=1,
        metavar="MB",
        show_default="1074: 1 GiB, which a laptop can spare",
        help="Megabytes that the observed tensors of one sample may take together. "
        "Beyond, the model runs several times on each sample, with a group of tensors "
        "each time.",
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        rich_help_panel=OBSERVING,
        metavar="FILE",
        show_default="none",
        help="Go on where a run with the same options ended early: FILE is what it kept "
        "(OUT.first-N.qcal). The first N samples are left out, and the result is "
        "that of a whole run.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        show_default="what the model was observed for, else int8",
        rich_help_panel=RANGES,
        help="Format of the codes: int2 to int16 (symmetric unless --affine is given), "
        "uint2 to uint16 (affine), float8_e4m3fn, float8_e5m2, float4_e2m1fn. The file "
        "of `quantcal observe` holds what its --target and --activation store.",
    ),
]
SymmetricOption = Annotated[
    bool | None,
    typer.Option(
        "--symmetric/--affine",
        show_default="of the format",
        rich_help_panel=RANGES,
        help="A range with zero in its middle, or one that follows the data and "
        "needs a zero point.",
    ),
]
PowerOfTwoOption = Annotated[
    bool,
    typer.Option(
        "--power-of-two",
        rich_help_panel=RANGES,
        help="Only scales that are powers of two, so that scaling is a shift.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON with all figures to stdout instead.")
]


def parse_strategy(given: list[str] | None) -> str | dict[str, str] | Policy:
    """Return what `--strategy` says as `Calibrator.compute` takes it.

    Parameters
    ----------
    given
        Names, policy files and `PATTERN=NAME` rules, in the order of the command line.
        A tensor's name may contain "=", the name of a strategy does not: the last one
        divides. What ends in .toml or .json is a file.

    Returns
    -------
    A name, a mapping of patterns to names, or a policy. A plain name among rules becomes
    the last rule, "*"; the rules of a policy go behind the others.

    Raises
    ------
    typer.BadParameter
        If two plain names are given, or a rule has an empty side, occurs twice, or
        cannot ever match.
    CalibrationError
        If a policy file is no use.
    """
    rules: dict[str, str] = {}
    plain: list[str] = []
    for text in given or ["mse"]:
        pattern, equals, name = text.rpartition("=")
        if not equals or _is_file(text):
            plain.append(text)
        elif not pattern or not name:
            raise _wrong(f"{text!r} is not of the form PATTERN=NAME.")
        elif pattern in rules:
            raise _wrong(f"There are two rules for the pattern {pattern!r}.")
        else:
            rules[pattern] = name
    if len(plain) > 1:
        raise _wrong(
            f"There are {len(plain)} plain names ({', '.join(plain)}). Give one; "
            "others need a pattern, such as '*attn*=minmax'."
        )
    if not plain:
        return rules
    if "*" in rules:
        raise _wrong(f"The rule '*' leaves nothing for the plain name {plain[0]!r}.")
    policy = _policy(plain[0])
    if policy is not None:
        return Policy(rules) + policy if rules else policy
    return {**rules, "*": plain[0]} if rules else plain[0]


def parse_formats(
    given: list[str] | None, option: str
) -> tuple[str | None, dict[str, str]]:
    """Return the plain format of an option, and its rules.

    Parameters
    ----------
    given
        Formats and `PATTERN=FORMAT` rules, in the order of the command line.
    option
        Named in errors.

    Raises
    ------
    typer.BadParameter
        If two plain formats are given, or a rule has an empty side or occurs twice.
    """
    plain: str | None = None
    rules: dict[str, str] = {}
    for text in given or []:
        pattern, equals, name = text.rpartition("=")
        if not equals:
            if plain is not None:
                raise _wrong(
                    f"There are two plain formats, {plain} and {text}. Give one; others "
                    f"need a pattern, such as '*head*={text}'.",
                    option,
                )
            plain = text
        elif not pattern or not name:
            raise _wrong(f"{text!r} is not of the form PATTERN=FORMAT.", option)
        elif pattern in rules:
            raise _wrong(f"There are two rules for the pattern {pattern!r}.", option)
        else:
            rules[pattern] = name
    return plain, rules


def check_format(
    format: str | None, symmetric: bool | None = None, power_of_two: bool = False
) -> None:
    """Refuse a format that is not known, or that cannot be scaled so.

    Raises
    ------
    typer.BadParameter
        Says what is known.
    """
    if format is None:
        return  # it depends on the file
    try:
        QuantFormat.of(format, symmetric, power_of_two)
    except CalibrationError as error:
        raise _wrong(str(error), "--format") from error


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() in {".toml", ".json"}


def _policy(text: str) -> Policy | None:
    """Return the policy that a plain name or a file is; None for a strategy's name."""
    if _is_file(text):
        return Policy.load(text)
    return Policy.named(text) if text in NAMED else None


def _wrong(message: str, option: str = "--strategy") -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=f"'{option}'")
