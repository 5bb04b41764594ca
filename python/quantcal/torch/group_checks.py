"""Checks that the readers of a source's output are exactly those of its group.

A forward pass of a sample decides; the names of modules are no proof. `output_check.py` then
compares the outputs of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.torch.folding import check_reader, check_shared, check_source
from quantcal.torch.groups import Group
from quantcal.torch.reader_trace import ReaderTrace, ReaderTracer


def trace_readers(
    run: Callable[[], list[torch.Tensor]],
    modules: Mapping[str, nn.Module],
    sources: Sequence[str],
) -> ReaderTrace:
    """Run the sample once, and return who reads the outputs of the sources."""
    tracer = ReaderTracer(modules, sources)
    with tracer.attached() as trace:
        tracer.note_outputs(run())
    return trace


def norm_candidates(modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the modules that may be norms: those with one weight per channel."""
    found = []
    for path, module in modules.items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 1:
            found.append(path)
    return found


def groups_in_trace(
    trace: ReaderTrace, modules: Mapping[str, nn.Module]
) -> tuple[list[Group], dict[str, str]]:
    """Return the groups in a trace, and the reason by source where there is none.

    Norms that no linear layer reads are in neither.
    """
    groups, reasons = [], {}
    order = {path: i for i, path in enumerate(trace.called)}
    for source in sorted(trace.sources, key=lambda s: order.get(s, len(order))):
        readers = trace.readers(source)
        if not readers:
            continue
        group = Group(source, tuple(readers))
        try:
            check_modules([group], modules)
            check_trace(group, trace, modules)
        except CalibrationError as error:
            reasons[source] = str(error)
        else:
            groups.append(group)
    return groups, reasons


def check_modules(groups: Sequence[Group], modules: Mapping[str, nn.Module]) -> None:
    """Refuse groups with modules that cannot be scaled.

    Raises
    ------
    CalibrationError
        If a module is missing, has the wrong type or shape, or shares its weight.
    """
    for group in groups:
        weights = [check_reader(path, modules) for path in group.readers]
        widths = {
            path: w.shape[1] for path, w in zip(group.readers, weights, strict=True)
        }
        if not weights:
            msg = f'The group of "{group.source}" has no readers'
            raise CalibrationError(msg)
        if len(set(widths.values())) > 1:
            msg = f'The readers of "{group.source}" have different input channels: {widths}'
            raise CalibrationError(msg)
        check_source(group.source, modules, weights[0].shape[1])
    check_shared(groups, modules)


def check_trace(
    group: Group, trace: ReaderTrace, modules: Mapping[str, nn.Module]
) -> None:
    """Refuse a group unless the sample showed that it is complete.

    Raises
    ------
    CalibrationError
        If a module was not called, or a reader reads something else. If another module or
        operator reads the source's output, or a possible reader was not reached.
    """
    source = group.source
    for path in (source, *group.readers):
        if path not in trace.called:
            msg = f'"{path}" was not called on the sample; give sample= one that reaches it'
            raise CalibrationError(msg)
    if source in trace.unscalable:
        msg = f'"{source}" {trace.unscalable[source]}, so nothing can be folded into it'
        raise CalibrationError(msg)
    for path in group.readers:
        for taints, origin in trace.inputs[path]:
            if source not in taints:
                msg = (
                    f'"{path}" reads {origin}, not the output of "{source}", so its weight '
                    "cannot take over scales"
                )
                raise CalibrationError(msg)
    others = [
        f'"{path}"' for path in trace.readers(source) if path not in group.readers
    ]
    others += trace.other_uses[source]
    if others:
        readers = ", ".join(f'"{path}"' for path in group.readers)
        msg = (
            f'The output of "{source}" is not read by {readers} only, but by '
            f"{_first_few(others)} too, so it cannot be scaled"
        )
        raise CalibrationError(msg)
    missed = list(_unreached(group, trace, modules))
    if missed:
        msg = (
            f"The sample does not reach {_first_few(missed)}, which may read the output of "
            f'"{source}" too; give sample= one that reaches it'
        )
        raise CalibrationError(msg)


def _unreached(
    group: Group, trace: ReaderTrace, modules: Mapping[str, nn.Module]
) -> Iterator[str]:
    """Yield unused modules near the group whose weights would fit the source's output."""
    parts = [path.split(".") for path in (group.source, *group.readers)]
    common = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    start = ".".join([*common, ""]) if common else ""
    weight: Any = modules[group.source].weight
    channels = weight.shape[0]
    for path, module in modules.items():
        own = [p for p in module._parameters.values() if p is not None]
        fits = any(channels in p.shape for p in own)
        used = any(id(p) in trace.used for p in own)
        if path.startswith(start) and fits and not used:
            yield f'"{path}"'


def _first_few(parts: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(parts) - limit} more" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more
