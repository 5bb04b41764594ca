"""Sounds as networks read them: synthetic voices in noise, their spectra, and music."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.accuracy import speech
from benches.accuracy.collection.case import Array

if TYPE_CHECKING:
    from quantcal.demo.lines import Split

RATE = speech.RATE
MUSIC_RATE = 22_050
MUSIC_SAMPLES = 43_844


@cache
def recordings(count: int, split: Split) -> list[Array]:
    """Return scenes of about ten seconds of speech in noise, float32 in -1 to 1."""
    return [
        speech.recording(np.random.default_rng([5, split == "calibration", i]))[0]
        for i in range(count)
    ]


def clips(count: int, samples: int, split: Split) -> list[Array]:
    """Return the same scenes cut, or repeated, to a number of samples."""
    return [np.resize(sound, samples) for sound in recordings(count, split)]


def log_spectra(count: int, split: Split) -> list[Array]:
    """Return log power spectra [frames, 257] of speech with lost packets of 20 ms.

    As the package speechmos computes them: 512 samples, Hamming, half overlapping.
    """
    found = []
    for i, clip in enumerate(clips(count, 5 * RATE, split)):
        rng = np.random.default_rng([6, split == "calibration", i])
        packets = np.resize(clip, (len(clip) // 320, 320)).copy()
        packets[rng.random(len(packets)) < rng.uniform(0, 0.2)] = 0
        padded = np.concatenate([np.zeros(256), packets.ravel(), np.zeros(256)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 512)[::256]
        power = np.abs(np.fft.rfft(windows * np.hamming(513)[:-1])) ** 2
        power = np.maximum(power, power[power > 0].min() * 10.0**-12)
        found.append((np.log(power) / 20).astype(np.float32))
    return found


def mel_bands(count: int, split: Split) -> list[Array]:
    """Return mel spectra [160, 40] of 1.6 s of speech at -30 dB: power, not logarithms."""
    found = []
    for clip in clips(count, 3 * RATE, split):
        loud = clip[RATE : RATE + 161 * 160 + 240].astype(np.float64)
        loud = loud * 10 ** (-30 / 20) / max(np.sqrt((loud**2).mean()), 1e-6)
        windows = np.lib.stride_tricks.sliding_window_view(loud, 400)[::160][:160]
        power = np.abs(np.fft.rfft(windows * np.hanning(401)[:-1])) ** 2
        found.append((power @ _mel_filters().T).astype(np.float32))
    return found


@cache
def _mel_filters() -> Array:
    """Return 40 triangles of equal area over 201 frequencies (Slaney, 1998)."""

    def mel(hertz: Any) -> Any:
        low = np.asarray(hertz) * 3 / 200
        return np.where(
            low < 15, low, 15 + 27 * np.log(np.maximum(low, 15) / 15) / np.log(6.4)
        )

    grid = np.linspace(0, RATE / 2, 8001)
    edges = np.interp(np.linspace(0, mel(RATE / 2), 42), mel(grid), grid)
    bins = np.linspace(0, RATE / 2, 201)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2 / (edges[2:] - edges[:-2])
    filters: Array = np.maximum(0, np.minimum(rise, fall)) * area[:, None]
    return filters


def music(count: int, split: Split) -> list[Array]:
    """Return two seconds of decaying notes with overtones, alone and in chords."""
    return [
        _music(np.random.default_rng([8, split == "calibration", i]))
        for i in range(count)
    ]


def _music(rng: np.random.Generator) -> Array:
    times = np.arange(MUSIC_SAMPLES) / MUSIC_RATE
    sound = np.zeros(MUSIC_SAMPLES)
    bright, decay = rng.uniform(0.8, 2.5), rng.uniform(1, 6)
    for start in np.sort(rng.uniform(-0.3, 1.8, rng.integers(3, 9))):
        root = rng.integers(40, 84)
        chord = [
            0,
            *rng.choice([3, 4, 5, 7, 8, 12, 16], rng.integers(0, 4), replace=False),
        ]
        loudness = rng.uniform(0.2, 1)
        for step in chord:
            pitch = 440 * 2 ** ((root + step - 69) / 12)
            since = np.maximum(times - start, 0)
            shape = (
                (times >= start) * np.minimum(since / 0.01, 1) * np.exp(-decay * since)
            )
            for k in range(1, 9):
                if k * pitch < MUSIC_RATE / 2:
                    wave = np.sin(2 * np.pi * k * pitch * since + rng.uniform(0, 6))
                    sound += loudness * shape * k**-bright * wave
    sound += rng.uniform(0, 0.02) * rng.standard_normal(MUSIC_SAMPLES)
    sound *= rng.uniform(0.05, 0.9) / max(np.abs(sound).max(), 1e-9)
    return sound.astype(np.float32)
