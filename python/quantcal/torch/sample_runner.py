"""Runs a model on a sample of its inputs, and leaves the model unchanged.

A sample shows whether a change of weights keeps the float model: its output before and after
the change is compared. `observe` keeps the inputs of the first forward pass for this purpose.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.torch.containers import entries, find_tensors, replace_tensors
from quantcal.torch.device_calibrator import DeviceCalibrator
from quantcal.torch.modules import run_uncompiled

Sample: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]] | Callable[[Any], Any]"
"""Positional and keyword arguments of a forward pass, or a callable that runs the model."""


def as_sample(given: Any) -> Sample:
    """Return a user's sample in one form; see `smoothquant` for those it takes."""
    if callable(given) and not isinstance(given, torch.Tensor):
        return given  # type: ignore[no-any-return]
    if isinstance(given, Mapping):
        return (), {str(name): value for name, value in given.items()}
    return (given if isinstance(given, tuple) else (given,)), {}


def make_runner(
    model: Any, root: nn.Module, calibrator: Calibrator, sample: Any
) -> SampleRunner:
    """Return a runner of the given sample, or of the one that was observed.

    Raises
    ------
    CalibrationError
        If no sample is given, and the calibrator holds none.
    """
    if sample is not None:
        return SampleRunner(model, root, as_sample(sample))
    observed = calibrator.sample if isinstance(calibrator, DeviceCalibrator) else None
    if observed is None:
        msg = (
            "The calibrator holds no inputs of the model to check the result with. It was "
            "given or loaded, or the model itself was not called. Give sample=, such as one "
            "batch of the calibration data."
        )
        raise CalibrationError(msg)
    return SampleRunner(model, root, observed)


def copy_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sample:
    """Return copies of a forward pass's arguments, which the pass may change.

    Raises
    ------
    Exception
        Of any kind, if an argument without tensors cannot be copied.
    """
    values = [*args, *kwargs.values()]
    tensors, _ = find_tensors(values)
    cloned = replace_tensors(values, [t.detach().clone() for t in tensors])
    memo = {id(t): t for t in find_tensors(cloned)[0]}
    cloned = [copy.deepcopy(value, memo) for value in cloned]
    count = len(args)
    return tuple(cloned[:count]), dict(zip(kwargs, cloned[count:], strict=True))


class SampleRunner:
    """Runs one model on one sample, each time in the same way.

    Modules are in evaluation mode, and random numbers start from the same seed. Afterwards
    buffers get their values back.

    Parameters
    ----------
    given
        The model that the user gave, which may be compiled.
    model
        The model inside it.
    sample
        The inputs, or a callable that runs the model.
    """

    def __init__(self, given: Any, model: nn.Module, sample: Sample) -> None:
        self._given = given
        self._model = model
        self._sample = sample

    def __call__(self) -> list[torch.Tensor]:
        """Return all tensors of the output.

        Raises
        ------
        CalibrationError
            If the model fails on the sample, or its output holds no tensor.
        """
        model, sample = self._model, self._sample
        with run_uncompiled(self._given), evaluation_mode(model), torch.no_grad():
            try:
                if callable(sample):
                    output = sample(model)
                else:
                    args, kwargs = copy_inputs(*sample)  # type: ignore[misc]
                    output = model(*args, **kwargs)
            except CalibrationError:
                raise
            except Exception as error:
                msg = (
                    f"The model cannot be run on the sample: {type(error).__name__}: "
                    f"{error}. Give sample= as the model takes it."
                )
                raise CalibrationError(msg) from error
            found, _ = find_tensors(entries(output))
            outputs = [t.detach().clone() for t in found]
        if not outputs:
            msg = (
                "The model's output on the sample holds no tensors, so it cannot be "
                "compared. Give sample= a callable that gets the model and returns some."
            )
            raise CalibrationError(msg)
        return outputs


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore modes, buffers and random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, _version(buffer), buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = {p.device.index or 0 for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
        try:
            torch.manual_seed(0)
            # The cache may hold casts of weights that have changed since.
            torch.clear_autocast_cache()
            for module, _ in modes:
                module.training = False
            yield
        finally:
            torch.clear_autocast_cache()
            for module, mode in modes:
                module.training = mode
            for module, name, buffer, version, before in buffers:
                module._buffers[name] = buffer
                if version is None or version != buffer._version:
                    with torch.inference_mode(buffer.is_inference()):
                        buffer.copy_(before)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def output_distance(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Return the largest relative root mean square error of the tensors.

    It is relative to the root mean square of the wanted values. It is infinite if shapes,
    integers, or the places of non-finite values differ.
    """
    if len(found) != len(wanted):
        return float("inf")
    return max((_distance(f, w) for f, w in zip(found, wanted, strict=True)), default=0)


def _distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return 0.0 if torch.equal(found, wanted) else float("inf")
    if wanted.is_complex():
        found, wanted = torch.view_as_real(found), torch.view_as_real(wanted)
    finite = wanted.isfinite()
    special = ~finite
    if not torch.equal(found.isfinite(), finite) or not torch.equal(
        found[special].nan_to_num(nan=0.0), wanted[special].nan_to_num(nan=0.0)
    ):
        return float("inf")
    a, b = found[finite].double(), wanted[finite].double()
    error = float((a - b).square().sum())
    if not error:
        return 0.0
    power = float(b.square().sum())
    return float((error / power) ** 0.5) if power else float("inf")
