"""One word for each tensor, and the reasons for it."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal._core import CalibrationError
from quantcal._statistics import Stats
from quantcal.advice.diagnosis import diagnose
from quantcal.params import QuantParams
from quantcal.tensor_report import TensorReport

FINE_DB = 30.0
"""From this SQNR on, rounding rarely changes a model's result: `NOTICEABLE` of advice."""

POOR_DB = 20.0
"""Below this SQNR the error's root mean square exceeds 10 % of the tensor's."""

_FEW = "too few samples"
"""A reason that says nothing about the error on the samples that there are."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word, "good", "check", "poor" or "no data", and its reasons.

    Attributes
    ----------
    word
        Empty where nothing is known.
    kinds
        The kinds of the reasons, as :class:`quantcal.advice.diagnosis.Diagnosis` names them.
    reasons
        In words.
    """

    word: str
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def judge_tensor(
    report: TensorReport | None,
    params: QuantParams | None,
    stats: Stats | None,
    samples: int | None,
) -> Verdict:
    """Return the verdict on a tensor's range.

    Parameters
    ----------
    report
        The errors of its range.
    params
        The range.
    stats
        Its histogram, which shows the reasons.
    samples
        The number of samples that were observed.
    """
    if report is None:
        return Verdict("")
    if report.min is None:
        return Verdict("no data", (), ("It held no finite value.",))
    kinds, reasons = _reasons(stats, params, samples)
    word = "good" if report.sqnr_db >= FINE_DB else "check"
    if report.sqnr_db < POOR_DB:
        word = "poor"
    elif set(kinds) - {_FEW}:
        word = "check"
    return Verdict(word, kinds, reasons)


def _reasons(
    stats: Stats | None, params: QuantParams | None, samples: int | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if stats is None or params is None:
        return (), ()
    try:
        found = diagnose(stats, params, samples=samples)
    except CalibrationError:  # by channel, but not the statistics, or the reverse
        return (), ()
    return tuple(each.kind for each in found), tuple(each.text for each in found)
