"""What a model's input says about images: axes, size, channels, and how many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.image_options import ImageOptions
from quantcal.data.inputs import Input, describe_input, is_float, is_integer
from quantcal.data.option_names import COLORS

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImagePlan:
    """How images become the array of an input.

    Attributes
    ----------
    name, dtype
        Those of the input.
    batch
        How many images an array has; None if it has no axis of images.
    size
        Height and width.
    color
        A key of `COLORS`.
    channels_first
        Whether the axis of channels comes before those of pixels.
    mean, std
        One number, or one for each channel.
    divide_by
        What pixels are divided by first; None to keep them as whole numbers.
    """

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    size: tuple[int, int]
    color: str
    channels_first: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    divide_by: float | None


def is_image(spec: Input) -> bool:
    """Return whether an input may be an image: four dimensions, or three with channels."""
    if spec.shape is None or not (is_float(spec) or is_integer(spec)):
        return False
    ends = (spec.shape[0], spec.shape[-1]) if spec.shape else ()
    return len(spec.shape) == 4 or (
        len(spec.shape) == 3 and any(n in _CHANNELS for n in ends)
    )


def find_layout(spec: Input) -> str | None:
    """Return the layout that a shape shows; None if it shows none, or both."""
    shape = (spec.shape or ())[-3:]
    if len(shape) != 3:
        return None
    first, last = (shape[place] in _CHANNELS for place in (0, -1))
    if first != last:
        return "nchw" if first else "nhwc"
    # Where nothing is known, ONNX's own: its Conv takes no other.
    return "nchw" if shape == (None, None, None) else None


def find_size(spec: Input, layout: str) -> tuple[int | None, int | None]:
    """Return the height and the width that a shape fixes."""
    shape = spec.shape or ()
    height, width = shape[-2:] if layout == "nchw" else shape[-3:-1]
    return height, width


def plan_images(spec: Input, options: ImageOptions) -> ImagePlan:
    """Return how images become the array of an input.

    Raises
    ------
    CalibrationError
        If the options and the input do not fit together.
    """
    wants = f"The model wants {describe_input(spec)}"
    shape = spec.shape
    if shape is None or len(shape) not in (3, 4) or spec.dtype is None:
        raise CalibrationError(f"{wants}, which is not an image or several.")
    layout = options.layout or find_layout(spec)
    if layout is None:
        raise CalibrationError(
            f"{wants}. Say which axis has the channels: layout (--layout) nchw or nhwc."
        )
    known = find_layout(spec)
    if known not in (None, layout) and any(shape[-3:]):
        raise CalibrationError(
            f"{wants}: its shape shows {known}, but layout (--layout) is {layout}. Leave it "
            "out."
        )
    channels = shape[-3] if layout == "nchw" else shape[-1]
    color = options.color or {1: "gray", 4: "rgba"}.get(channels or 3, "rgb")
    if channels not in (None, COLORS[color]):
        raise CalibrationError(
            f"{wants}: in the layout {layout} an image has {channels} channels, but "
            f"{color} has {COLORS[color]}. Change color (--color) or layout (--layout)."
        )
    size = _size(options, find_size(spec, layout), wants)
    if options.resize is not None and options.resize < max(size):
        raise CalibrationError(
            f"resize is {options.resize}, smaller than the crop of {_shown(size)} pixels. "
            "Give a larger one, or leave it out."
        )
    for name, values in (("mean", options.mean), ("std", options.std)):
        if len(values) not in (0, 1, COLORS[color]):
            raise CalibrationError(
                f"{name} has {len(values)} numbers, but {color} has {COLORS[color]} "
                "channels. Give one number, or one for each channel."
            )
    floating = is_float(spec)
    if not floating and (options.scaled or not is_integer(spec)):
        raise CalibrationError(
            f"{wants}: whole numbers, so pixels are given as they are, from 0 to 255. "
            "Leave out mean, std and divide_by (--mean, --std, --divide-by)."
        )
    if spec.dtype == np.int8:
        raise CalibrationError(
            f"{wants}, and int8 does not hold pixels from 0 to 255. Make the samples by "
            "code: python:module:callable, which yields {input name: array}."
        )
    return ImagePlan(
        name=spec.name,
        dtype=spec.dtype,
        batch=None if len(shape) == 3 else shape[0] or 1,
        size=size,
        color=color,
        channels_first=layout == "nchw",
        mean=options.mean,
        std=options.std,
        divide_by=(options.divide_by or 255.0) if floating else None,
    )


def _size(
    options: ImageOptions, fixed: Sequence[int | None], wants: str
) -> tuple[int, int]:
    given = options.size or (None, None)
    pairs = list(zip(given, fixed, strict=True))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        model = " × ".join("any" if side is None else str(side) for side in fixed)
        raise CalibrationError(
            f"{wants}: images of {model} pixels, but size (--image-size) is "
            f"{_shown(options.size)}. Leave it out, or give that of the model."
        )
    sides = [one or other for one, other in pairs]
    if None in sides:
        raise CalibrationError(
            f"{wants}: images of any size. Give the one that it was trained with: size "
            "(--image-size), such as 224, or height and width."
        )
    height, width = (int(side or 0) for side in sides)
    return height, width


def _shown(size: Sequence[int] | None) -> str:
    return " × ".join(map(str, size or ()))
