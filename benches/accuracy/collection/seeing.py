"""Networks that look at photographs: faces, and objects of puzzles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benches.accuracy.collection import agreement, drawings, images
from benches.accuracy.collection.case import Array, Case, Feed, Metric, Outputs
from tests.models.export import onnx_file

if TYPE_CHECKING:
    from quantcal.demo.lines import Split


def mtcnn_onet(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the last network of a face detector."""

    def feeds(split: Split, count: int) -> list[Feed]:
        return [
            {"image": _planes((crop - np.float32(127.5)) / 128)}
            for crop in images.faces(count, 48, split)
        ]

    return Case(
        "mtcnn-onet",
        "face, box and landmarks: convolutions, PRelu, dense layers",
        "crops of photographs, half with the face of one",
        onnx_file("mtcnn-onet", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric(
            "face or none as the float model",
            lambda outputs: bool(outputs["face"][0, 1] > 0.7),
            agreement.same,
        ),
    )


def ddddocr_det(folder: Path, calibration: int, held_out: int) -> Case:
    """Return a detector of objects on a busy background."""

    def feeds(split: Split, count: int) -> list[Feed]:
        return [
            {"images": _planes(image[..., ::-1])}
            for image in drawings.scattered(count, split)
        ]

    def boxes(outputs: Outputs) -> Array:
        scores = outputs["output"][0]
        marked: Array = scores[:, 4] * scores[:, 5] > 0.3
        return marked

    return Case(
        "ddddocr-det",
        "object detector (YOLOX): convolutions, SiLU",
        "letters drawn on photographs",
        onnx_file("ddddocr-det", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric("boxes as the float model (F1)", boxes, agreement.overlap),
    )


def _planes(image: Array) -> Array:
    planes: Array = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    return planes
