"""SmoothQuant: moves the outliers of activations into weights, where they do less harm.

A linear layer computes W x. With a positive scale s_c for each input channel c,
W x = (W diag(s)) (x / s): large channels of x become smaller, the columns of W larger, and
the product stays what it is. The division costs nothing when it is folded into what
makes x: the weight of a norm, or the rows of another linear layer (Xiao et al., "SmoothQuant",
2023, equation 4: s_c = max|x_c|^alpha / max|W_c|^(1 - alpha)).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantcal import CalibrationError, Calibrator, QuantFormat, QuantParams, _core
from quantcal.torch.modules import near, paths, unwrap

ALPHAS = tuple(round(0.05 * step, 2) for step in range(21))
"""What a search tries: the exponents from 0 to 1 in steps of 0.05."""

# Where the input of these layers comes from a norm that nothing else reads: the norm's name,
# and its readers'. Blocks with the norm behind the sum (BERT) have none: the sum reads it too.
_BLOCKS = (
    # LLaMA, Mistral, Qwen2, SmolLM2
    ("input_layernorm", r"self_attn\.[qkv]_proj"),
    ("post_attention_layernorm", r"mlp\.(?:gate|up)_proj"),
    # OPT
    ("self_attn_layer_norm", r"self_attn\.[qkv]_proj"),
    ("final_layer_norm", r"fc1"),
    # Falcon, BLOOM
    ("input_layernorm", r"self_attention\.query_key_value"),
    ("post_attention_layernorm", r"mlp\.dense_h_to_4h"),
    # ViT
    ("layernorm_before", r"attention\.attention\.(?:query|key|value)"),
    ("layernorm_after", r"intermediate\.dense"),
)
_PRODUCTS = (("mlp.up_proj", r"mlp\.down_proj"),)  # silu(gate) * up: linear in up


@dataclass(frozen=True)
class Group:
    """Linear layers that read the same tensor, and the module that writes it.

    Parameters
    ----------
    source
        Path of a norm with a weight for each channel, or of a linear layer. Nothing but the
        readers may read its output, and between them there may be only what is linear in
        each channel, such as a product with another tensor.
    readers
        Paths of the linear layers.
    """

    source: str
    readers: tuple[str, ...]


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


def groups(model: Any, *, products: bool = False) -> list[Group]:
    """Return the groups that the names of a model's modules tell.

    Knows blocks that normalise first: LLaMA, Mistral, Qwen2, OPT, BLOOM, ViT and those that
    share their names. Models with other names, with parallel branches behind one norm, or
    with further readers of a norm need groups of their own.

    Parameters
    ----------
    model
        A `torch.nn.Module`.
    products
        Also pairs of linear layers with a product between: `up_proj` and `down_proj` of
        a SwiGLU.
    """
    modules = paths(unwrap(model))
    found = []
    for ending, readers in (*_BLOCKS, *(_PRODUCTS if products else ())):
        for path in modules:
            block = path.removesuffix(ending)
            if block == path or (block and not block.endswith(".")):
                continue
            pattern = re.compile(re.escape(block) + readers)
            names = tuple(name for name in modules if pattern.fullmatch(name))
            if names:
                found.append(Group(path, names))
    return found


@torch.no_grad()  # type: ignore[untyped-decorator]
def smoothquant(
    model: Any,
    calibrator: Calibrator,
    *,
    alpha: float | None = 0.5,
    groups: Iterable[Group] | None = None,
    format: str | QuantFormat = "int8",
    weights: str | QuantFormat = "int8",
) -> list[Smoothing]:
    """Divide the channels of activations by scales that go into the weights behind them.

    The model is changed in place; what it computes in float stays the same but for
    rounding (a relative 1e-6 in float32). Its activations have other ranges afterwards, so
    observe it again before computing a table.

    Use it when activations and weights are both quantised to 8 bits. Where weights stay in
    float, no scale is too large for them, and alpha=1 is the least error.

    Parameters
    ----------
    model
        A `torch.nn.Module` with float weights.
    calibrator
        The readers' inputs by channel: `observe(model, axis=-1)`. Of each group one is enough.
    alpha
        The exponent, from 0 (channels of the weights become equal) to 1 (channels of the
        activations do); 0.5 suits most models (the paper, section 4). None searches
        each group for the one with the least expected squared error of the outputs, which
        is computed from the histograms: activations per tensor in the range of their
        extremes, weights per output channel, errors independent of each other. O(channels)
        searches in bins for each of 21 candidates: a quarter of a second for 1000 channels.
    groups
        What to smooth. None takes what `groups(model)` finds.
    format, weights
        The formats that the search assumes.

    Returns
    -------
    One `Smoothing` a group, in order.

    Raises
    ------
    CalibrationError
        If there is no group, a module is missing or of another kind, a weight is shared, a
        group's input was not observed by channel, or a source's output does not follow its
        weight (norms that add 1 to it): the model is unchanged then.

    Examples
    --------
    >>> import torch
    >>> from quantcal.torch.smoothing import Group
    >>> model = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 8))
    >>> with qc.torch.observe(model, axis=-1) as cal:
    ...     y = model(torch.randn(64, 8))
    >>> done = qc.torch.smoothquant(model, cal, groups=[Group("0", ("1",))])
    >>> done[0].alpha, done[0].scale.shape
    (0.5, (8,))
    """
    root = unwrap(model)
    modules = paths(root)
    chosen = list(_found(root) if groups is None else groups)
    if not chosen:
        msg = (
            "The names of the model's modules tell no groups to smooth; give groups= with "
            "the modules that write a tensor and those that read it."
        )
        raise CalibrationError(msg)
    if alpha is not None and not 0 <= alpha <= 1:
        msg = f"alpha is {alpha!r}, but it must be from 0 to 1, or None to search"
        raise CalibrationError(msg)
    act, weight = (
        QuantFormat.of(format, None, None),
        QuantFormat.of(weights, None, None),
    )
    _check_shared(chosen, modules)
    planned = [
        _plan(group, modules, calibrator, alpha, act, weight) for group in chosen
    ]
    for smoothing in planned:
        _fold(smoothing, modules)
    return planned


_found = groups  # `smoothquant` has an argument of this name


def _plan(
    group: Group,
    modules: Mapping[str, torch.nn.Module],
    calibrator: Calibrator,
    alpha: float | None,
    format: QuantFormat,
    weight_format: QuantFormat,
) -> Smoothing:
    """Choose the scales of a group, without changing anything."""
    stacked = torch.cat([_weight(path, modules).float() for path in group.readers])
    stats = _stats(group, calibrator, stacked.shape[1])
    _check_source(group.source, modules, stacked.shape[1])
    act_max = np.maximum(np.abs(stats.min), np.abs(stats.max)).astype(np.float64)
    weight_max = stacked.abs().amax(dim=0).double().numpy()
    if alpha is not None:
        scale = migration_scale(act_max, weight_max, alpha)
        return Smoothing(group, alpha, scale, {})
    moments = _second_moments(stats)
    errors = {
        tried: _expected_error(
            stats,
            moments,
            stacked.numpy(),
            migration_scale(act_max, weight_max, tried),
            format,
            weight_format,
        )
        for tried in ALPHAS
    }
    best = min(errors, key=errors.__getitem__)
    scale = migration_scale(act_max, weight_max, best)
    return Smoothing(group, best, scale, errors)


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


def _expected_error(
    stats: _core.ChannelStats,
    moments: NDArray[np.float64],
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    format: QuantFormat,
    weight_format: QuantFormat,
) -> float:
    """Return the expected squared error of the outputs over their expected square.

    Of y = sum over c of (w_c s_c)(x_c / s_c), with independent errors e of the activations and
    d of the weights: sum of E(e_c^2) (w_c s_c)^2 + E((x_c / s_c)^2) d_c^2. The error of a
    channel that is divided by s on a grid of step t is that of the channel itself on a grid of
    step t s, over s^2, so the histograms need not be scaled.
    """
    low = float(min(np.min(stats.min / scale), 0))
    high = float(max(np.max(stats.max / scale), 0))
    params = QuantParams.from_range(low, high, format=format)
    step, zero_point = float(params.scale), int(params.zero_point)
    error = np.array(
        [
            _core.grid_error(
                stats.channel(c), params.format, step * float(s), zero_point
            )[0]
            for c, s in enumerate(scale)
        ]
    )
    smoothed = weight * scale
    extremes = np.abs(smoothed).max(axis=1)
    of_weights = QuantParams.from_range(
        -extremes, extremes, format=weight_format, axis=0
    )
    lost = (of_weights.fake_quantize(smoothed) - smoothed).astype(np.float64)
    columns = np.square(weight.astype(np.float64)).sum(axis=0)  # error / s^2 * (w s)^2
    noise = error @ columns + (
        moments / np.square(scale.astype(np.float64))
    ) @ np.square(lost).sum(axis=0)
    return float(noise / max(moments @ columns, np.finfo(np.float64).tiny))


def _second_moments(stats: _core.ChannelStats) -> NDArray[np.float64]:
    """Return E(x^2) of each channel."""
    histograms = [stats.channel(c) for c in range(len(stats))]
    return np.array([(h.std() or 0) ** 2 + (h.mean() or 0) ** 2 for h in histograms])


def _stats(group: Group, calibrator: Calibrator, channels: int) -> _core.ChannelStats:
    """Return the statistics of a group's input: all readers see the same tensor."""
    observed = [path for path in group.readers if path in calibrator]
    if not observed:
        msg = (
            f"None of {', '.join(group.readers)} was observed; their inputs are needed by "
            "channel: observe(model, axis=-1)."
        )
        raise CalibrationError(msg)
    stats = calibrator.stats(observed[0])
    if not isinstance(stats, _core.ChannelStats):
        msg = f'"{observed[0]}" was observed as a whole; observe(model, axis=-1) is needed.'
        raise CalibrationError(msg)
    if len(stats) != channels:
        msg = (
            f'"{observed[0]}" has {channels} input channels, but {len(stats)} were '
            "observed along another axis"
        )
        raise CalibrationError(msg)
    return stats


def _weight(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.Tensor:
    module = _module(path, modules)
    if not isinstance(module, torch.nn.Linear):
        msg = f'"{path}" is {type(module).__name__}, but only nn.Linear can be a reader'
        raise CalibrationError(msg)
    weight: torch.Tensor = module.weight
    return weight


def _module(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
    if path not in modules:
        msg = f'The model has no module "{path}".{near(path, modules)}'
        raise CalibrationError(msg)
    return modules[path]


def _check_source(
    path: str, modules: Mapping[str, torch.nn.Module], channels: int
) -> None:
    """Refuse a source whose output does not scale as its weight (and bias) does.

    Tried on random numbers, with scales that are powers of two.
    """
    module = _module(path, modules)
    parameters = _foldable(path, module, channels)
    like = parameters[0]
    generator = torch.Generator().manual_seed(0)
    width = like.shape[-1] if like.ndim == 2 else channels
    x = torch.randn(4, width, generator=generator).to(like)
    scale = 2.0 ** torch.randint(-2, 3, (channels,), generator=generator).to(like)
    hooks, module._forward_pre_hooks = (
        module._forward_pre_hooks,
        type(module._forward_pre_hooks)(),
    )
    before = module(x)
    saved = [p.clone() for p in parameters]
    try:
        for p in parameters:
            _divide(p, scale)
        after = module(x)
    finally:
        for p, old in zip(parameters, saved, strict=True):
            p.copy_(old)
        module._forward_pre_hooks = hooks
    if not torch.allclose(after * scale, before, rtol=1e-2, atol=1e-3):
        msg = (
            f'"{path}" ({type(module).__name__}) does not scale its output as its weight is '
            "scaled, so nothing can be folded into it"
        )
        raise CalibrationError(msg)


def _check_shared(
    chosen: Sequence[Group], modules: Mapping[str, torch.nn.Module]
) -> None:
    """Refuse weights that other modules use too, or that two groups would divide."""
    owners = Counter(
        id(p) for m in modules.values() for p in m.parameters(recurse=False)
    )
    sources = Counter(group.source for group in chosen)
    readers = Counter(path for group in chosen for path in group.readers)
    for path in (*sources, *readers):
        own = _module(path, modules).parameters(recurse=False)
        if any(owners[id(p)] > 1 for p in own):
            msg = f'"{path}" shares its weight with another module, so it cannot be scaled'
            raise CalibrationError(msg)
        if sources[path] > 1 or readers[path] > 1:
            msg = f'"{path}" has the same part in two groups'
            raise CalibrationError(msg)


def _foldable(
    path: str, module: torch.nn.Module, channels: int
) -> Sequence[torch.Tensor]:
    """Return the parameters that a division of the output is folded into."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.shape[0] != channels:
        shape = None if weight is None else tuple(weight.shape)
        msg = (
            f'"{path}" has a weight of shape {shape}, but its readers have {channels} input '
            "channels; a source has a weight or a row for each"
        )
        raise CalibrationError(msg)
    return [weight] if bias is None else [weight, bias]


def _divide(parameter: torch.Tensor, scale: torch.Tensor) -> None:
    parameter.div_(scale[:, None] if parameter.ndim == 2 else scale)


def _fold(smoothing: Smoothing, modules: Mapping[str, torch.nn.Module]) -> None:
    scale = torch.from_numpy(smoothing.scale)
    source = modules[smoothing.group.source]
    for parameter in _foldable(smoothing.group.source, source, len(scale)):
        _divide(parameter, scale.to(parameter))
    for path in smoothing.group.readers:
        weight: Any = modules[path].weight
        weight.mul_(scale.to(weight))
