"""Samples of images: a folder of files, or images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.folders import IMAGES, find_files
from quantcal.data.image_arrays import fit_image, to_array
from quantcal.data.image_files import open_image, require
from quantcal.data.image_options import ImageOptions, check_options
from quantcal.data.image_plan import is_image, plan_images
from quantcal.data.inputs import Array, Input, UsualInput, describe_input, needed
from quantcal.data.option_names import COLORS
from quantcal.data.source import (
    Bound,
    Named,
    SampleSource,
    as_count,
    as_paths,
    description,
    fill,
    in_groups,
)
from quantcal.data.thinning import spread


class ImageSource(SampleSource):
    """Images as samples; made by :func:`images`.

    Attributes
    ----------
    files : tuple of Path
        The files, in the order of the samples.
    """

    def __init__(
        self,
        items: Sequence[Any],
        folder: Path | None,
        options: ImageOptions,
        constants: object,
        most: int | None = None,
    ) -> None:
        # Classes are those of all files, so that a few have the same labels as all.
        self._all_files = as_paths(items) if _holds_paths(items) else ()
        items = spread(items, most)
        super().__init__(as_paths(items) if self._all_files else (), constants)
        self._items = items
        self._folder = folder
        self._options = options

    def __repr__(self) -> str:
        return description(len(self._items), "image", self._folder or "memory")

    @property
    def classes(self) -> tuple[str, ...]:
        """The folders directly in the given one that hold images, in the order of names.

        Those without an image among ``max_samples`` count too.
        """
        return tuple(sorted({n for n in self._class_names(self._all_files) if n}))

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """The class of each image: the place of its folder among `classes`.

        As torchvision's ImageFolder counts them.

        Raises
        ------
        CalibrationError
            If an image is not in a folder of a class.
        """
        names = self._class_names(self.files)
        if not all(names):
            raise CalibrationError(
                f"{self!r}: images that are not in a folder for their class have no label. "
                "Put each class into a folder with its name."
            )
        places = {name: place for place, name in enumerate(self.classes)}
        return tuple(places[name] for name in names)

    def is_right(
        self, index: int, feed: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> float:
        """Return 1.0 if the largest value of the first output is at the label, else 0.0.

        A metric for :func:`quantcal.onnx.evaluate` and for those that choose.

        Raises
        ------
        CalibrationError
            If the model takes several images at a time, or an image has no class.
        """
        if any(np.ndim(each) == 4 and len(each) > 1 for each in feed.values()):
            raise CalibrationError(
                "The classes of folders are for models that take one image at a time. Export "
                "the model with a batch of any size, or give another metric."
            )
        scores = np.ravel(next(iter(outputs.values())))
        return float(int(np.argmax(scores)) == self.labels[index])

    def usual_inputs(self) -> Sequence[Input]:
        """Return one input of a batch of any size, named "images"."""
        channels = COLORS[self._options.color or "rgb"]
        inner: tuple[int | None, ...] = (channels, None, None)
        if self._options.layout == "nhwc":
            inner = (None, None, channels)
        return [UsualInput("images", np.dtype(np.float32), (None, *inner))]

    def bind(self, inputs: Sequence[Input]) -> Bound:
        """Return the samples for a model."""
        plan = plan_images(_find_input(inputs, self.constants), self._options)
        constants = fill(self.constants, inputs)
        options = self._options

        def arrays() -> Iterator[tuple[str, Array]]:
            require()
            for number, item in enumerate(self._items):
                named = isinstance(item, (str, os.PathLike))
                where = os.fspath(item) if named else f"number {number}"
                image = open_image(item, plan.color, where)
                fitted = fit_image(image, plan.size, options.fit, options.resize)
                yield where, to_array(fitted, plan)

        if plan.batch is None:

            def single() -> Iterator[Named]:
                return ((where, {plan.name: a} | constants) for where, a in arrays())

            return Bound(single, len(self._items))
        groups, count = in_groups(arrays, len(self._items), plan.batch, "images")

        def start() -> Iterator[Named]:
            for where, group in groups():
                yield where, {plan.name: np.stack(group)} | constants

        return Bound(start, count)

    def _class_names(self, files: Sequence[Path]) -> list[str]:
        if self._folder is None or not self._folder.is_dir():
            return [""] * len(self._items)
        parts = [file.relative_to(self._folder).parts for file in files]
        return [part[0] if len(part) > 1 else "" for part in parts]


def images(
    source: str | os.PathLike[str] | Sequence[Any],
    size: int | Sequence[int] | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    layout: str | None = None,
    color: str | None = None,
    fit: str = "crop",
    resize: int | None = None,
    divide_by: float | None = None,
    max_samples: int | None = None,
    constants: Mapping[str, Any] | None = None,
) -> ImageSource:
    """Make samples of images.

    Values are ``(pixel / divide_by - mean) / std`` in float32, then in the model's type. An
    input of whole numbers gets the pixels as they are, from 0 to 255. Use the same
    preparation as where the model runs: other values give other ranges.

    Parameters
    ----------
    source
        A folder, with the folders in it; one file; or a sequence of paths, images of Pillow,
        or arrays of bytes [height, width, 3], such as the column of a dataset. Hidden files
        are skipped. Of a folder, files with the usual endings are read, in the order of
        names.
    size
        Side of the square image, or height and width. Default: what the model's input fixes.
    mean, std
        One number, or one for each channel in the model's order. Default: 0 and 1.
    layout
        ``"nchw"`` or ``"nhwc"``: where the channels are. Default: what the shape shows, which
        is the axis of 1, 3 or 4; if the shape is unknown, nchw.
    color
        ``"rgb"``, ``"bgr"``, ``"gray"`` or ``"rgba"``. Default: by the number of channels,
        with rgb for three. Models that were trained with OpenCV take bgr.
    fit
        ``"crop"``: the shorter side is scaled to the size, and the middle is cut out. The
        default, as it keeps proportions and adds no pixels, and as classifiers are
        evaluated so. ``"stretch"`` keeps all of the image but not the proportions;
        ``"pad"`` keeps both and fills the rest with gray 114, as YOLO does. Bilinear.
    resize
        The shorter side before the crop, such as 256 for a size of 224. Default: the size.
    divide_by
        255 by default, for values from 0 to 1. With 1, mean and std are those of values from
        0 to 255.
    max_samples
        Take at most so many images, evenly spread over the folder. Default: all.
    constants
        Other inputs of the model, the same in each sample: an array, or a number that fills
        the input.

    Returns
    -------
    ImageSource
        Images are opened one at a time, turned upright by their EXIF orientation and
        converted to the color. Transparency is dropped. Gray of 16 bits keeps its upper 8.

    Raises
    ------
    CalibrationError
        If there are no images (says what was found), an option is wrong, or options and model
        do not fit. While iterating, if an image is damaged: names it.
    ImportError
        If Pillow is missing.

    Examples
    --------
    >>> pixels = np.zeros((300, 400, 3), np.uint8)
    >>> photos = qc.data.images([pixels], size=224, mean=0.5, std=0.5)
    >>> next(iter(photos))["images"].shape
    (1, 3, 224, 224)
    """
    options = check_options(
        size=size,
        resize=resize,
        fit=fit,
        mean=mean,
        std=std,
        divide_by=divide_by,
        layout=layout,
        color=color,
    )
    require()
    most = as_count("max_samples", max_samples)
    folder: Path | None = None
    items: Sequence[Any]
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source)
        items = find_files(folder, IMAGES, "an image")
    else:
        items = _as_sequence(source)
    return ImageSource(items, folder, options, constants, most)


def _holds_paths(items: Sequence[Any]) -> bool:
    """Whether the first item is a path; a dataset would decode all images for more."""
    return isinstance(next(iter(items), None), (str, os.PathLike))


def _as_sequence(source: object) -> Sequence[Any]:
    # A column of a dataset decodes an image when it is asked for one.
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if indexed and not isinstance(source, (Mapping, np.ndarray)) and len(source):  # type: ignore[arg-type]
        return source  # type: ignore[return-value]
    given = "none" if isinstance(source, Iterable) else f"a {type(source).__name__}"
    raise CalibrationError(
        f"The images are {given}. Give a folder, or a list of paths, images of Pillow or "
        "arrays of bytes [height, width, 3]."
    )


def _find_input(inputs: Sequence[Input], constants: Iterable[str]) -> Input:
    """Return the input that takes images: the only one, or the only one of four axes."""
    open_inputs = needed(inputs, constants)
    if len(open_inputs) == 1:
        return open_inputs[0]
    found = [spec for spec in open_inputs if is_image(spec)]
    if len(found) != 1:
        listed = ", ".join(map(describe_input, open_inputs)) or "no further input"
        raise CalibrationError(
            f"The model wants {listed}: {len(found)} inputs that could be images. Make the "
            "samples by code: python:module:callable, which yields {input name: array}."
        )
    others = [spec for spec in open_inputs if spec is not found[0]]
    raise CalibrationError(
        f"The model also wants {', '.join(map(describe_input, others))}. Give what each "
        f"sample has there: constants={{{others[0].name!r}: …}} "
        f"(--constant {others[0].name}=NUMBER)."
    )
