"""`advise`: which modules of a model to leave in float, measured on the model itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from quantcal._core import CalibrationError
from quantcal.advice.progress import count_runs
from quantcal.advice.result import Advice
from quantcal.advice.search import Halves, LossMeter, choose_float
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike
from quantcal.strategies.policy import StrategyLike
from quantcal.torch._advice.guilt import Evidence
from quantcal.torch._advice.options import as_samples, check_options
from quantcal.torch._advice.output_loss import METHODS, Loss
from quantcal.torch._advice.shared_inputs import SharedInput, find_shared_inputs
from quantcal.torch._advice.trial_runs import TrialRuns
from quantcal.torch.containers import find_tensors
from quantcal.torch.modules import (
    OBSERVED_TYPES,
    Patterns,
    check_outside_blocks,
    modules_by_path,
    select_modules,
    unwrap,
)
from quantcal.torch.observation import observe
from quantcal.torch.sample_runner import Sample, SampleRunner, evaluation_mode


@torch.no_grad()  # type: ignore[untyped-decorator]
def advise(
    model: Any,
    samples: Iterable[Any],
    *,
    include: Patterns = None,
    exclude: Patterns = (),
    modules: tuple[type[torch.nn.Module], ...] = OBSERVED_TYPES,
    calibrator: Calibrator | None = None,
    strategy: StrategyLike = "mse",
    format: FormatLike | None = None,
    symmetric: bool | None = None,
    weights: FormatLike | None = None,
    loss: Loss = "auto",
    keep_float: int = 4,
    budget: float | None = None,
    remedies: bool = True,
    time_limit: float | None = None,
    progress: bool = False,
    **options: Any,
) -> Advice:
    """Find the few modules whose inputs must stay in float, and say why.

    The loss is measured on the model's outputs, with some inputs fake-quantized and all others
    in float. First the inputs that cost most alone are found: blocks are measured, and
    the worst one is halved again and again. Then inputs return to float one by one while
    everything else is quantized. The samples at even places propose each step, those at odd
    places must confirm it. The model itself does not change.

    Modules that read the same tensor, such as q, k and v, stay in float together.

    Parameters
    ----------
    model
        A `torch.nn.Module`; it runs in evaluation mode.
    samples
        Inputs of the model: two or more, each a tensor, a tuple by position or a mapping by
        name. 8 to 16 that differ are better than many. All are kept.
    include, exclude, modules
        The modules to quantize, as for `observe`. All others stay in float throughout.
    calibrator
        What was observed of the model. None observes the samples.
    strategy, format, symmetric, options
        How ranges are chosen, as for `Calibrator.compute`.
    weights
        A format for the weights of these modules ("int8"), as for `fake_quantize`. None, the
        default, keeps them in float, so that only activations are examined.
    loss
        "kl", the Kullback-Leibler divergence of the quantized model's words from those of the
        float model, per token in nats. "error", the squared error of all outputs over their
        variance. "auto", the default, is "kl" for a language model and "error" for others.
        Or a callable: it gets the output tensors of the float and of the quantized model, two
        lists, and returns a number that is 0 for equal outputs.
    keep_float
        How many inputs may stay in float.
    budget
        The share of the multiply-adds that may stay in float, 0 to 1. None sets no limit.
    remedies
        Whether to try other ranges and 16 bits on the worst inputs. It takes about as many
        runs as the search.
    time_limit
        Seconds for search and remedies, after the ranges are computed. When they have passed,
        the best result so far is returned. The result then depends on the machine's speed.
    progress
        Show a bar on stderr when it is a terminal and rich is installed.

    Returns
    -------
    Advice
        `exclude` holds paths of modules, for `exclude=` of `observe` and of this function.

    Raises
    ------
    TypeError
        If the model is no module, or the samples are no sequence of inputs.
    CalibrationError
        If there are fewer than two samples, the model fails on one, patterns match nothing,
        or an argument is not allowed.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    >>> samples = [torch.randn(4, 8) for _ in range(4)]
    >>> advice = qc.torch.advise(model, samples, keep_float=1)
    >>> advice.loss_after <= advice.loss
    True
    """
    check_options(keep_float, budget, time_limit, weights)
    root = unwrap(model)
    check_outside_blocks(root.modules())
    given = as_samples(samples)
    by_path = modules_by_path(root)
    chosen = select_modules(by_path, include, exclude, tuple(modules))
    runners = [SampleRunner(model, root, sample) for sample in given]
    shared = find_shared_inputs(chosen, runners[0])
    if calibrator is None:
        calibrator = _observed(model, root, shared, runners, tuple(modules))
    table = calibrator.compute(strategy, format=format, symmetric=symmetric, **options)
    known, notes = _with_ranges(shared, table)
    tables = {s.name: _of_modules(s, table) for s in known}
    first = _tensors_of(given[0])
    trial = TrialRuns(
        model, root, runners, tables, weights=weights, loss=loss, inputs=first
    )
    halves = Halves.of(len(given))
    with count_runs("Advising", show=progress) as step, evaluation_mode(root):
        meter = LossMeter(trial, time_limit=time_limit, on_run=step)
        choice = choose_float(
            meter,
            list(tables),
            halves,
            keep=keep_float,
            allowed=lambda kept: _fits(kept, known, budget),
        )
        evidence = Evidence(
            model, by_path, runners, calibrator, weights, trial, meter, halves
        )
        tensors, in_time = evidence.tensors(known, choice, remedies=remedies)
    if not (choice.finished and in_time):
        notes.append(f"the time limit of {time_limit:g} s ended the search")
    if keep_float and len(choice.kept) == keep_float and choice.loss_after:
        notes.append(f"keep_float={keep_float} ended the choice; more may gain more")
    return Advice(
        loss=choice.loss,
        loss_after=choice.loss_after,
        exclude=tuple(p for s in known if s.name in choice.kept for p in s.paths),
        tensors=tensors,
        samples=len(halves.confirming),
        float_share=_float_share(choice.kept, known),
        method=METHODS.get(str(trial.loss), "the given loss"),
        notes=tuple(notes),
        noun="module",
    )


def _observed(
    model: Any,
    root: torch.nn.Module,
    shared: Sequence[SharedInput],
    runners: Sequence[SampleRunner],
    types: tuple[type[torch.nn.Module], ...],
) -> Calibrator:
    """Observe the inputs of all called modules on all samples."""
    paths = [path for each in shared for path in each.paths]
    if not paths:
        msg = "The model calls none of the modules on the first sample; give other modules="
        raise CalibrationError(msg)
    with evaluation_mode(root), observe(model, paths, modules=types) as calibrator:
        for run in runners:
            run()
    return calibrator


def _tensors_of(sample: Sample) -> list[torch.Tensor]:
    if callable(sample):
        return []
    args, kwargs = sample
    return find_tensors([*args, *kwargs.values()])[0]


def _of_modules(shared: SharedInput, table: Any) -> dict[str, Any]:
    """Return the parameters of the inputs of some modules, by name."""
    return {
        name: params
        for name, params in table.items()
        for path in shared.paths
        if (name == path or name.startswith((f"{path}#", f"{path}:input")))
        and not name.endswith(":skipped")
    }


def _with_ranges(
    shared: Sequence[SharedInput], table: Any
) -> tuple[list[SharedInput], list[str]]:
    """Return what the table has ranges of, and a note on the rest.

    Raises
    ------
    CalibrationError
        If it has none.
    """
    known = [each for each in shared if _of_modules(each, table)]
    if not known:
        msg = (
            "The calibrator has observed no input of the modules that the model calls. "
            "Observe this model, with the same include= and exclude=."
        )
        raise CalibrationError(msg)
    missing = len(shared) - len(known)
    notes = [f"{missing} inputs were not observed and stay in float"] if missing else []
    return known, notes


def _fits(
    kept: Sequence[str], shared: Sequence[SharedInput], budget: float | None
) -> bool:
    if budget is None:
        return True
    return _float_share(kept, shared).get("multiply-adds", 0.0) <= budget


def _float_share(
    kept: Sequence[str], shared: Sequence[SharedInput]
) -> dict[str, float]:
    """Return the share of the tensors, weights and multiply-adds that stay in float."""
    inside = [each for each in shared if each.name in kept]
    counts = {
        "inputs": (len(inside), len(shared)),
        "weights": tuple(sum(s.weights for s in some) for some in (inside, shared)),
        "multiply-adds": tuple(
            sum(s.multiply_adds for s in some) for some in (inside, shared)
        ),
    }
    return {name: part / whole for name, (part, whole) in counts.items() if whole}
