"""A progress bar of runs, whose number is not known beforehand.

It is shown when rich is installed and stderr is a terminal.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def count_runs(label: str, *, show: bool) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each run, with a bar if `show` is true."""
    if not show or not sys.stderr.isatty():
        yield lambda: None
        return
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        yield lambda: None
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:.0f} runs"),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(
        *columns, console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda: bar.advance(task)
