"""Runs a model with some of its inputs quantized, and measures how far its outputs move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from quantcal.formats import FormatLike
from quantcal.params import QuantParams
from quantcal.torch._advice.output_loss import Loss, Outputs, choose_loss, measure_loss
from quantcal.torch.fake_quantization import fake_quantize
from quantcal.torch.sample_runner import SampleRunner

# Of a language model with 50,000 words, some 5,000 tokens.
MAX_REFERENCE_BYTES = 1 << 30
"""The size of the float model's outputs that are kept. Others are computed each time."""

Table = Mapping[str, QuantParams]


class TrialRuns:
    """Measures the loss of a model with given tensors quantized.

    Parameters
    ----------
    model
        The model that the user gave.
    root
        The module inside it.
    runners
        One for each sample.
    tables
        By the name of a tensor, the parameters of its readers as `fake_quantize` takes them.
        More names may be added, such as variants of a tensor with another range.
    weights
        The format of the weights of modules whose inputs are quantized; None for float.
    loss
        See `choose_loss`.
    inputs
        The tensors of the first sample.
    """

    def __init__(
        self,
        model: Any,
        root: nn.Module,
        runners: Sequence[SampleRunner],
        tables: Mapping[str, Table],
        *,
        weights: FormatLike | None,
        loss: Loss,
        inputs: Sequence[torch.Tensor],
    ) -> None:
        self._model = model
        self._runners = runners
        self.tables = dict(tables)
        self._weights = weights
        self._references: dict[int, Outputs] = {}
        self._bytes = 0
        self.loss = choose_loss(loss, root, inputs, self._reference(0))

    def __call__(self, quantized: frozenset[str], sample: int) -> float:
        """Return the loss of one sample with these tensors quantized."""
        # In the order of the tables, so that the sets of one run never depend on hashes.
        table = {
            name: params
            for tensor, of_tensor in self.tables.items()
            if tensor in quantized
            for name, params in of_tensor.items()
        }
        wanted = self._reference(sample)
        with fake_quantize(self._model, table, weights=self._weights):
            found = self._runners[sample]()
        return measure_loss(self.loss, wanted, found, sample)

    def _reference(self, sample: int) -> Outputs:
        """Return the outputs of the float model."""
        if sample in self._references:
            return self._references[sample]
        outputs = self._runners[sample]()
        size = sum(t.numel() * t.element_size() for t in outputs)
        if self._bytes + size <= MAX_REFERENCE_BYTES:
            self._references[sample] = outputs
            self._bytes += size
        return outputs
