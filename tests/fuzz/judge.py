"""The verdict on one case: the float model, and what quantcal writes or refuses."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from fuzz import stock
from fuzz.cases import Array, Case, Feed
from fuzz.claims import check_file

import quantcal as qc

Outputs = dict[str, list[Array]]
Stage = Callable[[str], None]

# Decibels below which a loss counts, and by which stock must be better.
_POOR, _MARGIN = 25.0, 3.0


@dataclass(frozen=True)
class Finding:
    """What came of a graph with one set of options.

    Attributes
    ----------
    kind : str
        "ok", "refused", "unusable" (the float model does not run) or what is wrong.
    text : str
        Details; for refusals the message.
    """

    kind: str
    text: str = ""

    @property
    def wrong(self) -> bool:
        return self.kind not in ("ok", "refused", "unusable", "look")


def judge(
    case: Case, stage: Stage = lambda name: None, *, only: int | None = None
) -> list[Finding]:
    """Return a finding for each set of options; ``stage`` is called as work goes on."""
    with tempfile.TemporaryDirectory(prefix="quantcal-fuzz-") as folder:
        stage("float")
        try:
            want = outputs(case.model, case.held_out, exact=True)
            outputs(case.model, case.samples, exact=True)
            again = outputs(case.model, case.held_out, exact=False)
        except Exception as error:  # onnxruntime's have no common base
            return [Finding("unusable", _short(error))]
        if any(level < 60 for level in decibels(want, again).values()):
            return [Finding("unusable", "onnxruntime disagrees with itself")]
        source = Path(folder) / "given.onnx"
        onnx.save_model(case.model, str(source))
        found = []
        for index, options in enumerate(case.options):
            if only not in (None, index):
                continue
            work = _Judge(case, options, source, Path(folder) / str(index), want, stage)
            found.append(work.finding())
        return found


class _Judge:
    """One graph with one set of options."""

    def __init__(
        self,
        case: Case,
        options: dict[str, Any],
        source: Path,
        folder: Path,
        want: Outputs,
        stage: Stage,
    ) -> None:
        self._case, self._options, self._source = case, options, source
        self._folder, self._want, self._stage = folder, want, stage
        folder.mkdir()

    def finding(self) -> Finding:
        for found in self._steps():
            return found
        return Finding("ok")

    def _steps(self) -> Iterator[Finding]:
        output = self._folder / "quantized.onnx"
        self._stage("quantize")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = self._quantize(output)
            except qc.CalibrationError as error:
                yield _refusal(self._case.model, str(error))
                return
            except Exception as error:  # a fault, whatever it is
                yield Finding("raw error", f"{type(error).__name__}: {error}")
                return
        for warning in caught:
            if issubclass(warning.category, RuntimeWarning):
                where = f"{warning.filename}:{warning.lineno}"
                yield Finding("warning", f"{warning.message} ({where})")
        wrong = check_file(self._case, self._options, result)
        if wrong:
            yield Finding("false claim", wrong)
        if self._case.seed % 8 == 0:
            self._stage("again")
            twin = self._folder / "twin.onnx"
            self._quantize(twin)
            if twin.read_bytes() != output.read_bytes():
                yield Finding("other bytes")
        yield from self._losses(output, result)

    def _quantize(self, output: Path) -> Any:
        given: Any = self._case.model
        before = given.SerializeToString()
        if self._case.given == "bytes":
            given = before
        elif self._case.given == "path":
            given = self._source
        elif self._case.given == "external":
            given = self._folder / "external.onnx"
            copy = onnx.ModelProto()
            copy.CopyFrom(self._case.model)
            onnx.save_model(
                copy,
                str(given),
                save_as_external_data=True,
                location="w",
                size_threshold=0,
            )
        weights_only = self._options["activation_type"] == "none"
        reader = None if weights_only else self._case.samples
        result = qc.onnx.quantize(
            given, output, reader, progress=False, **self._options
        )
        assert self._case.model.SerializeToString() == before, "the model was changed"
        return result

    def _losses(self, output: Path, result: Any) -> Iterator[Finding]:
        held_out = self._case.held_out
        self._stage("run")
        levels = {}
        for way, exact in (("exact", True), ("native", False)):
            if not exact and self._options["cpu"] == "vnni" and not _VNNI:
                continue
            try:
                got = outputs(output, held_out, exact=exact)
            except Exception as error:  # onnxruntime's have no common base
                yield Finding("does not run", f"{way}: {_short(error)}")
                return
            levels[way] = decibels(self._want, got)
            lost = [name for name, level in levels[way].items() if np.isnan(level)]
            if lost:
                yield Finding("not finite", f"{way}: {lost[0]}")
        if all(level >= _POOR for way in levels.values() for level in way.values()):
            return
        self._stage("stock")
        peer = self._folder / "stock.onnx"
        narrow = any("7" in name for name in result.weight_formats)
        usable = stock.quantize(
            self._source, peer, self._case.samples, self._options, narrow=narrow
        )
        if usable:
            theirs, mine = (
                stock.coded_operands(onnx.load(path)) for path in (peer, output)
            )
            usable = all(a >= b for a, b in zip(theirs, mine, strict=True))
        # More samples, as few say little of an output that jumps.
        self._want = outputs(self._case.model, self._case.more, exact=True)
        for way in levels:
            got = outputs(output, self._case.more, exact=way == "exact")
            levels[way] = decibels(self._want, got)
        yield from self._compared(levels, peer if usable else None)

    def _compared(
        self, levels: dict[str, dict[str, float]], peer: Path | None
    ) -> Iterator[Finding]:
        for way, mine in levels.items():
            theirs: dict[str, float] = {}
            if peer is not None:
                try:
                    got = outputs(peer, self._case.more, exact=way == "exact")
                    theirs = decibels(self._want, got)
                except Exception:  # stock's model does not run
                    theirs = {}
            for name, level in mine.items():
                other = theirs.get(name, np.nan)
                count = sum(array.size for array in self._want[name])
                # What chance does to an estimate from so many values, three times.
                margin = _MARGIN + 3 * 4.34 * np.sqrt(2 / max(count, 1))
                if level < _POOR and level < other - margin:
                    text = f"{way}: {name} {level:.1f} dB, stock {other:.1f} dB"
                    yield Finding("loss", text)
                elif level < self._floor() and not np.isfinite(other):
                    yield Finding("look", f"{way}: {name} {level:.1f} dB, no stock")

    def _floor(self) -> float:
        weight = str(self._options.get("weight_type", ""))
        return 8.0 if "4" in weight or "float8" in str(self._options) else 18.0


def outputs(
    source: onnx.ModelProto | Path, feeds: list[Feed], *, exact: bool
) -> Outputs:
    """Run samples; ``exact`` computes Q and DQ as they are written, in float."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    given = str(source) if isinstance(source, Path) else source.SerializeToString()
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    made = [session.run(names, feed) for feed in feeds]
    return {name: [arrays[k] for arrays in made] for k, name in enumerate(names)}


def decibels(want: Outputs, got: Outputs) -> dict[str, float]:
    """Return the signal to noise ratio of each output; NaN where values were lost.

    Values that are not finite in the float model are left out, and so is a sample for which
    it returns NaN. Such a model overflows, and the order of its sums decides which values do.
    """
    found = {}
    for name, arrays in want.items():
        signal = noise = 0.0
        for first, second in zip(arrays, got[name], strict=True):
            if np.isnan(first).any():
                continue
            finite = np.isfinite(first)
            a, b = first[finite].astype(np.float64), second[finite].astype(np.float64)
            if not np.isfinite(b).all():
                noise = np.nan
            signal += float((a**2).sum())
            noise += float(((a - b) ** 2).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            level = 10 * np.log10(np.float64(signal) / noise)
        found[name] = np.inf if noise == 0 else float(level)
    return found


def _refusal(model: onnx.ModelProto, message: str) -> Finding:
    """Check that a refusal is a sentence that names something of the model."""
    names = {node.op_type for node in _all_nodes(model)}
    for node in _all_nodes(model):
        names |= {node.name, *node.input, *node.output}
    names |= {value.name for value in model.graph.input}
    if "the quantized copy" in message:
        return Finding("unusable copy", message)
    named = any(
        name and (name in message or repr(name)[1:-1] in message) for name in names
    )
    sentence = message.rstrip().endswith((".", "…", ")")) and len(message.split()) > 4
    if not named:
        return Finding("nameless refusal", message)
    return Finding("refused" if sentence else "refusal without a sentence", message)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    left = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while left:
        node = left.pop()
        yield node
        left += [inner for a in node.attribute if a.HasField("g") for inner in a.g.node]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


_VNNI = _has_vnni()
