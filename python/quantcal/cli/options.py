"""Options that several commands share, declared once: name, unit, default and why."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from quantcal import Policy
from quantcal.strategies.named import NAMED

MB = 1_000_000
"""Bytes; memory is given and shown in these."""

# Panels of --help.
RANGES = "Ranges of activations"
WEIGHTS = "Weights"
NODES = "What is quantised"
OBSERVING = "Observing"
KEEP = "Other files"


class Format(str, Enum):
    """Integer formats that onnxruntime has fast kernels for."""

    INT8 = "int8"
    UINT8 = "uint8"


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
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Calibration samples: a folder of .npz files, one each, whose keys are "
        "the input names; a single .npz; .npy files for a model with one input; or "
        "python:MODULE:CALLABLE, which yields {input name: array}. 100 to 1000 typical "
        "samples are usual.",
    ),
]
StrategyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        "-s",
        metavar="RULE",
        show_default="mse, which clips only where it lowers the error",
        rich_help_panel=RANGES,
        help="How ranges are chosen: minmax, percentile_99.99 (or any number), "
        "percentile_adaptive, kl, mse, entropy, aciq, hybrid, softmax; llm_layers, by "
        "kind of transformer layer; or a policy file, .toml or .json. Or PATTERN=NAME "
        "for the tensors whose names match, such as "
        "'*attn*=minmax' or 're:layers[.]0[.]=minmax': repeat it, the first match "
        "counts, and a plain name or a file decides for the rest.",
    ),
]
OpTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--op-type",
        rich_help_panel=NODES,
        metavar="TYPE",
        show_default="Conv, MatMul, Gemm: most of the work",
        help="Operator type to quantise. Repeat it for several.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        rich_help_panel=NODES,
        metavar="NODE",
        show_default="none",
        help="Node to leave in float, by name or pattern ('*head*'). Repeat it for "
        "several.",
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
NonfiniteOption = Annotated[
    OnNonfinite,
    typer.Option(
        "--on-nonfinite",
        rich_help_panel=OBSERVING,
        help="What to do with NaN and infinite activations: 'ignore' counts them and "
        "leaves them out of the ranges, 'raise' stops and names the tensor.",
    ),
]
ObserverOption = Annotated[
    Observer,
    typer.Option(
        "--observer",
        rich_help_panel=OBSERVING,
        help="How tensors are observed: 'in_graph' while the model runs, in the memory "
        "of plain inference; 'outputs' as outputs of the model, for runtimes that "
        "cannot load the operator; 'auto' takes the first that can be had.",
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


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() in {".toml", ".json"}


def _policy(text: str) -> Policy | None:
    """Return the policy that a plain name or a file is; None for a strategy's name."""
    if _is_file(text):
        return Policy.load(text)
    return Policy.named(text) if text in NAMED else None


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="'--strategy'")
