"""`CalibrationTable`: the parameters of all tensors, with a report on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import wrapped
from quantcal._io.files import read_bytes, write_text
from quantcal._names import check_name
from quantcal._table_file import LARGEST, parse, text_of
from quantcal._text import plural
from quantcal.params import QuantParams
from quantcal.strategies.policy import unknown_name
from quantcal.tensor_report import TensorReport

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from quantcal.report.table import TableOrder


class CalibrationTable(Mapping[str, QuantParams]):
    """Tensor name to `QuantParams`, with a `TensorReport` for each in `report`.

    Immutable; equal when all parameters are.

    Parameters
    ----------
    params
        Parameters by tensor name.
    report
        Reports by tensor name; may lack tensors.
    unused_rules
        Patterns of the policy's rules that apply to no tensor.

    Raises
    ------
    TypeError
        If a name is not a str, or its value is not a `QuantParams`.
    CalibrationError
        If a name holds half a surrogate pair, which no file can hold.
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
        for name, each in self._params.items():
            check_name(name)
            if not isinstance(each, QuantParams):
                kind = type(each).__name__
                msg = f'Tensor "{name}": parameters must be QuantParams, not {kind}'
                raise TypeError(msg)
        self._report = dict(report or {})
        self._unused_rules = tuple(unused_rules)

    @property
    def report(self) -> Mapping[str, TensorReport]:
        """What was observed of each tensor, and the errors of its parameters."""
        return dict(self._report)

    @property
    def unused_rules(self) -> tuple[str, ...]:
        """Patterns of rules that apply to no tensor; often mistyped ones.

        They match no tensor, or an earlier rule matches all of theirs. "*" is never listed.
        """
        return self._unused_rules

    def __getitem__(self, name: str) -> QuantParams:
        """Return a tensor's parameters.

        Raises
        ------
        KeyError
            If the table has no such tensor; the message lists similar names.
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

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.calibration_table(self)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict per tensor, for pandas or JSON.

        It holds the parameters and the report of the tensor. By channel, range, scale and
        zero point are lists. Figures that are not finite or not known are None.
        """
        from quantcal.report import records

        return records.of_table(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return `records` as a pandas data frame, with the names as index.

        Raises
        ------
        ImportError
            If pandas is missing; says how to install it.
        """
        from quantcal.report import records

        return records.frame(self.records(), "tensor")

    def plot(self, ax: Axes | None = None, *, order: TableOrder = "error") -> Axes:
        """Draw the range of every tensor and the extremes that were observed.

        Each tensor has a bar for its range, a thin line for the observed values, and its SQNR.
        Ends of the line are colored if they lie outside the range. By channel, there is a bar
        for each channel, or for every n-th of more than 32. The axis is logarithmic far from
        zero when ranges differ much. Long names are shortened to 44 characters.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure with pyplot, high enough for all names.
            Given axes show as many tensors as have room.
        order
            "error", the default, puts the lowest SQNR first, as these tensors lose most.
            "table" keeps the order of the table.

        Returns
        -------
        The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is missing; says how to install it.
        CalibrationError
            If the order is not known.
        """
        from quantcal.report.table import plot

        return plot(self, ax, order=order)

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, atomically. Numbers are kept to the last bit.

        Raises
        ------
        CalibrationError
            If the file cannot be written.
        """
        write_text(path, text_of(self._params, self._report, self._unused_rules))

    @classmethod
    def load(cls, path: str | Path) -> CalibrationTable:
        """Read what `save` wrote.

        Raises
        ------
        CalibrationError
            If the file cannot be read, is something else, or is from a newer version; the
            message names it and the tensor.
        """
        data = read_bytes(path, LARGEST)
        try:
            params, report, unused = parse(data.decode())
            return cls(params, report, unused_rules=unused)
        except UnicodeDecodeError as error:
            kind = wrapped(data)
            msg = f"{path} is not a calibration table: it is not text"
            if kind is not None:
                msg = f"{path} is {kind.what}. {kind.remedy}"
            if data.startswith(b"QCAL"):
                msg = f"{path} holds histograms, not a table; quantcal.load reads it"
            raise CalibrationError(msg) from error
        except CalibrationError as error:
            kind = wrapped(data)
            msg = f"{path}: {error}"
            if kind is not None:
                msg = f"{path} is {kind.what}. {kind.remedy}"
            raise CalibrationError(msg) from error
