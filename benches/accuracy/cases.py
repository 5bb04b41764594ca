"""The networks whose accuracy is measured, and how their outputs are judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benches.accuracy import file_types, speech
from quantcal.demo import LineSamples, render_lines
from quantcal.demo.ocr import batches, character_list, decode
from tests.models import MODELS

Right = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A network with its samples.

    Attributes
    ----------
    name
        What the tables call it.
    measure
        The share that is measured, in words.
    unit
        The sampling unit, such as a line or a scene.
    model
        The float model.
    feeds
        The calibration samples; none of them is judged.
    units
        Number of units to judge.
    judge
        Takes a session and a slice; returns an array of right or wrong for each unit.
    """

    name: str
    measure: str
    unit: str
    model: Path
    feeds: Sequence[dict[str, Any]]
    units: int
    judge: Callable[[Any, slice], Right]


def session(model: Path, *, exact: bool) -> Any:
    """Open a model, with its Q/DQ nodes as written or fused into integer kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # batches run in parallel instead
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ocr(lines: int, calibration: int) -> Case:
    """Return drawn text lines; a line is right if every character is."""
    drawn = render_lines(lines, split="evaluation")

    @cache
    def prepared(start: int | None, stop: int | None) -> list[tuple[list[int], Any]]:
        return list(batches(drawn[start:stop]))

    def judge(opened: Any, part: slice) -> Right:
        characters = character_list(opened)
        chosen = drawn[part]
        right = [np.zeros(1, bool)] * len(chosen)

        def read(batch: tuple[list[int], Any]) -> None:
            numbers, x = batch
            (scores,) = opened.run(None, {"x": x})
            for number, best in zip(numbers, scores.argmax(axis=2), strict=True):
                text = decode(best, characters).strip()
                right[number] = np.array([text == chosen[number].text.strip()])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(read, prepared(part.start, part.stop)))
        return right

    feeds = list(LineSamples(render_lines(calibration, split="calibration")))
    name = "PP-OCRv4 recognizer"
    model = MODELS["pp-ocr-rec"].fetch()
    return Case(
        name, "lines read without a mistake", "line", model, feeds, lines, judge
    )


def magika(most: int, calibration: int) -> Case:
    """Return files of this disk, to be classified by type."""
    chosen = file_types.samples(most, seed=1)
    first, rest = chosen[:calibration], chosen[calibration:]
    codes = np.stack([sample.codes for sample in rest])
    labels = np.array([sample.label for sample in rest])

    def judge(opened: Any, part: slice) -> Right:
        chosen = np.arange(len(codes))[part]
        parts = np.array_split(chosen, len(chosen) // 64 + 1)
        best = [opened.run(None, {"bytes": codes[p]})[0].argmax(axis=1) for p in parts]
        return list((np.concatenate(best) == labels[part])[:, None])

    feeds = [{"bytes": sample.codes[None]} for sample in first]
    model = MODELS["magika"].fetch()
    return Case(
        "magika", "files of the right type", "file", model, feeds, len(codes), judge
    )


def silero(count: int, calibration: int) -> Case:
    """Return scenes of speech in noise, judged by frames of 32 ms."""
    scenes = speech.scenes(count, seed=2)
    feeds = [scene.feed for scene in speech.scenes(calibration, seed=3)]
    model = MODELS["silero-16k-sequence"].fetch()
    return Case(
        "silero, 16k_sequence",
        "frames of 32 ms judged right",
        "scene",
        model,
        feeds,
        count,
        lambda opened, part: speech.correct(opened, scenes[part]),
    )
