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
"""The best measured strategy for each kind of layer of language models; the figures are in
docs/measurements/llm.md."""

NAMED = {"llm_layers": LLM_LAYERS}
