"""The site builds without warnings and network, and all its links and anchors hold."""

from __future__ import annotations

import importlib.util
import json
import os
import posixpath
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import quantcal as qc
from paths import ROOT

NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed")

# mkdocs, in a process whose sockets refuse to connect.
BUILD = """
import socket, sys
def refuse(*_): raise OSError("the site is built without the network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
from mkdocs.__main__ import cli
cli(["build", "--quiet", "--strict", "--site-dir", sys.argv[1]])
"""
# What a browser loads by itself, and what a reader follows.
LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src")}
LOADED |= {("video", "src"), ("object", "data"), ("embed", "src")}
RELATIONS = {"stylesheet", "icon", "preconnect", "preload", "prefetch", "modulepreload"}


class Page(HTMLParser):
    """The anchors, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loaded += [
            given[name] for at, name in LOADED if at == tag and name in given
        ]
        if tag == "link" and RELATIONS & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(target)],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return target


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {
        path.relative_to(site).as_posix(): Page(path.read_text("utf-8"))
        for path in site.rglob("*.html")
    }
    assert len(found) > 60
    return found


def resolve(page: str, link: str) -> tuple[str, str]:
    """Return path from the root and anchor of a link on a page."""
    parts = urlsplit(link)
    path = unquote(parts.path)
    if not path:
        return page, unquote(parts.fragment)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    return target, unquote(parts.fragment)


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def test_every_link_and_anchor_of_the_site_holds(
    site: Path, pages: dict[str, Page]
) -> None:
    broken = []
    for name, page in pages.items():
        if name == "404.html":
            continue  # its links start at the root of a server
        for link in page.links:
            if is_elsewhere(link):
                continue
            path, anchor = resolve(name, link)
            exists = (site / path).is_file()
            known = not anchor or path not in pages or anchor in pages[path].anchors
            # The theme's link to the top of a page has an anchor that browsers know.
            if not exists or not (known or anchor == "__tabbed"):
                broken.append((name, link))
    assert not broken


def test_no_page_loads_anything_from_elsewhere(
    site: Path, pages: dict[str, Page]
) -> None:
    elsewhere, missing = [], []
    for name, page in pages.items():
        for link in page.loaded:
            if link.startswith("data:"):
                continue
            if is_elsewhere(link):
                elsewhere.append((name, link))
            elif name != "404.html" and not (site / resolve(name, link)[0]).is_file():
                missing.append((name, link))
    assert not elsewhere
    assert not missing
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//", styles)
    assert "@import" not in styles


def test_a_formula_is_markup_and_needs_no_script(site: Path) -> None:
    text = (site / "reference" / "strategies.html").read_text("utf-8")
    formulas = re.findall(r'<math [^>]*display="block".*?</math>', text, re.DOTALL)
    assert len(formulas) >= 8
    assert "arithmatex" not in text
    # What the converter does not know stays as LaTeX.
    assert not [formula for formula in formulas if "\\" in formula]


def test_the_search_knows_the_pages_without_a_server(site: Path) -> None:
    text = (site / "search" / "search_index.js").read_text("utf-8")
    index = json.loads(text.partition("=")[2])
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"start/onnx.html", "migration/quantize-static.html"} <= places


def test_everything_public_is_in_the_reference(pages: dict[str, Page]) -> None:
    anchors: set[str] = set()
    for name, page in pages.items():
        if name.startswith("reference/api/"):
            anchors |= page.anchors
    public = [f"quantcal.{name}" for name in qc.__all__]
    public += [f"quantcal.onnx.{name}" for name in qc.onnx.__all__]
    # The names of torch's part, without importing torch.
    source = (ROOT / "python/quantcal/torch/__init__.py").read_text("utf-8")
    listed = re.findall(r'^    "(\w+)",$', source, re.MULTILINE)
    assert len(listed) >= 9
    public += [f"quantcal.torch.{name}" for name in listed]
    assert [name for name in public if name not in anchors] == []


def test_links_are_found_and_resolved() -> None:
    page = Page('<h1 id="a"></h1><a href="../b.html#c">x</a><img src="//x.org/y.png">')
    assert (page.anchors, page.links, page.loaded) == (
        {"a"},
        ["../b.html#c"],
        ["//x.org/y.png"],
    )
    assert resolve("guide/a.html", "../b.html#c") == ("b.html", "c")
    assert resolve("guide/a.html", "#d") == ("guide/a.html", "d")
    assert is_elsewhere("//x.org/y.png")
