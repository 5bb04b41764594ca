"""Where the weights of a model lie that has them in files: found, checked, and named anew.

A cache keeps links: of Hugging Face's, ``snapshots/…/model.onnx`` and its ``model.onnx_data``
point at two files of hexadecimal names in ``blobs``. onnx reads no weights through links,
and onnxruntime none when it gets the model as bytes. So every location becomes that of the
file itself, as seen from one folder that holds them all.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import kind_of
from quantcal._io.files import is_text
from quantcal.onnx._graph.external import Place, external_tensors

if TYPE_CHECKING:
    import onnx


def locate_files(proto: onnx.ModelProto, path: Path, label: str) -> Path:
    """Point every external tensor at its file, and return the folder that they start from.

    Each is looked for beside the path as given, then beside the file that the path links
    to. As in onnxruntime, what a location or a link leads to must lie in one of these two
    folders: a downloaded model shall not make others of the user's files its weights.

    Parameters
    ----------
    proto : ModelProto
        Its locations are changed.
    path : Path
        Of the model.
    label : str
        Names the model in errors.

    Raises
    ------
    CalibrationError
        When a file is missing, too short, something else, or outside; names it, and a
        weight that lies in it.
    """
    roots = list(dict.fromkeys((path.parent.resolve(), path.resolve().parent)))
    tensors = [(tensor, Place.of(tensor, label)) for tensor in external_tensors(proto)]
    found: dict[str, Path] = {}
    for tensor, place in tensors:
        where = f"Cannot read {label}: its weight {tensor.name!r} lies in"
        if place.location not in found:
            found[place.location] = _find(place.location, roots, where)
        _check_size(found[place.location], place, where)
    folder = _common(list(found.values()), roots, label)
    if not is_text(folder):
        raise CalibrationError(
            f"The weights of {label} lie in the folder {folder}, whose path is not UTF-8, as "
            "onnx and onnxruntime want it. Move the model to another folder."
        )
    for tensor, place in tensors:
        moved = found[place.location].relative_to(folder).as_posix()
        next(e for e in tensor.external_data if e.key == "location").value = moved
    return folder


def _find(location: str, roots: list[Path], where: str) -> Path:
    """Return the file itself, whatever links lead to it."""
    if Path(location).is_absolute() or location.startswith("/"):
        raise CalibrationError(
            f"{where} {location!r}, an absolute path, which onnxruntime refuses. Save the "
            "model again with its weights beside it."
        )
    candidates = [root / location for root in roots]
    try:
        file = next((each for each in candidates if each.is_file()), None)
        real = None if file is None else file.resolve()
    except (
        OSError,
        RuntimeError,
    ) as error:  # a name too long, no access, a ring of links
        raise CalibrationError(f"{where} {location!r:.200}: {error!s:.200}") from error
    if real is None:
        raise CalibrationError(
            f"{where} {' or '.join(repr(str(each)) for each in candidates)}, which is no "
            "file. Put it there again."
        )
    if not any(real.is_relative_to(root) for root in roots):
        raise CalibrationError(
            f"{where} {str(real)!r}, outside of the model's folder, where onnxruntime reads "
            f"no weights. Copy that file to {str(roots[0] / PurePath(location).name)!r}."
        )
    return real


def _check_size(file: Path, place: Place, where: str) -> None:
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
        "Is it cut short, or of another model? Fetch it again."
    )


def _common(files: list[Path], roots: list[Path], label: str) -> Path:
    for root in roots:
        if all(file.is_relative_to(root) for file in files):
            return root
    try:
        return Path(os.path.commonpath(roots))
    except ValueError as error:  # Windows: two drives
        raise CalibrationError(
            f"The weights of {label} lie on two drives. Copy the model and its weights "
            "into one folder."
        ) from error
