"""The compiled part of quantcal. Private: import from `quantcal`."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from quantcal.formats import QuantFormat

__all__ = [
    "DEBUG_BUILD",
    "CalibrationError",
    "ChannelStats",
    "Histogram",
    "NonFiniteError",
    "Taps",
    "TensorStats",
    "__version__",
    "aciq",
    "activation_errors",
    "activation_histograms",
    "analytic_threshold",
    "block_dequantize",
    "block_fake_quantize",
    "block_maxima",
    "block_quantize",
    "block_statistics",
    "channel_grid_error",
    "channel_grids",
    "check_channel_grids",
    "check_grid",
    "close_gate",
    "code_blocks",
    "code_entropy",
    "dequantize",
    "dequantize_channels",
    "divergence",
    "fake_quantize",
    "fake_quantize_channels",
    "fits",
    "format_names",
    "get_num_threads",
    "grid",
    "grid_error",
    "histogram_from_counts",
    "kl",
    "max_entropy",
    "minmax",
    "mse",
    "ncnn_divergences",
    "octav",
    "open_gate",
    "ort_divergence_bounds",
    "percentile",
    "quantize",
    "quantize_channels",
    "read_archive",
    "set_num_threads",
    "share_beyond",
    "weight_errors",
    "write_archive",
]

__version__: str
DEBUG_BUILD: Final[bool]

class CalibrationError(ValueError): ...
class NonFiniteError(CalibrationError): ...

@final
class Histogram:
    """Exact counts of one tensor's values over float codes.

    The bits of a float are a logarithmic bin number: sign, exponent and the top
    `mantissa_bits` bits of the mantissa. No range has to be known beforehand. An outlier
    costs no resolution elsewhere, and every bit pattern has a bin or a counter.

    The state depends on the values only. Any split, order, number of threads or merge tree
    gives an equal histogram with equal bytes. It is safe to use from several threads.

    Parameters
    ----------
    mantissa_bits
        Bins an octave, as a power of two, 3 to 12. The default follows the data. It is 10
        for float16 and 7 for bfloat16, where every value has its own bin and all answers
        are exact. It is 8 for float32 and float64 (bins of 0.4 %), and the minimum of
        these for mixed types.

    Raises
    ------
    CalibrationError
        If `mantissa_bits` is outside 3 to 12.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> h = qc.Histogram()
    >>> h.observe(np.array([0.0, 1.0, -2.0, np.nan], dtype=np.float32))
    Histogram(count=4, min=-2, max=1, nan=1, mantissa_bits=8)
    >>> h.zeros, h.nan, h.min, h.max
    (1, 1, -2.0, 1.0)
    >>> h == qc.Histogram.from_bytes(h.to_bytes())
    True
    """

    def __new__(cls, mantissa_bits: int | None = None) -> Histogram: ...
    def observe(self, values: Any, /) -> Histogram:
        """Count every element of an array; return the histogram itself.

        Parameters
        ----------
        values
            A numpy array of any shape, or anything with DLPack or `__array__`, of float16,
            bfloat16, float32 or float64. It is read without a copy where its memory
            allows. Do not modify it until the call returns. float64 is rounded to float32.

        Raises
        ------
        TypeError
            For any other element type. Nothing is counted then.
        CalibrationError
            If there would be more than 2^60 values. Nothing is counted then.
        """
    def merge(self, other: Histogram, /) -> None:
        """Add another histogram exactly. The coarser resolution is kept.

        Raises
        ------
        CalibrationError
            If there would be more than 2^60 values; nothing is added then.
        """
    def __add__(self, other: Histogram, /) -> Histogram: ...
    def __radd__(self, other: int, /) -> Histogram: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def coarsen(self, mantissa_bits: int) -> Histogram:
        """Return a copy at a lower resolution, exactly as if it had observed the data.

        Raises
        ------
        CalibrationError
            If `mantissa_bits` is outside 3 to 12 or above the current resolution.
        """
    def crop(self, low: float, high: float) -> Histogram:
        """Return the histogram of the values between two ends, both included.

        Of a bin that an end divides, the inner part counts. NaN and infinities are left
        out. The result is exact if the histogram is. O(bins).

        Raises
        ------
        CalibrationError
            If the ends are not finite or not in order.
        """
    @property
    def mantissa_bits(self) -> int | None:
        """Bins an octave, as a power of two; None before the first value unless set."""
    @property
    def exact(self) -> bool:
        """Whether every value is the edge of its bin: then the histogram is the data."""
    @property
    def count(self) -> int:
        """Number of elements observed, zeros and non-finite ones included."""
    @property
    def finite(self) -> int:
        """Number of elements that are neither NaN nor infinite."""
    @property
    def zeros(self) -> int:
        """Number of zeros, of either sign."""
    @property
    def nan(self) -> int:
        """Number of NaN."""
    @property
    def posinf(self) -> int:
        """Number of elements equal to positive infinity."""
    @property
    def neginf(self) -> int:
        """Number of elements equal to negative infinity."""
    @property
    def min(self) -> float | None:
        """The exact finite minimum; None without finite values."""
    @property
    def max(self) -> float | None:
        """The exact finite maximum; None without finite values."""
    @property
    def nbytes(self) -> int:
        """Memory in bytes, counters included."""
    def quantile(self, q: float) -> float | None:
        """Return the smallest value with a share of at least `q` (0 to 1) at or below it.

        Non-finite values are left out; None without finite values. It is the order
        statistic itself for 16-bit data, and lies in the same bin otherwise.

        Raises
        ------
        CalibrationError
            If `q` is outside 0 to 1.
        """
    def abs_quantile(self, q: float) -> float | None:
        """Return the `q`-quantile of the magnitudes, otherwise as `quantile`."""
    def mean(self) -> float | None:
        """Return the mean of the finite values; None without one."""
    def std(self) -> float | None:
        """Return the standard deviation (divided by n) of the finite values."""
    def mean_abs_deviation(self) -> float | None:
        """Return the mean of |x - mean|, the scale of a Laplace distribution."""
    def kurtosis(self) -> float | None:
        """Return the fourth central moment over the squared variance (Gauss: 3)."""
    def bins(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64]]:
        """Return low ends, high ends and counts of the non-empty bins, rising.

        Bins are clipped to the exact minimum and maximum. Where values are known exactly
        (zeros, 16-bit data), both ends are equal. The counts sum to `finite`.
        """
    def rebin(
        self, num_bins: int, low: float, high: float
    ) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Return counts and edges of `num_bins` equal bins from `low` to `high`.

        Bins are those of `numpy.histogram`: each contains its left edge, the last one both
        edges. The counts sum to the number of values in [low, high].

        Raises
        ------
        CalibrationError
            If `num_bins` is not between 1 and 2**24, or the ends are not finite and in order.
        """
    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        percentiles: Sequence[float] = (99.0, 99.9),
    ) -> Axes:
        """Draw the distribution of the finite values.

        The plot shows the density (share of the values per unit, logarithmic) over bins
        that look equally wide. Exact zeros have no density and are drawn as a line, from
        1 % on. The axis of values is linear, or logarithmic far from zero with outliers.

        Parameters
        ----------
        ax
            Axes to draw on; None for a new pyplot figure.
        name
            The tensor's name, for the title. The default is none, as a histogram has no
            name.
        percentiles
            Lines at the ends of the middle part of the values, in percent. The default shows
            what is cut by usual percentiles. Values on one side of zero have one end.

        Returns
        -------
        The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        CalibrationError
            If a percentile is not between 0 and 100.
        """
    def _repr_html_(self) -> str: ...
    def to_bytes(self) -> bytes:
        """Return versioned, checksummed bytes. Equal histograms have equal bytes."""
    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """Read the bytes that `to_bytes` returned.

        Raises
        ------
        CalibrationError
            If the bytes are foreign, truncated, altered, or from a newer version.
        """
    def __reduce__(self) -> tuple[Any, tuple[bytes]]: ...

@final
class TensorStats:
    """Histogram and per-observation extremes of one tensor, as a calibrator keeps them."""

    def __new__(cls, mantissa_bits: int | None = None) -> TensorStats: ...
    def observe(self, values: Any, finite_only: bool = False, /) -> None: ...
    def merge(self, other: TensorStats, /) -> None: ...
    def check_room(self, values: int, observations: int, /) -> None: ...
    def swap(self, other: TensorStats, /) -> None: ...
    def copy(self) -> TensorStats: ...
    @staticmethod
    def from_histogram(histogram: Histogram) -> TensorStats: ...
    @staticmethod
    def from_counts(
        histogram: Histogram, observations: int, minima: Histogram, maxima: Histogram
    ) -> TensorStats: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    @property
    def histogram(self) -> Histogram: ...
    @property
    def minima(self) -> Histogram: ...
    @property
    def maxima(self) -> Histogram: ...
    @property
    def count(self) -> int: ...
    @property
    def observations(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

@final
class Taps:
    """Statistics for the `quantcal::Observe` nodes of a session that will be opened."""

    def __new__(
        cls, tensors: list[tuple[str, TensorStats]], /, *, finite_only: bool = False
    ) -> Taps: ...
    @property
    def number(self) -> int: ...

@final
class ChannelStats:
    """One histogram for each channel of a tensor, as a calibrator keeps them."""

    def __new__(cls, axis: int, mantissa_bits: int | None = None) -> ChannelStats: ...
    @staticmethod
    def from_counts(
        axis: int, channels: Sequence[Histogram], observations: int
    ) -> ChannelStats: ...
    def observe(
        self, values: Any, finite_only: bool = False, /, *, defer: bool = False
    ) -> None: ...
    def merge(self, other: ChannelStats, /) -> None: ...
    def check(self, axis: int, channels: int, /) -> None: ...
    def check_room(self, values: int, observations: int, /) -> None: ...
    def copy(self) -> ChannelStats: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def channel(self, channel: int, /) -> Histogram: ...
    @property
    def histogram(self) -> Histogram: ...
    @property
    def min(self) -> NDArray[np.float32]: ...
    @property
    def max(self) -> NDArray[np.float32]: ...
    @property
    def axis(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def observations(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def histogram_from_counts(
    mantissa_bits: int,
    codes: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    specials: tuple[int, int, int, int],
    extremes: tuple[float, float] | None,
    *,
    exact: bool,
    fixed: bool,
) -> Histogram: ...
def write_archive(
    settings: str, tensors: Sequence[tuple[str, TensorStats | ChannelStats]]
) -> bytes: ...
def read_archive(
    data: bytes,
) -> tuple[str, list[tuple[str, TensorStats | ChannelStats]]]: ...
def format_names() -> list[str]: ...
def minmax(histogram: Histogram) -> tuple[float, float]: ...
def percentile(
    histogram: Histogram, q: float, each_tail: bool, format: QuantFormat
) -> tuple[float, float]: ...
def kl(
    histogram: Histogram,
    num_bins: int,
    num_levels: int | None,
    two_sided: bool | None,
    format: QuantFormat,
) -> tuple[float, float]: ...
def divergence(
    histogram: Histogram, low: float, high: float, num_bins: int, format: QuantFormat
) -> float: ...
def ort_divergence_bounds(
    counts: NDArray[np.uint64], levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def ncnn_divergences(
    counts: NDArray[np.uint64], levels: int
) -> NDArray[np.float32]: ...
def mse(histogram: Histogram, p: float, format: QuantFormat) -> tuple[float, float]: ...
def octav(histogram: Histogram, format: QuantFormat) -> tuple[float, float]: ...
def max_entropy(histogram: Histogram, format: QuantFormat) -> tuple[float, float]: ...
def code_entropy(
    histogram: Histogram, format: QuantFormat, scale: float, zero_point: int
) -> float: ...
def fits(histogram: Histogram) -> list[tuple[str, float, float]]: ...
def aciq(
    histogram: Histogram,
    distribution: str | None,
    closed_form: bool,
    format: QuantFormat,
) -> tuple[float, float]: ...
def share_beyond(distribution: str, bits: int) -> float: ...
def analytic_threshold(distribution: str, bits: int) -> float: ...
def grid(
    format: QuantFormat, low: float, high: float
) -> tuple[float, int, float, float]: ...
def check_grid(format: str, scale: float, zero_point: int) -> None: ...
def grid_error(
    histogram: Histogram, format: str, scale: float, zero_point: int
) -> tuple[float, float, float, float, float]: ...
def quantize(
    values: NDArray[np.float32],
    format: str,
    scale: float,
    zero_point: int,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def dequantize(
    codes: NDArray[Any],
    format: str,
    scale: float,
    zero_point: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def fake_quantize(
    values: NDArray[np.float32], format: str, scale: float, zero_point: int
) -> NDArray[np.float32]: ...
def channel_grids(
    format: QuantFormat, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[
    NDArray[np.float32], NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]
]: ...
def check_channel_grids(
    format: str, scale: NDArray[np.float32], zero_point: NDArray[np.int32]
) -> None: ...
def channel_grid_error(
    channels: ChannelStats,
    format: str,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
) -> tuple[float, float, float, float, float]: ...
def activation_histograms(
    channels: ChannelStats, candidates: NDArray[np.float32]
) -> list[Histogram]: ...
def activation_errors(
    channels: ChannelStats,
    candidates: NDArray[np.float32],
    format: str,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def weight_errors(
    matrix: NDArray[np.float32],
    candidates: NDArray[np.float32],
    format: QuantFormat,
) -> NDArray[np.float64]: ...
def quantize_channels(
    values: NDArray[np.float32],
    format: str,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    axis: int,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def dequantize_channels(
    codes: NDArray[Any],
    format: str,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    axis: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def fake_quantize_channels(
    values: NDArray[np.float32],
    format: str,
    scale: NDArray[np.float32],
    zero_point: NDArray[np.int32],
    axis: int,
) -> NDArray[np.float32]: ...
def block_quantize(
    values: NDArray[np.float32], format: str, global_scale: float | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...
def block_dequantize(
    codes: NDArray[np.uint8],
    scales: NDArray[np.uint8],
    format: str,
    global_scale: float | None,
) -> NDArray[np.float32]: ...
def block_fake_quantize(
    values: NDArray[np.float32], format: str, global_scale: float | None
) -> NDArray[np.float32]: ...
def block_statistics(
    values: NDArray[np.float32], format: str, global_scale: float | None
) -> tuple[Histogram, NDArray[np.uint64], int, int, int]: ...
def block_maxima(
    values: NDArray[np.float32], format: str, global_scale: float | None
) -> Histogram: ...
def code_blocks(
    values: NDArray[np.float32],
    format: QuantFormat,
    axis: int,
    size: int,
    shares: NDArray[np.float32],
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any]]: ...
def close_gate() -> None:
    """Wait until no thread changes a histogram, and let none begin. Call before a fork."""

def open_gate(in_child: bool) -> None: ...
def set_num_threads(num_threads: int) -> None:
    """Set the number of threads that quantcal uses in this process.

    The default is the environment variable QUANTCAL_NUM_THREADS, or else the number of
    processors. Results never depend on it.

    Raises
    ------
    CalibrationError
        If `num_threads` is 0.
    """

def get_num_threads() -> int:
    """Return the number of threads that quantcal uses in this process."""
