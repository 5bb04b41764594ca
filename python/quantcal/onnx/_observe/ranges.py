"""From histograms to the ranges of all tensors that are rounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from quantcal._compute import compute_params
from quantcal.calibrator import Calibrator
from quantcal.formats import QuantFormat
from quantcal.onnx._options.names import resolve_node_rules
from quantcal.onnx._plan.plan import Plan
from quantcal.params import QuantParams
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable
from quantcal.tensor_report import TensorReport

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared


def share_histograms(observed: Calibrator, plan: Plan) -> Calibrator:
    """Give every tensor that is rounded the histogram of its group.

    Tensors that share a range by construction get one histogram, the exact sum of their
    histograms. Tensors that no sample reached get none. Each histogram notes the format
    that it is intended for.

    Parameters
    ----------
    observed : Calibrator
        Of the tensors in ``plan.observed``, or an earlier result of this function, which
        gives the same result again.
    plan : Plan

    Returns
    -------
    Calibrator
        A new one, with the same settings.
    """
    shared = Calibrator(
        mantissa_bits=observed.mantissa_bits, on_nonfinite=observed.on_nonfinite
    )
    shared.add_stats(
        (name, observed.stats(source).copy())
        for name, sources in plan.sources.items()
        for source in [s for s in sources if s in observed] or [name]
        if source in observed
    )
    shared.add_formats({n: [plan.formats[n]] for n in plan.sources if n in shared})
    return shared


def resolve_policy(policy: Policy, prepared: Prepared, known: Iterable[str]) -> Policy:
    """Return the policy with tensors in place of nodes; refuse unused rules.

    A rule is left out if it matches only nodes that stay in float to limit the size.

    Parameters
    ----------
    policy : Policy
    prepared : Prepared
    known : iterable of str
        Other tensors that have a histogram.
    """
    plan = prepared.plan
    first = plan.before_limit or plan
    policy = resolve_node_rules(
        policy, plan.beside, first.beside, prepared.converted.label
    )
    names = [*known, *plan.tensors]
    if names:
        policy.assign(names)
    return policy


def compute_ranges(
    calibrator: Calibrator,
    policy: Policy,
    prepared: Prepared,
    among: Iterable[str] | None = None,
) -> CalibrationTable:
    """Compute the range of every tensor that was observed, each in its format.

    The policy's rules may match the tensors in ``among``, those observed by default.
    """
    formats = prepared.plan.formats
    default = prepared.options.activation_type
    assigned, unused = policy.assign(calibrator if among is None else among)
    params: dict[str, QuantParams] = {}
    report: dict[str, TensorReport] = {}
    for format in dict.fromkeys([default, *formats.values()]):
        names = [n for n in calibrator if formats.get(n, default) == format]
        tasks = [(name, calibrator.stats(name), *assigned[name]) for name in names]
        decided = compute_params(tasks, QuantFormat(format))
        params |= dict(zip(names, (each for each, _ in decided), strict=True))
        report |= dict(zip(names, (entry for _, entry in decided), strict=True))
    order = list(calibrator)
    return CalibrationTable(
        {name: params[name] for name in order},
        {name: report[name] for name in order},
        unused_rules=unused,
    )
