"""The modules of a model by path: unwraps, selects and runs them uncompiled."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.strategies.patterns import Pattern

OBSERVED_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The types of modules that nearly every deployment quantizes."""

Patterns: TypeAlias = "str | Iterable[str] | None"


def unwrap(model: Any) -> nn.Module:
    """Return the model inside `torch.compile`, DataParallel and DistributedDataParallel.

    Raises
    ------
    TypeError
        If it is no module.
    CalibrationError
        If it is TorchScript, which calls submodules without hooks.
    """
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            msg = (
                "The model is TorchScript, which calls its submodules without hooks. Give "
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


def check_outside_blocks(modules: Iterable[nn.Module]) -> None:
    """Refuse a model inside a block of `observe` or `fake_quantize`.

    The block would record a change of the model, or undo it at its end.

    Raises
    ------
    CalibrationError
        If such a block is active; names it.
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


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Return each module once, by path. The path of the model itself is its class name.

    Raises
    ------
    CalibrationError
        If a module is TorchScript, which calls submodules without hooks.
    """
    # torch.compile wraps a compiled submodule in a module of this name.
    inner = "._orig_mod"
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            msg = (
                f'Module "{path}" is TorchScript, which calls its submodules without '
                "hooks. Use the module that it was made from."
            )
            raise CalibrationError(msg)
        if "_orig_mod" not in module._modules:
            found[path.replace(inner, "") or type(model).__name__] = module
    return found


def select_modules(
    modules: dict[str, nn.Module],
    include: Patterns,
    exclude: Patterns,
    types: tuple[type[nn.Module], ...],
) -> dict[str, nn.Module]:
    """Return the modules of the given types whose paths are included and not excluded.

    Raises
    ------
    TypeError
        If a pattern is no text.
    CalibrationError
        If a pattern matches no module, or no module remains.
    """
    wanted, unwanted = _patterns(include, "include"), _patterns(exclude, "exclude")
    for word, patterns in (("include", wanted), ("exclude", unwanted)):
        for pattern in patterns or ():
            if not any(pattern.matches(path) for path in modules):
                hint = did_you_mean(pattern.text, modules)
                msg = f'{word}="{pattern.text}" matches no module.{hint}'
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
            f"No module of the model is observed: of {len(modules)} modules, none is one of "
            f"{kinds}, included and not excluded. Give other modules= or include=."
        )
        raise CalibrationError(msg)
    return chosen


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with similar known names, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _patterns(patterns: Patterns, word: str) -> list[Pattern] | None:
    if patterns is None:
        return None
    whole = isinstance(patterns, str) or not isinstance(patterns, Iterable)
    texts: list[Any] = [patterns] if whole else list(patterns)
    for text in texts:
        if not isinstance(text, str):
            msg = f"{word} must be patterns of module paths, not {shown(text, 60)}"
            raise TypeError(msg)
    return [Pattern(text) for text in texts]


def is_compiled(model: Any) -> bool:
    """Whether `torch.compile` was applied to the model or a part of it."""
    return any(
        "_orig_mod" in module._modules
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextlib.contextmanager
def run_uncompiled(model: Any) -> Iterator[None]:
    """Run compiled modules uncompiled inside the block, since their graphs run no hooks.

    Raises
    ------
    CalibrationError
        If the model is compiled, and this torch cannot run it uncompiled.
    """
    if not (isinstance(model, nn.Module) and is_compiled(model)):
        yield
        return
    set_stance: Callable[[str], Any] | None = getattr(
        torch.compiler, "set_stance", None
    )
    if set_stance is None:
        msg = (
            "The model is compiled, and this torch cannot run it uncompiled (2.6 and later "
            "can). Give the original model."
        )
        raise CalibrationError(msg)
    with set_stance("force_eager"):
        yield
