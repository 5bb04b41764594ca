"""`quantcal times`: what integers gain at each node, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal.cli.options import JsonOption, LimitOption, ModelArgument
from quantcal.cli.output import text
from quantcal.cli.output.console import say_warning, show, stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.output.tables import Column, tensor_table
from quantcal.cli.parsing.common import is_quiet

if TYPE_CHECKING:
    from rich.console import Console

    from quantcal.onnx import NodeTime, NodeTimes


def times(
    float_model: ModelArgument,
    quantized: Annotated[
        Path,
        typer.Argument(metavar="QUANTIZED", help="Its quantized copy, of any tool."),
    ],
    *,
    samples: Annotated[
        str,
        typer.Option(
            "--samples",
            "-i",
            metavar="PATH",
            help="Samples to run, as for `quantcal quantize`. Their shapes decide the times.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default="none",
            help="Write the times to FILE (.json), to choose nodes on another machine.",
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", min=3, metavar="N", help="How often each sample runs."
        ),
    ] = 20,
    max_samples: Annotated[
        int,
        typer.Option(
            "--max-samples", min=1, metavar="N", help="Only the first N samples run."
        ),
    ] = 3,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            min=0,
            metavar="N",
            help="Threads of a run; 0 is onnxruntime's choice, one for each core.",
        ),
    ] = 0,
    limit: LimitOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure what integers gain at each node on this machine.

    Both models run in turns, as an application runs them. The table has the nodes
    that are quantized, the largest gain first. Times of a node include its
    conversions. Run it on an idle machine of the kind that deploys the model.

    Examples:
      $ quantcal times model.onnx model.int8.onnx --samples calibration/
      $ quantcal times model.onnx model.int8.onnx --samples calibration/ \\
          -o times.json --threads 1
    """
    from quantcal.onnx import FileCheck, measure_times

    checks = [FileCheck(float_model, [samples]), FileCheck(quantized)]
    for check in checks if output is not None else ():
        check.check(output)  # type: ignore[arg-type]
    found = measure_times(
        float_model,
        quantized,
        samples,
        rounds=rounds,
        max_samples=max_samples,
        threads=threads,
        progress=not is_quiet(),
    )
    if output is not None:
        for check in checks:
            check.check(output)
        found.save(output)
    for message in found.warnings():
        say_warning(message)
    if json_:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        _print(stdout(), found, limit, output)


def _print(
    out: Console, found: NodeTimes, limit: int | None, output: Path | None
) -> None:
    rows = [(name, node) for name, node in found.nodes.items() if node.quantized]
    rows.sort(key=lambda row: -row[1].gain_ms)
    shown = rows
    if limit is not None and len(rows) > limit:
        # The largest gains, and the losses at the other end.
        shown = [*rows[: (limit + 1) // 2], *rows[len(rows) - limit // 2 :]]
    machine = found.machine
    threads = f"{machine.threads} of " if machine.threads else ""
    facts = {
        "machine": f"{machine.name} ({machine.cpu}), {threads}"
        f"{text.plural(machine.cores, 'core')}, onnxruntime {machine.onnxruntime}",
        "runs": f"{text.plural(found.rounds, 'round')} of "
        f"{text.plural(found.samples, 'sample')}; medians, for one sample",
        "kernels": f"float {found.float_ms:.2f} ms, integers {found.integer_ms:.2f} ms, "
        f"of which conversions {found.conversion_ms:.2f} ms",
        "whole model": _whole(found),
        "free accuracy": _free(found),
    }
    if output is not None:
        facts["written"] = str(output)
    print_facts(out, facts)
    out.print()
    names, nodes = [name for name, _ in shown], [node for _, node in shown]
    show(out, tensor_table(names, _columns(nodes), out, heading="node"))
    if len(shown) < len(rows):
        out.print(f"{len(shown)} of {len(rows)} quantized nodes", style="dim")


def _columns(nodes: list[NodeTime]) -> list[Column]:
    return [
        Column("op", [n.op_type for n in nodes], left=True, rank=1),
        Column("float ms", [f"{n.float_ms:.3f}" for n in nodes]),
        Column("integer ms", [f"{n.integer_ms:.3f}" for n in nodes]),
        Column("conversions", [f"{n.conversion_ms:.3f}" for n in nodes], rank=3),
        Column("gain ms", [f"{n.gain_ms:+.3f}" for n in nodes]),
        Column("rounds won", [text.share(n.rounds_won) for n in nodes], rank=2),
        Column("multiply-adds", [text.amount(n.multiply_adds) for n in nodes], rank=4),
        Column("kernel", [_kernel(n) for n in nodes], left=True),
    ]


def _kernel(node: NodeTime) -> str:
    return (
        node.kernel
        if not node.reason
        else f"{node.kernel or text.NONE} ({node.reason})"
    )


def _whole(found: NodeTimes) -> str:
    first, second = found.float_latency, found.integer_latency
    return (
        f"float {first.median_ms:.2f} ± {first.spread_ms:.2f} ms, quantized "
        f"{second.median_ms:.2f} ± {second.spread_ms:.2f} ms: gain {found.gain_ms:+.2f} ms, "
        f"{text.share(found.rounds_won)} of the rounds won"
    )


def _free(found: NodeTimes) -> str:
    names = found.not_faster()
    if not names:
        return "none: every quantized node is faster"
    return (
        f"{text.plural(len(names), 'quantized node')} not faster: "
        f"{text.listed(list(names))}"
    )
