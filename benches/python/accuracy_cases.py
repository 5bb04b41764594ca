"""The networks that accuracy is measured on, and how each is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filetypes
import numpy as np
import onnxruntime as ort
import speech

from quantcal.demo import MODELS, LineFeeds, render_lines
from quantcal.demo.ocr import batches, character_list, decode

Right = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A network with its samples.

    Attributes
    ----------
    name, measure, unit : str
        What it is, what share is measured, and what the sampling unit is.
    model : Path
    feeds : sequence of feeds
        For calibration; apart from the samples that are judged.
    judge : callable
        Takes a session; returns an array of right or wrong for each unit.
    """

    name: str
    measure: str
    unit: str
    model: Path
    feeds: Sequence[dict[str, Any]]
    judge: Callable[[Any], Right]


def session(model: Path, *, exact: bool) -> Any:
    """Open a model: Q/DQ nodes as written, or what the runtime makes of them here."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ocr(lines: int, calibration: int) -> Case:
    """Text lines, drawn; a line is right when every character is."""
    drawn = render_lines(lines, split="evaluation")
    work = list(batches(drawn))

    def judge(opened: Any) -> Right:
        characters = character_list(opened)
        right = [np.zeros(1, bool)] * lines
        for numbers, x in work:
            (scores,) = opened.run(None, {"x": x})
            for number, best in zip(numbers, scores.argmax(axis=2), strict=True):
                text = decode(best, characters).strip()
                right[number] = np.array([text == drawn[number].text.strip()])
        return right

    feeds = list(LineFeeds(render_lines(calibration, split="calibration")))
    name = "PP-OCRv4 recogniser"
    model = MODELS["pp-ocr-rec"].fetch()
    return Case(name, "lines read without a mistake", "line", model, feeds, judge)


def magika(most: int, calibration: int) -> Case:
    """Files of this disk by their type."""
    chosen = filetypes.samples(most, seed=1)
    first, rest = chosen[:calibration], chosen[calibration:]
    codes = np.stack([sample.codes for sample in rest])
    labels = np.array([sample.label for sample in rest])

    def judge(opened: Any) -> Right:
        parts = np.array_split(np.arange(len(codes)), max(1, len(codes) // 64))
        best = [opened.run(None, {"bytes": codes[p]})[0].argmax(axis=1) for p in parts]
        return list((np.concatenate(best) == labels)[:, None])

    feeds = [{"bytes": sample.codes[None]} for sample in first]
    model = MODELS["magika"].fetch()
    return Case("magika", "files of the right type", "file", model, feeds, judge)


def silero(count: int, calibration: int) -> Case:
    """Speech in noise by frames of 32 ms; scenes are the sampling unit."""
    scenes = speech.scenes(count, seed=2)
    feeds = [scene.feed for scene in speech.scenes(calibration, seed=3)]
    model = MODELS["silero-16k-sequence"].fetch()
    return Case(
        "silero, 16k_sequence",
        "frames of 32 ms judged right",
        "scene",
        model,
        feeds,
        lambda opened: speech.correct(opened, scenes),
    )
