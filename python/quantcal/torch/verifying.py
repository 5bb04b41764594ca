"""Whether all who read a source's output are the readers of its group.

What a forward of a sample showed decides; names of modules are no proof. `proving.py` then
compares the outputs of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.torch.folding import check_reader, check_shared, check_source
from quantcal.torch.following import Followed, Following
from quantcal.torch.groups import Group


def follow(
    run: Callable[[], list[torch.Tensor]],
    modules: Mapping[str, nn.Module],
    sources: Sequence[str],
) -> Followed:
    """Run the sample once, and return what it showed of the sources."""
    following = Following(modules, sources)
    with following.attached() as found:
        following.leaves(run())
    return found


def candidates(modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the modules that may be norms: those with a weight for each channel."""
    found = []
    for path, module in modules.items():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 1:
            found.append(path)
    return found


def found_groups(
    followed: Followed, modules: Mapping[str, nn.Module]
) -> tuple[list[Group], dict[str, str]]:
    """Return the groups that a forward showed, and why other sources have none.

    Norms that no linear layer reads are in neither.
    """
    groups, reasons = [], {}
    order = {path: i for i, path in enumerate(followed.called)}
    for source in sorted(followed.sources, key=lambda s: order.get(s, len(order))):
        readers = followed.readers(source)
        if not readers:
            continue
        group = Group(source, tuple(readers))
        try:
            check_static([group], modules)
            check_followed(group, followed, modules)
        except CalibrationError as error:
            reasons[source] = str(error)
        else:
            groups.append(group)
    return groups, reasons


def check_static(groups: Sequence[Group], modules: Mapping[str, nn.Module]) -> None:
    """Refuse groups whose modules are missing, of another kind, or not to be scaled."""
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


def check_followed(
    group: Group, followed: Followed, modules: Mapping[str, nn.Module]
) -> None:
    """Refuse a group that the sample did not show to be complete and undisturbed.

    Raises
    ------
    CalibrationError
        If a module was not called, a reader reads something else, another module or operator
        reads the source's output, or a module that may read it was not reached.
    """
    source = group.source
    for path in (source, *group.readers):
        if path not in followed.called:
            msg = f'"{path}" was not called on the sample; give sample= one that reaches it'
            raise CalibrationError(msg)
    if source in followed.unscaled:
        why = followed.unscaled[source]
        msg = f'"{source}" {why}, so nothing can be folded into it'
        raise CalibrationError(msg)
    for path in group.readers:
        for taints, made_by in followed.inputs[path]:
            if source not in taints:
                msg = (
                    f'"{path}" reads {made_by}, not the output of "{source}", so its weight '
                    "cannot take over scales"
                )
                raise CalibrationError(msg)
    others = [
        f'"{path}"' for path in followed.readers(source) if path not in group.readers
    ]
    others += followed.disturbed[source]
    if others:
        msg = (
            f'The output of "{source}" is not read by {_listed(group.readers)} only, but by '
            f"{_told(others)} too, so it cannot be scaled"
        )
        raise CalibrationError(msg)
    missed = list(_unreached(group, followed, modules))
    if missed:
        msg = (
            f"The sample does not reach {_told(missed)}, which may read the output of "
            f'"{source}" too; give sample= one that reaches it'
        )
        raise CalibrationError(msg)


def _unreached(
    group: Group, followed: Followed, modules: Mapping[str, nn.Module]
) -> Iterator[str]:
    """Find modules beside the group's that no forward used, and whose weights would fit."""
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
        used = any(id(p) in followed.used for p in own)
        if path.startswith(start) and fits and not used:
            yield f'"{path}"'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _told(parts: Sequence[str], most: int = 5) -> str:
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return ", ".join(parts[:most]) + more
