"""Runs a model on a sample of its inputs, and leaves it as it was.

A sample is what proves that a change of weights keeps the float model: its output before and
afterwards is compared. `observe` keeps the inputs of the first forward for this purpose.
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
from quantcal.torch.device_calibrator import LiveCalibrator
from quantcal.torch.modules import as_written
from quantcal.torch.nested import entries, replaced, tensors_of

Sample: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]] | Callable[[Any], Any]"
"""Arguments of a forward, by position and by name; or what runs the model."""


def _as_sample(given: Any) -> Sample:
    """Return a sample of what a user gives: see `smoothquant`."""
    if callable(given) and not isinstance(given, torch.Tensor):
        return given  # type: ignore[no-any-return]
    if isinstance(given, Mapping):
        return (), {str(name): value for name, value in given.items()}
    return (given if isinstance(given, tuple) else (given,)), {}


def runner(model: Any, root: nn.Module, calibrator: Calibrator, sample: Any) -> Runner:
    """Return what runs the model on the sample that is given, or that was observed."""
    if sample is not None:
        return Runner(model, root, _as_sample(sample))
    kept = calibrator.sample if isinstance(calibrator, LiveCalibrator) else None
    if kept is None:
        msg = (
            "The calibrator holds no inputs of the model to check the result with: it was "
            "given or loaded, or the model itself was not called. Give sample=, such as one "
            "batch of the calibration data."
        )
        raise CalibrationError(msg)
    return Runner(model, root, kept)


def copied(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sample:
    """Return copies of a forward's arguments, which the forward may change.

    Raises
    ------
    Exception
        Of any kind, if an argument that holds no tensors cannot be copied.
    """
    values = [*args, *kwargs.values()]
    tensors, _ = tensors_of(values)
    cloned = replaced(values, [t.detach().clone() for t in tensors])
    memo = {id(t): t for t in tensors_of(cloned)[0]}
    cloned = [copy.deepcopy(value, memo) for value in cloned]
    count = len(args)
    return tuple(cloned[:count]), dict(zip(kwargs, cloned[count:], strict=True))


class Runner:
    """Runs one model on one sample, each time alike.

    The modules are in evaluation mode meanwhile, random numbers begin with the same seed,
    and buffers get their values back.
    """

    def __init__(self, given: Any, model: nn.Module, sample: Sample) -> None:
        self._given = given  # may be compiled
        self._model = model
        self._sample = sample

    def __call__(self) -> list[torch.Tensor]:
        """Return all tensors of the output.

        Raises
        ------
        CalibrationError
            If the model cannot be run on the sample, or gives no tensor.
        """
        model, sample = self._model, self._sample
        with as_written(self._given), _undisturbed(model), torch.no_grad():
            try:
                if callable(sample):
                    output = sample(model)
                else:
                    args, kwargs = copied(*sample)  # type: ignore[misc]
                    output = model(*args, **kwargs)
            except CalibrationError:
                raise
            except Exception as error:
                msg = (
                    f"The model cannot be run on the sample: {type(error).__name__}: "
                    f"{error}. Give sample= as the model takes it."
                )
                raise CalibrationError(msg) from error
            found, _ = tensors_of(entries(output))
            kept = [t.detach().clone() for t in found]
        if not kept:
            msg = (
                "The model's output on the sample holds no tensors, so it cannot be "
                "compared. Give sample= a callable that gets the model and returns some."
            )
            raise CalibrationError(msg)
        return kept


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
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
            torch.clear_autocast_cache()  # it may hold casts of other weights
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


def distance(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """Return how far outputs differ: the largest root mean square error of a tensor.

    Each is a share of the root mean square of the wanted values. Infinite if shapes, whole
    numbers or the places of what is not finite differ.
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
    odd = ~finite
    if not torch.equal(found.isfinite(), finite) or not torch.equal(
        found[odd].nan_to_num(nan=0.0), wanted[odd].nan_to_num(nan=0.0)
    ):
        return float("inf")
    a, b = found[finite].double(), wanted[finite].double()
    lost = float((a - b).square().sum())
    if not lost:
        return 0.0
    power = float(b.square().sum())
    return float((lost / power) ** 0.5) if power else float("inf")
