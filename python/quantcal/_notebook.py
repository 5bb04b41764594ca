"""A base of result types: notebooks show their fields as a table."""

from __future__ import annotations


class Shown:
    """Adds the view of a dataclass in notebooks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from quantcal.report import fields_html

        return fields_html.of(self)
