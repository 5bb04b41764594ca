"""What `import quantcal` gives: these names, documented, typed, and nothing imported for it."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import quantcal as qc

OPTIONAL = [
    "onnx",
    "onnxruntime",
    "torch",
    "typer",
    "rich",
    "matplotlib",
    "PIL",
    "tokenizers",
    "jinja2",
]

NAMES = {
    "ACIQ",
    "Auto",
    "KL",
    "MSE",
    "CalibrationError",
    "CalibrationTable",
    "Calibrator",
    "Channels",
    "Comparison",
    "Fixed",
    "Histogram",
    "Hybrid",
    "MaxEntropy",
    "MinMax",
    "Percentile",
    "Policy",
    "QuantFormat",
    "QuantParams",
    "Stability",
    "Strategy",
    "TensorReport",
    "calibrate",
    "compare",
    "get_num_threads",
    "load",
    "set_num_threads",
    "check_stability",
    "write_report",
}
SUBMODULES = {
    "blocks",
    "compat",
    "data",
    "demo",
    "exporters",
    "onnx",
    "torch",
}
SOURCE = Path(str(qc.__file__)).parent


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


def output_of(code: str, **environment: str) -> str:
    done = python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_quantcal_imports_no_framework() -> None:
    code = "import sys, json, quantcal; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(output_of(code)))
    assert modules.isdisjoint(OPTIONAL)
    assert not {f"quantcal.{name}" for name in SUBMODULES} & modules
    assert "numpy" not in modules  # imported with the first name that needs it
    code = (
        "import sys, json, quantcal; quantcal.Calibrator; print('numpy' in sys.modules)"
    )
    assert output_of(code) == "True"


@pytest.mark.parametrize("name", sorted(SUBMODULES))
def test_naming_a_submodule_imports_it_and_no_framework(name: str) -> None:
    code = (
        f"import sys, json, quantcal; module = quantcal.{name}; "
        f"assert module is sys.modules['quantcal.{name}']; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert set(json.loads(output_of(code))).isdisjoint(OPTIONAL)


def test_the_names_of_strategies_need_no_further_import() -> None:
    code = "import quantcal; print('kl' in quantcal.strategies.names())"
    assert output_of(code).strip() == "True"


def test_the_public_names_are_these() -> None:
    assert set(qc.__all__) == NAMES
    assert qc.__all__ == sorted(qc.__all__, key=lambda name: (not name.isupper(), name))
    assert set(dir(qc)) == NAMES | SUBMODULES | {"__version__"}
    assert all(hasattr(qc, name) for name in dir(qc))


WRITERS = {f"exporters.{name}" for name in ("ncnn", "onnxruntime", "plain", "tensorrt")}


@pytest.mark.parametrize("name", sorted(SUBMODULES | WRITERS | {"strategies"}))
def test_a_submodule_lists_its_public_names_only(name: str) -> None:
    module = importlib.import_module(f"quantcal.{name}")
    assert dir(module) == sorted(module.__all__)
    code = f"import quantcal.{name} as m; assert dir(m) == sorted(m.__all__)"
    output_of(code)  # also before any of it is used


def test_an_unknown_attribute_is_refused_as_pythons_own() -> None:
    unknown = "histogramm"
    with pytest.raises(
        AttributeError, match="module 'quantcal' has no attribute 'histogramm'"
    ):
        getattr(qc, unknown)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert qc.__version__ == importlib.metadata.version("quantcal")


def test_the_compiled_part_is_optimized() -> None:
    from quantcal import _core

    assert _core.DEBUG_BUILD is False


def members(value: Any) -> list[tuple[str, Any]]:
    """Return the public methods and properties that a class itself defines."""
    return [
        (name, member)
        for name, member in vars(value).items()
        if not name.startswith("_")
        and (callable(member) or inspect.isdatadescriptor(member))
    ]


@pytest.mark.parametrize("name", sorted(NAMES - {"Histogram", "set_num_threads"}))
def test_everything_public_has_a_docstring(name: str) -> None:
    value = getattr(qc, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("quantcal."):
        fields = getattr(value, "__dataclass_fields__", {})
        for member_name, member in members(value):
            if member_name not in fields:
                assert inspect.getdoc(member), member_name


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.stem)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def stub_definitions() -> dict[str, ast.AST]:
    """Return public classes, methods and functions of the compiled part's stub."""
    found: dict[str, ast.AST] = {}
    tree = ast.parse((SOURCE / "_core.pyi").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    found[f"{node.name}.{member.name}"] = member
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = node
    return found


def test_everything_public_and_compiled_is_documented_in_its_stub() -> None:
    found = stub_definitions()
    methods = [
        f"Histogram.{name}" for name in vars(qc.Histogram) if not name.startswith("_")
    ]
    assert len(methods) > 20
    for name in ["Histogram", "set_num_threads", "get_num_threads", *methods]:
        node: Any = found[name]
        assert ast.get_docstring(node), name


def test_compiled_classes_name_quantcal_as_their_home() -> None:
    assert qc.Histogram.__module__ == "quantcal"
    assert qc.CalibrationError.__module__ == "quantcal"


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()
    assert (SOURCE / "_core.pyi").is_file()


BLOCK = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # makes any import of it fail
import quantcal as qc
"""


@pytest.mark.parametrize(
    "call",
    ["qc.onnx.observe('model.onnx', [])", "qc.onnx.quantize('a.onnx', 'b.onnx', [])"],
)
@pytest.mark.parametrize("blocked", [["onnx"], ["onnxruntime"]])
def test_a_missing_framework_says_how_to_install_it(
    call: str, blocked: list[str]
) -> None:
    done = python(BLOCK.format(blocked=blocked) + call)
    assert done.returncode == 1
    assert 'Install them with: pip install "quantcal[onnx]"' in done.stderr
    assert "ImportError: quantcal.onnx needs onnx and onnxruntime." in done.stderr


@pytest.mark.parametrize("call", ["observe(3)", "fake_quantize(3, {})", "Observer()"])
def test_without_torch_its_names_say_how_to_install_it(call: str) -> None:
    done = python(BLOCK.format(blocked=["torch"]) + f"qc.torch.{call}")
    assert done.returncode == 1
    assert 'Install it with: pip install "quantcal[torch]"' in done.stderr
    assert "ImportError: quantcal.torch needs torch." in done.stderr


def test_everything_else_works_without_any_framework() -> None:
    work = """
import numpy as np
cal = qc.Calibrator()
cal.observe("x", np.linspace(-1, 1, 5000, dtype=np.float32))
for strategy in ("minmax", "percentile_99.9", "kl", "mse"):
    assert cal.compute(strategy)["x"].quantize(np.float32([1.0])).shape == (1,)
print("done")
"""
    assert output_of(BLOCK.format(blocked=OPTIONAL) + work) == "done"


def test_the_environment_sets_the_number_of_threads() -> None:
    code = "import quantcal as qc; print(qc.get_num_threads())"
    assert output_of(code, QUANTCAL_NUM_THREADS="3") == "3"
    default = str(len(os.sched_getaffinity(0)))
    for nonsense in ("0", "-1", "many", ""):
        assert output_of(code, QUANTCAL_NUM_THREADS=nonsense) == default
