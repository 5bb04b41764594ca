"""The commands in the guide of samples run on the files that its Python blocks make."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models
from cli_runs import call
from paths import ROOT

GUIDE = ROOT / "docs" / "guide" / "data.md"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def save_model(path: str, inputs: dict[str, tuple[int, list[Any]]]) -> None:
    """Write a model with these inputs, which reads the first of them."""
    values = [helper.make_tensor_value_info(n, *spec) for n, spec in inputs.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    first = next(iter(inputs))
    nodes = [
        helper.make_node("Cast", [first], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["c"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", values, [output])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_the_commands_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx_models.conv_net(), "model.onnx")
    audio = (TensorProto.FLOAT, [1, 16000])
    save_model("speech.onnx", {"audio": audio, "sr": (TensorProto.INT64, [])})
    ids = (TensorProto.INT64, [None, None])
    save_model("bert.onnx", {"input_ids": ids, "attention_mask": ids})
    ran = 0
    namespace: dict[str, Any] = {}
    for kind, text in BLOCK.findall(GUIDE.read_text("utf-8")):
        if kind == "python":
            exec(compile(text, str(GUIDE), "exec"), namespace)
            continue
        for line in text.splitlines():
            if line.startswith("quantcal "):
                done = call(*shlex.split(line)[1:])
                assert done.code == 0, done.err
                ran += 1
    assert ran == 3
    written = Path("model.int8.onnx").read_bytes()
    assert written == Path("again.onnx").read_bytes()


def test_the_error_of_the_guide_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    onnx.save(onnx_models.conv_net(), "model.onnx")
    Path("photos").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8)).save(f"photos/{number}.jpg")
    shown = re.search(
        r"^```text\n\$ quantcal (.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S
    )
    assert shown is not None
    command, _, error = shown[1].partition("\n")
    done = call(*command.split())
    assert " ".join(done.err.split()) == " ".join(error.split())
