"""The page itself: templates filled with plain data, in one text without links."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from quantcal._core import __version__
from quantcal._process import imports
from quantcal.report.page import sections, summary
from quantcal.report.page.next_steps import suggest_steps
from quantcal.report.page.sources import Sources
from quantcal.report.page.tensors import tensor_rows

SCRIPTS = (
    "base.js",
    "plot.js",
    "tensor_plots.js",
    "model_plots.js",
    "table.js",
    "main.js",
)
"""The parts of the page's program, in this order."""


def require() -> None:
    """Import jinja2, or say how to install it.

    Raises
    ------
    ImportError
        If it is missing or broken.
    """
    imports.require(("jinja2",), "The HTML report needs", "report", "jinja2")


def make_page(sources: Sources) -> str:
    """Return the page as text."""
    require()
    import jinja2

    rows = tensor_rows(sources)
    data = sections.model_sections(sources, rows)
    if rows:
        data["tensors"] = rows
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("quantcal.report.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template("page.html.j2").render(
        title=sources.title,
        version=__version__,
        covered=sections.counted(sources),
        tiles=summary.tiles(sources, rows),
        quantized=summary.quantized(sources, rows),
        costs=summary.costs(sources, rows),
        next_steps=suggest_steps(sources, rows),
        outputs=sections.output_rows(sources),
        metrics=sections.metric_rows(sources),
        advice=sections.advice_rows(sources.advice),
        notes=() if sources.advice is None else sources.advice.notes,
        config="" if sources.result is None else sources.result.config or "",
        has=frozenset(data),
        style=_asset("style.css"),
        script="\n".join(map(_asset, SCRIPTS)),
        data=embed(data),
    )
    return page


def embed(data: Any) -> str:
    """Return data as JSON that is safe inside a script element.

    No ``<``, ``>`` or ``&`` is left, so that no name can end the element.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _asset(name: str) -> str:
    return (files("quantcal.report.page") / "templates" / name).read_text("utf-8")
