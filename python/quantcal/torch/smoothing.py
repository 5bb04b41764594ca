"""SmoothQuant: moves the outliers of activations into weights, where they do less harm.

A linear layer computes W x = (W diag(s)) (x / s) for any positive scale s_c per input channel
c. Large channels of x become smaller, the columns of W become larger, and the product stays
the same. The division costs nothing when it is folded into the module that computes x: into
the weight of a norm, or the rows of another linear layer.

The scales are those of equation 4 in Xiao et al., "SmoothQuant", 2023:
s_c = max|x_c|^alpha / max|W_c|^(1 - alpha).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._smoothquant import ALPHAS, expected_errors, smoothing_scale
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike, QuantFormat
from quantcal.strategies.base import Strategy
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch.group_checks import (
    check_modules,
    check_trace,
    groups_in_trace,
    norm_candidates,
    trace_readers,
)
from quantcal.torch.groups import Group
from quantcal.torch.modules import check_outside_blocks, modules_by_path, unwrap
from quantcal.torch.output_check import OutputCheck
from quantcal.torch.reader_trace import ReaderTrace
from quantcal.torch.sample_runner import SampleRunner, make_runner


@dataclass(frozen=True)
class Smoothing:
    """The scales that were folded into one group.

    Parameters
    ----------
    group
        The modules.
    alpha
        The exponent: the share of the difference between channels that the weights took over.
    scale
        The divisor of each channel, float32 [channels].
    error
        The expected squared error of the readers' outputs at each alpha of the search, over
        their expected square. It is empty if alpha was given.
    """

    group: Group
    alpha: float
    scale: NDArray[np.float32]
    error: Mapping[float, float]


@torch.no_grad()  # type: ignore[untyped-decorator]
def smoothquant(
    model: Any,
    calibrator: Calibrator,
    *,
    alpha: float | None = 0.5,
    groups: Iterable[Group] | None = None,
    sample: Any = None,
    format: FormatLike = "int8",
    weights: FormatLike = "int8",
    strategy: StrategyLike = "minmax",
    **options: Any,
) -> list[Smoothing]:
    """Divide the channels of activations by scales, and fold the scales into the weights.

    The model changes in place. Its float results stay the same except for rounding, which is
    a relative 1e-6 in float32. Its activations have other ranges afterwards, so observe it
    again before you compute a table.

    All groups are verified first: the model runs on a sample, and every reader of a source's
    output must be in the group. Scales that are powers of two must leave the model's output
    unchanged. The real scales may change it by rounding only. Either all groups are folded,
    or none.

    Use it when activations and weights are both quantized to 8 bits. Where weights stay in
    float, no scale is too large for them, and alpha=1 has the minimum error.

    Parameters
    ----------
    model
        A `torch.nn.Module` with float weights.
    calibrator
        The readers' inputs by channel: `observe(model, axis=-1)`. One reader per group is
        enough if all of them read the whole tensor. The search uses the first one observed.
    alpha
        The exponent. At 0 the channels of the weights become equal, at 1 those of the
        activations; 0.5 suits most models (the paper, section 4). None searches each group
        for the exponent with the minimum expected squared error of the outputs. The search
        assumes the range of `strategy` per tensor for activations, the range of the extremes
        per output channel for weights, and independent errors. It costs O(bins + elements of
        the weights) for each of 21 candidates, some 0.1 s for 1000 channels.
    groups
        The groups to smooth. None takes each norm in the sample whose output only linear
        layers read; their inputs must have been observed. Norms with other readers, such as
        a residual sum or a product, are skipped with a warning.
    sample
        Inputs to run the model on: one value, a tuple by position, a mapping by name, or a
        callable that gets the model, runs it and returns the output. None takes the inputs
        of the first forward pass that `observe(model, axis=-1)` recorded. The model runs in
        evaluation mode, and its buffers are restored.
    format, weights
        The formats that the search assumes.
    strategy, options
        The strategy that the search assumes for activations, as for `Calibrator.compute`. A
        policy is matched with the paths of the readers. MinMax clips nothing, so its search
        moves outliers away. On a model with massive activations this gave better results
        than a search for the MSE ranges of the final table (docs/measurements/llm.md).

    Returns
    -------
    One `Smoothing` per group, in order.

    Raises
    ------
    CalibrationError
        If there is no group, or a module is missing or of the wrong type. If a weight is
        shared, computed from others (weight_norm, pruning, parametrizations), or does not
        scale its output, such as in norms that add 1 to it. If something else reads a
        source's output, or a group's input was not observed by channel. If there is no
        sample, the model fails on it, or its output changes. If the model is inside a block
        of `observe` or `fake_quantize`. If the strategy is unknown or needs the extremes of
        each observation. The model is then unchanged, bit for bit.

    Warns
    -----
    UserWarning
        If norms that linear layers read are skipped; names them and says why.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 8))
    >>> with qc.torch.observe(model, axis=-1) as cal:
    ...     y = model(torch.randn(64, 8))
    >>> done = qc.torch.smoothquant(model, cal)
    >>> done[0].group, done[0].alpha, done[0].scale.shape
    (Group(source='0', readers=('1',)), 0.5, (8,))
    """
    root = unwrap(model)
    modules = modules_by_path(root)
    check_outside_blocks(modules.values())
    if alpha is not None and not 0 <= alpha <= 1:
        msg = f"alpha is {shown(alpha)}, but it must be from 0 to 1, or None to search"
        raise CalibrationError(msg)
    act, weight = (
        QuantFormat.of(format, None, None),
        QuantFormat.of(weights, None, None),
    )
    policy = Policy.of(strategy, **options)

    def plan(chosen: Sequence[Group]) -> list[Smoothing]:
        found = []
        for group in chosen:
            of_group = policy.match(group.readers[0])[1]
            assumed = (of_group, act, weight)
            found.append(_plan(group, modules, calibrator, alpha, assumed))
        return found

    if groups is None:
        run = make_runner(model, root, calibrator, sample)
        planned, skipped, check = _plan_found_groups(run, modules, calibrator, plan)
        _report_skipped(skipped, planned)
    else:
        chosen = list(groups)
        if not chosen:
            msg = "groups is empty; give None to take those in the sample"
            raise CalibrationError(msg)
        check_modules(chosen, modules)
        planned = plan(chosen)
        run = make_runner(model, root, calibrator, sample)
        check = _check_given_groups(run, modules, chosen)
    check.fold([(s.group, torch.from_numpy(s.scale)) for s in planned])
    return planned


def _plan_found_groups(
    run: SampleRunner,
    modules: Mapping[str, torch.nn.Module],
    calibrator: Calibrator,
    plan: Callable[[Sequence[Group]], list[Smoothing]],
) -> tuple[list[Smoothing], dict[str, str], OutputCheck]:
    """Plan the groups in the sample that do not change the output.

    Also return by source why other norms are skipped, and the check of the output.
    """
    trace = trace_readers(run, modules, norm_candidates(modules))
    chosen, skipped = _observed_groups(trace, modules, calibrator)
    planned = plan(chosen)
    check = OutputCheck(run, modules, trace.types)
    while changing := check.changed_by([s.group for s in planned]):
        skipped |= changing
        planned = [s for s in planned if s.group.source not in skipped]
    return planned, skipped, check


def _check_given_groups(
    run: SampleRunner,
    modules: Mapping[str, torch.nn.Module],
    chosen: Sequence[Group],
) -> OutputCheck:
    """Refuse a given group that the sample does not confirm."""
    trace = trace_readers(run, modules, [group.source for group in chosen])
    for group in chosen:
        check_trace(group, trace, modules)
    check = OutputCheck(run, modules, trace.types)
    for reason in check.changed_by(chosen).values():
        raise CalibrationError(reason)
    return check


def _observed_groups(
    trace: ReaderTrace,
    modules: Mapping[str, torch.nn.Module],
    calibrator: Calibrator,
) -> tuple[list[Group], dict[str, str]]:
    """Return the observed groups in the sample, and why other norms are skipped."""

    def observed(source: str) -> bool:
        names = [(path, f"{path}#1") for path in trace.readers(source)]
        return any(name in calibrator for pair in names for name in pair)

    chosen, skipped = groups_in_trace(trace, modules)
    return (
        [group for group in chosen if observed(group.source)],
        {source: why for source, why in skipped.items() if observed(source)},
    )


def _report_skipped(skipped: Mapping[str, str], planned: Sequence[Smoothing]) -> None:
    """Warn of norms that are skipped; refuse if nothing is smoothed."""
    reasons = [f"{why}." for why in skipped.values()]
    more = f" And {len(reasons) - 5} more." if len(reasons) > 5 else ""
    explained = " ".join(reasons[:5]) + more
    if not planned:
        msg = (
            "There are no groups to smooth: no norm of the model is read by observed linear "
            f"layers only. {explained}"
        )
        raise CalibrationError(msg.rstrip())
    if skipped:
        named = ", ".join(f'"{source}"' for source in skipped)
        msg = f"Not smoothed: {named}. {explained}"
        warnings.warn(msg, UserWarning, stacklevel=4)


def _plan(
    group: Group,
    modules: Mapping[str, torch.nn.Module],
    calibrator: Calibrator,
    alpha: float | None,
    assumed: tuple[Strategy, QuantFormat, QuantFormat],
) -> Smoothing:
    """Choose the scales of a group, without changing the model."""
    weights: list[Any] = [modules[path].weight for path in group.readers]
    stacked = torch.cat([weight.float().cpu() for weight in weights])
    stats, act_max = _input_stats(group, calibrator, stacked.shape[1])
    weight_max = stacked.abs().amax(dim=0).double().numpy()
    if alpha is not None:
        scale = smoothing_scale(act_max, weight_max, alpha)
        return Smoothing(group, alpha, scale, {})
    scales = np.stack([smoothing_scale(act_max, weight_max, tried) for tried in ALPHAS])
    found = expected_errors(stats, stacked.numpy(), scales, *assumed)
    best = int(found.argmin())
    errors = dict(zip(ALPHAS, found.tolist(), strict=True))
    return Smoothing(group, ALPHAS[best], scales[best], errors)


def _input_stats(
    group: Group, calibrator: Calibrator, channels: int
) -> tuple[_core.ChannelStats, NDArray[np.float64]]:
    """Return the statistics of a group's input, and the maxima over all readers."""
    observed = [path for path in group.readers if path in calibrator]
    if not observed:
        calls = [path for path in group.readers if f"{path}#1" in calibrator]
        if calls:
            msg = (
                f'"{calls[0]}" was observed call by call. Use '
                "observe(model, axis=-1, merge_calls=True)."
            )
            raise CalibrationError(msg)
        msg = (
            f"None of {', '.join(group.readers)} was observed. Observe their inputs by "
            "channel: observe(model, axis=-1)."
        )
        raise CalibrationError(msg)
    found = [_reader_stats(path, calibrator, channels) for path in observed]
    # Each expert reads a part of the tensor, each projection of attention the whole.
    extremes = [np.maximum(np.abs(stats.min), np.abs(stats.max)) for stats in found]
    return found[0], np.fmax.reduce(extremes).astype(np.float64)


def _reader_stats(
    path: str, calibrator: Calibrator, channels: int
) -> _core.ChannelStats:
    stats = calibrator.stats(path)
    if not isinstance(stats, _core.ChannelStats):
        msg = f'"{path}" was observed as a whole. Use observe(model, axis=-1).'
        raise CalibrationError(msg)
    if len(stats) != channels:
        msg = (
            f'"{path}" has {channels} input channels, but {len(stats)} were observed along '
            "another axis"
        )
        raise CalibrationError(msg)
    return stats
