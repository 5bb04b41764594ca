"""The language model as a chain of steps; each step reads one tensor that may be quantized.

It computes the same as the modules of `smollm2.py`, faster, on one core. Linear layers that
read the same tensor are one product, and numpy computes the products. Each window is read by
one core, so the order of sums does not depend on the number of cores. Steps before the first
different range of two configurations are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .smollm2 import Config, LlamaForCausalLM, rotations

READ = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
"""One module of a block for each tensor that its linear layers read."""

# Positions whose attention is computed at once: their scores stay in the cache.
ROWS = 128
# Words of the vocabulary whose logits are computed at once.
WORDS = 1024

Change = Callable[[Tensor], Tensor]
"""Applied to a tensor before it is read: quantizes and dequantizes."""

Plan = Sequence[tuple[str, Change | None]]
"""For each step a key of the change, and the change; None for no change."""


@dataclass(frozen=True)
class State:
    """The state before a step: the residual stream, and the tensor to read."""

    residual: Tensor
    read: Tensor


class Chain:
    """The model's weights as the steps need them: copies, except the embedding.

    `names` has the module of each step by which `observe` names its tensor.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        self._config = model.model.config
        self._words = model.lm_head.weight
        self._weights: list[Tensor] = []
        self._norms: list[Tensor] = []
        self.names: list[str] = []
        for number, block in enumerate(model.model.layers):
            a, mlp = block.self_attn, block.mlp
            self._weights += [
                torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight]),
                a.o_proj.weight.clone(),
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                mlp.down_proj.weight.clone(),
            ]
            norms = (block.input_layernorm, block.post_attention_layernorm)
            self._norms += [norm.weight.clone() for norm in norms]
            self.names += [f"model.layers.{number}.{last}" for last in READ]
        self._norms.append(model.model.norm.weight.clone())

    def start(self, window: Tensor) -> State:
        """Return the state before the first step, of tokens [length]."""
        return self._normed(self._words[window], 0)

    def step(self, number: int, residual: Tensor, read: Tensor) -> State:
        """Return the state before the next step."""
        made = product(read, self._weights[number])
        kind = number % len(READ)
        if kind == 0:
            return State(residual, attention(made, self._config))
        if kind == 2:
            gate, up = made.chunk(2, dim=1)
            return State(residual, functional.silu(gate).mul_(up))
        return self._normed(made.add_(residual), number // 2 + 1)

    def _normed(self, residual: Tensor, norm: int) -> State:
        weight, epsilon = self._norms[norm], self._config.epsilon
        shape = (self._config.width,)
        return State(residual, functional.rms_norm(residual, shape, weight, epsilon))

    @torch.no_grad()
    def losses(
        self, window: Tensor, plans: Sequence[Plan]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the negative log-likelihood of each predicted token, in nats, for each plan.

        Plans with the same first steps should be neighbors. The state where a later plan
        diverges is kept until then.
        """
        keys = [[key for key, _ in plan] for plan in plans]
        kept = {0: self.start(window)}
        for i, plan in enumerate(plans):
            begun = alike(keys[i - 1], keys[i]) if i else 0
            kept = {n: state for n, state in kept.items() if n <= begun}
            wanted = {alike(keys[i], other) for other in keys[i + 1 :]}
            first = max(kept)
            state = kept[first]
            for number in range(first, len(plan)):
                change = plan[number][1]
                read = state.read if change is None else change(state.read)
                state = self.step(number, state.residual, read)
                if number + 1 in wanted:
                    kept[number + 1] = state
            yield self._losses(state.read, window)

    @torch.no_grad()
    def observe(self, window: Tensor, see: Callable[[str, Tensor], object]) -> None:
        """Pass all tensors that are read to `see`, by name."""
        state = self.start(window)
        for number, name in enumerate(self.names):
            see(name, state.read)
            state = self.step(number, state.residual, state.read)

    def _losses(self, states: Tensor, window: Tensor) -> NDArray[np.float32]:
        """Return the losses, summed in chunks because all logits take 100 MB."""
        states, words = states[:-1], self._words
        sums = [product(states, some).logsumexp(dim=1) for some in words.split(WORDS)]
        likely = (states * words[window[1:]]).sum(dim=1)
        return (torch.logsumexp(torch.stack(sums), dim=0) - likely).numpy()


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight.T."""
    return torch.from_numpy(np.matmul(x.numpy(), weight.numpy().T))


def alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = zip(one, other, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other))
    )


_rotations = cache(rotations)


def attention(made: Tensor, c: Config) -> Tensor:
    """Return the output of the heads [length, width], of the product [length, q, k and v].

    The rows of all heads that share keys are one product, without later keys.
    """
    length, each = len(made), c.heads // c.kv_heads
    heads = made.view(length, -1, c.head_width)
    turning, v = heads[:, : -c.kv_heads], heads[:, -c.kv_heads :]
    pairs = torch.view_as_complex(turning.unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * _rotations(length, c)[:, None]).flatten(-2)
    q = turned[:, : c.heads].div(c.head_width**0.5).transpose(0, 1)
    k = turned[:, c.heads :].permute(1, 2, 0).contiguous()
    v = v.transpose(0, 1).contiguous()
    found = torch.empty(c.heads, length, c.head_width)
    for first in range(0, length, ROWS):
        end = min(first + ROWS, length)
        later = torch.full((end - first, end - first), -torch.inf).triu_(1)
        for n in range(c.kv_heads):
            mine = slice(n * each, (n + 1) * each)
            rows = q[mine, first:end].reshape(-1, c.head_width)
            scores = torch.mm(rows, k[n, :, :end])
            scores.view(each, -1, end)[..., first:].add_(later)
            read = torch.mm(scores.softmax(dim=1), v[n, :end])
            found[mine, first:end] = read.view(each, -1, c.head_width)
    return found.transpose(0, 1).reshape(length, -1)
