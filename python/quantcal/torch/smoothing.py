"""SmoothQuant: moves the outliers of activations into weights, where they do less harm.

A linear layer computes W x. With a positive scale s_c for each input channel c,
W x = (W diag(s)) (x / s): large channels of x become smaller, the columns of W larger, and
the product stays what it is. The division costs nothing when it is folded into what
makes x: the weight of a norm, or the rows of another linear layer (Xiao et al., "SmoothQuant",
2023, equation 4: s_c = max|x_c|^alpha / max|W_c|^(1 - alpha)).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.formats import QuantFormat
from quantcal.strategies.base import Strategy
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch.expected import expected_errors
from quantcal.torch.following import Followed
from quantcal.torch.groups import Group
from quantcal.torch.modules import check_free, paths, unwrap
from quantcal.torch.proving import Proof
from quantcal.torch.samples import runner
from quantcal.torch.verifying import (
    candidates,
    check_followed,
    check_static,
    follow,
    found_groups,
)

ALPHAS = tuple(round(0.05 * step, 2) for step in range(21))
"""What a search tries: the exponents from 0 to 1 in steps of 0.05."""


@dataclass(frozen=True)
class Smoothing:
    """What was done to one group.

    Parameters
    ----------
    group
        The modules.
    alpha
        The exponent: how much of the difference between channels the weights took over.
    scale
        By what each channel was divided, float32 [channels].
    error
        Expected squared error of the readers' outputs at each alpha that was tried, as a
        share of the outputs' expected square; empty if alpha was given.
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
    format: str | QuantFormat = "int8",
    weights: str | QuantFormat = "int8",
    strategy: StrategyLike = "minmax",
    **options: Any,
) -> list[Smoothing]:
    """Divide the channels of activations by scales that go into the weights behind them.

    The model is changed in place; what it computes in float stays the same but for
    rounding (a relative 1e-6 in float32). Its activations have other ranges afterwards, so
    observe it again before computing a table.

    Nothing is folded that was not verified. The model runs on a sample, and every reader of a
    source's output must be in the group. Scales that are powers of two must leave the
    output of the model as it is, and the real ones must leave it but for rounding. All groups
    are folded, or none.

    Use it when activations and weights are both quantised to 8 bits. Where weights stay in
    float, no scale is too large for them, and alpha=1 is the least error.

    Parameters
    ----------
    model
        A `torch.nn.Module` with float weights.
    calibrator
        The readers' inputs by channel: `observe(model, axis=-1)`. Of each group one is enough
        where all read the whole tensor. The search goes by the first that was observed.
    alpha
        The exponent, from 0 (channels of the weights become equal) to 1 (channels of the
        activations do); 0.5 suits most models (the paper, section 4). None searches
        each group for the one with the least expected squared error of the outputs, which
        is computed from the histograms: activations per tensor in the range that `strategy`
        chooses, weights per output channel in that of their extremes, errors independent of
        each other. O(bins + elements of the weights) for each of 21 candidates: some 0.1 s
        for 1000 channels.
    groups
        What to smooth. None takes each norm whose output linear layers read, and nothing
        else, as the sample shows; their inputs must have been observed. Norms that also feed
        something else (the sum behind a norm, a router, a product) are left, with a warning.
    sample
        Inputs to run the model on: one value, a tuple (by position), a mapping (by name), or
        a callable that gets the model, runs it and returns the output. None takes the
        inputs of the first forward that `observe(model, axis=-1)` recorded. The model
        runs in evaluation mode, and its buffers get their values back.
    format, weights
        The formats that the search assumes.
    strategy, options
        How the search assumes that the ranges of the activations are chosen, as for
        `Calibrator.compute`; a policy goes by the paths of the readers. MinMax clips nothing,
        so its search moves outliers away; on a model with massive activations that did better
        than to search for the MSE ranges of the table itself (docs/llm.md).

    Returns
    -------
    One `Smoothing` a group, in order.

    Raises
    ------
    CalibrationError
        If there is no group, a module is missing or of another kind, a weight is shared or
        computed from others (weight_norm, pruning, parametrizations), something else
        reads a source's output, a group's input was not observed by channel, or a source's
        output does not follow its weight (norms that add 1 to it). If there is no sample, the
        model does not run on it, or its output differs afterwards. If the model is inside a
        block of `observe` or `fake_quantize`, or the strategy is not known or needs the
        extremes of each observation. The model is unchanged then, bit for bit.

    Warns
    -----
    UserWarning
        If norms that linear layers read are left as they are; names them and says why.

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
    modules = paths(root)
    check_free(modules.values())
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
        run = runner(model, root, calibrator, sample)
        followed = follow(run, modules, candidates(modules))
        chosen, left = _observed_groups(followed, modules, calibrator)
        planned = plan(chosen)
        proof = Proof(run, modules, followed.types)
        while disturbed := proof.disturbed_by([s.group for s in planned]):
            left |= disturbed
            planned = [s for s in planned if s.group.source not in left]
        _tell(left, planned)
    else:
        chosen = list(groups)
        if not chosen:
            msg = "groups is empty; None takes those that the sample shows"
            raise CalibrationError(msg)
        check_static(chosen, modules)
        planned = plan(chosen)
        run = runner(model, root, calibrator, sample)
        followed = follow(run, modules, [group.source for group in chosen])
        for group in chosen:
            check_followed(group, followed, modules)
        proof = Proof(run, modules, followed.types)
        for reason in proof.disturbed_by(chosen).values():
            raise CalibrationError(reason)
    proof.fold([(s.group, torch.from_numpy(s.scale)) for s in planned])
    return planned


def _observed_groups(
    followed: Followed, modules: Mapping[str, torch.nn.Module], calibrator: Calibrator
) -> tuple[list[Group], dict[str, str]]:
    """Return the groups that the sample shows, and why other norms have none."""

    def observed(source: str) -> bool:
        names = [(path, f"{path}#1") for path in followed.readers(source)]
        return any(name in calibrator for pair in names for name in pair)

    chosen, left = found_groups(followed, modules)
    return (
        [group for group in chosen if observed(group.source)],
        {source: why for source, why in left.items() if observed(source)},
    )


def _tell(left: Mapping[str, str], planned: Sequence[Smoothing]) -> None:
    """Say what is not smoothed, and why; refuse if nothing is."""
    reasons = [f"{why}." for why in left.values()]
    more = f" And {len(reasons) - 5} more." if len(reasons) > 5 else ""
    told = " ".join(reasons[:5]) + more
    if not planned:
        msg = (
            "There are no groups to smooth: no norm of the model is read by observed linear "
            f"layers only. {told}"
        )
        raise CalibrationError(msg.rstrip())
    if left:
        named = ", ".join(f'"{source}"' for source in left)
        msg = f"Not smoothed: {named}. {told}"
        warnings.warn(msg, UserWarning, stacklevel=4)


def _plan(
    group: Group,
    modules: Mapping[str, torch.nn.Module],
    calibrator: Calibrator,
    alpha: float | None,
    assumed: tuple[Strategy, QuantFormat, QuantFormat],
) -> Smoothing:
    """Choose the scales of a group, without changing anything."""
    weights: list[Any] = [modules[path].weight for path in group.readers]
    stacked = torch.cat([weight.float().cpu() for weight in weights])
    stats, act_max = _stats(group, calibrator, stacked.shape[1])
    weight_max = stacked.abs().amax(dim=0).double().numpy()
    if alpha is not None:
        scale = migration_scale(act_max, weight_max, alpha)
        return Smoothing(group, alpha, scale, {})
    scales = np.stack([migration_scale(act_max, weight_max, tried) for tried in ALPHAS])
    found = expected_errors(stats, stacked.numpy(), scales, *assumed)
    best = int(found.argmin())
    errors = dict(zip(ALPHAS, found.tolist(), strict=True))
    return Smoothing(group, ALPHAS[best], scales[best], errors)


def migration_scale(
    act_max: NDArray[np.float64], weight_max: NDArray[np.float64], alpha: float
) -> NDArray[np.float32]:
    """Return max|x_c|^alpha / max|W_c|^(1 - alpha) for each channel, float32.

    Channels without activations or without weights keep the scale 1: nothing is to be
    gained there. The scales are divided by their geometric mean, which changes neither the
    quantised model nor the float one, and keeps folded weights of the size they had.
    """
    live = (act_max > 0) & (weight_max > 0)
    scale = np.ones(len(act_max))
    if live.any():
        logs = alpha * np.log(act_max[live]) - (1 - alpha) * np.log(weight_max[live])
        scale[live] = np.exp(logs - logs.mean())
    return scale.astype(np.float32)


def _stats(
    group: Group, calibrator: Calibrator, channels: int
) -> tuple[_core.ChannelStats, NDArray[np.float64]]:
    """Return the statistics of a group's input, and the extremes that any reader saw."""
    observed = [path for path in group.readers if path in calibrator]
    if not observed:
        calls = [path for path in group.readers if f"{path}#1" in calibrator]
        if calls:
            msg = (
                f'"{calls[0]}" was observed call by call; '
                "observe(model, axis=-1, merge_calls=True) is needed."
            )
            raise CalibrationError(msg)
        msg = (
            f"None of {', '.join(group.readers)} was observed; their inputs are needed by "
            "channel: observe(model, axis=-1)."
        )
        raise CalibrationError(msg)
    found = [_of_reader(path, calibrator, channels) for path in observed]
    # Experts read parts of one tensor; the projections of attention all read the whole.
    extremes = [np.maximum(np.abs(stats.min), np.abs(stats.max)) for stats in found]
    return found[0], np.fmax.reduce(extremes).astype(np.float64)


def _of_reader(path: str, calibrator: Calibrator, channels: int) -> _core.ChannelStats:
    stats = calibrator.stats(path)
    if not isinstance(stats, _core.ChannelStats):
        msg = f'"{path}" was observed as a whole; observe(model, axis=-1) is needed.'
        raise CalibrationError(msg)
    if len(stats) != channels:
        msg = (
            f'"{path}" has {channels} input channels, but {len(stats)} were observed along '
            "another axis"
        )
        raise CalibrationError(msg)
    return stats
