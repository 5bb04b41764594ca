"""all-MiniLM-L6-v2 in plain PyTorch, with the module names that BERT models have.

A sentence encoder: 6 blocks of a BERT, norms behind the sums, and the mean of the last
states as the sentence's vector, of length 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

LAYERS, WIDTH, FFN_WIDTH, HEADS, EPSILON = 6, 384, 1536, 12, 1e-12
VOCABULARY, POSITIONS = 30522, 512

READ = (
    "*.attention.self.query",
    "*.attention.output.dense",
    "*.intermediate.dense",
    "encoder.layer.[0-9].output.dense",
)
"""One module for each tensor that linear layers read: 4 in each block, 24 in all."""


class SelfAttention(nn.Module):
    """Attention over all positions that are not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the output of the heads for `x` [batch, length, width]."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        seen = mask[:, None, None, :]
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return read.transpose(1, 2).flatten(-2)


class Output(nn.Module):
    """A linear layer, the sum with its residual, and a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        """Return the normalized sum."""
        return self.LayerNorm(self.dense(x) + beside)


class Attention(nn.Module):
    """Attention and its output."""

    def __init__(self) -> None:
        super().__init__()
        self.self = SelfAttention()
        self.output = Output(WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the states behind the attention."""
        return self.output(self.self(x, mask), x)


class Intermediate(nn.Module):
    """The wide layer of the FFN."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, FFN_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations behind the GELU."""
        return functional.gelu(self.dense(x))


class Layer(nn.Module):
    """One block."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.intermediate = Intermediate()
        self.output = Output(FFN_WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the states behind the block."""
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class Embeddings(nn.Module):
    """The sum of the embeddings of words, positions and the segment, normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the states in front of the blocks."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.LayerNorm(
            self.word_embeddings(tokens)
            + self.position_embeddings(positions)
            + self.token_type_embeddings(torch.zeros_like(tokens))
        )


class Encoder(nn.Module):
    """The blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the states behind the blocks."""
        for layer in self.layer:
            x = layer(x, mask)
        return x


class MiniLM(nn.Module):
    """Turns tokens and their padding mask into vectors of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = Encoder()

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [batch, 384] for tokens and mask [batch, length]."""
        mask = attention_mask.bool()
        x = self.encoder(self.embeddings(tokens), mask)
        weights = mask[..., None].to(x.dtype)
        mean = (x * weights).sum(1) / weights.sum(1)
        return functional.normalize(mean, dim=-1)


def load() -> tuple[MiniLM, Tokenizer]:
    """Return the encoder in float32, in evaluation mode, and its tokenizer.

    The files are fetched into the cache the first time (84 MB).

    Raises
    ------
    DemoError
        If they cannot be fetched; the message says where to put them by hand.
    """
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    weights = load_file(MODELS["minilm"].fetch())
    with torch.device("meta"):
        model = MiniLM()
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    used = {name: tensor for name, tensor in weights.items() if name not in unused}
    model.load_state_dict(used, assign=True)
    tokenizer = Tokenizer.from_file(str(MODELS["minilm-tokenizer"].fetch()))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding()
    return model.eval().requires_grad_(requires_grad=False), tokenizer


def batches(
    tokenizer: Tokenizer, sentences: Sequence[str], *, size: int = 16
) -> list[tuple[list[int], Tensor, Tensor]]:
    """Return numbers of sentences, tokens and mask, batched by similar length."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    found = []
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        encoded = tokenizer.encode_batch([sentences[i] for i in numbers])
        tokens = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        found.append((numbers, tokens, mask))
    return found


@torch.inference_mode()
def embed(model: MiniLM, read: Sequence[tuple[list[int], Tensor, Tensor]]) -> Tensor:
    """Return the vectors of all sentences of `batches`, [sentences, 384]."""
    parts = {
        number: vector
        for numbers, tokens, mask in read
        for number, vector in zip(numbers, model(tokens, mask), strict=True)
    }
    return torch.stack([parts[i] for i in range(len(parts))])
