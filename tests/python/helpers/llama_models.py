"""The language models of research/llm: a small random one, and the real one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from research.llm.smollm2 import Config, LlamaForCausalLM  # noqa: E402

SMALL = Config(
    layers=2, width=48, ffn_width=96, heads=6, kv_heads=2, vocabulary=64, rope_base=1e4
)


def small_llama() -> Any:
    """Return a LLaMA of two layers, whose norms make three channels thirty times larger."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(SMALL).eval().requires_grad_(requires_grad=False)
    for block in model.model.layers:
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight[[3, 17, 40]] *= 30
    return model


def tokens(batch: int = 4, length: int = 24, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, SMALL.vocabulary, (batch, length), generator=generator)


@pytest.fixture(scope="module")
def real() -> Any:
    """SmolLM2-135M and its tokenizer."""
    pytest.importorskip("gguf")
    pytest.importorskip("tokenizers")
    from research.llm.smollm2 import load

    return load()
