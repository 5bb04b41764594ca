"""Strategies: each computes a range from a histogram and a format. One file per strategy."""

from quantcal.strategies.aciq import ACIQ
from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Explains, Strategy, UsesObservations
from quantcal.strategies.entropy import MaxEntropy
from quantcal.strategies.fixed import Fixed
from quantcal.strategies.hybrid import Hybrid
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.policy import Policy
from quantcal.strategies.registry import names, resolve

__all__ = [
    "ACIQ",
    "KL",
    "MSE",
    "Auto",
    "Explains",
    "Fixed",
    "Hybrid",
    "MaxEntropy",
    "MinMax",
    "Percentile",
    "Policy",
    "Strategy",
    "UsesObservations",
    "names",
    "resolve",
]


def __dir__() -> list[str]:
    return sorted(__all__)
