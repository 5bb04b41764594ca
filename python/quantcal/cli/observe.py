"""`quantcal observe`: run the samples once and keep the histograms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.cli import text
from quantcal.cli.console import say_warning, stdout
from quantcal.cli.facts import print_facts, timing, warn_of_nonfinite
from quantcal.cli.options import (
    MB,
    NODES,
    ActivationOption,
    DataOption,
    ExcludeOption,
    IncludeOption,
    MantissaOption,
    MemoryOption,
    ModelArgument,
    NonfiniteOption,
    Observer,
    ObserverOption,
    OnNonfinite,
    OpTypeOption,
    Placement,
    PlacementOption,
    ResumeOption,
    Target,
    TargetOption,
    parse_formats,
)

if TYPE_CHECKING:
    from quantcal.onnx import Checkpoint
    from quantcal.onnx._runtime.samples import Samples


def observe(
    model: ModelArgument,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write the histograms (.qcal); replaced when complete.",
        ),
    ],
    data: DataOption,
    target: TargetOption = None,
    activation: ActivationOption = None,
    placement: PlacementOption = None,
    op_type: OpTypeOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            rich_help_panel=NODES,
            metavar="NAME",
            show_default="what quantising needs",
            help="Observe exactly this tensor. Repeat it for several.",
        ),
    ] = None,
    all_tensors: Annotated[
        bool,
        typer.Option(
            "--all-tensors",
            rich_help_panel=NODES,
            help="Observe every float tensor, not only those that quantising needs.",
        ),
    ] = False,
    mantissa_bits: MantissaOption = None,
    on_nonfinite: NonfiniteOption = None,
    observer: ObserverOption = Observer.AUTO,
    max_memory: MemoryOption = None,
    resume: ResumeOption = None,
) -> None:
    """Run the samples through a model once and save its histograms.

    Everything else is decided afterwards, as often as you like, without the
    model. Memory does not grow with the number of samples. What was observed is
    kept when a sample fails or the command is interrupted; --resume goes on.

    Examples:
      $ quantcal observe model.onnx -o stats.qcal --data calibration/
      $ quantcal observe model.onnx -o stats.qcal --data python:mydata:batches
    """
    from quantcal.onnx import load_samples
    from quantcal.onnx import observe as observe_model
    from quantcal.onnx._check.files_in_use import RunFiles
    from quantcal.onnx._write.output import check_file
    from quantcal.onnx.result import peak_memory

    if tensor and all_tensors:
        raise typer.BadParameter("Give --tensor or --all-tensors, not both.")
    place = check_file(output, RunFiles(model, data, resume))
    earlier, keep = kept_before(resume, output, mantissa_bits, on_nonfinite)
    started = time.perf_counter()
    samples = Counted(load_samples(data, model))
    calibrator = observe_model(
        model,
        samples,
        tensors="all" if all_tensors else tensor or None,
        mantissa_bits=mantissa_bits,
        on_nonfinite=on_nonfinite.value if on_nonfinite else "ignore",
        progress=True,
        method=observer.value,
        max_memory=megabytes(max_memory),
        calibrator=earlier,
        keep=keep,
        **chosen(target, activation, placement, op_type, include, exclude),
    )
    seconds = time.perf_counter() - started
    try:
        place.check()
        calibrator.save(output)
    except BaseException:
        keep_all(calibrator, keep, None, "--resume")
        raise
    remove_kept(keep)
    facts = {
        "written": f"{output} ({text.size(output.stat().st_size)})",
        "samples": str(samples.read),
        "tensors": str(len(calibrator)),
        "values": text.amount(sum(calibrator[name].count for name in calibrator)),
        "time": timing(seconds, samples.read - keep.samples),
    }
    peak = peak_memory()
    if peak is not None:
        facts["peak memory"] = text.size(peak)
    print_facts(stdout(), facts)
    warn_of_nonfinite(with_nonfinite(calibrator))


def keep_all(
    calibrator: Calibrator,
    keep: Checkpoint | None,
    save_stats: Path | None,
    option: str,
) -> None:
    """Keep what all samples gave when what was to be made of it could not be written.

    `option` is that of the command which takes the file.
    """
    if keep is None or keep.complete is None or not len(calibrator):
        return
    if save_stats is not None and _saved(calibrator.save, save_stats):
        keep.remove()
    elif _saved(partial(keep.write, keep.complete), calibrator):
        file = keep.path(keep.complete)
        say_warning(
            f"The histograms of all {keep.complete} samples are kept in {file}; "
            f"{option} {file} does not run them again."
        )
    else:
        say_warning(f"The last samples could not be kept. {keep.told()}".rstrip())


def remove_kept(keep: Checkpoint | None) -> None:
    """Remove what a run kept: all that it was for is written."""
    if keep is not None:
        keep.remove()


def _saved(save: Callable[[Any], None], what: Any) -> bool:
    """Return whether something can be saved: another error is being told already."""
    try:
        save(what)
    except (CalibrationError, OSError):
        return False
    return True


def kept_before(
    resume: Path | None,
    output: Path,
    mantissa_bits: int | None,
    on_nonfinite: OnNonfinite | None,
) -> tuple[Calibrator | None, Checkpoint]:
    """Return what is to be resumed, and where this run keeps what it observes."""
    from quantcal.onnx import Checkpoint

    if resume is None:
        keep = Checkpoint(output)
        for file in keep.found()[-1:]:
            say_warning(
                f"{file} is left of a run that ended early; --resume {file} would go on "
                "behind its samples. All are observed now."
            )
        return None, keep
    refuse(
        {"--mantissa-bits": mantissa_bits, "--on-nonfinite": on_nonfinite},
        "the histograms in --resume were made with their own",
    )
    return Checkpoint.resume(resume, output)


def refuse(given: Mapping[str, object], reason: str) -> None:
    """Refuse options that would have no effect."""
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(
                f"It has no effect: {reason}.", param_hint=f"'{name}'"
            )


def megabytes(max_memory: int | None) -> int:
    """Return `--max-memory` in bytes, or the library's default."""
    from quantcal.onnx._observe.observer import MAX_MEMORY

    return MAX_MEMORY if max_memory is None else max_memory * MB


def chosen(
    target: Target | None,
    activation: list[str] | None,
    placement: Placement | None,
    op_type: list[str] | None,
    include: list[str] | None,
    exclude: list[str] | None,
) -> dict[str, Any]:
    """Return the options that decide what is observed; only those that were given."""
    plain, rules = parse_formats(activation, "--activation")
    options = {
        "target": target.value if target else None,
        "activation": plain,
        "formats": rules,
        "placement": placement.value if placement else None,
        "op_types": op_type,
        "include": include,
        "exclude": exclude,
    }
    return {name: value for name, value in options.items() if value}


class Counted:
    """Samples, counted as they are read.

    A tensor's observations do not tell their number: inside a loop a tensor has one for
    each turn, inside a branch one only when it is taken.
    """

    def __init__(self, feeds: Samples) -> None:
        self._feeds = feeds
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        self.read = 0
        for feed in self._feeds:
            self.read += 1
            yield feed

    def __len__(self) -> int:
        return len(self._feeds)


def with_nonfinite(calibrator: Calibrator) -> list[str]:
    """Return the names of the tensors that held NaN or infinities."""
    histograms = ((name, calibrator[name]) for name in calibrator.names)
    return [name for name, h in histograms if h.nan or h.posinf or h.neginf]
