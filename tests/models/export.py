"""ONNX files of the registry's models, exported by torch where a package has none.

`python -m tests.models.export minilm FILE` (or `smollm2`) writes one. `onnx_file` runs that
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


EXPORTS = {"minilm": export_minilm, "smollm2": export_smollm2}
NEEDED = {
    "minilm": ("torch", "safetensors", "tokenizers"),
    "smollm2": ("torch", "gguf", "tokenizers"),
}


if __name__ == "__main__":
    EXPORTS[sys.argv[1]](Path(sys.argv[2]))
