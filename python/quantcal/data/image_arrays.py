"""From an open image to the array of an input: fitting, scaling, order of axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.data.image_plan import ImagePlan
from quantcal.data.inputs import Array

if TYPE_CHECKING:
    from PIL import Image

_PADDING = 114
"""The gray of YOLO's letterbox (Ultralytics), the most common model that pads."""


def fit_image(
    image: Image.Image, size: tuple[int, int], fit: str, resize: int | None
) -> Image.Image:
    """Return an image of a size.

    Parameters
    ----------
    image
        In its final color.
    size
        Height and width.
    fit
        ``"crop"`` scales the image until it covers the size, and cuts equal parts from both
        ends. ``"stretch"`` changes the proportions. ``"pad"`` scales it until it fits in,
        and fills both ends with gray.
    resize
        The shorter side before a crop; None for as small as the crop allows.

    Returns
    -------
    Scaled with Pillow's bilinear filter, whose support grows when an image shrinks.
    """
    from PIL import Image

    height, width = size
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    if fit == "pad":
        return _pad(image, size)
    wide, high = _covering(image.size, size, resize)
    image = image.resize((wide, high), Image.Resampling.BILINEAR)
    # As torchvision's CenterCrop: Python rounds halves to even.
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _covering(
    old: tuple[int, int], size: tuple[int, int], resize: int | None
) -> tuple[int, int]:
    """Return the width and height that cover a size, as torchvision's Resize rounds."""
    (wide, high), (height, width) = old, size
    if resize is not None:
        short = min(wide, high)
        sides = int(resize * wide / short), int(resize * high / short)
        return max(sides[0], resize), max(sides[1], resize)
    if wide * height <= high * width:  # the width decides
        return width, max(height, int(width * high / wide))
    return max(width, int(height * wide / high)), height


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    height, width = size
    scale = min(width / image.width, height / image.height)
    wide = max(1, min(width, round(image.width * scale)))
    high = max(1, min(height, round(image.height * scale)))
    bands = len(image.getbands())
    gray: Any = _PADDING if bands == 1 else (_PADDING,) * 3 + (255,) * (bands - 3)
    padded = Image.new(image.mode, (width, height), gray)
    inner = image.resize((wide, high), Image.Resampling.BILINEAR)
    padded.paste(inner, ((width - wide) // 2, (height - high) // 2))
    return padded


def to_array(image: Image.Image, plan: ImagePlan) -> Array:
    """Return the values of an image, without an axis of images.

    In float32: ``(pixel / divide_by - mean) / std``, then the type of the input.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if plan.color == "bgr":
        pixels = pixels[..., ::-1]
    values: Array = pixels
    if plan.divide_by is not None:
        values = pixels.astype(np.float32) / np.float32(plan.divide_by)
        if plan.mean:
            values = values - np.array(plan.mean, np.float32)
        if plan.std:
            values = values / np.array(plan.std, np.float32)
    if plan.channels_first:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values).astype(plan.dtype)
