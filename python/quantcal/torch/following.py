"""Follows tensors through a forward: which module made what each linear layer reads.

A dispatch mode sees every operator that runs, also those between modules, and hooks say in
which module. The output of a source is followed through operators that move values or
multiply them by something else, since a factor for each channel passes these. Any other
operator that reads it outside a linear layer is one that a factor would disturb.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from quantcal.torch.folding import foldable, scales_with_weight
from quantcal.torch.nested import tensors_of

MOVING = """
    view _unsafe_view reshape _reshape_alias expand permute transpose t slice select unsqueeze
    squeeze alias detach clone _to_copy contiguous split split_with_sizes chunk unbind index
    index_select gather cat stack repeat as_strided unfold flatten unflatten movedim narrow
    roll flip masked_select lift_fresh
"""
"""Operators that only move, copy, cast or choose values."""

SHAPE_ONLY = """
    zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones
    new_empty new_full new_empty_strided sym_size sym_stride sym_numel is_same_size
"""
"""Operators that look at the shape of a tensor, not at its values."""

_MOVING, _SHAPE_ONLY = frozenset(MOVING.split()), frozenset(SHAPE_ONLY.split())
_SCALING = frozenset(("mul", "mul_", "div", "div_"))


class Followed:
    """What a forward showed of the sources.

    Parameters
    ----------
    sources
        Paths of the modules whose outputs are followed.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = list(sources)
        self.called: list[str] = []
        """Paths of all modules, in the order of their first calls."""
        self.inputs: dict[str, list[tuple[frozenset[str], str]]] = {}
        """Of each call of a linear layer: the sources of its input, and what made it."""
        self.disturbed: dict[str, list[str]] = {source: [] for source in self.sources}
        """What else reads a source's output."""
        self.unscaled: dict[str, str] = {}
        """Why a source's output cannot be scaled by its weight."""
        self.used: set[int] = set()
        """Identities of the parameters that some operator read."""
        self.types: set[torch.dtype] = set()
        """Types of all that was computed."""

    def readers(self, source: str) -> list[str]:
        """Return the linear layers that read a source's output, in order of their calls."""
        return [
            path
            for path, calls in self.inputs.items()
            if any(source in taints for taints, _ in calls)
        ]


class Following(TorchDispatchMode):  # type: ignore[misc]
    """Follows the outputs of sources while a model runs."""

    def __init__(
        self, modules: Mapping[str, nn.Module], sources: Iterable[str]
    ) -> None:
        super().__init__()
        self.found = Followed(sources)
        self._modules = modules
        self._running: list[str] = []
        self._reading = 0  # how many linear layers that read a source are running
        self._paused = False
        self._tried: set[str] = set()
        self._taints = WeakTensorKeyDictionary()
        self._origins = WeakTensorKeyDictionary()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler, some seconds, to leave this mode uncompiled. Nothing
        # is compiled while a sample runs.
        return False

    @contextlib.contextmanager
    def attached(self) -> Iterator[Followed]:
        """Hook all modules, and see all operators meanwhile."""
        with contextlib.ExitStack() as stack:
            for path, module in self._modules.items():
                hooks = _Hooks(self, path)
                for handle in (
                    module.register_forward_pre_hook(hooks.before, with_kwargs=True),
                    module.register_forward_hook(hooks.after, with_kwargs=True),
                    module.register_forward_hook(hooks.end, always_call=True),
                ):
                    stack.callback(handle.remove)
            stack.enter_context(self)
            yield self.found

    def leaves(self, output: Sequence[torch.Tensor]) -> None:
        """Note what leaves the model."""
        for tensor in output:
            for source in self._taints.get(tensor, ()):
                self._disturb(source, "the model returns it")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._paused:
            self._note(func, [*args, *kwargs.values()], result)
        return result

    def _note(self, func: Any, given: list[Any], result: Any) -> None:
        tensors, _ = tensors_of(given)
        self.found.used.update(id(t) for t in tensors if isinstance(t, nn.Parameter))
        operator = func._schema.name.removeprefix("aten::")
        made, _ = tensors_of([result])
        self.found.types.update(t.dtype for t in made)
        moving = operator in _MOVING and bool(tensors)
        where = self._running[-1] if self._running else ""
        origin = self._origins.get(tensors[0]) if moving else None
        for tensor in made if where else ():
            self._origins[tensor] = origin or (where, f'{operator} in "{where}"')
        if operator in _SHAPE_ONLY or self._reading:
            return
        taints: Counter[str] = Counter()
        for tensor in tensors:
            taints.update(self._taints.get(tensor, ()))
        passing = {s for s, n in taints.items() if self._passes(operator, given, s, n)}
        for source in taints.keys() - passing:
            self._disturb(source, f'{operator} in "{where}"' if where else operator)
        if passing:
            for tensor in made:
                self._taint(tensor, passing)

    def _passes(self, operator: str, given: list[Any], source: str, count: int) -> bool:
        """Whether what an operator gives scales as the output of a source does."""
        if operator in _MOVING:
            return True
        if operator not in _SCALING or count > 1:
            return False
        first = given[0]
        return operator.startswith("mul") or source in self._taints.get(first, ())

    def _taint(self, tensor: torch.Tensor, sources: Iterable[str]) -> None:
        self._taints[tensor] = frozenset(self._taints.get(tensor, ())) | set(sources)

    def _disturb(self, source: str, told: str) -> None:
        known = self.found.disturbed[source]
        if told not in known:
            known.append(told)

    def begin(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Note a module's call, and what a linear layer reads."""
        if path not in self.found.called:
            self.found.called.append(path)
        self._running.append(path)
        if not isinstance(self._modules[path], nn.Linear):
            return
        tensors, _ = tensors_of([*args, *kwargs.values()])
        taints = frozenset(self._taints.get(tensors[0], ())) if tensors else frozenset()
        origin = self._origins.get(tensors[0]) if tensors else None
        made_by = origin[1] if origin else "an input of the model"
        self.found.inputs.setdefault(path, []).append((taints, made_by))
        self._reading += bool(taints)

    def finish(self, path: str, args: Any, kwargs: Any, output: Any) -> None:
        """Begin to follow a source's output; note which module made a tensor."""
        tensors, _ = tensors_of([output])
        for tensor in tensors:
            origin = self._origins.get(tensor)
            if origin is None or origin[0] == path:
                self._origins[tensor] = (path, f'the output of "{path}"')
        if path not in self.found.disturbed:
            return
        if not isinstance(output, torch.Tensor):
            self.found.unscaled[path] = f"returns {type(output).__name__}, no tensor"
            return
        if path not in self._tried:
            self._tried.add(path)
            self._paused = True
            try:
                self._try(path, args, kwargs)
            finally:
                self._paused = False
        self._taint(output, {path})

    def end(self, path: str) -> None:
        """Note that a module's call is over, also by an exception."""
        self._running.pop()
        calls = self.found.inputs.get(path)
        if calls and isinstance(self._modules[path], nn.Linear) and calls[-1][0]:
            self._reading -= 1

    def _try(self, path: str, args: Any, kwargs: Any) -> None:
        module = self._modules[path]
        parameters = foldable(module)
        if parameters and not scales_with_weight(module, parameters, args, kwargs):
            self.found.unscaled[path] = (
                f"({type(module).__name__}) does not scale its output as its weight is scaled"
            )


class _Hooks:
    """The hooks of one module, which know its path."""

    def __init__(self, following: Following, path: str) -> None:
        self._following = following
        self._path = path

    def before(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self._following.begin(self._path, args, kwargs)

    def after(self, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._following.finish(self._path, args, kwargs, output)

    def end(self, *_: Any) -> None:
        self._following.end(self._path)
