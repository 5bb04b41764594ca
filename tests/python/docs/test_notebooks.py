"""The notebooks of examples/ run, from the first cell to the last."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from paths import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
TORCH = importlib.util.find_spec("torch") is not None
PACKAGE = ROOT / "python"


def test_there_is_one_for_each_framework() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["onnx", "pytorch"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem == "pytorch" and not TORCH:
        pytest.skip("torch is not installed")
    # The kernel is another process: it gets the package under test.
    before = os.environ.get("PYTHONPATH")
    paths = [str(PACKAGE), *([before] if before else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises with the traceback of the cell
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert len(code) >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_cells_gave(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    shown = [cell for cell in book.cells if cell.get("outputs")]
    assert len(shown) >= 3
    assert "/tmp" not in path.read_text("utf-8")
