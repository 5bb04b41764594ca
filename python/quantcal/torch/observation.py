"""Observes a model: forward hooks that record the tensors of its modules."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.torch.containers import entries, find_tensors, number_tensors
from quantcal.torch.forward_passes import ForwardPass, ForwardTracker
from quantcal.torch.modules import (
    OBSERVED_TYPES,
    Patterns,
    modules_by_path,
    run_uncompiled,
    select_modules,
    unwrap,
)
from quantcal.torch.observe_checks import (
    check_axis,
    check_calibrator,
    check_flags,
    check_types,
)
from quantcal.torch.position_masks import Mask, PositionMasks
from quantcal.torch.recorder import Recorder
from quantcal.torch.tensor_values import check_readable


@contextlib.contextmanager
def observe(
    model: Any,
    include: Patterns = None,
    exclude: Patterns = (),
    modules: tuple[type[nn.Module], ...] = OBSERVED_TYPES,
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

    A forward pass is recorded when it is complete. If it raises, nothing of it is recorded.
    All hooks are removed at the end of the block, also after an exception. Neither the model
    nor its results change.

    Tensors are named after their modules: `path` for the input, `path:output`,
    `path:weight`. A module that is called several times in one pass has a name for each
    call: `path#1`, `path#2:output`, .... Several tensors of one call are `path:input.0`,
    `path:input.1`, .... The path of the model itself is its class name.

    Tensors inside lists, tuples, dicts, dataclasses and PyTorch's pytrees are recorded too,
    after those passed directly. A single tensor, or a single one passed directly, has no
    number. So an LSTM has `path:output`, `path:output.1` and `path:output.2`. Of several
    tensors only floats are recorded.

    Parameters
    ----------
    model
        A `torch.nn.Module`, also in training mode. Under autocast, tensors are recorded as
        the module gets them, before the conversion. A compiled model runs uncompiled inside
        the block, since compiled graphs run no hooks. Names do not have the prefix `module.`
        of DataParallel and DistributedDataParallel.
    include, exclude
        One or more patterns of module paths: names, globs, `re:` or `layer:` as in a
        `Policy`. None includes all.
    modules
        Types of the modules to observe; linear and convolution layers by default.
    inputs, outputs, weights
        What to record of each module. Weights are recorded once, at the beginning.
    axis, weight_axis
        The channel axis of activations and of weights; see `Calibrator.observe`. With an
        axis, a new calibrator also keeps copies of the inputs of the first forward pass, on
        which `smoothquant` checks its result.
    mask
        The positions to record. A name means one of the model's inputs: a tensor of bools or
        integers, [batch, positions], true at the positions to record ("attention_mask"). If
        the name ends in "padding_mask", it is true at the padding, as in torch.nn. A callable
        gets the tensor's name and the tensor, and returns a mask of its leading axes, or
        None. Tensors of [batch, features], such as a classifier's, are recorded whole.
    skip_positions
        The number of positions to skip at the start of each sequence: attention sinks. With
        a mask only unmasked positions count, so padding on the left is no part of them.
        Without one, they lie along the last axis but one.
    record_skipped
        Record the skipped positions too, as `path:skipped`.
    merge_calls
        Record all calls of a module under its plain path.
    calibrator
        Add to this calibrator and yield it, instead of a new one.

    Yields
    ------
    Calibrator
        Holds every complete forward pass. Counts from another device arrive when it is read.
        In a given `calibrator` they arrive when the block ends.

    Raises
    ------
    TypeError
        If the model is no module, or a tensor cannot be read: it is not of floats, not dense,
        or has no values. Meta and fake tensors have none, nor do those inside
        torch.func.vmap, grad and jvp, and torch.export. The error names the tensor.
    CalibrationError
        If patterns match nothing, the model is TorchScript, or a mask does not fit. If an
        axis is no whole number, or another argument is of the wrong kind.

    Warns
    -----
    UserWarning
        If dropout or batch normalization is in training mode, so that the model computes
        something else than in deployment. If modules were never called, such as the
        `out_proj` of torch.nn.MultiheadAttention, of which it reads only the weight. If the
        inputs or outputs of called modules held no tensor of floats.

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
    axis = check_axis("axis", axis)
    weight_axis = check_axis("weight_axis", weight_axis)
    flags = {"inputs": inputs, "outputs": outputs, "weights": weights}
    more = {"merge_calls": merge_calls, "record_skipped": record_skipped}
    check_flags(flags | more)
    check_calibrator(calibrator)
    types = check_types(modules)
    root = unwrap(model)
    chosen = select_modules(modules_by_path(root), include, exclude, types)
    positions = PositionMasks(root, mask, skip_positions, record_skipped)
    if axis is not None and axis >= 0 and mask is not None:
        msg = (
            f"axis is {axis}, but removing masked positions moves the axis. Count it from the "
            f"end, such as {axis - 3} for a tensor of three axes."
        )
        raise CalibrationError(msg)
    _warn_of_training(root)
    recorder = Recorder(calibrator, axis=axis, merge_calls=merge_calls)
    if weights:
        recorder.record_weights(chosen, weight_axis)
    forwards = ForwardTracker(root, recorder.add_forward, recorder.copy_sample)
    with contextlib.ExitStack() as stack:
        stack.callback(recorder.fetch)
        stack.enter_context(run_uncompiled(model))
        for path, module in chosen.items():
            hooks = _Hooks(path, forwards, recorder, positions, inputs, outputs)
            for handle in hooks.attach(module):
                stack.callback(handle.remove)
        for handle in forwards.attach():
            stack.callback(handle.remove)
        yield recorder.calibrator
    _warn_of_uncalled([path for path in chosen if path not in recorder.called])
    _warn_of_missing_tensors(recorder.without_tensors())


class _Hooks:
    """The hooks of one module."""

    block = "observe"

    def __init__(
        self,
        path: str,
        forwards: ForwardTracker,
        recorder: Recorder,
        positions: PositionMasks,
        inputs: bool,
        outputs: bool,
    ) -> None:
        self._path = path
        self._forwards = forwards
        self._recorder = recorder
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
        self._recorder.called.add(self._path)
        forward = self._forwards.current()
        if forward is not None:
            forward.calls[self._path] += 1
        if self._inputs:
            self._record("input", [*args, *kwargs.values()], forward)

    def _after(self, _: nn.Module, __: Any, output: Any) -> None:
        self._record("output", entries(output), self._forwards.current())

    def _record(
        self, kind: str, values: Sequence[Any], forward: ForwardPass | None
    ) -> None:
        tensors, direct = find_tensors(values)
        recorded = number_tensors(tensors, direct)
        self._recorder.note_call(
            self._path, kind, found=bool(recorded), given=bool(values)
        )
        call = 1 if forward is None else forward.calls[self._path]
        for number, place in recorded:
            suffix = "" if kind == "input" else f":{kind}"
            if number is not None:
                suffix = f":{kind}.{number}"
            name = self._path + suffix
            for part, record in self._records(name, tensors[place], forward):
                self._forwards.record(self._path, call, (suffix + part, record))

    def _records(
        self, name: str, tensor: torch.Tensor, forward: ForwardPass | None
    ) -> list[tuple[str, Any]]:
        """Count a tensor, or copy the counts if the previous module got the same one.

        The projections of attention, and those of a gated layer, share one input tensor. Its
        version shows whether it has changed since.
        """
        recorder, positions = self._recorder, self._positions
        check_readable(name, tensor)
        unchanged = forward is not None and not (
            positions.by_name or tensor.is_inference()
        )
        if forward is not None and unchanged and "last" in forward.notes:
            last, version, records = forward.notes["last"]
            if last is tensor and version == tensor._version:
                return [(part, record.copy()) for part, record in records]
        records = [
            (part, recorder.count(name, piece, keep))
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
                f'"{path}" ({type(module).__name__}) is in training mode, so the model '
                "computes something else than in deployment. Call model.eval() first."
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
        "exclude them with exclude=."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)


def _warn_of_missing_tensors(names: list[str]) -> None:
    if not names:
        return
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    msg = (
        f"Nothing was recorded of {', '.join(names[:5])}{more}: no tensor of floats was found "
        "in lists, tuples, dicts, dataclasses and registered pytrees. Observe the modules "
        "inside, or exclude these with exclude=."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)
