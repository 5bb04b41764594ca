"""Blocks of transformers in which norms have different readers."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402

nn = torch.nn
WIDTH = 8


def linear(width: int = WIDTH, out: int = WIDTH) -> Any:
    return nn.Linear(width, out)


class Mlp(nn.Module):
    """The feed-forward part of LLaMA, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = linear(out=12), linear(out=12)
        self.down_proj = linear(12, WIDTH)

    def forward(self, x: Any) -> Any:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Attention(nn.Module):
    """Attention with one head, with LLaMA's names."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = linear(), linear(), linear()
        self.o_proj = linear()

    def forward(self, x: Any) -> Any:
        scores = self.q_proj(x) @ self.k_proj(x).transpose(-1, -2)
        return self.o_proj(torch.softmax(scores / 3, -1) @ self.v_proj(x))


class Block(nn.Module):
    """A block with the names of LLaMA; `kind` is the position of its norms."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.self_attn, self.mlp = Attention(), Mlp()
        self.input_layernorm = nn.LayerNorm(WIDTH)
        self.post_attention_layernorm = nn.LayerNorm(WIDTH)
        if kind == "sandwich":
            self.pre_feedforward_layernorm = nn.LayerNorm(WIDTH)
            self.post_feedforward_layernorm = nn.LayerNorm(WIDTH)

    def forward(self, x: Any) -> Any:
        if self.kind == "pre":
            x = x + self.self_attn(self.input_layernorm(x))
            return x + self.mlp(self.post_attention_layernorm(x))
        if self.kind == "post":
            x = self.input_layernorm(x + self.self_attn(x))
            return self.post_attention_layernorm(x + self.mlp(x))
        # Gemma 2 and OLMo 2.
        if self.kind == "sandwich":
            x = x + self.post_attention_layernorm(
                self.self_attn(self.input_layernorm(x))
            )
            y = self.mlp(self.pre_feedforward_layernorm(x))
            return x + self.post_feedforward_layernorm(y)
        # Parallel branches: GPT-J, Falcon, Cohere.
        h = self.input_layernorm(x)
        x = x + self.post_attention_layernorm(x)
        return x + self.self_attn(h) + self.mlp(h)


class Blocks(nn.Module):
    """Two blocks of a kind after one projection."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = linear()
        self.layers = nn.ModuleList([Block(kind), Block(kind)])

    def forward(self, x: Any) -> Any:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return x


class Normed(nn.Module):
    """A norm and a linear layer; `other` is another reader of the norm."""

    def __init__(self, other: str = "nothing") -> None:
        super().__init__()
        self.other = other
        self.norm, self.fc = nn.LayerNorm(WIDTH), linear()
        if other == "router":
            self.router = linear(out=2)
        if other == "matmul":
            self.mixing = nn.Parameter(torch.randn(WIDTH, WIDTH))
        if other == "experts":
            self.experts = nn.ModuleList([linear(), linear()])

    def forward(self, x: Any) -> Any:
        h = self.norm(x)
        y = self.fc(h.reshape(-1, WIDTH)).reshape(h.shape)
        if self.other == "router":
            return y * torch.softmax(self.router(h), -1)[..., :1]
        if self.other == "matmul":
            return y + h @ self.mixing
        if self.other == "sum":
            return y + h
        if self.other == "almost nothing":
            return y + 1e-7 * torch.tanh(h)
        # The branch depends on h, but is the same for this sample.
        if self.other == "choice":
            return y if int(h.argmax()) >= 0 else -y
        if self.other == "output":
            return y, h
        if self.other == "weight":
            return y + self.fc.weight.sum()
        if self.other == "attribute":
            self.seen = h
            return y + self.seen.square()
        if self.other == "other input":
            return y + self.fc(x)
        if self.other == "experts":
            first = torch.zeros(len(x), dtype=torch.bool)
            first[0] = True
            y[first] += self.experts[0](h[first])
            if len(x) > 4:
                y[~first] += self.experts[1](h[~first])
            return y
        return y


def ready(model: Any, seed: int = 0) -> Any:
    """Return the model in evaluation mode, with different weights in its norms."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data *= torch.exp(torch.randn(WIDTH, generator=generator))
    return model.eval().requires_grad_(requires_grad=False)


def random_input(batch: int = 4, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 6, WIDTH, generator=generator)


def observed(model: Any, x: Any, **options: Any) -> qc.Calibrator:
    with qc.torch.observe(model, axis=-1, **options) as cal:
        model(x)
    return cal


def state_of(model: Any) -> dict[str, Any]:
    """Return a copy of a model's parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model: Any, before: dict[str, Any]) -> bool:
    """Whether a model's parameters and buffers are the same, bit for bit."""
    after = model.state_dict()
    return list(after) == list(before) and all(
        value.numpy().tobytes() == before[name].numpy().tobytes()
        for name, value in after.items()
    )
