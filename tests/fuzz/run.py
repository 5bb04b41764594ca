"""The driver: many seeds, a progress bar, a table of what was found, small failing models."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import onnx
from fuzz.cases import FORMATS, make
from fuzz.judge import Finding
from fuzz.workers import Worker, run


def main() -> int:
    """Run the seeds that the arguments name; 1 when anything is wrong."""
    given = _arguments()
    if given.only is not None:
        return _explain(given.only, given.limit)
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[int, Finding]]] = defaultdict(list)
    seeds = range(given.seed, given.seed + given.graphs)
    started = time.monotonic()

    def done(seed: int, found: list[Finding]) -> None:
        done.count += 1  # type: ignore[attr-defined]
        for finding in found:
            kind = kind_of(finding)
            counts[finding.kind] += 1
            examples[kind].append((seed, finding))
            if finding.wrong:
                _clear()
                print(f"{seed}: {finding.kind}: {finding.text[:300]}", flush=True)
        _bar(done.count, len(seeds), started, counts)  # type: ignore[attr-defined]

    done.count = 0  # type: ignore[attr-defined]
    run(seeds, given.jobs, given.limit, done)
    _clear()
    print(f"\n{given.graphs} graphs × {FORMATS} formats, seeds {seeds[0]}–{seeds[-1]}:")
    for kind, listed in sorted(examples.items(), key=lambda item: -len(item[1])):
        some = ", ".join(str(seed) for seed, _ in listed[:6])
        print(f"{len(listed):6} {kind}  [{some}]")
    wrong = any(finding.wrong for listed in examples.values() for _, finding in listed)
    return int(wrong)


def kind_of(finding: Finding) -> str:
    """Return a finding without the names and numbers of its graph."""
    if finding.kind in ("ok", "loss", "look"):
        return finding.kind
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\S*[/:«]\S*|\S*_\d+\S*", "…", finding.text)
    text = re.sub(r"-?\d+(\.\d+)?(e[-+]\d+)?", "#", text)
    return f"{finding.kind}: {' '.join(text.split())[:160]}"


def _explain(seed: int, limit: float) -> int:
    """Judge one seed, and leave out of it what does not matter."""
    worker = Worker(limit)
    found = worker.judge(seed)
    case = make(seed)
    for index, finding in enumerate(found):
        print(f"{finding.kind}: {finding.text}")
        print(
            f"options: {case.options[min(index, FORMATS - 1)]}, given as {case.given}"
        )
        if not finding.wrong and finding.kind != "look":
            continue
        only = index if len(found) == FORMATS else None
        wanted = kind_of(finding).partition(":")[0]
        without: set[int] = set()
        for step in reversed(range(case.steps)):
            tried = worker.judge(seed, without | {step}, only)
            if any(kind_of(other).partition(":")[0] == wanted for other in tried):
                without.add(step)
        small = make(seed, without)
        folder = Path(tempfile.mkdtemp(prefix="quantcal-fuzz-"))
        onnx.save_model(small.model, str(folder / "model.onnx"))
        for again in worker.judge(seed, without, only):
            print(
                f"smaller, without steps {sorted(without)}: {again.kind}: {again.text}"
            )
        print(f"saved as {folder / 'model.onnx'}")
        _show(small.model.graph, "  ")
        for function in small.model.functions:
            print(f"  function {function.name}:")
            _show(function, "    ")
    worker.close()
    return int(any(finding.wrong for finding in found))


def _show(graph: onnx.GraphProto | onnx.FunctionProto, indent: str) -> None:
    for tensor in getattr(graph, "initializer", ()):
        print(f"{indent}{tensor.name} {list(tensor.dims)}")
    for node in graph.node:
        attributes = [a for a in node.attribute if not a.HasField("g")]
        listed = ", ".join(
            f"{a.name}={onnx.helper.get_attribute_value(a)}"
            for a in attributes
            if a.name != "value"
        )
        reads = ", ".join(node.input)
        print(f"{indent}{', '.join(node.output)} = {node.op_type}({reads}) {listed}")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                print(f"{indent}  {attribute.name}:")
                _show(attribute.g, indent + "    ")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("--graphs", type=int, default=2000, help="how many; 2000")
    parser.add_argument("--seed", type=int, default=0, help="of the first graph; 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes; 2")
    parser.add_argument("--limit", type=float, default=60, help="seconds a graph; 60")
    parser.add_argument(
        "--only", type=int, metavar="SEED", help="explain this one, made smaller"
    )
    return parser.parse_args()


def _bar(count: int, total: int, started: float, counts: Counter[str]) -> None:
    if not sys.stderr.isatty():
        if count % 100 == 0:
            print(f"{count} of {total} graphs", file=sys.stderr, flush=True)
        return
    left = (time.monotonic() - started) / count * (total - count)
    full = 30 * count // total
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.most_common(4))
    line = f"[{'█' * full}{'·' * (30 - full)}] {count}/{total}, {left:.0f} s left: {listed}"
    print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
