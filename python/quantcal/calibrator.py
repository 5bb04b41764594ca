"""`Calibrator`: named histograms; observes, merges, saves, loads, computes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import numpy as np

from quantcal import _core, _intended
from quantcal._core import CalibrationError, Histogram, TensorStats
from quantcal._decide import Stats, decide_each
from quantcal._empty import warn_of_empty
from quantcal._files import write_bytes
from quantcal._forks import new_lock
from quantcal._json import parse_json
from quantcal._names import check_name
from quantcal._text import plural
from quantcal.channels import Channels
from quantcal.formats import QuantFormat
from quantcal.strategies.checks import as_whole
from quantcal.strategies.policy import Policy, StrategyLike, unknown_name
from quantcal.table import CalibrationTable

OnNonfinite = Literal["ignore", "raise"]

_MOST_SETTINGS = 1 << 16
"""Characters of a file's settings; JSON may take a hundred times as much memory as text."""


class Calibrator:
    """Histograms of named tensors: observe in one pass, compute as often as you like.

    Memory hardly grows with the data: 7 KB for a tensor of a thousand values, 10 to 40 KB for
    millions of usual float32 values, up to some 230 KB where values of all magnitudes occur
    or, as for float16, each value has its bin. Each channel of a tensor that is observed by
    channel takes one or two KB. All methods may be called from several threads at once.

    The process may fork meanwhile (`os.fork`, multiprocessing's "fork"). The fork waits until
    every `observe` under way in other threads has counted its array. The child has a copy of
    its own with whole observations only, and can go on with it; what a forward or
    `observe_many` had not added yet is missing there.

    Parameters
    ----------
    mantissa_bits
        Resolution of every histogram; see `Histogram`. The default follows the data, and is
        5 by channel (bins of 3 %; the extremes are exact), of which there are many.
    on_nonfinite
        "ignore" counts NaN and infinities and leaves them out of every range; "raise"
        refuses the array that holds them, by name.

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
        "_intended",
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
            msg = (
                f'on_nonfinite is {on_nonfinite!r}, but it must be "ignore" or "raise"'
            )
            raise CalibrationError(msg)
        _core.TensorStats(
            mantissa_bits
        )  # refuses a bad resolution now, not at first use
        self._mantissa_bits = None if mantissa_bits is None else int(mantissa_bits)
        self._on_nonfinite: OnNonfinite = on_nonfinite
        self._finite_only = on_nonfinite == "raise"
        self._tensors: dict[str, Stats] = {}
        self._intended: _intended.Intended = {}
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

        `quantcal.onnx.observe` notes what the written model will store. A tensor has several
        when calibrators of different targets were merged, and is missing when it was observed
        for none.
        """
        return {name: tuple(sorted(s)) for name, s in self._intended.items()}

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
            The axis of the channels, each of which gets a histogram of its own; negative
            axes count from the end. None, the default, for one histogram of the whole tensor.
            A name keeps the axis (as it was named: -1 is not 1) and the number of channels
            of its first observation; all other sizes may change. Arrays with gaps between
            their elements are copied.

        Raises
        ------
        TypeError
            For other element types, and for masked arrays with an axis.
        CalibrationError
            If the axis is none of the array's, or not that of earlier observations, or there
            were more or fewer channels. With on_nonfinite="raise", if some value is not
            finite; by channel, the message says in which.

        After an error the calibrator is as it was before.
        """
        stats = self._tensors.get(name)
        if type(stats) is TensorStats and axis is None:
            # What nearly every call is; the checks of the others take as long as counting.
            try:
                stats.observe(values, self._finite_only)
            except (CalibrationError, TypeError) as error:
                _refuse(name, error)
            return
        if stats is None:
            part = self._record(name, self._empty(name, axis), values)
            tensors = self._tensors
            with self._lock:
                stats = tensors.setdefault(name, part)
            if stats is not part:  # another thread was first
                self._include([(name, part)])
            return
        _check_kind(name, stats, axis)
        self._record(name, stats, values)

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
                    f"axis names {name!r}, but no such tensor is given; correct the name, "
                    "or leave it out"
                )
                raise CalibrationError(msg)
        parts = [
            (
                name,
                self._record(
                    name, self._empty(name, axes.get(name)), values, hold=True
                ),
            )
            for name, values in tensors.items()
        ]
        self._include(parts)

    def _empty(self, name: str, axis: int | None) -> Stats:
        """Return statistics of nothing; names are checked here, so at first use only.

        Looking at every letter costs as much as observing a small array.
        """
        if name not in self._tensors:
            check_name(name)
        if axis is None:
            return _core.TensorStats(self._mantissa_bits)
        return _core.ChannelStats(axis, self._mantissa_bits)

    def _record(
        self, name: str, stats: Stats, values: Any, *, hold: bool = False
    ) -> Stats:
        """Add an observation; `hold` if it will be merged into other statistics."""
        by_channel = isinstance(stats, _core.ChannelStats)
        if by_channel and isinstance(values, np.ma.MaskedArray):
            msg = (
                f'Tensor "{name}": a masked array cannot be observed by channel; fill it, '
                "or observe it without axis"
            )
            raise TypeError(msg)
        try:
            if isinstance(stats, _core.ChannelStats):
                stats.observe(values, self._finite_only, defer=hold)
            else:
                stats.observe(values, self._finite_only)
        except (CalibrationError, TypeError) as error:
            _refuse(name, error, by_channel=by_channel)
        return stats

    def _include(self, parts: Iterable[tuple[str, Stats]]) -> None:
        """Add statistics that nobody else holds: all of them, or none after an error."""
        added = []
        with self._lock:
            new: dict[str, Stats] = {}  # of several parts of a tensor, the first
            more: dict[str, tuple[Stats, int, int]] = {}  # what would be added to each
            for name, part in parts:
                stats = self._tensors.get(name)
                if stats is None:
                    stats = new.setdefault(name, part)
                if stats is not part:
                    _check_same(name, stats, part)
                    _, values, observations = more.get(name, (stats, 0, 0))
                    observations += part.observations
                    more[name] = (stats, values + part.count, observations)
                added.append((name, part))
            for name, (stats, values, observations) in more.items():
                _check_room(name, stats, values, observations)
            # Nothing can fail any more: a name keeps its kind for ever, and there is room.
            kept = [
                (self._tensors.setdefault(name, part), part) for name, part in added
            ]
        for stats, part in kept:
            if stats is not part:
                stats.merge(part)  # type: ignore[arg-type]

    def _intend(self, formats: Mapping[str, Iterable[str]]) -> None:
        """Note the formats that tensors are observed for."""
        new = {name: frozenset(given) for name, given in formats.items()}
        with self._lock:
            self._intended = _intended.united(self._intended, new)

    def __getitem__(self, name: str) -> Histogram:
        """Return a copy of a tensor's histogram; of all channels together, if by channel.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists names like it.
        """
        return self.stats(name).histogram

    def stats(self, name: str) -> Stats:
        """Return what is kept of a tensor.

        That is its histogram with the number and extremes of its observations, or its
        histograms by channel with the number of its observations.
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
            If the name was never observed; the message lists names like it.
        """
        stats = self.stats(name)
        return stats.axis if isinstance(stats, _core.ChannelStats) else None

    def channels(self, name: str) -> Channels:
        """Return the histograms of a tensor by channel.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists names like it.
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

        A tensor keeps the formats that it was observed for, those of both.

        Raises
        ------
        CalibrationError
            If a tensor was observed along different axes, or with different numbers of
            channels, or there would be more than 2^60 values of it; nothing is added then.
        """
        if not isinstance(other, Calibrator):
            msg = f"a Calibrator can be merged, not {_kind_of(other)}"
            raise TypeError(msg)
        self._include(
            [(name, stats.copy()) for name, stats in list(other._tensors.items())]
        )
        self._intend(other._intended)

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
            **_intended.pack(self._intended, self._tensors),
        }
        return _core.write_archive(json.dumps(settings), sorted(self._tensors.items()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibrator:
        """Read what `to_bytes` returned.

        Raises
        ------
        CalibrationError
            If the bytes are foreign, cut off, altered, or from a newer version, or a tensor
            occurs twice. Reading takes memory in proportion to the bytes, whatever they hold.
        """
        text, tensors = _core.read_archive(data)
        if len(text) > _MOST_SETTINGS:
            msg = (
                f"the settings have {len(text)} characters, but a calibrator's have no "
                f"more than {_MOST_SETTINGS}; restore the file or observe again"
            )
            raise CalibrationError(msg)
        try:
            settings = parse_json(text)
            if not isinstance(settings, dict):
                raise ValueError("they are no JSON object")
            usual, others = settings.pop("format", None), settings.pop("formats", None)
            calibrator = cls(**settings)
            names = [name for name, _ in tensors]
            calibrator._intended = _intended.unpack(usual, others, names)
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
        strategy, and one report for all of it. Strategies that need the extremes of each
        observation (`MinMax(reduce="mean")`) are refused there.

        Parameters
        ----------
        strategy
            A name ("minmax", "percentile_99.9", "kl", "mse", "entropy", "aciq", "hybrid"), a
            strategy object, or a mapping of name patterns to these, of which the first that
            matches decides; a `Policy`, the name of one ("llm_layers"), or the `Path` of a
            policy file.
        format
            A name such as "int8", "uint4" or "float8_e4m3fn", or a `QuantFormat`. None, the
            default, takes for each tensor the format that it was observed for (`formats`):
            what a model of the same target stores. Tensors observed for none get int8.
        symmetric, power_of_two
            Scaling, where it is not to be the format's: signed integers and floats are
            symmetric by default, unsigned integers affine; scales are any number.
        options
            Of the named strategy, for instance `percentile=99.9`.

        Raises
        ------
        CalibrationError
            If nothing was observed, a name, format or option is not known, a tensor matches no
            rule, or it was observed for several formats and none is given.

        Warns
        -----
        UserWarning
            Names the tensors and channels without a finite value, whose ranges mean nothing.
        """
        names = list(self._tensors)
        formats = _intended.chosen(
            self._intended, names, format, symmetric, power_of_two
        )
        table = self._compute(Policy.of(strategy, **options), formats)
        warn_of_empty(self._tensors, table)
        return table

    def _compute(
        self, policy: Policy, formats: Mapping[str, QuantFormat]
    ) -> CalibrationTable:
        """Do so for tensors whose formats are known, without a word on empty ones."""
        tensors = [(n, self._tensors[n]) for n in formats if n in self._tensors]
        if not tensors:
            msg = "The calibrator has observed nothing; call observe() first."
            raise CalibrationError(msg)
        assigned, unused = policy.assign(name for name, _ in tensors)
        decided = decide_each(
            [(name, stats, *assigned[name]) for name, stats in tensors], formats
        )
        return CalibrationTable(
            {name: params for name, (params, _) in decided.items()},
            {name: report for name, (_, report) in decided.items()},
            unused_rules=unused,
        )


def _refuse(name: str, error: Exception, *, by_channel: bool = False) -> NoReturn:
    """Raise an error again, with the tensor that it is about."""
    if not isinstance(error, _core.NonFiniteError):
        raise type(error)(f'Tensor "{name}": {error}') from error
    link = ", " if by_channel else " has "
    msg = (
        f'Tensor "{name}"{link}{error}; on_nonfinite="ignore" would count them '
        "and leave them out."
    )
    raise CalibrationError(msg) from None


def _kind_of(value: object) -> str:
    return type(value).__name__


def _check_kind(name: str, stats: Stats, axis: int | None) -> None:
    """Refuse another axis than a tensor has; None is that of whole tensors."""
    have = stats.axis if isinstance(stats, _core.ChannelStats) else None
    if have == axis:
        if axis is not None and as_whole(axis) is None:  # True and 1.0 equal 1
            msg = f'Tensor "{name}": axis is {axis!r:.40}, which is not a whole number'
            raise TypeError(msg)
        return
    msg = (
        f'Tensor "{name}": axis is {axis}, but earlier observations had axis {have}; name '
        "the axis in the same way each time, or give the tensor another name"
    )
    raise CalibrationError(msg)


def _check_room(name: str, stats: Stats, values: int, observations: int) -> None:
    """Refuse more values than can be counted beside those that are."""
    most = (1 << 64) - 1
    try:
        stats.check_room(min(values, most), min(observations, most))
    except CalibrationError as error:
        msg = f'Tensor "{name}": {error}'
        raise CalibrationError(msg) from None


def _check_same(name: str, stats: Stats, part: Stats) -> None:
    """Refuse what could not be merged."""
    if not isinstance(part, _core.ChannelStats):
        _check_kind(name, stats, None)
        return
    _check_kind(name, stats, part.axis)
    assert isinstance(stats, _core.ChannelStats)
    try:
        stats.check(part.axis, len(part))
    except CalibrationError as error:
        msg = f'Tensor "{name}": {error}'
        raise CalibrationError(msg) from None
