"""A progress bar with samples per second and the remaining time.

It is shown when rich is installed and stderr is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(
    items: Iterable[T], *, total: int | None, show: bool, label: str = "Observing"
) -> Iterator[T]:
    """Yield ``items``, with a bar if ``show`` is true and stderr is a terminal."""
    if not show or not sys.stderr.isatty():
        yield from items
        return
    try:
        from rich import progress
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        yield from items
        return

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f} samples/s" if speed else "")

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(),
    )
    bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
    with bar:
        yield from bar.track(items, total=total, description=label)
