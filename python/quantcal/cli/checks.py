"""What `quantcal quantize` refuses before any sample runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from quantcal._core import CalibrationError
from quantcal._io.files import same_target
from quantcal.cli.errors import refuse_same

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.onnx import FileCheck, QuantizeOptions


def check_sources(
    samples: str | None, from_: Path | None, options: QuantizeOptions
) -> None:
    """Refuse samples together with histograms, and a run without either."""
    if samples is not None and from_ is not None:
        raise typer.BadParameter("Give --samples or --from, not both.")
    if samples is None and from_ is None and options.activation_type != "none":
        raise typer.BadParameter(
            "Give the calibration samples, or --activation-type none, or --from FILE.",
            param_hint="'--samples'",
        )


def config_beside(output: Path, config: Path | None) -> Path | None:
    """Return where the options go; None when that is the file that was read.

    That file may have comments by the user.
    """
    beside = output.with_suffix(".quantcal.toml")
    return None if config is not None and same_target(beside, config) else beside


def calibrator_for(
    earlier: Calibrator | None,
    source: Path | None,
    configured: Mapping[str, Any],
    *,
    complete: bool,
) -> Calibrator:
    """Return histograms made earlier, if there are, else an empty calibrator.

    Parameters
    ----------
    earlier
        The histograms.
    source
        Where they are from.
    configured
        The settings asked for: ``mantissa_bits`` and ``on_nonfinite``, or None.
    complete
        Whether they hold all samples.

    Raises
    ------
    CalibrationError
        If they were made with other settings.
    """
    from quantcal.calibrator import Calibrator

    if earlier is None:
        chosen = {
            name: value for name, value in configured.items() if value is not None
        }
        return Calibrator(**chosen)
    for name, value in configured.items():
        kept = getattr(earlier, name)
        # Histograms of all samples, made with "raise", hold no NaN or infinity.
        if value in (None, kept) or (complete and value == "ignore"):
            continue
        msg = (
            f"The configuration says {name} = {value!r}, but the histograms in {source} were "
            f"made with {kept!r}. Leave it out of the configuration, or observe all samples "
            f"again without {'--from' if complete else '--resume'}."
        )
        raise CalibrationError(msg)
    return earlier


def check_outputs(
    files: FileCheck, output: Path, others: Sequence[Path | None]
) -> None:
    """Refuse files that cannot be written, or that the run uses."""
    weights = files.check_model(output)
    given = [path for path in others if path is not None]
    for path in given:
        files.check(path)
    refuse_same([output, weights, *given])


@contextmanager
def naming(config: Path | None, options: Collection[str]) -> Iterator[None]:
    """Name the file of options in errors about what it says.

    Such an error begins with the name of the option, as when no node has a given name.

    Parameters
    ----------
    config
        The file; None if there is none.
    options
        What the file says, and no flag replaces.

    Raises
    ------
    CalibrationError
        The same error, with the file in front.
    """
    try:
        yield
    except CalibrationError as error:
        first = re.match(r"\w+", str(error))
        if config is None or first is None or first[0] not in options:
            raise
        raise CalibrationError(f"{config}: {error}") from error
