"""Arguments and options that several commands share, beside those of `quantcal.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantcal._core import CalibrationError
from quantcal.cli.flags import flag_of, option_of
from quantcal.cli.rules import parse_rules, wrong
from quantcal.formats import QuantFormat

# Panels of --help.
RANGES = flag_of("strategy").panel
OBSERVING = flag_of("observer").panel
KEEP = "Other files"

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
SAMPLES_HELP = (
    "Calibration samples: a folder of images, of WAV files, or a file of texts, with the "
    "options for them. Or a folder of .npz files, one per sample, with the input names as "
    "keys; a single .npz; or .npy files for a model with one input. "
    "python:MODULE:CALLABLE yields {input name: array}. 100 to 1000 typical samples are "
    "usual."
)
SamplesOption = Annotated[
    str, typer.Option("--samples", "-i", metavar="PATH", help=SAMPLES_HELP)
]
StrategyOption = Annotated[list[str] | None, option_of("strategy", model=False)]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        rich_help_panel=OBSERVING,
        metavar="FILE",
        show_default="none",
        help="Continue a run with the same options that ended early: FILE is its checkpoint "
        "(OUT.first-N.qcal). The first N samples are left out, and the result is "
        "that of a whole run.",
    ),
]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--activation-type",
        "-a",
        metavar="FORMAT",
        show_default="what the model was observed for, else int8",
        rich_help_panel=RANGES,
        help="Format of the codes: int2 to int16 (symmetric unless --affine is given), "
        "uint2 to uint16 (affine), float8_e4m3fn, float8_e5m2, float4_e2m1fn. The file "
        "of `quantcal observe` holds what its --target and --activation-type store.",
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
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write the quantized model; replaced when it is complete and "
        "checked.",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        metavar="N",
        show_default="all",
        help="Show at most N rows, those that come first.",
    ),
]
FewOption = Annotated[
    int,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        metavar="N",
        help="Show at most N rows, those that come first.",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        "-m",
        metavar="python:MODULE:CALLABLE",
        show_default="the loss of the outputs",
        help="Your measure of quality, more is better. It is called with a sample's number, "
        "its {input: array} and {output: array}, and returns a number. For `evaluate` it may "
        "return {name: number} too. 'class-folders' is the share of images whose class is "
        "right: their folders, in the order of names.",
    ),
]
MaxDropOption = Annotated[
    str,
    typer.Option(
        "--max-drop",
        metavar="SHARE",
        help="The limit: the share of the float model's metric that may be lost, such as "
        "1%. Without --metric, the largest loss of the outputs. The exit code is 3 if it is "
        "broken.",
    ),
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="TIME",
        show_default="none",
        help="Stop the search after this time, such as 90s or 10m, with the best so far.",
    ),
]
TimesOption = Annotated[
    Path | None,
    typer.Option(
        "--times",
        metavar="FILE",
        show_default="measured here",
        help="Times of nodes that `quantcal times` measured on the machine that deploys. "
        "`advise` names the nodes that integers do not make faster.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        show_default="none",
        rich_help_panel=KEEP,
        help="Write a report too: one HTML file with a summary, a table of tensors and "
        "pictures. Needs the extra 'report'.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", "-j", help="Print JSON with all figures instead.")
]


def one_format(given: list[str] | None) -> str | None:
    """Return the format of a command on histograms, which takes one for all tensors.

    Raises
    ------
    typer.BadParameter
        If there are several, or a rule for some tensors.
    """
    plain, rules = parse_rules(given, "--activation-type", "format")
    if rules:
        raise wrong(
            f"{given and given[0]!r} is a rule, which only `quantcal quantize` and `observe` "
            "take. Give one format for all tensors.",
            "--activation-type",
        )
    return plain


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
        raise wrong(str(error), "--activation-type") from error
