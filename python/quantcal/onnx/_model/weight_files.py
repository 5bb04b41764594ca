"""Finding and checking the files of external data, through links too.

Caches consist of links. In Hugging Face's, ``snapshots/…/model.onnx`` and its
``model.onnx_data`` link to two files in ``blobs`` with hexadecimal names. onnx does not
follow links to weights, nor does onnxruntime when it gets the model as bytes. So each
location is replaced by that of the file itself, relative to one common folder.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import kind_of
from quantcal._io.files import is_text
from quantcal.onnx._graph.external_data import ExternalData, external_tensors

if TYPE_CHECKING:
    import onnx


def locate_weights(proto: onnx.ModelProto, path: Path, label: str) -> Path:
    """Set the location of all external tensors to the file itself; return its folder.

    Files are searched beside the path as given, then beside the file that the path links
    to. As in onnxruntime, each file must be in one of these two folders, also after
    following links. Otherwise a downloaded model could read any file of the user.

    Parameters
    ----------
    proto : ModelProto
        The locations in it are changed.
    path : Path
        The path of the model.
    label : str
        The name of the model in errors.

    Raises
    ------
    CalibrationError
        When a file is missing, too short, of another kind, or outside of the folders.
        Names the file and one of its weights.
    """
    roots = list(dict.fromkeys((path.parent.resolve(), path.resolve().parent)))
    tensors = [
        (tensor, ExternalData.of(tensor, label)) for tensor in external_tensors(proto)
    ]
    found: dict[str, Path] = {}
    for tensor, place in tensors:
        where = f"Cannot read {label}: its weight {tensor.name!r} is in"
        if place.location not in found:
            found[place.location] = _find(place.location, roots, where)
        _check_size(found[place.location], place, where)
    folder = _common_folder(list(found.values()), roots, label)
    if not is_text(folder):
        raise CalibrationError(
            f"The weights of {label} are in the folder {folder}, whose path is not UTF-8. "
            "onnx and onnxruntime need UTF-8. Move the model to another folder."
        )
    for tensor, place in tensors:
        moved = found[place.location].relative_to(folder).as_posix()
        next(e for e in tensor.external_data if e.key == "location").value = moved
    return folder


def _find(location: str, roots: list[Path], where: str) -> Path:
    """Return the file of a location, with links resolved."""
    if Path(location).is_absolute() or location.startswith("/"):
        raise CalibrationError(
            f"{where} {location!r}, an absolute path, which onnxruntime refuses. Save the "
            "model again with its weights beside it."
        )
    candidates = [root / location for root in roots]
    try:
        file = next((each for each in candidates if each.is_file()), None)
        real = None if file is None else file.resolve()
    # A name that is too long, no access, or a cycle of links.
    except (OSError, RuntimeError) as error:
        raise CalibrationError(f"{where} {location!r:.200}: {error!s:.200}") from error
    if real is None:
        raise CalibrationError(
            f"{where} {' or '.join(repr(str(each)) for each in candidates)}, which is not "
            "a file. Put the file of weights there."
        )
    if not any(real.is_relative_to(root) for root in roots):
        inside = str(roots[0] / PurePath(location).name)
        raise CalibrationError(
            f"{where} {str(real)!r}, outside of the model's folder. onnxruntime does not "
            f"read weights there. Copy that file to {inside!r}."
        )
    return real


def _check_size(file: Path, place: ExternalData, where: str) -> None:
    size = file.stat().st_size
    if place.end <= size:
        return
    kind = kind_of(file)
    if kind is not None:
        raise CalibrationError(
            f"{where} {str(file)!r}, which is {kind.what}. {kind.remedy}"
        )
    raise CalibrationError(
        f"{where} {str(file)!r} up to byte {place.end}, but the file has {size} bytes. "
        "It may be truncated or belong to another model. Download it again."
    )


def _common_folder(files: list[Path], roots: list[Path], label: str) -> Path:
    for root in roots:
        if all(file.is_relative_to(root) for file in files):
            return root
    try:
        return Path(os.path.commonpath(roots))
    except ValueError as error:  # Windows: two drives
        raise CalibrationError(
            f"The weights of {label} are on two drives. Copy the model and its weights into "
            "one folder."
        ) from error
