"""A picture of tensors that one range cannot represent, and of the values that cause it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import quantcal as qc

from .smollm2 import LlamaForCausalLM


@torch.inference_mode()
def inputs_of(
    model: LlamaForCausalLM, names: Sequence[str], window: Tensor
) -> dict[str, np.ndarray]:
    """Return the inputs of the named modules in one window, [position, channel] each."""
    found: dict[str, np.ndarray] = {}
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(
            lambda _, args, name=name: found.__setitem__(
                name, args[0][0].numpy().copy()
            )
        )
        for name in names
    ]
    try:
        model(window[None])
    finally:
        for handle in handles:
            handle.remove()
    return found


def draw(
    model: LlamaForCausalLM,
    window: Tensor,
    cal: qc.Calibrator,
    table: qc.CalibrationTable,
    names: Sequence[str],
    path: Path,
) -> None:
    """Draw magnitudes, positions and channels of some tensors, one row each."""
    from matplotlib.figure import Figure

    found = inputs_of(model, names, window)
    figure = Figure(figsize=(13, 2.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 3, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        lost = table.report[name].rounded_to_zero
        _magnitudes(row[0], cal[name], float(table[name].scale), lost, name)
        _largest(row[1], np.abs(found[name]).max(axis=1), "position")
        _largest(row[2], np.abs(found[name]).max(axis=0), "channel")
    figure.savefig(path, dpi=110)


def _magnitudes(
    ax, histogram: qc.Histogram, scale: float, lost: float, name: str
) -> None:
    """Draw the number of values in each half octave, and those that round to zero."""
    low, high, counts = histogram.bins()
    middle = np.maximum((np.abs(low) + np.abs(high)) / 2, 1e-6)
    edges = 2.0 ** np.arange(-14, np.ceil(np.log2(middle.max())) + 1, 0.5)
    ax.hist(middle, bins=edges, weights=counts.astype(float), color="#4477aa")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.axvspan(edges[0], scale / 2, color="#cc3311", alpha=0.15)
    short = name.removeprefix("model.").replace("layers.", "block ")
    ax.set_title(f"{short}: {100 * lost:.3f} % round to zero", fontsize=9)
    quantile = histogram.abs_quantile(0.999)
    ax.axvline(quantile, color="black", lw=1, ls=":")
    ax.set_xlabel("|x|; red rounds to zero, dotted: 99.9th percentile", fontsize=8)
    ax.set_ylabel("values", fontsize=8)
    ax.tick_params(labelsize=7)


def _largest(ax, largest: np.ndarray, of: str) -> None:
    """Draw the largest magnitude of each position or channel; name the first two."""
    ax.plot(largest, ".", ms=3, color="#4477aa")
    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter("")
    place = int(largest.argmax())
    right = place < len(largest) / 2
    ax.annotate(
        f"{of} {place}: {largest[place]:.4g}",
        (place, largest[place]),
        xytext=(6 if right else -6, -3),
        textcoords="offset points",
        ha="left" if right else "right",
        fontsize=8,
    )
    ax.set_xlabel(of, fontsize=8)
    ax.set_ylabel("largest |x|", fontsize=8)
    ax.margins(x=0.02, y=0.15)
    ax.tick_params(labelsize=7)
