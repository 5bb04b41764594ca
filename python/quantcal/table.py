"""`CalibrationTable`: the parameters of all tensors, and why they are what they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal import _core
from quantcal._files import read_bytes, write_bytes
from quantcal._text import plural
from quantcal.params import QuantParams
from quantcal.strategies.policy import unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND = "quantcal calibration table"
_VERSION = 2
"""The newest version that is read. Tables by channel need it; all others are written as 1."""


@dataclass(frozen=True)
class TensorReport:
    """What was seen of one tensor, and what its parameters do to it.

    Shares are of the finite values. Of a tensor by channel it tells all channels together, each
    through the grid of its own.

    Parameters
    ----------
    count
        Elements observed, non-finite ones included.
    minimum, maximum
        Finite extremes, exactly; None without finite values.
    zeros, nan, posinf, neginf
        How many elements were these.
    clipped
        Share of the values that saturation moves further than rounding would: those more than
        half a step beyond the lowest or the highest code.
    rounded_to_zero
        Share of the values that round to zero, exact zeros included: |x| <= scale / 2.
    mse
        Expected squared error of a value.
    sqnr_db
        Signal to quantisation noise, in decibels; infinite without error.
    cosine
        Cosine of the angle between the values and what becomes of them: 1 without error.
    rule
        The pattern of the policy that decided.
    reason
        What the strategy says of its choice, such as the distribution that fits; may be empty,
        and is by channel.
    """

    count: int
    minimum: float | None
    maximum: float | None
    zeros: int
    nan: int
    posinf: int
    neginf: int
    clipped: float
    rounded_to_zero: float
    mse: float
    sqnr_db: float
    cosine: float
    rule: str
    reason: str = ""

    @classmethod
    def of(
        cls,
        seen: _core.Histogram | _core.ChannelStats,
        params: QuantParams,
        rule: str,
        reason: str = "",
    ) -> TensorReport:
        """Score parameters against what was observed, as a whole or by channel."""
        grid: Any = (params.format, params.scale, params.zero_point)
        if isinstance(seen, _core.ChannelStats):
            histogram, score = seen.histogram, _core.channel_grid_error(seen, *grid)
        else:
            histogram, score = seen, _core.grid_error(seen, *grid)
        mse, sqnr_db, clipped, rounded_to_zero, cosine = score
        return cls(
            count=histogram.count,
            minimum=histogram.min,
            maximum=histogram.max,
            zeros=histogram.zeros,
            nan=histogram.nan,
            posinf=histogram.posinf,
            neginf=histogram.neginf,
            clipped=clipped,
            rounded_to_zero=rounded_to_zero,
            mse=mse,
            sqnr_db=sqnr_db,
            cosine=cosine,
            rule=rule,
            reason=reason,
        )


class CalibrationTable(Mapping[str, QuantParams]):
    """Tensor name to `QuantParams`, with a `TensorReport` for each in `report`.

    Immutable; equal when all parameters are.

    Parameters
    ----------
    params
        Parameters by tensor name.
    report
        Reports by tensor name; may lack tensors whose data were never seen.
    unused_rules
        Patterns of the policy's rules that decided for no tensor.
    """

    __slots__ = ("_params", "_report", "_unused_rules")

    def __init__(
        self,
        params: Mapping[str, QuantParams],
        report: Mapping[str, TensorReport] | None = None,
        *,
        unused_rules: Iterable[str] = (),
    ) -> None:
        self._params = dict(params)
        self._report = dict(report or {})
        self._unused_rules = tuple(unused_rules)

    @property
    def report(self) -> Mapping[str, TensorReport]:
        """What was seen of each tensor, and what its parameters do to it."""
        return dict(self._report)

    @property
    def unused_rules(self) -> tuple[str, ...]:
        """Patterns of rules that decided for no tensor: they match none, or an earlier rule
        matches all of theirs. "*" is never among them. A rule here is often a mistyped one.
        """
        return self._unused_rules

    def __getitem__(self, name: str) -> QuantParams:
        """Return a tensor's parameters.

        Raises
        ------
        KeyError
            If the table has no such tensor; the message lists names like it.
        """
        if name not in self._params:
            raise KeyError(unknown_name(name, self._params))
        return self._params[name]

    def __contains__(self, name: object) -> bool:
        return name in self._params

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CalibrationTable):
            return NotImplemented
        return self._params == other._params

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"CalibrationTable({plural(len(self), 'tensor')})"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the range of every tensor beside the extremes that were seen of it.

        A bar a tensor, from the low to the high end of its range; a thin line reaches over what
        was seen, and its ends are coloured where they lie outside the range. The axis is
        logarithmic far from zero when ranges differ much. By channel, the bar reaches over the
        ranges of all channels. Names are cut inside to 44
        characters.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure with pyplot, high enough for all names.

        Returns
        -------
        matplotlib.axes.Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is missing; says how to install it.
        """
        from quantcal.report.table import plot

        return plot(self, ax)

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, atomically. Numbers are kept to the last bit."""
        tensors = {
            name: {
                **params.to_dict(),
                "report": _finite(asdict(self._report[name]))
                if name in self._report
                else None,
            }
            for name, params in self._params.items()
        }
        content = {
            "kind": KIND,
            "version": 1 if all(p.axis is None for p in self._params.values()) else 2,
            "unused_rules": self._unused_rules,
            "tensors": tensors,
        }
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        write_bytes(path, f"{text}\n".encode())

    @classmethod
    def load(cls, path: str | Path) -> CalibrationTable:
        """Read what `save` wrote.

        Raises
        ------
        CalibrationError
            If the file cannot be read, is something else, or is from a newer version; the
            message names it.
        """
        data = read_bytes(path)
        try:
            return cls._parse(json.loads(data.decode()))
        except UnicodeDecodeError as error:
            msg = f"{path} is not a calibration table: it is no text"
            if data.startswith(b"QCAL"):
                msg = f"{path} holds histograms, not a table; quantcal.load reads it"
            raise _core.CalibrationError(msg) from error
        except _core.CalibrationError as error:
            msg = f"{path}: {error}"
            raise _core.CalibrationError(msg) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"{path} is not a calibration table: {error!r}"
            raise _core.CalibrationError(msg) from error

    @classmethod
    def _parse(cls, content: Any) -> CalibrationTable:
        if not isinstance(content, dict) or content.get("kind") != KIND:
            msg = "not a calibration table that quantcal wrote"
            raise _core.CalibrationError(msg)
        if content["version"] > _VERSION:
            found = content["version"]
            msg = f"table version {found} is newer than {_VERSION}; upgrade quantcal"
            raise _core.CalibrationError(msg)
        params: dict[str, QuantParams] = {}
        report: dict[str, TensorReport] = {}
        for name, fields in content["tensors"].items():
            seen = fields.pop("report")
            try:
                params[name] = QuantParams(**fields)
            except _core.CalibrationError as error:
                msg = f'tensor "{name}": {error}'
                raise _core.CalibrationError(msg) from None
            if seen is not None:
                sqnr_db = seen.pop("sqnr_db")
                infinite = sqnr_db is None
                report[name] = TensorReport(
                    **seen, sqnr_db=math.inf if infinite else sqnr_db
                )
        unused = content.get("unused_rules", [])
        if not (isinstance(unused, list) and all(isinstance(p, str) for p in unused)):
            msg = f"unused_rules is {unused!r}, but it must be a list of patterns"
            raise _core.CalibrationError(msg)
        return cls(params, report, unused_rules=unused)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity; an SQNR without error is written as null."""
    if math.isinf(fields["sqnr_db"]):
        fields["sqnr_db"] = None
    return fields
