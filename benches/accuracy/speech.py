"""Scenes of synthetic speech in noise, with a label for each frame, for silero's detector.

espeak-ng speaks random words, with pauses between them and noise throughout. A frame is speech
if the clean voice is within 35 dB of its loudest part. Synthetic speech is easier than real
speech, so the figures compare models and do not rate the detector.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RATE = 16_000
FRAME = 512
_CONTEXT = 64
_FLOOR_DB = 35
_VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+f2", "en-us+m4", "en-gb+m7")


class Scene(NamedTuple):
    """A recording: the detector's input, and whether each frame is speech."""

    feed: dict[str, Any]
    speech: np.ndarray[Any, Any]


def available() -> bool:
    """Return whether espeak-ng is installed (Debian: apt-get install espeak-ng)."""
    return shutil.which("espeak-ng") is not None


def scenes(count: int, seed: int) -> list[Scene]:
    """Return scenes of about ten seconds; equal arguments give equal scenes."""
    return [_scene(np.random.default_rng([seed, i])) for i in range(count)]


def correct(session: Any, chosen: list[Scene]) -> list[np.ndarray[Any, Any]]:
    """Return which frames of each scene a detector gets right at its usual threshold, 0.5."""
    return [
        (session.run(["speech_probs"], scene.feed)[0] > 0.5) == scene.speech
        for scene in chosen
    ]


def recording(rng: np.random.Generator) -> tuple[Any, Any]:
    """Return the sound of a scene, in -1 to 1, and whether each frame of it is speech."""
    parts: list[Any] = []
    for _ in range(4):
        parts += [np.zeros(int(rng.uniform(0.4, 1.5) * RATE)), _utterance(rng)]
    clean = np.concatenate([*parts, np.zeros(int(rng.uniform(0.4, 1.5) * RATE))])
    clean = clean[: len(clean) // FRAME * FRAME]
    power = (clean.reshape(-1, FRAME) ** 2).mean(axis=1)
    speech = power > power.max() * 10 ** (-_FLOOR_DB / 10)
    level = np.sqrt(power[speech].mean() * 10 ** (-rng.uniform(5, 25) / 10))
    sound = (clean + level * _noise(rng, len(clean))) * rng.uniform(0.1, 0.9)
    return sound.astype(np.float32), speech


def _scene(rng: np.random.Generator) -> Scene:
    sound, speech = recording(rng)
    before = np.concatenate([np.zeros(_CONTEXT, np.float32), sound])
    starts = np.arange(0, len(sound), FRAME)[:, None]
    frames = before[starts + np.arange(_CONTEXT + FRAME)]
    state = np.zeros((1, 1, 128), np.float32)
    return Scene({"input": frames, "h": state, "c": state}, speech)


def _utterance(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    text = " ".join(rng.choice(list(_words()), size=rng.integers(3, 9)))
    options = ["-v", str(rng.choice(_VOICES)), "-s", str(rng.integers(130, 190))]
    options += ["-p", str(rng.integers(30, 70)), "--stdout"]
    done = subprocess.run(
        ["espeak-ng", *options, text], capture_output=True, check=True
    )
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate = file.getframerate()
        data = np.frombuffer(done.stdout[44:], "<i2").astype(np.float64)
    data /= max(np.abs(data).max(), 1)
    times = np.arange(int(len(data) / rate * RATE)) / RATE
    voice = np.interp(times, np.arange(len(data)) / rate, data)
    loud = np.flatnonzero(np.abs(voice) > 0.01)
    return voice[loud[0] : loud[-1]] if loud.size else voice


def _noise(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Return noise of mean square 1 whose power falls with frequency, as in most rooms."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.arange(1, len(spectrum) + 1) / count * RATE
    noise = np.fft.irfft(spectrum * frequency ** -rng.uniform(0, 0.5), count)
    return noise / np.sqrt((noise**2).mean())


def _words() -> Iterator[str]:
    text = Path(str(resources.files("quantcal.demo"))) / "words.txt"
    yield from text.read_text("ascii").split()
