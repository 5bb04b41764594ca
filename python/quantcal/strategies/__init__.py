"""Strategies: each maps a histogram and a format to a range. One file a strategy."""

from quantcal.strategies.base import Strategy
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.policy import Policy
from quantcal.strategies.registry import names, resolve

__all__ = [
    "KL",
    "MSE",
    "MinMax",
    "Percentile",
    "Policy",
    "Strategy",
    "names",
    "resolve",
]
