"""What a quantized model costs and saves, as facts of a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal.cli.output import text
from quantcal.onnx.loss_verdict import judge_loss

if TYPE_CHECKING:
    from quantcal.onnx import ModelCost, OperatorCost

_VERDICTS = {
    "small": "small",
    "noticeable": "noticeable (check it with `quantcal evaluate`)",
    "large": "large (`quantcal advise` finds the nodes)",
}


def cost_facts(cost: ModelCost, held_out: float | None = None) -> dict[str, str]:
    """Return the lines of a summary: nodes, loss and latency.

    `held_out` is the loss on samples that did not decide the ranges, where it is known.
    """
    total = cost.total()
    facts = {"whole model": _whole(cost, total)}
    if total.quantized_nodes < total.nodes:
        facts["in float"] = _in_float(cost, total)
    if cost.loss is not None:
        facts["expected loss"] = _loss(cost, cost.loss, held_out)
    if cost.float_latency is not None:
        facts["latency"] = _latency(cost)
    return facts


def _loss(cost: ModelCost, loss: float, held_out: float | None) -> str:
    samples = text.plural(cost.loss_samples, "calibration sample")
    if held_out is None or held_out <= loss:
        verdict = _VERDICTS[judge_loss(loss)]
        return f"{verdict}, {_figure(loss)} of the outputs' variance on {samples}"
    return (
        f"{_VERDICTS[judge_loss(held_out)]}, {_figure(held_out)} of the outputs' variance on "
        f"samples that did not decide the ranges, {_figure(loss)} on {samples}"
    )


def _figure(loss: float) -> str:
    return text.share(loss) if loss < 10 else text.real(loss)


def _whole(cost: ModelCost, total: OperatorCost) -> str:
    nodes = ", ".join(
        f"{each.quantized_nodes} of {each.nodes} {operator}"
        for operator, each in cost.operators.items()
        if each.quantized_nodes
    )
    shares = _shares(total.quantized_weight_bytes, total.quantized_multiply_adds, total)
    return f"{nodes or 'nothing'} quantized: {shares}"


def _in_float(cost: ModelCost, total: OperatorCost) -> str:
    nodes = ", ".join(
        f"{each.nodes - each.quantized_nodes} {operator}"
        for operator, each in cost.operators.items()
        if each.quantized_nodes < each.nodes
    )
    shares = _shares(
        total.weight_bytes - total.quantized_weight_bytes,
        total.multiply_adds - total.quantized_multiply_adds,
        total,
    )
    return f"{nodes}: {shares}"


def _shares(weights: int, products: int, total: OperatorCost) -> str:
    parts = []
    if total.weight_bytes:
        parts.append(f"{text.share(weights / total.weight_bytes)} of the weights")
    if total.multiply_adds:
        share = text.share(products / total.multiply_adds)
        parts.append(f"{share} of the multiply-adds")
    return ", ".join(parts) or "no weights"


def _latency(cost: ModelCost) -> str:
    before, after = cost.float_latency, cost.quantized_latency
    assert before is not None
    assert after is not None
    speedup = cost.speedup or 0.0
    if cost.is_uncertain:
        verdict = "no clear difference, the runs vary by more"
    elif cost.is_faster:
        verdict = f"{speedup:.2f} × as fast"
    elif speedup < 1:
        verdict = f"slower here, {speedup:.2f} ×: `quantcal times` shows the nodes"
    else:
        verdict = f"no gain here, {speedup:.2f} ×: `quantcal times` shows the nodes"
    return (
        f"float {_ms(before.median_ms)} ± {_ms(before.spread_ms)}, quantized "
        f"{_ms(after.median_ms)} ± {_ms(after.spread_ms)} ms: {verdict} "
        f"(median of {text.plural(cost.rounds, 'run')} in turns)"
    )


def _ms(value: float) -> str:
    return f"{value:.3g}"
