"""Groups the calls of modules by the forward pass of the model that they belong to.

Hooks on the model itself mark where a forward pass begins and ends. The records of its
modules are handed over when the pass is complete, and dropped if it raised. Each thread has
separate passes, such as the replicas of DataParallel. A module that is called outside any
pass, such as `model.encoder(x)`, counts as a pass by itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass
class ForwardPass:
    """One forward pass that is running."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    """Number of calls of each module so far, by path."""
    records: list[Any] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class ForwardTracker:
    """Tracks the forward passes of a model.

    Parameters
    ----------
    model
        The model whose forward is tracked.
    on_complete
        Called with each pass that completed.
    on_begin
        Called with each pass when it begins.
    """

    def __init__(
        self,
        model: nn.Module,
        on_complete: Callable[[ForwardPass], None],
        on_begin: Callable[[ForwardPass], None] | None = None,
    ) -> None:
        self._model = model
        self._on_complete = on_complete
        self._on_begin = on_begin
        self._local = threading.local()

    def attach(self) -> list[Any]:
        """Register the hooks on the model, after all others, and return their handles."""
        return [
            self._model.register_forward_pre_hook(
                self._begin, with_kwargs=True, prepend=True
            ),
            self._model.register_forward_hook(self._complete),
            self._model.register_forward_hook(self._end, always_call=True),
        ]

    @property
    def _running(self) -> list[ForwardPass]:
        running: list[ForwardPass] | None = getattr(self._local, "running", None)
        if running is None:
            running = self._local.running = []
        return running

    def current(self) -> ForwardPass | None:
        """Return the innermost forward pass of this thread, if one is running."""
        running = self._running
        return running[-1] if running else None

    def record(self, path: str, call: int, record: Any) -> None:
        """Keep the record of a module's call until the forward pass is complete."""
        forward = self.current()
        if forward is None:
            calls = Counter({path: 1})
            self._on_complete(ForwardPass(calls=calls, records=[(path, 1, record)]))
        else:
            forward.records.append((path, call, record))

    def _begin(
        self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._running.append(ForwardPass(args, kwargs))
        if self._on_begin is not None:
            self._on_begin(self._running[-1])

    def _complete(self, *_: Any) -> None:
        forward = self.current()
        if forward is not None:
            self._on_complete(forward)
            forward.records = []

    def _end(self, *_: Any) -> None:
        if self._running:
            self._running.pop()
