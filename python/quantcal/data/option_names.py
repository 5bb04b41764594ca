"""The names of the options: as the command line has them, and the words that some take.

Imports nothing, as the help of the command line reads it.
"""

from __future__ import annotations

from typing import Final

FLAGS: Final = {
    "size": "--image-size",
    "resize": "--resize",
    "fit": "--fit",
    "mean": "--mean",
    "std": "--std",
    "divide_by": "--divide-by",
    "layout": "--layout",
    "color": "--color",
    "sample_rate": "--sample-rate",
    "channels": "--channels",
    "tokenizer": "--tokenizer",
    "length": "--length",
    "max_samples": "--max-samples",
    "constants": "--constant",
}
"""Option of a reader → its flag."""

FITS: Final = ("crop", "stretch", "pad")
LAYOUTS: Final = ("nchw", "nhwc")
COLORS: Final = {"rgb": 3, "bgr": 3, "gray": 1, "rgba": 4}
"""Color → number of channels."""
