"""Results of models in notebooks: sound HTML with their summary or their fields."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import save_model
from quantcal._notebook import Shown

FEEDS = [{"x": models.random(1, 3, 8, 8, seed=seed)} for seed in range(4)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("shown")
    model, written = save_model(folder), folder / "q.onnx"
    result = qc.onnx.quantize(model, written, FEEDS, strategy="mse")
    evaluation = qc.onnx.evaluate(model, written, FEEDS, layers=True)
    tensor = qc.blocks.MXFP4().quantize(np.ones((2, 32), np.float32))
    return {
        "quantize": result,
        "write": qc.onnx.write(model, folder / "w.onnx", result.table),
        "evaluate": evaluation,
        "output": evaluation.outputs["y"]["exact"],
        "layer": evaluation.layers[0],
        "options": qc.onnx.QuantizeOptions(),
        "block": tensor,
        "blocks": qc.blocks.MXFP4().statistics(np.ones((2, 32), np.float32)),
    }


@pytest.mark.parametrize(
    "name",
    ["quantize", "write", "evaluate", "output", "layer", "options", "block", "blocks"],
)
def test_results_are_sound_html(name: str, results: dict[str, Any]) -> None:
    shown = results[name]
    assert isinstance(shown, Shown)
    html = shown._repr_html_()
    root = ET.fromstring(f"<div>{html}</div>")
    assert not re.search(r'="[^"]*#[0-9a-fA-F]{3}', html)  # no fixed colors
    words = [text.strip() for text in root.itertext() if text.strip()]
    assert len(words) > 3
    assert all(len(word) <= 200 for word in words if "\n" not in word)
    assert "object at 0x" not in html


def test_a_result_shows_its_summary_and_its_ranges(results: dict[str, Any]) -> None:
    result = results["quantize"]
    root = ET.fromstring(f"<div>{result._repr_html_()}</div>")
    assert "".join(root.find("pre").itertext()) == result.summary()  # type: ignore[union-attr]
    tables = list(root.iter("table"))
    assert [len(list(table.iter("tr"))) for table in tables] == [len(result.table) + 1]


def test_an_evaluation_has_a_row_for_each_output_and_layer(
    results: dict[str, Any],
) -> None:
    evaluation = results["evaluate"]
    root = ET.fromstring(f"<div>{evaluation._repr_html_()}</div>")
    rows = {
        "".join(table.find("caption").itertext()): len(list(table.iter("tr"))) - 1  # type: ignore[union-attr]
        for table in root.iter("table")
    }
    assert rows["outputs"] == sum(map(len, evaluation.outputs.values()))
    assert rows["layers"] == len(evaluation.layers)
