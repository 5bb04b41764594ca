"""The block formats MXFP8, MXFP4 and NVFP4, in which neighboring elements share a scale.

| | Elements | Block size | Scale | Bits per value |
|---|---|---|---|---|
| `MXFP8` | float8_e4m3fn or float8_e5m2 | 32 | float8_e8m0fnu, a power of two | 8.25 |
| `MXFP4` | float4_e2m1fn | 32 | float8_e8m0fnu | 4.25 |
| `NVFP4` | float4_e2m1fn | 16 | float8_e4m3fn, times one float32 per tensor | 4.5 |

Measured signal to quantization noise ratio (SQNR) of 2^22 values, in decibels:

| | MXFP8, e4m3fn | MXFP8, e5m2 | MXFP4 | NVFP4 |
|---|---|---|---|---|
| N(0, 1) | 30.6 | 25.4 | 18.8 | 20.4 |
| Laplace | 30.0 | 25.2 | 17.9 | 20.7 |

Blocks lie along the last axis. First move the axis that a product sums over there, for
instance with `numpy.moveaxis`. An incomplete last block is padded with zeros, which are
removed afterwards.

Sources: OCP Microscaling Formats (MX) Specification v1.0, 2023; NVIDIA, "Pretraining Large
Language Models with NVFP4", 2025.
"""

from quantcal.blocks.base import BlockFormat
from quantcal.blocks.formats import MXFP4, MXFP8, NVFP4
from quantcal.blocks.statistics import BlockStatistics
from quantcal.blocks.tensor import BlockTensor

__all__ = ["MXFP4", "MXFP8", "NVFP4", "BlockFormat", "BlockStatistics", "BlockTensor"]


def __dir__() -> list[str]:
    return sorted(__all__)
