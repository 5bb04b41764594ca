"""`quantcal observe`: run the samples once and keep the histograms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal.cli.flags import Flags, flag_of, takes_flags
from quantcal.cli.options import JsonOption, ModelArgument, ResumeOption, SamplesOption
from quantcal.cli.output import records, text
from quantcal.cli.output.console import stdout
from quantcal.cli.output.facts import print_facts, timing, warn_of_nonfinite
from quantcal.cli.parsing.common import is_quiet

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.onnx import Samples


OBSERVE_FLAGS = (
    "target",
    "placement",
    "op_types",
    "include",
    "exclude",
    "activation_type",
    "observer",
    "max_memory",
    "mantissa_bits",
    "on_nonfinite",
)
"""The options that decide what is observed, and how."""

_NODES = flag_of("target").panel


@takes_flags(*OBSERVE_FLAGS)
def observe(
    model: ModelArgument,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to write the histograms (.qcal); replaced when complete.",
        ),
    ],
    samples: SamplesOption,
    flags: Flags,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            rich_help_panel=_NODES,
            metavar="NAME",
            show_default="what quantizing needs",
            help="Observe exactly this tensor. Repeat it for several.",
        ),
    ] = None,
    all_tensors: Annotated[
        bool,
        typer.Option(
            "--all-tensors",
            rich_help_panel=_NODES,
            help="Observe every float tensor, not only those that quantizing needs.",
        ),
    ] = False,
    resume: ResumeOption = None,
    json_: JsonOption = False,
) -> None:
    """Run the samples through a model once and save its histograms.

    Ranges are chosen later, as often as you like, without the model. Memory does
    not grow with the number of samples. When a sample fails or the command is
    interrupted, a checkpoint is kept; --resume continues from it.

    Examples:
      $ quantcal observe model.onnx -o stats.qcal --samples calibration/
      $ quantcal observe model.onnx -o stats.qcal --samples python:mydata:batches
    """
    from quantcal.cli.checkpoints import keep_all, open_checkpoint
    from quantcal.onnx import FileCheck, QuantizeOptions, load_samples
    from quantcal.onnx import observe as observe_model
    from quantcal.onnx.result import peak_memory

    if tensor and all_tensors:
        raise typer.BadParameter("Give --tensor or --all-tensors, not both.")
    files = FileCheck(model, [samples, resume])
    files.check(output)
    settings = flags.raw("mantissa_bits", "on_nonfinite")
    earlier, checkpoint = open_checkpoint(resume, output, settings)
    started = time.perf_counter()
    counted = Counted(load_samples(samples, model))
    calibrator = observe_model(
        model,
        counted,
        tensors="all" if all_tensors else tensor or None,
        calibrator=earlier,
        checkpoint=checkpoint,
        progress=not is_quiet(),
        options=QuantizeOptions(**flags.values()),
    )
    seconds = time.perf_counter() - started
    try:
        files.check(output)
        calibrator.save(output)
    except BaseException:
        keep_all(calibrator, checkpoint, None, "--resume")
        raise
    checkpoint.remove()
    facts = {
        "written": f"{output} ({text.size(output.stat().st_size)})",
        "samples": str(counted.read),
        "tensors": str(len(calibrator)),
        "values": text.amount(sum(calibrator[name].count for name in calibrator)),
        "time": timing(seconds, counted.read - checkpoint.samples),
    }
    peak = peak_memory()
    if peak is not None:
        facts["peak memory"] = text.size(peak)
    odd = with_nonfinite(calibrator)
    if json_:
        figures = {"samples": counted.read, "tensors": len(calibrator)}
        records.print_json(
            {
                "kind": "observed",
                "file": str(output),
                **figures,
                "values": sum(calibrator[name].count for name in calibrator),
                "seconds": seconds,
                "peak_memory": peak,
                "nonfinite": odd,
            }
        )
    else:
        print_facts(stdout(), facts)
    warn_of_nonfinite(odd)


class Counted:
    """Samples, counted as they are read.

    A tensor's observations do not give their number. Inside a loop a tensor has one for
    each turn, inside a branch one only when the branch is taken.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        self.read = 0
        for sample in self._samples:
            self.read += 1
            yield sample

    def __len__(self) -> int:
        return len(self._samples)


def with_nonfinite(calibrator: Calibrator) -> list[str]:
    """Return the names of the tensors that held NaN or infinities."""
    histograms = ((name, calibrator[name]) for name in calibrator.names)
    return [name for name, h in histograms if h.nan or h.posinf or h.neginf]
