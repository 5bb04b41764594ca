"""Samples from files that people have: images, WAV and texts.

Each function describes where samples come from. Every function that takes samples of an ONNX
model takes the result, and asks the model for names, shapes and types. Nothing is read
before it is needed, then one sample at a time, in the order of names.

Examples
--------
>>> photos = qc.data.images("photos/", size=224, mean=(0.485, 0.456, 0.406),
...                         std=(0.229, 0.224, 0.225))   # doctest: +SKIP
>>> qc.onnx.quantize("m.onnx", "m.int8.onnx", photos)    # doctest: +SKIP
"""

from quantcal.data.image_source import ImageSource, images
from quantcal.data.source import SampleSource
from quantcal.data.text_source import texts
from quantcal.data.wav_source import wav

__all__ = ["ImageSource", "SampleSource", "images", "texts", "wav"]


def __dir__() -> list[str]:
    return sorted(__all__)
