"""`Comparison`: the ranges and errors of every strategy, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, overload

from quantcal._core import CalibrationError, Histogram
from quantcal._text import plural
from quantcal.comparison.score import (
    FIGURES,
    HIGHER_IS_BETTER,
    LONE,
    Score,
    StrategySummary,
)
from quantcal.formats import QuantFormat
from quantcal.strategies.policy import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Sequence[Score]):
    """The range and error of every strategy, for one or many tensors.

    `quantcal.compare` returns it. A sequence of `Score`, tensor by tensor. Prints as a table:
    the strategies of one tensor, or a summary of the strategies over several tensors.
    `comparison["name"]` is the part of one tensor.

    Parameters
    ----------
    scores
        The result of each strategy for each tensor.
    format
        The format of the comparison; the most frequent one if there are several.
    histograms
        The values, by tensor; for pictures.
    formats
        Formats by tensor, where they differ from `format`.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    >>> comparison = qc.compare(x, "int4")
    >>> comparison.best().strategy
    'mse'
    >>> [score.strategy for score in comparison.sorted("mse")[:2]]
    ['mse', 'mse(newton)']
    >>> comparison["values"].best("divergence").params.format
    'int4'
    """

    scores: tuple[Score, ...]
    format: QuantFormat
    histograms: Mapping[str, Histogram]
    formats: Mapping[str, QuantFormat] = field(default_factory=dict)

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors, in the order of the rows."""
        return list(dict.fromkeys(row.tensor for row in self.scores))

    @property
    def strategies(self) -> list[str]:
        """Names of the strategies, in the order of the rows."""
        return list(dict.fromkeys(row.strategy for row in self.scores))

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __contains__(self, item: object) -> bool:
        """Whether it has this row, or a tensor of this name."""
        if isinstance(item, str):
            return any(row.tensor == item for row in self.scores)
        return isinstance(item, Score) and item in self.scores

    @overload
    def __getitem__(self, key: int) -> Score: ...
    @overload
    def __getitem__(self, key: slice | str) -> Comparison: ...
    def __getitem__(self, key: int | slice | str) -> Score | Comparison:
        """Return a row by number, rows by slice, or those of a tensor by name.

        Raises
        ------
        KeyError
            If there is no such tensor; the message lists similar names.
        """
        if isinstance(key, str):
            if key not in self.tensors:
                hint = ""
                if key in self.strategies:
                    hint = f' "{key}" is a strategy: give the name of a tensor.'
                raise KeyError(unknown_name(key, self.tensors) + hint)
            return self._of(row for row in self.scores if row.tensor == key)
        if isinstance(key, slice):
            return self._of(self.scores[key])
        return self.scores[key]

    def _of(self, rows: Any) -> Comparison:
        part = replace(self, scores=tuple(rows))
        found = part._formats()
        if len(found) != 1:
            return part
        return replace(part, format=found[0], formats={})

    def _formats(self) -> list[QuantFormat]:
        """Return the formats of the tensors that have rows."""
        return list(
            dict.fromkeys(self.formats.get(t, self.format) for t in self.tensors)
        )

    def sorted(
        self, by: str = "sqnr_db", *, descending: bool | None = None
    ) -> Comparison:
        """Return the rows in another order; those without the figure stay last.

        Parameters
        ----------
        by
            "sqnr_db", "cosine", "code_entropy", "mse", "clipped", "rounded_to_zero",
            "divergence", "seconds", "strategy" or "tensor".
        descending
            None puts the best first, and names in rising order.

        Raises
        ------
        CalibrationError
            If `by` is none of these.
        """
        check_key(by, (*FIGURES, "strategy", "tensor"))
        if descending is None:
            descending = by in HIGHER_IS_BETTER
        rows = [row for row in self.scores if row.has(by)]
        rows.sort(key=lambda row: getattr(row, by), reverse=descending)
        return self._of([*rows, *(row for row in self.scores if not row.has(by))])

    def best(self, by: str = "mse") -> Score:
        """Return the best row of one tensor, the first among equals.

        Parameters
        ----------
        by
            A figure, as for `sorted`.

        Raises
        ------
        CalibrationError
            If there are several tensors (`best_of_each` is for these), no strategy applies,
            or `by` is no figure.
        """
        if len(self.tensors) > 1:
            msg = (
                f"there are {len(self.tensors)} tensors; name one, comparison[name].best(), "
                "or take best_of_each()"
            )
            raise CalibrationError(msg)
        check_key(by, FIGURES)
        first = next(iter(self.sorted(by)), None)
        if first is None or first.params is None:
            raise CalibrationError("no strategy applies to this tensor; see its errors")
        if not first.has(by):
            raise CalibrationError(f"by channel there is no {by}; take another figure")
        return first

    def best_of_each(self, by: str = "mse") -> Comparison:
        """Return the best row of each tensor; raises as `best` does."""
        return self._of(self[name].best(by) for name in self.tensors)

    def summary(self) -> list[StrategySummary]:
        """Return the figures of each strategy over all tensors that have finite values."""
        rows = [row for row in self.scores if self.histograms[row.tensor].finite]
        minimum: dict[str, float] = {}
        for row in rows:
            if row.params is not None:
                minimum[row.tensor] = min(row.mse, minimum.get(row.tensor, math.inf))
        found = []
        for strategy in self.strategies:
            mine = [row for row in rows if row.strategy == strategy]
            ok = [row for row in mine if row.params is not None]
            worst = min(ok, key=lambda row: row.sqnr_db, default=None)
            found.append(
                StrategySummary(
                    strategy=strategy,
                    tensors=len(ok),
                    failed=len(mine) - len(ok),
                    median_sqnr_db=median(r.sqnr_db for r in ok) if ok else math.nan,
                    min_sqnr_db=worst.sqnr_db if worst else math.nan,
                    worst=worst.tensor if worst else "",
                    best=sum(row.mse == minimum[row.tensor] for row in ok),
                    seconds=sum(row.seconds for row in ok),
                )
            )
        return found

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict per row, for pandas or JSON.

        It holds range, scale, zero point and the figures. Figures that are not finite are None:
        the SQNR without error (`mse` is 0 then), and all figures of failed rows.
        """
        return [row.record() for row in self.scores]

    def to_pandas(self) -> pd.DataFrame:
        """Return `records` as a pandas data frame, with a row per tensor and strategy.

        Raises
        ------
        ImportError
            If pandas is missing; says how to install it.
        """
        from quantcal.report import records

        return records.frame(self.records(), None)

    def __str__(self) -> str:
        from quantcal.report import text

        return text.comparison(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.comparison(self)

    def plot(self, ax: Axes | None = None, strategy: str | None = None) -> Axes:
        """Draw one tensor and every strategy's range, or what strategies lose on many tensors.

        For one tensor, the upper part shows the density of the values (gray, logarithmic).
        Points show the quantized values of one strategy: the share on each level, divided by
        its width. The lower part has a line per strategy for its range, with its SQNR and the
        share that it clips. Exact zeros are a separate line from 1 % on. The axis of the values
        is linear, or logarithmic far from zero when there are outliers.

        For several tensors there is a table of colors: by how many decibels the SQNR of each
        strategy is below that of the best one. The tensors with the lowest SQNR come first; a
        figure shows at most 60. One more bit is worth 6 dB, the strongest color.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure with pyplot, which shows and closes it.
            Small axes show as many strategies and tensors as are legible.
        strategy
            The strategy whose quantized values are drawn; None for the minimum squared error.
            Of several tensors, the strategy that orders them; None for the best of each.

        Returns
        -------
        The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is missing; says how to install it.
        CalibrationError
            If the strategy is not among those compared, or applies to no tensor.
        """
        from quantcal.report.comparison import plot

        return plot(self, ax, strategy)

    @property
    def title(self) -> str:
        """The strategies, tensors and formats, in one line."""
        names = self.tensors
        head = plural(len(self.strategies), "strategy").replace(
            "strategys", "strategies"
        )
        if len(names) != 1:
            return f"{head} × {plural(len(names), 'tensor')}, {self.formats_text}"
        count = self.histograms[names[0]].finite
        name = "" if names[0] == LONE else f"{names[0]}: "
        return f"{name}{plural(count, 'value')}, {self.format}"

    @property
    def formats_text(self) -> str:
        """The formats of the comparison, in one line."""
        return " and ".join(map(str, self._formats() or [self.format]))


def check_key(by: str, allowed: Sequence[str]) -> None:
    """Refuse a figure that a comparison cannot be ordered by.

    Raises
    ------
    CalibrationError
        If it is none of the allowed names.
    """
    if by not in allowed:
        known = ", ".join(f'"{name}"' for name in allowed)
        raise CalibrationError(f"by is {by!r}, but it must be one of {known}")
