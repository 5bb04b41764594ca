"""`Calibrator`: named histograms; observes, merges, saves, loads, computes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

from quantcal import _core
from quantcal._core import CalibrationError, Histogram
from quantcal._files import read_bytes, write_bytes
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.base import Explains, Strategy, UsesObservations
from quantcal.strategies.policy import Policy, StrategyLike, unknown_name
from quantcal.table import CalibrationTable, TensorReport

OnNonfinite = Literal["ignore", "raise"]
_FEW = 8  # tensors; below, threads cost more than they save


class Calibrator:
    """Histograms of named tensors: observe in one pass, compute as often as you like.

    Memory is constant in the amount of data: some ten to a few hundred KB a tensor. All
    methods may be called from several threads at once.

    Parameters
    ----------
    mantissa_bits
        Resolution of every histogram; see `Histogram`. The default follows the data.
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

    __slots__ = ("__weakref__", "_lock", "_mantissa_bits", "_on_nonfinite", "_tensors")

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
        self._mantissa_bits = mantissa_bits
        self._on_nonfinite: OnNonfinite = on_nonfinite
        self._tensors: dict[str, _core.TensorStats] = {}
        self._lock = threading.Lock()

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
    def nbytes(self) -> int:
        """Memory that all histograms occupy, in bytes."""
        return sum(stats.nbytes for stats in list(self._tensors.values()))

    def observe(self, name: str, values: Any, /) -> None:
        """Add the values of one named tensor.

        Parameters
        ----------
        name
            The tensor's name.
        values
            Any shape; float16, bfloat16, float32 or float64; numpy, DLPack or `__array__`.
            An empty array counts as an observation of nothing. Do not modify the array until
            the call returns.

        Raises
        ------
        TypeError
            For other element types.
        CalibrationError
            With on_nonfinite="raise", if some value is not finite.

        After an error the calibrator is as it was before.
        """
        stats = self._tensors.get(name)
        if stats is not None:
            self._record(name, stats, values)
            return
        stats = self._record(name, self._empty(), values)
        self._include(name, stats)

    def observe_many(self, tensors: Mapping[str, Any], /) -> None:
        """Add the values of several named tensors: all of them, or none after an error."""
        parts = [
            (name, self._record(name, self._empty(), values))
            for name, values in tensors.items()
        ]
        for name, part in parts:
            self._include(name, part)

    def _empty(self) -> _core.TensorStats:
        return _core.TensorStats(self._mantissa_bits)

    def _record(
        self, name: str, stats: _core.TensorStats, values: Any
    ) -> _core.TensorStats:
        if not isinstance(name, str):
            msg = f"a tensor's name must be a str, not {type(name).__name__}"
            raise TypeError(msg)
        try:
            stats.observe(values, finite_only=self._on_nonfinite == "raise")
        except CalibrationError as error:
            msg = (
                f'Tensor "{name}" has {error}; on_nonfinite="ignore" would count them '
                "and leave them out."
            )
            raise CalibrationError(msg) from None
        except TypeError as error:
            msg = f'Tensor "{name}": {error}'
            raise TypeError(msg) from error
        return stats

    def _include(self, name: str, part: _core.TensorStats) -> None:
        with self._lock:
            stats = self._tensors.setdefault(name, part)
        if stats is not part:
            stats.merge(part)

    def __getitem__(self, name: str) -> Histogram:
        """Return a copy of a tensor's histogram.

        Raises
        ------
        KeyError
            If the name was never observed; the message lists names like it.
        """
        return self.stats(name).histogram

    def stats(self, name: str) -> _core.TensorStats:
        """Return a tensor's histogram with the number and extremes of its observations."""
        stats = self._tensors.get(name)
        if stats is None:
            raise KeyError(unknown_name(name, self._tensors))
        return stats

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
        return f"Calibrator({len(self)} tensors, {self.nbytes / 1024:.0f} KB)"

    def merge(self, other: Calibrator, /) -> None:
        """Add everything that another calibrator observed, exactly."""
        for name, stats in list(other._tensors.items()):
            self._include(name, stats.copy())

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
        }
        return _core.write_archive(json.dumps(settings), sorted(self._tensors.items()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibrator:
        """Read what `to_bytes` returned.

        Raises
        ------
        CalibrationError
            If the bytes are foreign, cut off, altered, or from a newer version.
        """
        text, tensors = _core.read_archive(data)
        try:
            calibrator = cls(**json.loads(text))
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
        format: str | QuantFormat = "int8",
        symmetric: bool | None = None,
        power_of_two: bool | None = None,
        **options: Any,
    ) -> CalibrationTable:
        """Choose range, scale and zero point of every tensor.

        Parameters
        ----------
        strategy
            A name ("minmax", "percentile_99.9", "kl", "mse", "entropy", "aciq", "hybrid"), a
            strategy object, or a mapping of name patterns to these, of which the first that
            matches decides; a `Policy`, the name of one ("llm_layers"), or the `Path` of a
            policy file.
        format
            A name such as "int8", "uint4" or "float8_e4m3fn", or a `QuantFormat`.
        symmetric, power_of_two
            Scaling, where it is not to be the format's: signed integers and floats are
            symmetric by default, unsigned integers affine; scales are any number.
        options
            Of the named strategy, for instance `percentile=99.9`.

        Raises
        ------
        CalibrationError
            If nothing was observed, a name, format or option is not known, or a tensor matches
            no rule.
        """
        if not self._tensors:
            msg = "The calibrator has observed nothing; call observe() first."
            raise CalibrationError(msg)
        format = QuantFormat.of(format, symmetric, power_of_two)
        policy = Policy.of(strategy, **options)
        tensors = list(self._tensors.items())
        assigned, unused = policy.assign(name for name, _ in tensors)
        rules = [assigned[name] for name, _ in tensors]

        def decide(
            item: tuple[tuple[str, _core.TensorStats], tuple[str, Strategy]],
        ) -> tuple[QuantParams, TensorReport]:
            (name, stats), (pattern, chosen) = item
            return _decide(name, stats, pattern, chosen, format)

        work = list(zip(tensors, rules, strict=True))
        if len(work) < _FEW:
            decided = [decide(item) for item in work]
        else:
            with ThreadPoolExecutor(_core.get_num_threads()) as pool:
                decided = list(pool.map(decide, work))
        names = [name for name, _ in tensors]
        return CalibrationTable(
            dict(zip(names, (params for params, _ in decided), strict=True)),
            dict(zip(names, (report for _, report in decided), strict=True)),
            unused_rules=unused,
        )


def _decide(
    name: str,
    stats: _core.TensorStats,
    pattern: str,
    strategy: Strategy,
    format: QuantFormat,
) -> tuple[QuantParams, TensorReport]:
    """Parameters and report of one tensor."""
    histogram = stats.histogram
    try:
        if isinstance(strategy, UsesObservations):
            low, high = strategy.range_of(stats, format)
        else:
            low, high = strategy.range(histogram, format)
        params = QuantParams.from_range(
            low, high, format=format, strategy=str(strategy)
        )
    except CalibrationError as error:
        msg = f'Tensor "{name}", strategy {strategy}: {error}'
        raise CalibrationError(msg) from error
    reason = (
        strategy.explain(histogram, format) if isinstance(strategy, Explains) else ""
    )
    return params, TensorReport.of(histogram, params, pattern, reason)


def load(path: str | Path) -> Calibrator:
    """Read a calibrator that `Calibrator.save` wrote.

    Raises
    ------
    CalibrationError
        If the file cannot be read, is something else, was cut off or altered, or is from a
        newer version; the message names it.
    """
    data = read_bytes(path)
    try:
        return Calibrator.from_bytes(data)
    except CalibrationError as error:
        msg = f"{path}: {error}"
        raise CalibrationError(msg) from error


def calibrate(
    values: Any,
    strategy: str | Strategy = "mse",
    *,
    format: str | QuantFormat = "int8",
    symmetric: bool | None = None,
    power_of_two: bool | None = None,
    **options: Any,
) -> QuantParams:
    """Return the parameters for one array.

    Parameters
    ----------
    values
        An array (any shape, float) or a `Histogram`.
    strategy, format, symmetric, power_of_two, options
        As in `Calibrator.compute`.

    Raises
    ------
    TypeError
        If the values are not floats.
    CalibrationError
        If a name, format or option is not known.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    >>> p = qc.calibrate(x, "percentile", percentile=99.99, format="uint8")
    >>> p.format, p.zero_point, p.strategy
    ('uint8', 128, 'percentile_99.99')
    """
    stats = _core.TensorStats()
    if isinstance(values, Histogram):
        stats = _core.TensorStats.from_histogram(values)
    else:
        stats.observe(values)
    format = QuantFormat.of(format, symmetric, power_of_two)
    pattern, chosen = Policy.of(strategy, **options).match("values")
    return _decide("values", stats, pattern, chosen, format)[0]
