"""Samples from files that people have: images, WAV and texts.

Each function describes where samples come from. Every function that takes samples of an ONNX
model takes the result, and asks the model for names, shapes and types. Nothing is read
before it is needed, then one sample at a time, in the order of names.

Examples
--------
>>> photos = qc.data.images([np.zeros((60, 80, 3), np.uint8)] * 4, size=32, mean=0.5)
>>> qc.onnx.quantize("model.onnx", "q.onnx", photos, strategy="mse").samples
4
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process.lazy import lazy_names

if TYPE_CHECKING:
    from quantcal.data.image_source import ImageSource, images
    from quantcal.data.source import SampleSource
    from quantcal.data.text_source import texts
    from quantcal.data.wav_source import wav

__all__ = ["ImageSource", "SampleSource", "images", "texts", "wav"]

__getattr__ = lazy_names(
    __name__,
    {
        "image_source": ["ImageSource", "images"],
        "source": ["SampleSource"],
        "text_source": ["texts"],
        "wav_source": ["wav"],
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
