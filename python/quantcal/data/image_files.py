"""Opening an image: orientation, colors and depth, as the usual loaders have them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._process import imports

if TYPE_CHECKING:
    from PIL import Image

_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L", "rgba": "RGBA"}


def require() -> None:
    """Import Pillow, or raise an error that says how to install it."""
    imports.require(
        ("PIL.Image", "PIL.ImageOps"), "quantcal.data.images needs", "images", "Pillow"
    )


def open_image(source: Any, color: str, where: str) -> Image.Image:
    """Return an image upright and in a color; channels of bgr are still in the order rgb.

    Transparency is dropped, as by OpenCV and by `convert("RGB")`. Gray of 16 bits keeps its
    upper 8. Of several frames or pages the first is taken.

    Parameters
    ----------
    source
        A path, an image of Pillow, or an array of bytes [height, width] or [height, width,
        channels] in the order rgb.
    color
        rgb, bgr, gray or rgba.
    where
        The name in errors.

    Raises
    ------
    CalibrationError
        If it cannot be read; names it and says what to do.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and of odd metadata, which do no harm here.
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                return _upright(source, color)
            if isinstance(source, np.ndarray):
                return _upright(_from_array(source), color)
            with Image.open(os.fspath(source)) as opened:
                return _upright(opened, color)
    except UnidentifiedImageError as error:
        raise CalibrationError(_unknown(where)) from error
    except Exception as error:  # Pillow's decoders raise anything
        raise CalibrationError(
            f"Cannot read the image {where}: {error}. Take it out of the folder, or save "
            "it again with a program that can open it."
        ) from error


def _upright(image: Image.Image, color: str) -> Image.Image:
    from PIL import ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(
            "it holds floats, whose black and white are not known; save it with 8 bits"
        )
    if image.mode.startswith("I"):
        image = _from_deep(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(_MODES[color])


def _from_deep(image: Image.Image) -> Image.Image:
    """Return gray of 16 bits with 8; Pillow's own conversion would clip it at 255."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
        raise ValueError(
            "it holds more than 16 bits, whose white is not known; save it with 8 bits"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_array(array: Any) -> Image.Image:
    from PIL import Image

    if array.dtype != np.uint8:
        raise ValueError(
            f"it is an array of {array.dtype}; give bytes from 0 to 255, [height, width, "
            "channels]"
        )
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _unknown(where: str) -> str:
    suffix = Path(where).suffix
    heic = suffix.lower() in (".heic", ".heif")
    more = " Convert it to JPEG or PNG." if heic else ""
    return (
        f"Cannot read the image {where}: its content is not an image, or of a kind that "
        f"this Pillow does not know.{more} Take it out of the folder, or save it again."
    )
