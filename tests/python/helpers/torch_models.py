"""Small torch models that several tests use."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402

nn = torch.nn


class Shared(nn.Module):
    """One linear layer that is called `calls` times in a forward, as ALBERT's block is."""

    def __init__(self, calls: int = 3) -> None:
        super().__init__()
        self.block = nn.Linear(6, 6)
        self.calls = calls

    def forward(self, x: Any) -> Any:
        for _ in range(self.calls):
            x = self.block(x)
        return x


class Masked(nn.Module):
    """An encoder of one layer and a pooled head, with an attention mask among its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(
        self, x: Any, attention_mask: Any = None, padding_mask: Any = None
    ) -> Any:
        h = self.up(x)
        return self.head(h[:, 0])


class Failing(nn.Module):
    """Two layers, between which it raises if `fail` is true."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: Any, fail: bool = False) -> Any:
        x = self.first(x)
        if fail:
            msg = "between the layers"
            raise RuntimeError(msg)
        return self.second(x)


def conv_net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).eval()


def hooks_of(model: Any) -> int:
    """Return how many forward hooks a model has."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.modules()
    )


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Branches(nn.Module):
    """Three layers that get the same tensor; `change` changes it before the last one."""

    def __init__(self, change: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))
        self.change = change

    def forward(self, x: Any) -> Any:
        h = x + 1
        total = self.q(h) + self.k(h)
        if self.change:
            h.mul_(2)
        return total + self.v(h)


def recorded(tensors: dict[str, list[Any]], **options: Any) -> qc.Calibrator:
    """Return a calibrator that observed the tensors directly."""
    cal = qc.Calibrator()
    for name, observations in tensors.items():
        for x in observations:
            cal.observe(name, x.detach().numpy(), **options)
    return cal
