"""Every example in the documentation runs and shows what it says.

Examples find a small `model.onnx` and a folder `calibration` with samples for it. Those in
docstrings know `np` and `qc`; the blocks of a guide import what they need, as readers do.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models
import quantcal as qc
from paths import ROOT

STUB = Path(str(qc.__file__)).parent / "_core.pyi"
TORCH = importlib.util.find_spec("torch") is not None
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What cannot run (a shell command, an outline) has another word behind the fence.
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Checker(doctest.OutputChecker):
    """Compares the output that an example shows; one that shows none only has to run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def module_examples() -> Iterator[doctest.DocTest]:
    """Yield the examples of all modules that are Python."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    infos = pkgutil.walk_packages(qc.__path__, "quantcal.")
    names = [i.name for i in infos if not i.name.endswith(("__main__", "._core"))]
    for name in ["quantcal", *names]:
        if name.startswith("quantcal.torch") and not TORCH:
            continue  # these define classes of torch's
        module = importlib.import_module(name)
        yield from (test for test in finder.find(module) if test.examples)


def stub_examples() -> Iterator[doctest.DocTest]:
    """Yield the examples of the compiled part, which stand in its stub."""
    tree = ast.parse(STUB.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            text, first = ast.get_docstring(node) or "", node.lineno
            name = f"quantcal._core.{node.name}"
            test = doctest.DocTestParser().get_doctest(text, {}, name, str(STUB), first)
            if test.examples:
                yield test


EXAMPLES = [*stub_examples(), *module_examples()]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Set up the files that examples speak of; return the names that they know."""
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx_models.conv_net(), "model.onnx")
    Path("calibration").mkdir()
    Path("model.int8.quantcal.toml").write_text('strategy = "minmax"\n', "utf-8")
    batches = [onnx_models.random(1, 3, 9, 12, seed=seed) for seed in range(10)]
    for i, batch in enumerate(batches):
        np.savez(f"calibration/{i}.npz", x=batch)
    return {"np": np, "qc": qc, "batches": batches}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_of_a_docstring_show_what_they_say(
    example: doctest.DocTest, stage: dict[str, Any]
) -> None:
    example.globs.update(stage)
    output: list[str] = []
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS)
    result = runner.run(example, out=output.append, clear_globs=False)
    assert result.failed == 0, "".join(output)
    assert result.attempted == len(example.examples)


def test_the_main_classes_and_functions_have_examples() -> None:
    documented = {test.name.rpartition(".")[2] for test in EXAMPLES}
    assert {"Histogram", "Calibrator", "calibrate", "quantize"} <= documented


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in torchao
@pytest.mark.filterwarnings("ignore:Please use quant_min")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_the_python_blocks_of_a_guide_run_in_order(path: Path) -> None:
    text = path.read_text("utf-8")
    if not TORCH and "import torch" in text:
        pytest.skip("torch is not installed")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        # Empty lines in front make a traceback name the line of the guide.
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(source, str(path), "exec"), namespace)
