"""The modules of a model by path: unwrapping, choosing, and running them as written."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.strategies.patterns import Pattern

MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The types that are quantised nearly everywhere."""

Patterns: TypeAlias = "str | Iterable[str] | None"


def unwrap(model: Any) -> nn.Module:
    """Return the model inside `torch.compile`, DataParallel and DistributedDataParallel.

    Raises
    ------
    TypeError
        If it is no module.
    CalibrationError
        If it is TorchScript, whose calls of submodules run no hooks.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            msg = (
                "The model is TorchScript, which calls its submodules without hooks; give "
                "the module that it was made from."
            )
            raise CalibrationError(msg)
        if isinstance(model, wrappers):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:
            model = model._modules["_orig_mod"]
        elif isinstance(model, nn.Module):
            return model
        else:
            msg = f"the model must be a torch.nn.Module, not {type(model).__name__}"
            raise TypeError(msg)


def check_free(modules: Iterable[nn.Module]) -> None:
    """Refuse a model inside a block of `observe` or `fake_quantize`.

    What is changed there would be recorded, or undone when the block ends.
    """
    for module in modules:
        hooks = (
            getattr(h, "__self__", None) for h in module._forward_pre_hooks.values()
        )
        blocks = [getattr(hook, "block", None) for hook in hooks]
        blocks += [getattr(p, "block", None) for p in module._parameters.values()]
        for block in blocks:
            if block in ("observe", "fake_quantize"):
                msg = f"The model is inside a block of quantcal.torch.{block}; end it first."
                raise CalibrationError(msg)


def paths(model: nn.Module) -> dict[str, nn.Module]:
    """Return all modules by path, each once; the model itself goes by its class's name."""
    inner = "._orig_mod"  # of submodules that were compiled by themselves
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            msg = (
                f'Module "{path}" is TorchScript, which calls its submodules without '
                "hooks; use the module that it was made from."
            )
            raise CalibrationError(msg)
        if "_orig_mod" not in module._modules:
            found[path.replace(inner, "") or type(model).__name__] = module
    return found


def choose(
    modules: dict[str, nn.Module],
    include: Patterns,
    exclude: Patterns,
    types: tuple[type[nn.Module], ...],
) -> dict[str, nn.Module]:
    """Return the modules of the given types whose paths are included and not excluded.

    Raises
    ------
    CalibrationError
        If a pattern matches no module, or nothing is left.
    """
    wanted, unwanted = _patterns(include, "include"), _patterns(exclude, "exclude")
    for word, patterns in (("include", wanted), ("exclude", unwanted)):
        for pattern in patterns or ():
            if not any(pattern.matches(path) for path in modules):
                msg = f'{word}="{pattern.text}" matches no module.{near(pattern.text, modules)}'
                raise CalibrationError(msg)
    chosen = {
        path: module
        for path, module in modules.items()
        if isinstance(module, types)
        and (wanted is None or any(p.matches(path) for p in wanted))
        and not any(p.matches(path) for p in unwanted or ())
    }
    if not chosen:
        kinds = ", ".join(kind.__name__ for kind in types)
        msg = (
            f"No module of the model is to be observed: of {len(modules)} none is one of "
            f"{kinds} and included and not excluded. Give other modules= or include=."
        )
        raise CalibrationError(msg)
    return chosen


def near(name: str, known: Iterable[str]) -> str:
    """Return a sentence with known names like this one; nothing if there are none."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _patterns(patterns: Patterns, word: str) -> list[Pattern] | None:
    if patterns is None:
        return None
    texts = [patterns] if isinstance(patterns, str) else list(patterns)
    for text in texts:
        if not isinstance(text, str):
            msg = f"{word} must be patterns of module paths, not {text!r:.60}"
            raise TypeError(msg)
    return [Pattern(text) for text in texts]


def is_compiled(model: Any) -> bool:
    """Whether the model or a part of it goes through `torch.compile`."""
    return any(
        "_orig_mod" in module._modules
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextlib.contextmanager
def as_written(model: Any) -> Iterator[None]:
    """Let compiled modules run uncompiled meanwhile: their graphs know nothing of hooks."""
    if not (isinstance(model, nn.Module) and is_compiled(model)):
        yield
        return
    set_stance: Callable[[str], Any] | None = getattr(
        torch.compiler, "set_stance", None
    )
    if set_stance is None:
        msg = (
            "The model is compiled, and this torch cannot run it uncompiled (2.6 and later "
            "can); give the model that was compiled."
        )
        raise CalibrationError(msg)
    with set_stance("force_eager"):
        yield
