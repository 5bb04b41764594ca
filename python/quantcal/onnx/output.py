"""Putting a finished model in its place: checked, at once, and nothing else written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal import CalibrationError
from quantcal.onnx.check_written import check_written
from quantcal.onnx.external import move_out
from quantcal.onnx.inputs import Feed

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.model import Model

# A protobuf file holds at most 2 GiB; beyond, the weights go to a file beside it.
_MAX_FILE = 2**31 - 2**20


def check_output(model: Model, output: str | os.PathLike[str]) -> Path:
    """Refuse an output that cannot be written, before any work is done."""
    target = Path(output)
    if target.is_dir():
        raise CalibrationError(f"The output {target} is a folder. Give a file's path.")
    if not target.parent.is_dir():
        raise CalibrationError(f"The folder {target.parent} of the output is missing.")
    if not os.access(target.parent, os.W_OK):
        raise CalibrationError(f"The folder {target.parent} cannot be written to.")
    source = Path(model) if isinstance(model, (str, os.PathLike)) else None
    if source and source.exists() and target.exists() and target.samefile(source):
        raise CalibrationError(
            f"The output {target} is the model itself, which is never changed. "
            "Give another path."
        )
    return target


def save(proto: onnx.ModelProto, target: Path, label: str, sample: Feed | None) -> int:
    """Write beside the target, check and load it there, then replace the target.

    Returns the size in bytes, with the weights that lie beside it.
    """
    import onnx

    external = proto.ByteSize() > _MAX_FILE
    weights = f"{target.name}.data"
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", dir=target.parent
    ) as folder:
        made = Path(folder) / target.name
        if external:
            move_out(proto, Path(folder), weights)
        onnx.save_model(proto, str(made))
        check_written(made, f"the quantized copy of {label}", sample)
        size = made.stat().st_size
        if external:
            size += made.with_name(weights).stat().st_size
            made.with_name(weights).replace(target.with_name(weights))
        made.replace(target)
    return size
