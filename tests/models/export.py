"""ONNX files of the registry's models, exported by torch where a package has none.

`python -m tests.models.export NAME FILE` writes one, of the names in `EXPORTS`. `onnx_file` runs that
in a child process, so that its caller never loads torch.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.models import MODELS

ROOT = Path(__file__).parents[2]
OPSET = 17
LENGTH = 128  # tokens that the language model reads: its export has a fixed length


def onnx_file(name: str, folder: Path) -> Path:
    """Return a model as an ONNX file; one that must be exported is made in `folder`."""
    if name not in EXPORTS:
        return MODELS[name].fetch()
    path = folder / f"{name}.onnx"
    command = [sys.executable, "-W", "ignore", "-m", "tests.models.export", name]
    subprocess.run(
        [*command, str(path)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return path


def missing_packages(name: str) -> list[str]:
    """Return the packages that `onnx_file` lacks for a model; none for ONNX files."""
    needed = NEEDED.get(name, ())
    return [package for package in needed if importlib.util.find_spec(package) is None]


def export_minilm(path: Path) -> None:
    """Write the sentence encoder with variable batch and length."""
    import torch

    from research.llm.minilm import load

    model, _ = load()
    tokens = torch.ones(2, 16, dtype=torch.long)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        model,
        (tokens, tokens),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["tokens", "attention_mask"],
        output_names=["vectors"],
        dynamic_axes={"tokens": axes, "attention_mask": axes, "vectors": {0: "batch"}},
    )


def export_smollm2(path: Path) -> None:
    """Write the language model with a fixed length, rotary positions in real arithmetic."""
    import torch

    from research.llm import smollm2

    complex_rotations = smollm2.rotations

    def rotations(length: int, config: Any) -> Any:
        return torch.view_as_real(complex_rotations(int(length), config))

    def rotate(x: Any, rotation: Any) -> Any:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cosine, sine = rotation.unbind(-1)
        turned = torch.stack([a * cosine - b * sine, a * sine + b * cosine], dim=-1)
        return turned.flatten(-2)

    def normalize(module: Any, x: Any) -> Any:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean + module.eps) * module.weight

    smollm2.rotations, smollm2.rotate = rotations, rotate
    torch.nn.RMSNorm.forward = normalize  # type: ignore[method-assign]  # no ONNX operator
    model, _ = smollm2.load()
    torch.onnx.export(
        model,
        (torch.ones(1, LENGTH, dtype=torch.long),),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["tokens"],
        output_names=["logits"],
    )


def export_mtcnn(path: Path) -> None:
    """Write the last network of the face detector MTCNN: face, box and five landmarks.

    The modules and their order are those of the package facenet-pytorch, whose state they
    load. See Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded
    Convolutional Networks", 2016.
    """
    import torch
    from torch import nn

    class Output(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (3, 32, 64, 64, 128)
            for i, size in enumerate((3, 3, 3, 2)):
                convolution = nn.Conv2d(widths[i], widths[i + 1], size)
                self.add_module(f"conv{i + 1}", convolution)
                self.add_module(f"prelu{i + 1}", nn.PReLU(widths[i + 1]))
            self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
            self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
            self.dense6_3 = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            for i, size in enumerate((3, 3, 2, 0)):
                x = self.get_submodule(f"conv{i + 1}")(x)
                x = self.get_submodule(f"prelu{i + 1}")(x)
                if size:
                    x = nn.functional.max_pool2d(x, size, 2, ceil_mode=True)
            x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
            return self.dense6_1(x).softmax(1), self.dense6_2(x), self.dense6_3(x)

    model = Output().eval()
    state = torch.load(MODELS["mtcnn-onet"].fetch(), weights_only=True)
    model.load_state_dict(state)
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 48, 48),),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["face", "box", "landmarks"],
        dynamic_axes={"image": {0: "batch"}},
    )


def export_resemblyzer(path: Path) -> None:
    """Write the speaker encoder: three LSTM layers over 40 mel bands, and a linear layer.

    See Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018.
    """
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = nn.Linear(256, 256)

        def forward(self, bands: Any) -> Any:
            _, (last, _) = self.lstm(bands)
            vector = self.linear(last[-1]).relu()
            return vector / vector.norm(dim=1, keepdim=True)

    model = Encoder().eval()
    # The weights were saved on a GPU.
    file = MODELS["resemblyzer"].fetch()
    kept = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    model.load_state_dict({name: kept[name] for name in model.state_dict()})
    torch.onnx.export(
        model,
        (torch.zeros(1, 160, 40),),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["bands"],
        output_names=["vector"],
    )


EXPORTS = {
    "minilm": export_minilm,
    "mtcnn-onet": export_mtcnn,
    "resemblyzer": export_resemblyzer,
    "smollm2": export_smollm2,
}
NEEDED = {
    "mtcnn-onet": ("torch",),
    "resemblyzer": ("torch",),
    "minilm": ("torch", "safetensors", "tokenizers"),
    "smollm2": ("torch", "gguf", "tokenizers"),
}


if __name__ == "__main__":
    EXPORTS[sys.argv[1]](Path(sys.argv[2]))
