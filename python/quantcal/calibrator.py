"""`Calibrator`: histograms of named tensors, from which ranges are computed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from quantcal import _core, _tensor_formats
from quantcal._compute import compute_table
from quantcal._core import CalibrationError, Histogram, TensorStats
from quantcal._empty_warnings import warn_of_empty
from quantcal._io.files import write_bytes
from quantcal._io.json_text import parse_json
from quantcal._names import check_name
from quantcal._process.forks import new_lock
from quantcal._settings import OnNonfinite
from quantcal._statistics import (
    Stats,
    add_observation,
    check_axis,
    check_mergeable,
    check_room,
    new_stats,
    raise_named,
)
from quantcal._tensor_formats import choose_formats
from quantcal._text import plural, shown
from quantcal.channels import Channels
from quantcal.formats import QuantFormat
from quantcal.strategies.policy import Policy, StrategyLike, unknown_name
from quantcal.table import CalibrationTable

_MAX_SETTINGS = 1 << 16
"""Characters of a file's settings; JSON may take a hundred times as much memory as text."""


class Calibrator:
    """Histograms of named tensors: observe in one pass, compute any number of times.

    Memory hardly grows with the data. A tensor of a thousand values takes 7 KB, millions of
    usual float32 values take 10 to 40 KB. The maximum is about 230 KB, for values of all
    magnitudes or for float16, where each value has its bin. A channel takes one or two KB.
    All methods may be called from several threads at once.

    The process may fork meanwhile (`os.fork`, multiprocessing's "fork"). The fork waits until
    every `observe` in other threads has counted its array. The child has a separate copy with
    whole observations only, and can continue with it. What a forward or `observe_many` had not
    added yet is missing there.

    Parameters
    ----------
    mantissa_bits
        Resolution of every histogram; see `Histogram`. The default follows the data. By
        channel it is 5 (bins of 3 %; the extremes are exact), as there are many channels.
    on_nonfinite
        "ignore" counts NaN and infinities and leaves them out of every range. "raise"
        refuses the array that holds them, with an error that names the tensor.

    Raises
    ------
    CalibrationError
        If an argument is not one of the allowed values.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> cal = qc.Calibrator()
    >>> for batch in np.linspace(-1, 1, 1000, dtype=np.float32).reshape(10, 100):
    ...     cal.observe("layer.input", batch)
    >>> table = cal.compute("mse", format="int8")
    >>> round(table["layer.input"].high, 2)
    0.99
    """

    __slots__ = (
        "__weakref__",
        "_finite_only",
        "_formats",
        "_lock",
        "_mantissa_bits",
        "_on_nonfinite",
        "_tensors",
    )

    def __init__(
        self,
        *,
        mantissa_bits: int | None = None,
        on_nonfinite: OnNonfinite = "ignore",
    ) -> None:
        if on_nonfinite not in get_args(OnNonfinite):
            msg = f'on_nonfinite is {shown(on_nonfinite)}, but it must be "ignore" or "raise"'
            raise CalibrationError(msg)
        _core.TensorStats(mantissa_bits)  # refuses a bad resolution before first use
        self._mantissa_bits = None if mantissa_bits is None else int(mantissa_bits)
        self._on_nonfinite: OnNonfinite = on_nonfinite
        self._finite_only = on_nonfinite == "raise"
        self._tensors: dict[str, Stats] = {}
        self._formats: _tensor_formats.TensorFormats = {}
        self._lock = new_lock()

    @property
    def mantissa_bits(self) -> int | None:
        """The resolution asked for; None follows the data."""
        return self._mantissa_bits

    @property
    def on_nonfinite(self) -> OnNonfinite:
        """What happens to arrays with NaN or infinities."""
        return self._on_nonfinite

    @property
    def names(self) -> list[str]:
        """Names observed, in the order of their first observation."""
        return list(self._tensors)

    @property
    def formats(self) -> dict[str, tuple[str, ...]]:
        """The formats that tensors were observed for, by name; `compute` takes them.

        `quantcal.onnx.observe` records the formats that the written model will store. A tensor
        has several formats after calibrators of different targets were merged. It is missing
        when it was observed for none.
        """
        return {name: tuple(sorted(s)) for name, s in self._formats.items()}

    @property
    def nbytes(self) -> int:
        """Memory that all histograms occupy, in bytes."""
        return sum(stats.nbytes for stats in list(self._tensors.values()))

    def observe(self, name: str, values: Any, /, *, axis: int | None = None) -> None:
        """Add the values of one named tensor.

        Parameters
        ----------
        name
            The tensor's name.
        values
            Any shape; float16, bfloat16, float32 or float64; numpy, DLPack or `__array__`.
            An empty array counts as an observation of nothing. Do not modify the array until
            the call returns.
        axis
            The axis of the channels, each of which gets a separate histogram. Negative axes
            count from the end. None, the default, for one histogram of the whole tensor.
            A name keeps the axis (as it was given: -1 is not 1) and the number of channels
            of its first observation. All other sizes may change. Arrays with gaps between
            their elements are copied.

        Raises
        ------
        TypeError
            For other element types, and for masked arrays with an axis.
        CalibrationError
            If the array has no such axis, or earlier observations had another axis or number
            of channels. With on_nonfinite="raise", if some value is not finite; by channel,
            the message names the channel.

        After an error the calibrator is unchanged.
        """
        stats = self._tensors.get(name)
        if type(stats) is TensorStats and axis is None:
            # Nearly every call ends here; the checks of the others take as long as counting.
            try:
                stats.observe(values, self._finite_only)
            except (CalibrationError, TypeError) as error:
                raise_named(name, error)
            return
        if stats is None:
            part = self._observed(name, axis, values)
            tensors = self._tensors
            with self._lock:
                stats = tensors.setdefault(name, part)
            if stats is not part:  # another thread was first
                self.add_stats([(name, part)])
            return
        check_axis(name, stats, axis)
        add_observation(name, stats, values, finite_only=self._finite_only)

    def observe_many(
        self,
        tensors: Mapping[str, Any],
        /,
        *,
        axis: int | Mapping[str, int] | None = None,
    ) -> None:
        """Add the values of several named tensors: all of them, or none after an error.

        Parameters
        ----------
        tensors
            Arrays by name; see `observe`.
        axis
            The axis of the channels of all tensors, or a mapping from the names of those
            that are observed by channel to their axes.

        Raises
        ------
        CalibrationError
            As in `observe`, and if `axis` names none of the tensors.
        """
        if not isinstance(tensors, Mapping):
            msg = (
                f"tensors must be a mapping of names to arrays, not {_kind_of(tensors)}"
            )
            raise TypeError(msg)
        axes = axis if isinstance(axis, Mapping) else dict.fromkeys(tensors, axis)
        for name in axes:
            if name not in tensors:
                msg = (
                    f"axis names {shown(name)}, but no such tensor is given; correct the name, "
                    "or leave it out"
                )
                raise CalibrationError(msg)
        parts = [
            (name, self._observed(name, axes.get(name), values, defer=True))
            for name, values in tensors.items()
        ]
        self.add_stats(parts)

    def _observed(
        self, name: str, axis: int | None, values: Any, *, defer: bool = False
    ) -> Stats:
        """Return the statistics of one array.

        A name is checked at its first use only, as that takes as long as a small array.
        """
        if name not in self._tensors:
            check_name(name)
        stats = new_stats(axis, self._mantissa_bits)
        return add_observation(
            name, stats, values, finite_only=self._finite_only, defer=defer
        )

    def add_stats(self, parts: Iterable[tuple[str, Stats]]) -> None:
        """Add statistics by name: all of them, or none after an error.

        The calibrator takes them as its own; give copies of what others still use.

        Raises
        ------
        CalibrationError
            If a tensor has another axis or number of channels, or there would be more than
            2^60 values of it.
        """
        added = []
        with self._lock:
            new: dict[str, Stats] = {}  # of several parts of a tensor, the first
            more: dict[str, tuple[Stats, int, int]] = {}  # what would be added to each
            for name, part in parts:
                stats = self._tensors.get(name)
                if stats is None:
                    stats = new.setdefault(name, part)
                if stats is not part:
                    check_mergeable(name, stats, part)
                    _, values, observations = more.get(name, (stats, 0, 0))
                    observations += part.observations
                    more[name] = (stats, values + part.count, observations)
                added.append((name, part))
            for name, (stats, values, observations) in more.items():
                check_room(name, stats, values, observations)
            # Nothing can fail from here on: a name keeps its axis, and there is room.
            kept = [
                (self._tensors.setdefault(name, part), part) for name, part in added
            ]
        for stats, part in kept:
            if stats is not part:
                stats.merge(part)  # type: ignore[arg-type]

    def add_formats(self, formats: Mapping[str, Iterable[str]]) -> None:
        """Add to the formats that tensors are observed for; see `formats`."""
        with self._lock:
            self._formats = _tensor_formats.unite(self._formats, formats)

    def __getitem__(self, name: str) -> Histogram:
        """Return a copy of a tensor's histogram; of all channels together, if by channel.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists similar names.
        """
        return self.stats(name).histogram

    def stats(self, name: str) -> Stats:
        """Return the statistics of a tensor.

        They are its histogram with the number and extremes of its observations, or its
        histograms by channel with the number of its observations.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists similar names.
        """
        stats = self._tensors.get(name)
        if stats is None:
            raise KeyError(unknown_name(name, self._tensors))
        return stats

    def axis(self, name: str) -> int | None:
        """Return the axis along which a tensor was observed by channel, or None.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists similar names.
        """
        stats = self.stats(name)
        return stats.axis if isinstance(stats, _core.ChannelStats) else None

    def channels(self, name: str) -> Channels:
        """Return the histograms of a tensor by channel.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists similar names.
        CalibrationError
            If the tensor was not observed by channel.
        """
        stats = self.stats(name)
        if not isinstance(stats, _core.ChannelStats):
            msg = (
                f'Tensor "{name}" was observed as a whole; give observe() the axis of '
                "its channels."
            )
            raise CalibrationError(msg)
        return Channels(stats)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Calibrator):
            return NotImplemented
        return self._tensors == other._tensors

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Calibrator({plural(len(self), 'tensor')}, {self.nbytes / 1024:.0f} KB)"

    def merge(self, other: Calibrator, /) -> None:
        """Add everything that another calibrator observed, exactly.

        A tensor has the formats of both afterwards.

        Raises
        ------
        CalibrationError
            If a tensor was observed along different axes, or with different numbers of
            channels, or there would be more than 2^60 values of it; nothing is added then.
        """
        if not isinstance(other, Calibrator):
            msg = f"a Calibrator can be merged, not {_kind_of(other)}"
            raise TypeError(msg)
        self.add_stats(
            [(name, stats.copy()) for name, stats in list(other._tensors.items())]
        )
        self.add_formats(other._formats)

    def __add__(self, other: Calibrator) -> Calibrator:
        if not isinstance(other, Calibrator):
            return NotImplemented
        total = Calibrator(
            mantissa_bits=self._mantissa_bits, on_nonfinite=self._on_nonfinite
        )
        total.merge(self)
        total.merge(other)
        return total

    def __radd__(self, other: object) -> Calibrator:
        """`0 + calibrator`, so that `sum(calibrators)` needs no start value."""
        return self + Calibrator() if other == 0 else NotImplemented

    def to_bytes(self) -> bytes:
        """Return everything as versioned, checksummed bytes, tensors sorted by name."""
        settings = {
            "mantissa_bits": self._mantissa_bits,
            "on_nonfinite": self._on_nonfinite,
            **_tensor_formats.pack(self._formats, self._tensors),
        }
        return _core.write_archive(json.dumps(settings), sorted(self._tensors.items()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibrator:
        """Read what `to_bytes` returned.

        Raises
        ------
        CalibrationError
            If the bytes are foreign, truncated, altered, or from a newer version, or a tensor
            occurs twice. Memory use is proportional to the number of bytes, whatever they hold.
        """
        text, tensors = _core.read_archive(data)
        if len(text) > _MAX_SETTINGS:
            msg = (
                f"the settings have {len(text)} characters, but a calibrator's have no "
                f"more than {_MAX_SETTINGS}; restore the file or observe again"
            )
            raise CalibrationError(msg)
        try:
            settings = parse_json(text)
            if not isinstance(settings, dict):
                raise ValueError("they are not a JSON object")
            usual, others = settings.pop("format", None), settings.pop("formats", None)
            calibrator = cls(**settings)
            names = [name for name, _ in tensors]
            calibrator._formats = _tensor_formats.unpack(usual, others, names)
        except (TypeError, ValueError) as error:
            msg = f"the settings are not a calibrator's: {error}"
            raise CalibrationError(msg) from error
        calibrator._tensors.update(tensors)
        return calibrator

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return Calibrator.from_bytes, (self.to_bytes(),)

    def save(self, path: str | Path) -> None:
        """Write everything to a file, atomically; `quantcal.load` reads it.

        Raises
        ------
        CalibrationError
            If the file cannot be written.
        """
        write_bytes(path, self.to_bytes())

    def compute(
        self,
        strategy: StrategyLike = "mse",
        *,
        format: str | QuantFormat | None = None,
        symmetric: bool | None = None,
        power_of_two: bool | None = None,
        **options: Any,
    ) -> CalibrationTable:
        """Choose range, scale and zero point of every tensor.

        Tensors that were observed by channel get a range for every channel, by the same
        strategy, and one report. Strategies that need the extremes of each observation
        (`MinMax(reduce="mean")`) are refused there.

        Parameters
        ----------
        strategy
            A name, such as "mse" or "percentile_99.9", or a strategy object;
            `quantcal.strategies.names()` lists the names. For several strategies, a mapping
            of name patterns to these, of which the first match counts. Or a `Policy`, the
            name of one ("llm_layers"), or the `Path` of a policy file.
        format
            A name such as "int8", "uint4" or "float8_e4m3fn", or a `QuantFormat`. None, the
            default, takes for each tensor the format that it was observed for (`formats`),
            which a model of the same target stores. Tensors observed for none get int8.
        symmetric, power_of_two
            Scaling, if it differs from the default of the format. Signed integers and floats
            are symmetric by default, unsigned integers affine. Scales are any number.
        options
            Of the named strategy, for instance `percentile=99.9`.

        Raises
        ------
        CalibrationError
            If nothing was observed, or a name, format or option is not known. If a tensor
            matches no rule, or was observed for several formats and none is given.

        Warns
        -----
        UserWarning
            Names the tensors and channels without a finite value; no data supports their range.
        """
        stats = dict(self._tensors)
        formats = choose_formats(self._formats, stats, format, symmetric, power_of_two)
        table = compute_table(stats, Policy.of(strategy, **options), formats)
        warn_of_empty(stats, table)
        return table


def _kind_of(value: object) -> str:
    return type(value).__name__
