"""`Channels`: the histograms of one tensor, one for each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import Histogram
from quantcal._text import shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class Channels(Sequence[Histogram]):
    """The histograms of one tensor by channel, as `Calibrator.channels` returns them.

    A sequence of `Histogram`; every element is a copy. It is a view of the calibrator, so it
    shows later observations too.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> cal = qc.Calibrator()
    >>> cal.observe("x", np.float32([[1, -5], [2, -7], [3, 0]]), axis=1)
    >>> channels = cal.channels("x")
    >>> channels
    Channels(2 along axis 1, count=6)
    >>> channels.min, channels.max
    (array([ 1., -7.], dtype=float32), array([3., 0.], dtype=float32))
    >>> channels[0].mean()
    2.0
    """

    __slots__ = ("_stats",)

    def __init__(self, stats: _core.ChannelStats, /) -> None:
        self._stats = stats

    @property
    def stats(self) -> _core.ChannelStats:
        """What the calibrator keeps of the tensor, as `Calibrator.stats` returns it."""
        return self._stats

    @property
    def axis(self) -> int:
        """The axis of the channels, as it was given; negative ones count from the end."""
        return self._stats.axis

    @property
    def min(self) -> NDArray[np.float32]:
        """Smallest finite value of every channel, exactly; NaN without one."""
        return self._stats.min

    @property
    def max(self) -> NDArray[np.float32]:
        """Largest finite value of every channel, exactly; NaN without one."""
        return self._stats.max

    @property
    def nbytes(self) -> int:
        """Memory that all histograms occupy, in bytes."""
        return self._stats.nbytes

    def total(self) -> Histogram:
        """Return the histogram of all channels together, at their resolution."""
        return self._stats.histogram

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.channels(self)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict per channel, for pandas or JSON.

        It holds counts, extremes, mean and standard deviation of the values. Without finite
        values these are None.
        """
        from quantcal.report import records

        return records.of_channels(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return `records` as a pandas data frame, with the numbers of the channels as index.

        Raises
        ------
        ImportError
            If pandas is missing; says how to install it.
        """
        from quantcal.report import records

        return records.frame(self.records(), "channel")

    def plot(self, ax: Axes | None = None, *, name: str | None = None) -> Axes:
        """Draw the values of every channel side by side.

        Each channel has a thin line from its minimum to its maximum, and a thick one for the
        middle 90 % of its values, so that outliers show. Of more than 512 channels every n-th
        is drawn.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure with pyplot, which shows and closes it.
        name
            The tensor's name, for the title. The default is none.

        Returns
        -------
        The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is missing; says how to install it.
        """
        from quantcal.report.channels import plot

        return plot(self, ax, name=name)

    def __len__(self) -> int:
        return len(self._stats)

    @overload
    def __getitem__(self, channel: int) -> Histogram: ...
    @overload
    def __getitem__(self, channel: slice) -> list[Histogram]: ...
    def __getitem__(self, channel: int | slice) -> Histogram | list[Histogram]:
        """Return the histogram of a channel, or a list of some.

        Raises
        ------
        IndexError
            If there is no such channel.
        """
        places = range(len(self))
        if isinstance(channel, slice):
            return [self._stats.channel(k) for k in places[channel]]
        try:
            return self._stats.channel(places[channel])
        except IndexError:
            msg = f"there is no channel {shown(channel)}: the tensor has {len(places)}"
            raise IndexError(msg) from None

    def __iter__(self) -> Iterator[Histogram]:
        return (self._stats.channel(k) for k in range(len(self)))

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, Channels):
            return NotImplemented
        return self._stats == other._stats

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        count = len(self) * self._stats.channel(0).count
        return f"Channels({len(self)} along axis {self.axis}, count={count})"
