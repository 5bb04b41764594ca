"""A headless Chromium for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str:
    """Return the program; skips the test where there is none."""
    given = os.environ.get("QUANTCAL_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is found; QUANTCAL_CHROMIUM names one")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser; skips the test without Chromium or playwright."""
    program = find()
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as started:
        # Without a sandbox, as containers need it; the pages are our own.
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


class Opened:
    """A page that was opened from disk, with everything that it complained about."""

    def __init__(
        self, browser: Any, path: Path, anchor: str = "", **options: Any
    ) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.faults.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri() + anchor)
        self.page.wait_for_selector("html[data-ready]")

    def names(self) -> list[str]:
        """Return the tensors in the order that the table shows."""
        found: list[str] = self.page.locator(
            "#tensor-table tbody tr th"
        ).all_text_contents()
        return found

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        found: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found
