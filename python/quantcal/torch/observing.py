"""Observing a model: forward hooks that record the named modules' tensors."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.torch.forwards import Forward, Forwards
from quantcal.torch.modules import MODULES, Patterns, as_written, choose, paths, unwrap
from quantcal.torch.nested import entries, numbered, tensors_of
from quantcal.torch.positions import Mask, Positions
from quantcal.torch.readable import check_plain
from quantcal.torch.recording import Recording, copied


@contextlib.contextmanager
def observe(
    model: Any,
    include: Patterns = None,
    exclude: Patterns = (),
    modules: tuple[type[nn.Module], ...] = MODULES,
    inputs: bool = True,
    outputs: bool = False,
    weights: bool = False,
    axis: int | None = None,
    mask: Mask = None,
    skip_positions: int = 0,
    merge_calls: bool = False,
    calibrator: Calibrator | None = None,
    *,
    record_skipped: bool = False,
    weight_axis: int | None = None,
) -> Iterator[Calibrator]:
    """Record the activations of a model's modules while it runs inside a `with` block.

    A forward counts when it is complete: of one that raises, nothing is recorded. All hooks
    are removed at the end of the block, also after an exception. The model is not changed,
    and neither is what it computes.

    Tensors are named after their modules: the path for the input, `path:output`,
    `path:weight`. A module that is called several times in one forward has the names
    `path#1`, `path#2:output`, ... there, one for each call; several tensors of one call are
    `path:input.0`, `path:input.1`, .... The model itself goes by its class's name.

    Tensors inside lists, tuples, dicts, dataclasses and PyTorch's pytrees are recorded too,
    behind those that are passed directly. A tensor that is the only one, or the only one
    passed directly, keeps the plain name: an LSTM's are `path:output`, `path:output.1` and
    `path:output.2`. Of several tensors only those of floats are recorded.

    Parameters
    ----------
    model
        A `torch.nn.Module`, also in training mode, under autocast (tensors are recorded as the
        module gets them, before autocast converts them), compiled (it runs uncompiled inside
        the block, as compiled graphs know nothing of hooks), or wrapped in DataParallel or
        DistributedDataParallel (whose prefix `module.` is left out of the names).
    include, exclude
        A pattern or several of module paths: names, globs, `re:` or `layer:` as in a
        `Policy`. None includes all.
    modules
        Types of the modules to observe; linear and convolution layers by default.
    inputs, outputs, weights
        What is recorded of each. Weights once, at the beginning.
    axis, weight_axis
        The axis of the channels of activations and of weights; see `Calibrator.observe`. By
        channel, a new calibrator also keeps copies of the inputs of the first forward, on
        which `smoothquant` checks its result.
    mask
        Which positions count: the name of one of the model's inputs, a tensor of [batch,
        positions] of bool or whole numbers, true where a position counts ("attention_mask"), or
        the opposite if the name ends in "padding_mask", as torch.nn means it; or a callable
        that gets the tensor's name and the tensor, and returns a mask of its leading axes, or
        None. Tensors of [batch, features], such as a classifier's, are recorded whole.
    skip_positions
        Leave out so many positions at the beginning of each sequence: attention sinks. They
        are counted along the mask, if there is one (with padding on the left the first
        token is further on), else along the last axis but one.
    record_skipped
        Record the skipped positions too, as `path:skipped`.
    merge_calls
        Record all calls of a module under its plain path.
    calibrator
        Add to this one, and yield it, instead of a new one.

    Yields
    ------
    Calibrator
        Holds every forward that is complete. Counts that were made on another device arrive
        when it is read, or, in a `calibrator` that was given, when the block ends.

    Raises
    ------
    TypeError
        If the model is no module, or a tensor cannot be read, by name, from the forward: it
        is not of floats, not dense, or holds no values (meta and fake tensors, those inside
        torch.func.vmap, grad, jvp and torch.export).
    CalibrationError
        If patterns match nothing, the model is TorchScript, or a mask does not fit.

    Warns
    -----
    UserWarning
        If dropout or batch normalisation is in training mode: the model then computes
        something else than when it is deployed. If modules were never called, as is the
        `out_proj` of torch.nn.MultiheadAttention, which uses its weight without calling it.
        If modules were called, but no tensor of floats was found in what they got or gave.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
    >>> with qc.torch.observe(model, outputs=True) as cal:
    ...     y = model(torch.ones(4, 8))
    >>> cal.names
    ['0', '0:output']
    >>> cal["0"].count, cal["0"].max
    (32, 1.0)
    """
    root = unwrap(model)
    chosen = choose(paths(root), include, exclude, tuple(modules))
    positions = Positions(root, mask, skip_positions, record_skipped)
    if axis is not None and axis >= 0 and mask is not None:
        msg = (
            f"axis is {axis}, but masked positions are taken out, which moves it: name it from "
            f"the end, as {axis - 3} is of three axes"
        )
        raise CalibrationError(msg)
    _warn_of_training(root)
    recording = Recording(calibrator, axis=axis, merge_calls=merge_calls)
    if weights:
        recording.weights(chosen, weight_axis)
    forwards = Forwards(root, recording.include, recording.begin)
    with contextlib.ExitStack() as stack:
        stack.callback(recording.fetch)
        stack.enter_context(as_written(model))
        for path, module in chosen.items():
            hooks = _Hooks(path, forwards, recording, positions, inputs, outputs)
            for handle in hooks.attach(module):
                stack.callback(handle.remove)
        for handle in forwards.attach():
            stack.callback(handle.remove)
        yield recording.calibrator
    _warn_of_uncalled([path for path in chosen if path not in recording.called])
    _warn_of_empty(recording.empty())


class _Hooks:
    """The hooks of one module."""

    block = "observe"

    def __init__(
        self,
        path: str,
        forwards: Forwards,
        recording: Recording,
        positions: Positions,
        inputs: bool,
        outputs: bool,
    ) -> None:
        self._path = path
        self._forwards = forwards
        self._recording = recording
        self._positions = positions
        self._inputs = inputs
        self._outputs = outputs

    def attach(self, module: nn.Module) -> list[Any]:
        handles = [module.register_forward_pre_hook(self._before, with_kwargs=True)]
        if self._outputs:
            handles.append(module.register_forward_hook(self._after))
        return handles

    def _before(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._recording.called.add(self._path)
        forward = self._forwards.current()
        if forward is not None:
            forward.calls[self._path] += 1
        if self._inputs:
            self._record("input", [*args, *kwargs.values()], forward)

    def _after(self, _: nn.Module, __: Any, output: Any) -> None:
        self._record("output", entries(output), self._forwards.current())

    def _record(
        self, kind: str, values: Sequence[Any], forward: Forward | None
    ) -> None:
        tensors, direct = tensors_of(values)
        counted = numbered(tensors, direct)
        self._recording.note(self._path, kind, found=bool(counted), given=bool(values))
        call = 1 if forward is None else forward.calls[self._path]
        for number, place in counted:
            suffix = "" if kind == "input" else f":{kind}"
            if number is not None:
                suffix = f":{kind}.{number}"
            name = self._path + suffix
            for part, record in self._records(name, tensors[place], forward):
                self._forwards.record(self._path, call, (suffix + part, record))

    def _records(
        self, name: str, tensor: torch.Tensor, forward: Forward | None
    ) -> list[tuple[str, Any]]:
        """Count a tensor, or copy the counts if the module before got the same one.

        The projections of attention, and those of a gated layer, get one tensor between them.
        Its version tells whether it was changed meanwhile.
        """
        recording, positions = self._recording, self._positions
        check_plain(name, tensor)
        unchanged = forward is not None and not (
            positions.by_name or tensor.is_inference()
        )
        if forward is not None and unchanged and "last" in forward.notes:
            last, version, records = forward.notes["last"]
            if last is tensor and version == tensor._version:
                return [(part, copied(record)) for part, record in records]
        records = [
            (part, recording.of(name, piece, keep))
            for part, piece, keep in positions.divide(name, tensor, forward)
        ]
        if forward is not None and unchanged:
            forward.notes["last"] = (tensor, tensor._version, records)
        return records


def _warn_of_training(model: nn.Module) -> None:
    noisy = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    for path, module in model.named_modules():
        if (
            module.training
            and isinstance(module, noisy)
            and getattr(module, "p", 1) > 0
        ):
            msg = (
                f'"{path}" ({type(module).__name__}) is in training mode, in which the model '
                "computes something else than when it is deployed; call model.eval() first."
            )
            warnings.warn(msg, UserWarning, stacklevel=5)
            return


def _warn_of_uncalled(paths: list[str]) -> None:
    if not paths:
        return
    listed = ", ".join(f'"{path}"' for path in paths[:5])
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    msg = (
        f"No activations of {listed}{more} were recorded: they were never called. Run them, or "
        "leave them out with exclude=."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)


def _warn_of_empty(names: list[str]) -> None:
    if not names:
        return
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    msg = (
        f"Nothing was recorded of {', '.join(names[:5])}{more}: no tensor of floats was found "
        "there. Lists, tuples, dicts, dataclasses and registered pytrees are searched; observe "
        "the modules inside, or leave these out with exclude=."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)
