"""SmolLM2-135M in plain PyTorch, with the module names that LLaMA models have.

A LLaMA-type language model: 30 blocks of grouped-query attention and a SwiGLU, RMS norms,
rotary positions, output weights tied to the embedding. The weights come from a GGUF file with
4 bits a weight, expanded to float32. So the model is a float reference for activations, but not
for weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models import MODELS

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Config:
    """The sizes of a LLaMA-type model; the defaults are SmolLM2-135M's."""

    layers: int = 30
    width: int = 576
    ffn_width: int = 1536
    heads: int = 9
    kv_heads: int = 3
    vocabulary: int = 49152
    rope_base: float = 1e5
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Elements of one head."""
        return self.width // self.heads


class Attention(nn.Module):
    """Causal attention; each key and value head serves several query heads."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        kv_width = c.kv_heads * c.head_width
        self.config = c
        self.q_proj = nn.Linear(c.width, c.width, bias=False)
        self.k_proj = nn.Linear(c.width, kv_width, bias=False)
        self.v_proj = nn.Linear(c.width, kv_width, bias=False)
        self.o_proj = nn.Linear(c.width, c.width, bias=False)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Return the output of the heads for `x` [batch, length, width]."""
        c = self.config
        batch, length, _ = x.shape

        def heads(y: Tensor, number: int) -> Tensor:
            return y.view(batch, length, number, c.head_width).transpose(1, 2)

        q = rotate(heads(self.q_proj(x), c.heads), rotation)
        k = rotate(heads(self.k_proj(x), c.kv_heads), rotation)
        v = heads(self.v_proj(x), c.kv_heads)
        each = c.heads // c.kv_heads
        k, v = (y.repeat_interleave(each, dim=1) for y in (k, v))
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(read.transpose(1, 2).reshape(batch, length, c.width))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.width, c.ffn_width, bias=False)
        self.up_proj = nn.Linear(c.width, c.ffn_width, bias=False)
        self.down_proj = nn.Linear(c.ffn_width, c.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for `x` [batch, length, width]."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and MLP, each with a norm before it and a residual connection."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c.width, c.epsilon)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = nn.RMSNorm(c.width, c.epsilon)
        self.mlp = MLP(c)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Return the residual stream behind this block."""
        x = x + self.self_attn(self.input_layernorm(x), rotation)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Embedding, blocks and the last norm: the module `model` of a LLaMA."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocabulary, c.width)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.RMSNorm(c.width, c.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the states [batch, length, width] of `tokens` [batch, length]."""
        x = self.embed_tokens(tokens)
        rotation = rotations(tokens.shape[1], self.config).to(x.device)
        for block in self.layers:
            x = block(x, rotation)
        return self.norm(x)


class LlamaForCausalLM(nn.Module):
    """The whole model; `lm_head` shares the embedding's weights."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        c = config or Config()
        self.model = Llama(c)
        self.lm_head = nn.Linear(c.width, c.vocabulary, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [batch, length, vocabulary] of the next tokens."""
        return self.lm_head(self.model(tokens))


def rotations(length: int, c: Config) -> Tensor:
    """Return the rotation of each position and pair, complex [length, head_width / 2]."""
    exponents = torch.arange(0, c.head_width, 2, dtype=torch.float64) / c.head_width
    angles = torch.outer(
        torch.arange(length, dtype=torch.float64), c.rope_base**-exponents
    )
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighboring pairs of elements, the order of GGUF files."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def load() -> tuple[LlamaForCausalLM, Tokenizer]:
    """Return the model in float32, in evaluation mode, and its tokenizer.

    The file is fetched into the cache the first time (93 MB).

    Raises
    ------
    DemoError
        If the file cannot be fetched; the message says where to put it by hand.
    """
    from gguf import GGUFReader

    reader = GGUFReader(MODELS["smollm2"].fetch())
    with torch.device("meta"):  # skips initial values that the file replaces
        model = LlamaForCausalLM(read_config(reader))
    model.load_state_dict(read_weights(reader), assign=True)
    model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval().requires_grad_(requires_grad=False), read_tokenizer(reader)


def read_config(reader: Any) -> Config:
    """Return the sizes that a GGUF file of a LLaMA-type model states."""

    def field(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    return Config(
        layers=field("block_count"),
        width=field("embedding_length"),
        ffn_width=field("feed_forward_length"),
        heads=field("attention.head_count"),
        kv_heads=field("attention.head_count_kv"),
        vocabulary=field("vocab_size"),
        rope_base=field("rope.freq_base"),
        epsilon=field("attention.layer_norm_rms_epsilon"),
    )


_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of modules in GGUF, and in LLaMA models."""


def read_weights(reader: Any) -> dict[str, Tensor]:
    """Return all weights in float32, by the names of `LlamaForCausalLM`."""
    from gguf import dequantize

    weights = {}
    for tensor in reader.tensors:
        *block, name, _ = tensor.name.split(".")
        prefix = f"model.layers.{block[1]}." if block else ""
        values = dequantize(tensor.data, tensor.tensor_type)
        weights[f"{prefix}{_NAMES[name]}.weight"] = torch.from_numpy(values.copy())
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def read_tokenizer(reader: Any) -> Tokenizer:
    """Return the tokenizer that the fields of a GGUF file describe.

    A byte-level byte-pair encoding that splits numbers into single digits first.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # GGUF's number for control tokens
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == control
        ]
    )
    return tokenizer


@torch.no_grad()
def complete(
    model: LlamaForCausalLM, tokenizer: Tokenizer, text: str, *, tokens: int = 5
) -> str:
    """Return the most likely continuation of a text."""
    numbers = tokenizer.encode(text).ids
    for _ in range(tokens):
        logits = model(torch.tensor([numbers]))
        numbers.append(int(logits[0, -1].argmax()))
    return tokenizer.decode(numbers)[len(text) :]
