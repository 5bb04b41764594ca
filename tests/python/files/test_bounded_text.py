"""Policies, configurations and tables of any content take memory in proportion to their size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quantcal as qc
from cli_runs import environment
from quantcal import _table_file
from quantcal._io.toml_text import parse_toml
from quantcal.exporters import onnxruntime
from quantcal.strategies import policy_file

DOTTED = "a" + ".a" * 12_000 + " = 1\n"

TOML = {
    "dotted key": DOTTED,
    "dotted header": f"[{DOTTED[:-5]}]\n",
    "dotted key of quoted parts": '"a"' + " . 'a'" * 5000 + " = 1\n",
    "dotted key in a table": "rules = {" + DOTTED[:-1] + "}\n",
    "many dotted keys": "".join(f"a{i}.b.c.d.e.f.g = 1\n" for i in range(20_000)),
    "arrays in arrays": "a = " + "[" * 20_000,
    "tables in tables": "a = " + "{a = " * 20_000,
    "dots behind a comment": f'# """\n{DOTTED}',
    "dots behind a text": f"a = '#'\n{DOTTED}",
    "dots behind a text of lines": f'a = """\n"#\\"""" \n{DOTTED}',
}

READERS: dict[str, Callable[[Path], Any]] = {
    "policy": qc.Policy.load,
    "configuration": qc.onnx.read_config,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", TOML)
def test_toml_that_no_person_writes_is_refused_by_name(
    case: str, reader: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(TOML[case])
    with pytest.raises(
        qc.CalibrationError, match=r"odd\.toml is not valid TOML: "
    ) as caught:
        READERS[reader](path)
    assert "deep" in str(caught.value) or "dots" in str(caught.value)


def test_dots_and_brackets_in_texts_and_comments_do_not_count() -> None:
    name = ".".join("abcdefghij" * 5)
    brackets = "[{" * 50
    text = (
        f'# {name} {brackets}\nplain = "{name}{brackets}"\n'
        f'literal = \'{name}{brackets}\'\nlines = """\n{name}{brackets}\n"""\n'
        f"more = '''{name}''' # {name}\n\"{name}\" = 1.5\n[t.\"{name}\"]\n'{name}' = 2\n"
    )
    found = parse_toml(text)
    assert found["plain"] == name + brackets
    assert found[name] == 1.5
    assert found["t"][name] == {name: 2}


@pytest.mark.parametrize("name", ["odd.toml", "odd.json"])
def test_a_policy_of_impossible_size_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(" " * (policy_file._LARGEST + 1))
    with pytest.raises(
        qc.CalibrationError, match=rf"{name} has more than 2,000,000 by"
    ):
        qc.Policy.load(path)


def test_a_policy_for_ten_thousand_tensors_is_read(tmp_path: Path) -> None:
    rules = {f"model.layers.{i}.self_attn.q_proj.input": "kl" for i in range(10_000)}
    path = tmp_path / "large.toml"
    qc.Policy({**rules, "*": "mse"}).save(path)
    assert len(qc.Policy.load(path).to_dict()) == 10_001


@pytest.mark.parametrize(
    "read",
    [qc.CalibrationTable.load, onnxruntime.read_cache],
    ids=["table", "onnxruntime"],
)
def test_tables_too_large_or_too_deep_are_refused_by_name(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "odd.json"
    path.write_text('{"kind": ' + "[" * 100_000)
    with pytest.raises(qc.CalibrationError, match=r"odd\.json.*too deeply"):
        read(path)
    monkeypatch.setattr(f"{read.__module__}.LARGEST", 1000)
    with pytest.raises(qc.CalibrationError, match=r"odd\.json has more than 1,000 by"):
        read(path)
    assert _table_file.LARGEST > 10**9


MEMORY = """
import sys
import quantcal as qc
from quantcal.onnx.result import peak_memory
import quantcal.onnx._options.config
before = peak_memory()
try:
    qc.onnx.read_config(sys.argv[1])
except qc.CalibrationError:
    print((peak_memory() - before) // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak of this program alone")
def test_a_dotted_key_of_24_kb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(DOTTED)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert int(done.stdout) < 20  # MiB
