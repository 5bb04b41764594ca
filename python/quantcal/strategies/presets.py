"""The rules of named policies, as text; `Policy.named` builds the policies."""

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
"""A strategy within 0.4 % of the best measured perplexity for each kind of layer of language
models; docs/measurements/llm.md has the figures."""

NAMED = {"llm_layers": LLM_LAYERS}
