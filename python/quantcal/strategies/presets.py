"""Policies that have a name. Their rules, as text; `Policy.named` makes them."""

from __future__ import annotations

LLM_LAYERS = {
    "layer:embedding": "minmax",
    "layer:attention_qkv": "minmax",
    "layer:attention_out": "mse",
    "layer:ffn_up": "percentile_99.999",
    "layer:ffn_down": "mse",
    "layer:lm_head": "mse",
    "layer:softmax": "softmax",
    "*": "mse",
}
"""The best choice for each kind of layer of a language model that was measured;
docs/measurements/llm.md has the figures."""

NAMED = {"llm_layers": LLM_LAYERS}
