"""Traces which module made the tensor that each linear layer reads.

A dispatch mode sees every operator that runs, also those between modules, and hooks say in
which module. The output of a source is traced through operators that move values or multiply
them by something else, since a factor per channel passes these unchanged. Any other operator
that reads it outside a linear layer is one whose result a factor would change.
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

from quantcal.torch.containers import find_tensors
from quantcal.torch.folding import foldable_parameters, scales_with_weight

_VIEWS = """
    view _unsafe_view reshape _reshape_alias expand permute transpose t unsqueeze squeeze alias
    detach contiguous as_strided unfold flatten unflatten movedim narrow
"""
_SELECTIONS = """
    slice select split split_with_sizes chunk unbind index index_select gather masked_select
"""
_SHAPES = """
    zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones
    new_empty new_full new_empty_strided sym_size sym_stride sym_numel is_same_size
"""
_COPIES = "clone _to_copy lift_fresh cat stack repeat roll flip"
# Operators that only move, copy, cast or select values.
_MOVING = frozenset((_VIEWS + _SELECTIONS + _COPIES).split())
# Operators that read the shape of a tensor, not its values.
_SHAPE_ONLY = frozenset(_SHAPES.split())
_SCALING = frozenset(("mul", "mul_", "div", "div_"))


class ReaderTrace:
    """The uses of the sources' outputs in one forward pass.

    Parameters
    ----------
    sources
        Paths of the modules whose outputs are traced.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = list(sources)
        self.called: list[str] = []
        """Paths of all modules, in the order of their first calls."""
        self.inputs: dict[str, list[tuple[frozenset[str], str]]] = {}
        """For each call of a linear layer, the sources and the origin of its input."""
        self.other_uses: dict[str, list[str]] = {source: [] for source in self.sources}
        """By source, the operators that read its output outside linear layers."""
        self.unscalable: dict[str, str] = {}
        """By source, why its weight does not scale its output."""
        self.used: set[int] = set()
        """Identities of the parameters that some operator read."""
        self.types: set[torch.dtype] = set()
        """Types of all computed tensors."""

    def readers(self, source: str) -> list[str]:
        """Return the linear layers that read a source's output, in order of their calls."""
        return [
            path
            for path, calls in self.inputs.items()
            if any(source in taints for taints, _ in calls)
        ]


class ReaderTracer(TorchDispatchMode):  # type: ignore[misc]
    """Traces the outputs of sources while a model runs.

    Parameters
    ----------
    modules
        The modules of the model, by path.
    sources
        Paths of the modules whose outputs are traced.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], sources: Iterable[str]
    ) -> None:
        super().__init__()
        self.trace = ReaderTrace(sources)
        self._modules = modules
        self._running: list[str] = []
        # Number of running linear layers that read a source.
        self._reading = 0
        self._paused = False
        self._tried: set[str] = set()
        self._taints = WeakTensorKeyDictionary()
        self._origins = WeakTensorKeyDictionary()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # With True torch imports its compiler, which takes some seconds, only to leave this
        # mode uncompiled. Nothing is compiled while a sample runs.
        return False

    @contextlib.contextmanager
    def attached(self) -> Iterator[ReaderTrace]:
        """Hook all modules and see all operators inside the block."""
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
            yield self.trace

    def note_outputs(self, output: Sequence[torch.Tensor]) -> None:
        """Note the sources whose outputs the model returns."""
        for tensor in output:
            for source in self._taints.get(tensor, ()):
                self._note_other_use(source, "the model returns it")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._paused:
            self._note_operator(func, [*args, *kwargs.values()], result)
        return result

    def _note_operator(self, func: Any, given: list[Any], result: Any) -> None:
        tensors, _ = find_tensors(given)
        self.trace.used.update(id(t) for t in tensors if isinstance(t, nn.Parameter))
        operator = func._schema.name.removeprefix("aten::")
        made, _ = find_tensors([result])
        self.trace.types.update(t.dtype for t in made)
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
            use = f'{operator} in "{where}"' if where else operator
            self._note_other_use(source, use)
        if passing:
            for tensor in made:
                self._taint(tensor, passing)

    def _passes(self, operator: str, given: list[Any], source: str, count: int) -> bool:
        """Whether an operator's result scales as the output of a source does."""
        if operator in _MOVING:
            return True
        if operator not in _SCALING or count > 1:
            return False
        first = given[0]
        return operator.startswith("mul") or source in self._taints.get(first, ())

    def _taint(self, tensor: torch.Tensor, sources: Iterable[str]) -> None:
        self._taints[tensor] = frozenset(self._taints.get(tensor, ())) | set(sources)

    def _note_other_use(self, source: str, use: str) -> None:
        known = self.trace.other_uses[source]
        if use not in known:
            known.append(use)

    def begin(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Note a module's call, and the sources that a linear layer reads."""
        if path not in self.trace.called:
            self.trace.called.append(path)
        self._running.append(path)
        if not isinstance(self._modules[path], nn.Linear):
            return
        tensors, _ = find_tensors([*args, *kwargs.values()])
        taints = frozenset(self._taints.get(tensors[0], ())) if tensors else frozenset()
        origin = self._origins.get(tensors[0]) if tensors else None
        made_by = origin[1] if origin else "an input of the model"
        self.trace.inputs.setdefault(path, []).append((taints, made_by))
        self._reading += bool(taints)

    def finish(self, path: str, args: Any, kwargs: Any, output: Any) -> None:
        """Start to trace a source's output, and note the origin of each tensor."""
        tensors, _ = find_tensors([output])
        for tensor in tensors:
            origin = self._origins.get(tensor)
            if origin is None or origin[0] == path:
                self._origins[tensor] = (path, f'the output of "{path}"')
        if path not in self.trace.other_uses:
            return
        if not isinstance(output, torch.Tensor):
            kind = type(output).__name__
            self.trace.unscalable[path] = f"returns {kind}, no tensor"
            return
        if path not in self._tried:
            self._tried.add(path)
            self._paused = True
            try:
                self._try_scaling(path, args, kwargs)
            finally:
                self._paused = False
        self._taint(output, {path})

    def end(self, path: str) -> None:
        """Note that a module's call has ended, also by an exception."""
        self._running.pop()
        calls = self.trace.inputs.get(path)
        if calls and isinstance(self._modules[path], nn.Linear) and calls[-1][0]:
            self._reading -= 1

    def _try_scaling(self, path: str, args: Any, kwargs: Any) -> None:
        module = self._modules[path]
        parameters = foldable_parameters(module)
        if parameters and not scales_with_weight(module, parameters, args, kwargs):
            self.trace.unscalable[path] = (
                f"({type(module).__name__}) does not scale its output as its weight is scaled"
            )


class _Hooks:
    """The hooks of one module, which know its path."""

    def __init__(self, tracer: ReaderTracer, path: str) -> None:
        self._tracer = tracer
        self._path = path

    def before(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self._tracer.begin(self._path, args, kwargs)

    def after(self, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._tracer.finish(self._path, args, kwargs, output)

    def end(self, *_: Any) -> None:
        self._tracer.end(self._path)
