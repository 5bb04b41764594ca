"""Policies that have a name. Their rules, as text; `Policy.named` makes them."""

from __future__ import annotations

LLM_LAYERS = {
    "layer:embedding": "minmax",
    "layer:attention_qkv": "percentile_99.99",
    "layer:attention_out": "kl_divergence",
    "layer:ffn_up": "percentile_99.9",
    "layer:ffn_down": "kl_divergence",
    "layer:lm_head": "kl_divergence",
    "*": "mse",
}
"""The customary choice for each layer of a transformer; see docs/policies.md, which says
where it fails."""

NAMED = {"llm_layers": LLM_LAYERS}
