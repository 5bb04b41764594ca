"""The hook of mkdocs: pages from outside docs/, links to them, formulas as MathML."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

sys.path.append(str(Path(__file__).parents[1]))

from pages.api import complete_page
from pages.navigation import complete
from pages.outside import OUTSIDE, read_page, rewrite_links

_ROOT = Path(__file__).parents[2]
_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}


def on_config(config: Any) -> Any:
    """Let the navigation have every page."""
    complete(config["nav"], Path(config["docs_dir"]))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand outside docs/."""
    for source, page in OUTSIDE.items():
        text = read_page(_ROOT / source)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to the pages of the site; list every public name."""
    path = page.file.src_uri
    markdown = complete_page(markdown, path, _ROOT)
    sources = {target: source for source, target in OUTSIDE.items()}
    origin = sources.get(path) or posixpath.join("docs", path)
    return rewrite_links(markdown, origin, path)


def on_page_content(html: str, **_: Any) -> str:
    """Render formulas as MathML, which browsers show without a script."""
    return _FORMULA.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    latex = found[2]
    for entity, character in _ENTITIES.items():
        latex = latex.replace(entity, character)
    display = "block" if found[1] == "div" else "inline"
    math = latex2mathml.converter.convert(latex.strip(), display=display)
    return f'<div class="formula">{math}</div>' if display == "block" else math
