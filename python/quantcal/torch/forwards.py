"""Which forward of the model a module's call belongs to.

A forward begins and ends with hooks on the model itself. What its modules did is handed
over when it is complete, and dropped if it raised. Forwards of several threads (the replicas
of DataParallel) are kept apart. A module that is called outside any forward, such as
`model.encoder(x)`, is a forward of its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass
class Forward:
    """One forward that is running."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    """How often each module was called so far, by path."""
    records: list[Any] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class Forwards:
    """Follows the forwards of a model; `done` gets every one that completed.

    `begun` gets each when it begins.
    """

    def __init__(
        self,
        model: nn.Module,
        done: Callable[[Forward], None],
        begun: Callable[[Forward], None] | None = None,
    ) -> None:
        self._model = model
        self._done = done
        self._begun = begun
        self._local = threading.local()

    def attach(self) -> list[Any]:
        """Register the hooks on the model, after all others; return their handles."""
        return [
            self._model.register_forward_pre_hook(
                self._begin, with_kwargs=True, prepend=True
            ),
            self._model.register_forward_hook(self._complete),
            self._model.register_forward_hook(self._end, always_call=True),
        ]

    @property
    def _running(self) -> list[Forward]:
        running: list[Forward] | None = getattr(self._local, "running", None)
        if running is None:
            running = self._local.running = []
        return running

    def current(self) -> Forward | None:
        """Return the innermost forward of this thread, if one is running."""
        running = self._running
        return running[-1] if running else None

    def record(self, path: str, call: int, record: Any) -> None:
        """Keep what was seen of a module's call until the forward is complete."""
        forward = self.current()
        if forward is None:
            self._done(Forward(calls=Counter({path: 1}), records=[(path, 1, record)]))
        else:
            forward.records.append((path, call, record))

    def _begin(
        self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._running.append(Forward(args, kwargs))
        if self._begun is not None:
            self._begun(self._running[-1])

    def _complete(self, *_: Any) -> None:
        forward = self.current()
        if forward is not None:
            self._done(forward)
            forward.records = []

    def _end(self, *_: Any) -> None:
        if self._running:
            self._running.pop()
