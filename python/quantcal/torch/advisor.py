"""`advise`: which modules of a model to leave in float, measured on the model itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from quantcal._core import CalibrationError
from quantcal.advice.progress import count_runs
from quantcal.advice.result import Advice, Remedy
from quantcal.advice.search import FloatChoice, Halves, LossMeter, choose_float
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch._advice.guilt import Evidence
from quantcal.torch._advice.options import as_samples, check_options
from quantcal.torch._advice.output_loss import METHODS, Loss
from quantcal.torch._advice.shared_inputs import SharedInput, find_shared_inputs
from quantcal.torch._advice.smoothing_remedy import SmoothingTrial
from quantcal.torch._advice.strategy_choice import (
    Calibrations,
    StrategyChoice,
    TableMaker,
    candidates_of,
)
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
    strategy: StrategyLike = "auto",
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
        How ranges are chosen, as for `Calibrator.compute`. "auto", the default, tries some
        on the samples: first with nothing in float, and again with the worst inputs in
        float, which hide how the others differ. `Advice.strategy` names the choice.
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
        Whether to try other ranges and 16 bits on the worst inputs, and SmoothQuant on a
        copy of the model. It takes about as many runs as the search.
    time_limit
        Seconds for everything after the samples were observed. When they have passed,
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
    candidates = candidates_of(strategy, **options)
    by_path = modules_by_path(root)
    chosen = select_modules(by_path, include, exclude, tuple(modules))
    runners = [SampleRunner(model, root, sample) for sample in given]
    shared = find_shared_inputs(chosen, runners[0])
    seen = _calibrations(model, root, shared, runners, tuple(modules), calibrator)
    policy = Policy.of(strategy, **options)
    known, notes = _with_ranges(shared, seen.whole.names)
    inputs = {s.name: _of_modules(s, seen.whole.names) for s in known}
    tables = TableMaker(inputs, format, symmetric)
    first = _tensors_of(given[0])
    trial = TrialRuns(
        model, root, runners, {}, weights=weights, loss=loss, inputs=first
    )
    halves = Halves.of(len(given))
    with count_runs("Advising", show=progress) as step, evaluation_mode(root):
        search = _Search(trial, time_limit, step, halves, list(inputs), tables, seen)
        best, choice = search.run(
            candidates, policy, keep_float, lambda kept: _fits(kept, known, budget)
        )
        evidence = Evidence(
            model,
            by_path,
            runners,
            seen.whole,
            weights,
            trial,
            search.meter,
            halves,
        )
        tensors, in_time = evidence.tensors(known, choice, remedies=remedies)
        whole: tuple[Remedy, ...] = ()
        if remedies:
            whole = _smoothed(
                SmoothingTrial(
                    model,
                    given,
                    [path for each in known for path in each.paths],
                    tuple(modules),
                    candidates.get(best, policy),
                    tables,
                    weights,
                    loss,
                    first,
                    halves,
                ),
                search,
                notes,
            )
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
        remedies=whole,
        strategy=best,
    )


class _Search:
    """Chooses a strategy and what stays in float, within a time."""

    def __init__(
        self,
        trial: TrialRuns,
        time_limit: float | None,
        on_run: Callable[[], object],
        halves: Halves,
        names: Sequence[str],
        tables: TableMaker,
        seen: Calibrations,
    ) -> None:
        self._trial = trial
        self._on_run = on_run
        self._halves = halves
        self._names = names
        self._tables = tables
        self._seen = seen
        self._until = math.inf if time_limit is None else time.monotonic() + time_limit
        self.meter = self._new_meter()

    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._until

    def run(
        self,
        candidates: Mapping[str, Policy],
        policy: Policy,
        keep: int,
        allowed: Callable[[Sequence[str]], bool],
    ) -> tuple[str, FloatChoice]:
        """Return the best candidate's name, or "" without candidates, and the choice."""
        compared = StrategyChoice(
            self._trial, self._seen, self._tables, candidates, self._halves
        )
        best = next(iter(candidates), "")
        if candidates:
            best = compared.better(self.meter, best)
            policy = candidates[best]
        self._trial.tables.update(self._tables(self._seen.whole, policy))
        choice = choose_float(
            self.meter, self._names, self._halves, keep=keep, allowed=allowed
        )
        if candidates and choice.kept and not self.is_late():
            other = compared.better(self.meter, best, choice.kept)
            if other != best:
                best, choice = other, self._with_other(choice, candidates[other])
        return best, choice

    def _with_other(self, choice: FloatChoice, policy: Policy) -> FloatChoice:
        """Return the same choice, measured with other ranges."""
        self._trial.tables.update(self._tables(self._seen.whole, policy))
        self.meter = self._new_meter()  # what is known is of other ranges
        left = [name for name in self._names if name not in choice.kept]
        confirming = self._halves.confirming
        return replace(
            choice,
            loss=self.meter(self._names, confirming, within=math.inf),
            loss_after=self.meter(left, confirming, within=math.inf),
        )

    def _new_meter(self) -> LossMeter:
        left = self._until - time.monotonic()
        limit = None if math.isinf(left) else max(left, 0.0)
        return LossMeter(self._trial, time_limit=limit, on_run=self._on_run)


def _smoothed(
    trial: SmoothingTrial, search: _Search, notes: list[str]
) -> tuple[Remedy, ...]:
    """Return what SmoothQuant changes, or a note on why it was not tried."""
    try:
        found = trial.remedy(search.is_late)
    except CalibrationError as error:
        notes.append(f"SmoothQuant could not be tried: {error}")
        return ()
    return () if found is None else (found,)


def _calibrations(
    model: Any,
    root: torch.nn.Module,
    shared: Sequence[SharedInput],
    runners: Sequence[SampleRunner],
    types: tuple[type[torch.nn.Module], ...],
    given: Calibrator | None,
) -> Calibrations:
    """Return the given histograms, or those of the samples, by halves."""
    if given is not None:
        return Calibrations(given)
    halves = tuple(
        _observed(model, root, shared, runners[half::2], types) for half in range(2)
    )
    return Calibrations(halves[0] + halves[1], halves)


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


def _of_modules(shared: SharedInput, observed: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the inputs of some modules."""
    return tuple(
        name
        for name in observed
        for path in shared.paths
        if (name == path or name.startswith((f"{path}#", f"{path}:input")))
        and not name.endswith(":skipped")
    )


def _with_ranges(
    shared: Sequence[SharedInput], observed: Sequence[str]
) -> tuple[list[SharedInput], list[str]]:
    """Return what was observed, and a note on the rest.

    Raises
    ------
    CalibrationError
        If nothing was.
    """
    known = [each for each in shared if _of_modules(each, observed)]
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
