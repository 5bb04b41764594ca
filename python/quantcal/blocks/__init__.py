"""Block formats, MXFP8, MXFP4 and NVFP4: neighbouring elements share a small scale.

| | elements | a block | its scale | bits a value |
|---|---|---|---|---|
| `MXFP8` | float8_e4m3fn or float8_e5m2 | 32 | float8_e8m0fnu, a power of two | 8.25 |
| `MXFP4` | float4_e2m1fn | 32 | float8_e8m0fnu | 4.25 |
| `NVFP4` | float4_e2m1fn | 16 | float8_e4m3fn, times one float32 a tensor | 4.5 |

Signal over quantisation noise (SQNR) of 2^22 values, in decibels, measured:

| | MXFP8, e4m3fn | MXFP8, e5m2 | MXFP4 | NVFP4 |
|---|---|---|---|---|
| N(0, 1) | 30.6 | 25.4 | 18.8 | 20.4 |
| Laplace | 30.0 | 25.2 | 17.9 | 20.7 |

Blocks lie along the last axis; move the axis that is summed over there first, for instance
with `numpy.moveaxis`. A last block that is not full counts as filled up with zeros, which are
cut off again.

Sources: OCP Microscaling Formats (MX) Specification v1.0, 2023; NVIDIA, "Pretraining Large
Language Models with NVFP4", 2025.
"""

from quantcal.blocks.base import BlockFormat
from quantcal.blocks.formats import MXFP4, MXFP8, NVFP4
from quantcal.blocks.statistics import BlockStatistics
from quantcal.blocks.tensor import BlockTensor

__all__ = ["MXFP4", "MXFP8", "NVFP4", "BlockFormat", "BlockStatistics", "BlockTensor"]
