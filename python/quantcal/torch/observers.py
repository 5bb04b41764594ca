"""Observers for PyTorch's quantization flows that use any strategy of quantcal.

They have the interface of `ObserverBase`. `forward` records a tensor and returns it, and
`calculate_qparams` chooses scale and zero point. Each flow accepts only subclasses of its
base class. So there is one pair of classes for torch.ao's FX flow, and another for torchao's
PT2E flow, which is made only if torchao is installed.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
from torch.ao.quantization.observer import ObserverBase

from quantcal._core import CalibrationError
from quantcal._process import imports
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.formats import QuantFormat
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch.device_counts import DeviceCounts, count_on_device
from quantcal.torch.tensor_values import as_engine_input, is_off_cpu, plain_values

PER_CHANNEL_SCHEMES = (torch.per_channel_affine, torch.per_channel_symmetric)
_SYMMETRIC = (torch.per_tensor_symmetric, torch.per_channel_symmetric)
_LIMITS = {
    torch.quint8: (0, 255),
    torch.uint8: (0, 255),
    torch.qint8: (-128, 127),
    torch.int8: (-128, 127),
    torch.int16: (-(1 << 15), (1 << 15) - 1),
}
_NAME = "values"


class StrategyObserver:
    """The common part of all observers, mixed into an `ObserverBase`.

    Parameters
    ----------
    strategy
        As for `Calibrator.compute`, without a policy's names.
    dtype, qscheme, quant_min, quant_max, ch_axis
        As for PyTorch's observers. The codes have 2 to 16 bits, and start at 0 or are those
        of a signed integer. Symmetric schemes of unsigned types have their zero in the middle.
    reduce_range
        Use one bit less, for kernels whose 16-bit sums saturate.
    is_dynamic
        Refused if true, since dynamic quantization needs no observer.
    options
        Options of a named strategy, such as `percentile=99.9`.
    factory_kwargs
        Accepted as by PyTorch's observers, but not used.

    Raises
    ------
    CalibrationError
        If the strategy or an option is unknown, or no format has these codes.
    """

    def __init__(
        self,
        strategy: StrategyLike = "mse",
        dtype: Any = torch.quint8,
        qscheme: Any = torch.per_tensor_affine,
        quant_min: int | None = None,
        quant_max: int | None = None,
        ch_axis: int | None = None,
        reduce_range: bool = False,
        is_dynamic: bool = False,
        options: dict[str, Any] | None = None,
        factory_kwargs: dict[str, Any] | None = None,
    ) -> None:
        # It says where QAT modules put their tensors. Observers have none.
        del factory_kwargs
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)  # type: ignore[call-arg]
        if is_dynamic:
            msg = "dynamic quantization computes ranges as it runs, so it needs no observer"
            raise CalibrationError(msg)
        low, high = _LIMITS.get(dtype, (None, None))
        if reduce_range and low is not None and high is not None:
            low, high = low // 2, high // 2
        self.quant_min = low if quant_min is None else quant_min
        self.quant_max = high if quant_max is None else quant_max
        self.dtype = dtype
        self.qscheme = qscheme
        by_channel = qscheme in PER_CHANNEL_SCHEMES
        self.ch_axis = (0 if ch_axis is None else ch_axis) if by_channel else -1
        self._axis = self.ch_axis if by_channel else None
        self._format, self._shift = _format_of(
            self.quant_min, self.quant_max, qscheme in _SYMMETRIC, dtype
        )
        self._policy = Policy.of(strategy, **(options or {}))
        self._calibrator = Calibrator()
        self._pending: DeviceCounts | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Record a tensor, and return it unchanged."""
        values = plain_values(_NAME, x)
        if not is_off_cpu(values):
            array = as_engine_input(values, self._axis)
            self._calibrator.observe(_NAME, array, axis=self._axis)
            return x
        counts = count_on_device(values, None, self._axis, None)
        if self._pending is None or not self._pending.fits(counts):
            self._fetch()
            self._pending = counts
        else:
            self._pending.add(counts)
        return x

    @property
    def calibrator(self) -> Calibrator:
        """The observed values, under the name "values"."""
        self._fetch()
        return self._calibrator

    def _fetch(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._calibrator.add_stats([(_NAME, pending.fetch())])

    def calculate_qparams(self, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale (float32) and zero point (int64), with one element per channel.

        Before the first observation they are 1 and 0, as in PyTorch's observers.

        Warns
        -----
        UserWarning
            If nothing was observed.
        """
        if _NAME not in self.calibrator:
            msg = "The observer has seen nothing; run the calibration data first."
            warnings.warn(msg, UserWarning, stacklevel=2)
            return torch.ones(1), torch.zeros(1, dtype=torch.int64)
        params = self._calibrator.compute(self._policy, format=self._format)[_NAME]
        scale = np.array(params.scale, dtype=np.float32, ndmin=1)
        zero_point = np.array(params.zero_point, dtype=np.int64, ndmin=1) + self._shift
        return torch.from_numpy(scale), torch.from_numpy(zero_point)

    def get_extra_state(self) -> torch.Tensor:
        """Return the observed values for `state_dict`."""
        return torch.frombuffer(
            bytearray(self.calibrator.to_bytes()), dtype=torch.uint8
        )

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Load the observed values from a `state_dict`."""
        self._pending = None
        self._calibrator = Calibrator.from_bytes(state.cpu().numpy().tobytes())

    def extra_repr(self) -> str:
        """Return the strategy and the format."""
        strategy = self._policy.match(_NAME)[1]
        axis = "" if self._axis is None else f", axis={self._axis}"
        return f"{strategy!r}, {self._format.name}{axis}, {self._calibrator!r}"


def _format_of(
    low: int | None, high: int | None, symmetric: bool, dtype: Any
) -> tuple[QuantFormat, int]:
    """Return the format with these codes, and the shift of its codes."""
    if low is not None and high is not None:
        bits = (high - low + 1).bit_length() - (0 if low == -high else 1)
        if 2 <= bits <= 16:
            half = 1 << (bits - 1)
            if (low, high) == (0, 2 * half - 1):
                if symmetric:
                    return QuantFormat(f"int{bits}", True), half
                return QuantFormat(f"uint{bits}"), 0
            if high == half - 1 and (low == -half or (low == -high and symmetric)):
                return QuantFormat(f"int{bits}", symmetric), 0
    msg = (
        f"no format has the codes {shown(low)} to {shown(high)} of {dtype}; supported are "
        "0 to 2^b - 1 and -2^(b-1) to 2^(b-1) - 1 with b from 2 to 16"
    )
    raise CalibrationError(msg)


class Observer(StrategyObserver, ObserverBase):  # type: ignore[misc]
    """Observer for torch.ao's FX flow, with one range for the whole tensor."""


class PerChannelObserver(StrategyObserver, ObserverBase):  # type: ignore[misc]
    """Observer for torch.ao's FX flow, with one range per channel."""


@functools.cache
def pt2e_observers() -> tuple[type[Any], type[Any]]:
    """Return the observers for torchao's PT2E flow: per tensor and per channel.

    Raises
    ------
    ImportError
        If torchao is missing; says how to install it.
    """
    module = "torchao.quantization.pt2e.observer"
    imports.require((module,), "The PT2E flow needs", "torch", "torchao")
    from torchao.quantization.pt2e.observer import ObserverBase as Base

    class PT2EObserver(StrategyObserver, Base):  # type: ignore[misc]
        """Observer for torchao's PT2E flow, with one range for the whole tensor."""

    class PT2EPerChannelObserver(StrategyObserver, Base):  # type: ignore[misc]
        """Observer for torchao's PT2E flow, with one range per channel."""

    return PT2EObserver, PT2EPerChannelObserver
