"""How an image becomes the array that a model takes: the options, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.data.option_names import COLORS, FITS, LAYOUTS
from quantcal.data.source import as_count


@dataclass(frozen=True)
class ImageOptions:
    """The options of :func:`quantcal.data.images` in one form."""

    size: tuple[int, int] | None
    resize: int | None
    fit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    divide_by: float | None
    layout: str | None
    color: str | None

    @property
    def scaled(self) -> bool:
        """Whether an option asks for values other than the pixels."""
        return bool(self.mean or self.std or self.divide_by)


def check_options(
    *,
    size: object,
    resize: object,
    fit: object,
    mean: object,
    std: object,
    divide_by: object,
    layout: object,
    color: object,
) -> ImageOptions:
    """Return the options in one form.

    Raises
    ------
    CalibrationError
        If one is not what it must be; says what it may be.
    """
    checked = ImageOptions(
        size=_as_size(size),
        resize=as_count("resize", resize),
        fit=_one_of("fit", fit, FITS),
        mean=_as_reals("mean", mean),
        std=_as_reals("std", std),
        divide_by=_as_divisor(divide_by),
        layout=None if layout is None else _one_of("layout", layout, LAYOUTS),
        color=None if color is None else _one_of("color", color, COLORS),
    )
    if any(value <= 0 for value in checked.std):
        raise CalibrationError(f"std is {shown(std, 80)}. Give numbers above 0.")
    given = (("mean", mean, checked.mean), ("std", std, checked.std))
    for name, value, numbers in given if checked.divide_by is None else ():
        if max(map(abs, numbers), default=0) > 1:
            raise CalibrationError(
                f"{name} is {shown(value, 80)}, but pixels are divided by 255 first. Give "
                "mean and std of values from 0 to 1, or divide_by=1 (--divide-by 1) with "
                "those of values from 0 to 255."
            )
    if checked.resize is not None and checked.fit != "crop":
        raise CalibrationError(
            f"resize is the shorter side before the crop, and fit is {fit!r}. Leave one out."
        )
    return checked


def _as_size(size: object) -> tuple[int, int] | None:
    if size is None:
        return None
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        height, width = (as_count("size", side) for side in size)
    else:
        height = width = as_count("size", size)
    return None if height is None or width is None else (height, width)


def _as_reals(name: str, value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    try:
        found = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 1 or found.size not in (1, 3, 4) or not np.isfinite(found).all():
        raise CalibrationError(
            f"{name} is {shown(value, 80)}. Give one number, or one for each channel."
        )
    return tuple(found.tolist())


def _as_divisor(value: object) -> float | None:
    if value is None:
        return None
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not 0 < value < float("inf"):  # type: ignore[operator]
        raise CalibrationError(
            f"divide_by is {shown(value, 80)}. Give a number above 0: 255 for values from 0 "
            "to 1, or 1 for values from 0 to 255."
        )
    return float(value)  # type: ignore[arg-type]


def _one_of(name: str, value: object, known: Sequence[str] | dict[str, int]) -> str:
    if isinstance(value, str) and value.lower() in known:
        return value.lower()
    raise CalibrationError(f"{name} is {shown(value, 80)}. Give {', '.join(known)}.")
