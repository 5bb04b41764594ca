"""What `quantcal quantize` refuses before any sample runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from quantcal._core import CalibrationError
from quantcal._io.files import same_target
from quantcal.calibrator import Calibrator
from quantcal.cli.errors import refuse_same

if TYPE_CHECKING:
    from quantcal.onnx._check.files_in_use import RunFiles


def check_sources(
    data: str | None, from_: Path | None, options: Mapping[str, Any]
) -> None:
    """Refuse samples beside histograms, and neither."""
    if data is not None and from_ is not None:
        raise typer.BadParameter("Give --data or --from, not both.")
    if data is None and from_ is None and options.get("activation") != "none":
        raise typer.BadParameter(
            "Give the calibration samples, or --activation none, or --from FILE.",
            param_hint="'--data'",
        )


def config_beside(output: Path, config: Path | None) -> Path | None:
    """Return where the options go; None when the file that was read says them already.

    It may have remarks of the user's.
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
    source
        Where they are from.
    configured
        The settings asked for: ``mantissa_bits`` and ``on_nonfinite``, or None.
    complete
        Whether they are of all samples.

    Raises
    ------
    CalibrationError
        If they were made with other settings than are asked for.
    """
    if earlier is None:
        chosen = {
            name: value for name, value in configured.items() if value is not None
        }
        return Calibrator(**chosen)
    for name, value in configured.items():
        kept = getattr(earlier, name)
        # Complete histograms that were to be refused for an infinity hold none.
        if value in (None, kept) or (complete and value == "ignore"):
            continue
        msg = (
            f"The configuration says {name} = {value!r}, but the histograms in {source} were "
            f"made with {kept!r}; leave it out of the configuration, or observe all samples "
            f"again without {'--from' if complete else '--resume'}."
        )
        raise CalibrationError(msg)
    return earlier


def check_outputs(used: RunFiles, output: Path, others: Sequence[Path | None]) -> None:
    """Refuse files that cannot be written, or that the run uses."""
    from quantcal.onnx._write.output import check_file, weights_beside

    check_file(output, used).check_both()
    given = [path for path in others if path is not None]
    for path in given:
        check_file(path, used)
    refuse_same([output, weights_beside(output), *given])
