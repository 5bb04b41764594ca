"""Networks that listen: voice activity, quality, pitch, notes and speakers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.accuracy import speech
from benches.accuracy.collection import agreement, sounds
from benches.accuracy.collection.case import Array, Case, Feed, Metric, Outputs
from tests.models.export import onnx_file

if TYPE_CHECKING:
    from quantcal.demo.lines import Split

VOICES = "speech of espeak-ng in noise"


def silero(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the detector of voice activity; its scenes have 300 frames each."""
    scenes = speech.scenes(held_out, seed=2)
    labels = [scene.speech for scene in scenes]

    def right(_: list[Any], found: list[Array]) -> list[float]:
        return [float((a == b).mean()) for a, b in zip(found, labels, strict=True)]

    return Case(
        "silero-16k-sequence",
        "voice activity: convolutions and an LSTM",
        VOICES,
        onnx_file("silero-16k-sequence", folder),
        [scene.feed for scene in speech.scenes(calibration, seed=3)],
        [scene.feed for scene in scenes],
        Metric("frames right", lambda found: found["speech_probs"] > 0.5, right),
    )


def dnsmos(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the judge of noisy speech: three opinion scores."""

    def feeds(split: Split, count: int) -> list[Feed]:
        return [{"input_1": clip[None]} for clip in sounds.clips(count, 144_160, split)]

    return Case(
        "dnsmos",
        "speech quality: a spectrum made by Conv, then convolutions",
        VOICES,
        onnx_file("dnsmos", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric(
            "all scores within 0.1 of the float model", _only, agreement.within(0.1)
        ),
    )


def plcmos(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the judge of speech with lost packets: an opinion score."""

    def feeds(split: Split, count: int) -> list[Feed]:
        found = []
        for i, spectrum in enumerate(sounds.log_spectra(count, split)):
            rng = np.random.default_rng([9, split == "calibration", i])
            rater = rng.standard_normal((1, 64)).astype(np.float32)
            found.append({"degraded_audio": spectrum[None, None], "rater_embed": rater})
        return found

    return Case(
        "plcmos",
        "speech quality: convolutions, GRUs, dense layers",
        f"{VOICES}, packets lost",
        onnx_file("plcmos", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric("score within 0.1 of the float model", _only, agreement.within(0.1)),
    )


def swift_f0(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the estimator of pitch. The pitch of unvoiced frames means nothing."""

    def feeds(split: Split, count: int) -> list[Feed]:
        clips = sounds.clips(count, 4 * sounds.RATE, split)
        limits = {"fmin": np.float32(46.875), "fmax": np.float32(2093.75)}
        ends = {name: np.array(value) for name, value in limits.items()}
        return [{"audio": clip[None], **ends} for clip in clips]

    def matches(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        """Both unvoiced, or both voiced with pitches within 50 cents."""
        near = np.abs(1200 * np.log2(b[1] / a[1])) <= 50
        found: Array = (a[0] == b[0]) & (near | ~a[0])
        return found

    return Case(
        "swift-f0",
        "pitch: a spectrum made by MatMul, then convolutions",
        VOICES,
        onnx_file("swift-f0", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric(
            "frames as the float model: voiced, pitch within 50 cents",
            lambda found: (found["confidence"] > 0.5, np.maximum(found["pitch"], 1)),
            agreement.frames(matches),
        ),
        view=_voiced_pitch,
    )


def _voiced_pitch(expected: Outputs, outputs: Outputs) -> Outputs:
    """Return the confidence, and the pitch in octaves where the float model hears one."""
    octaves = np.log2(np.maximum(outputs["pitch"], 1))
    pitch = np.where(expected["confidence"] > 0.5, octaves, 0)
    return {"confidence": outputs["confidence"], "voiced pitch": pitch}


def basic_pitch(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the transcriber of music."""

    def feeds(split: Split, count: int) -> list[Feed]:
        name = "serving_default_input_2:0"
        return [{name: clip[None, :, None]} for clip in sounds.music(count, split)]

    return Case(
        "basic-pitch",
        "notes of music: a filter bank made by Conv, then convolutions",
        "synthetic notes and chords",
        onnx_file("basic-pitch", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric(
            "frames of notes as the float model (F1)",
            lambda found: found["StatefulPartitionedCall:1"] > 0.3,
            agreement.overlap,
        ),
    )


def resemblyzer(folder: Path, calibration: int, held_out: int) -> Case:
    """Return the encoder of speakers; onnxruntime has no integer LSTM, so one layer."""

    def feeds(split: Split, count: int) -> list[Feed]:
        return [{"bands": bands[None]} for bands in sounds.mel_bands(count, split)]

    return Case(
        "resemblyzer",
        "speaker encoder: three LSTM layers",
        VOICES,
        onnx_file("resemblyzer", folder),
        feeds("calibration", calibration),
        feeds("evaluation", held_out),
        Metric(
            "nearest other voice as the float model", _only, agreement.same_neighbor
        ),
    )


def _only(outputs: Outputs) -> Array:
    (found,) = outputs.values()
    return found
