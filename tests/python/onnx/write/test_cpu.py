"""When weights take 7 bits."""

from __future__ import annotations

from pathlib import Path

import pytest

import quantcal as qc
from quantcal.onnx._options import cpu


@pytest.mark.parametrize(
    ("machine", "flags", "reduce", "why"),
    [
        ("x86_64", {"avx2", "avx512bw"}, True, "no VNNI"),
        ("x86_64", {"avx2", "avx512_vnni"}, False, "avx512_vnni"),
        ("AMD64".lower(), {"avx_vnni"}, False, "avx_vnni"),
        ("x86_64", None, True, "not known"),
        ("aarch64", {"asimddp"}, False, "32 bits"),
        ("arm64", None, False, "32 bits"),
        ("riscv64", {"v"}, True, "not known"),
    ],
)
def test_the_cpu_decides(
    machine: str,
    flags: set[str] | None,
    reduce: bool,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    known = None if flags is None else frozenset(flags)
    monkeypatch.setattr(cpu, "cpu_flags", lambda: known)
    bits = cpu.weight_bits("auto")
    assert bits.reduce is reduce
    assert bits.bits == (7 if reduce else 8)
    assert why in bits.reason


def test_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu AVX2 avx_vnni\n\nprocessor\t: 1\n")
    assert cpu._linux_flags(path) == {"fpu", "avx2", "avx_vnni"}
    assert cpu._linux_flags(tmp_path / "missing") is None
    path.write_text("Processor: something else\n")
    assert cpu._linux_flags(path) is None


def test_the_reason_counts_the_nodes_that_need_seven_bits() -> None:
    open_ = cpu.weight_bits("nodes", cpu="no-vnni")
    for nodes, words in (
        ([], "no node benefits"),
        (["a"], "1 node "),
        (["a", "b"], "2 nodes "),
    ):
        bits = cpu.with_reduced_nodes(open_, nodes)
        assert words in bits.reason
        assert open_.reason in bits.reason
        assert bits.nodes == set(nodes)


def test_the_caller_may_decide() -> None:
    assert cpu.weight_bits(True).bits == 7
    assert cpu.weight_bits(False).bits == 8
    assert cpu.weight_bits("auto", "uint8").bits == 8
    with pytest.raises(qc.CalibrationError, match='True, False or "auto"'):
        cpu.weight_bits("yes")
